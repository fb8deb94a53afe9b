//! The answers to the questions of the first boot, as a TOML file.

use std::fmt;
use std::net::IpAddr;

use certificates::Subject;
use cluster::Candidate;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use service::Role;

/// Everything that set-up asks. `image/answers.example.toml` tells each field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answers {
    /// Kind of node; `imp` is instant messaging and presence.
    #[serde(default = "product")]
    pub product: String,
    /// Deployment size, such as `5K`.
    #[serde(default = "size")]
    pub size: String,
    /// First node of a cluster, or one that joins.
    #[serde(default = "role")]
    pub role: Role,
    /// The first node of the cluster, by name or address, for a node that
    /// joins one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publisher: Option<String>,
    /// The XMPP domain: what stands behind the `@` of every user.
    pub domain: String,
    /// Time zone, as `Europe/Berlin`.
    #[serde(default = "time_zone")]
    pub time_zone: String,
    /// Time servers, at most five.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ntp: Vec<String>,
    /// The same on every node of a cluster.
    pub security_password: Secret,
    /// Feature services to activate; the two that let clients sign in when
    /// left out.
    #[serde(default = "features")]
    pub features: Vec<String>,
    /// The node's name and address.
    pub network: Network,
    /// The account of the console and of SSH.
    pub administrator: Account,
    /// The first account of the web pages; the administrator's id and password
    /// when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application_user: Option<Account>,
    /// What the certificates say of the organisation.
    #[serde(default)]
    pub certificate: Subject,
    /// The mail server for alarms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smtp: Option<Smtp>,
}

impl Answers {
    /// What a node with these answers tells the publisher of the cluster that
    /// it joins. Its address is empty while it has none.
    pub(crate) fn candidate(&self, address: Option<IpAddr>) -> Candidate {
        Candidate {
            name: self.network.hostname.clone(),
            address: address
                .map(|address| address.to_string())
                .unwrap_or_default(),
            product: self.product.clone(),
            domain: self.domain.clone(),
            mtu: self.network.mtu,
        }
    }
}

/// How the node stands in its network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Host name, without a domain.
    pub hostname: String,
    /// DNS domain of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Whether the address comes from a DHCP server.
    #[serde(default)]
    pub dhcp: bool,
    /// Address with prefix length, as `192.0.2.11/24`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Router to other networks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// Name servers, at most three.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<String>,
    /// Largest packet, in bytes; the same on every node of a cluster.
    #[serde(default = "mtu")]
    pub mtu: u32,
}

/// An account with its password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// Name to sign in with.
    pub user: String,
    /// Password.
    pub password: Secret,
}

/// A mail server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Smtp {
    /// Host name or address.
    pub server: String,
}

/// A password. It never shows in a log or an error.
#[derive(Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The default error would repeat the value.
        let text = String::deserialize(deserializer);
        text.map(Self)
            .map_err(|_| D::Error::custom("a password must be a string in quotes"))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() {
            "(empty)"
        } else {
            "(set)"
        })
    }
}

/// The feature services without which no client can sign in.
pub const DEFAULT_FEATURES: [&str; 2] = ["xmpp-connection-manager", "authentication-service"];

fn product() -> String {
    "imp".into()
}

fn size() -> String {
    "5K".into()
}

fn role() -> Role {
    Role::Publisher
}

fn time_zone() -> String {
    "Etc/UTC".into()
}

fn mtu() -> u32 {
    1500
}

fn features() -> Vec<String> {
    DEFAULT_FEATURES.map(String::from).to_vec()
}

impl Answers {
    /// Reads an answer file. The error names the line, the field and what is
    /// allowed, and never repeats a line of the file: it may hold a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error: toml::de::Error| {
            let line = error.span().map(|span| {
                let before = text.get(..span.start).unwrap_or_default();
                format!("line {}: ", before.matches('\n').count() + 1)
            });
            format!("{}{}", line.unwrap_or_default(), error.message())
        })
    }

    /// Writes an answer file.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string_pretty(self)
    }

    /// The account of the web pages.
    pub fn web_account(&self) -> &Account {
        self.application_user
            .as_ref()
            .unwrap_or(&self.administrator)
    }

    /// Host name with the domain of the host, when it has one.
    pub fn full_name(&self) -> String {
        self.network.full_name()
    }
}

impl Network {
    /// Host name with the domain of the host, when it has one.
    pub fn full_name(&self) -> String {
        match &self.domain {
            Some(domain) => format!("{}.{domain}", self.hostname),
            None => self.hostname.clone(),
        }
    }
}
