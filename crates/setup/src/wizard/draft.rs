//! What was typed so far, by key, and the answers that it makes.

use std::collections::BTreeMap;

use certificates::Subject;
use service::Role;

use crate::answers::{Account, Answers, DEFAULT_FEATURES, Network, Secret, Smtp};
use crate::check::{MOST_DNS, MOST_NTP, check};
use crate::machine::Machine;
use crate::rules;

/// Raw texts by key. A key is the field of the answer file, with `.0`, `.1` …
/// for the entries of a list, and `.again` for a password typed twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Draft(BTreeMap<String, String>);

impl Draft {
    /// The values that the wizard begins with.
    pub(crate) fn new() -> Self {
        let mut draft = Self::default();
        for (key, value) in [
            ("size", "5K"),
            ("time_zone", "Etc/UTC"),
            ("network.mtu", "1500"),
            ("network.dhcp", "no"),
            ("network.mask", "255.255.255.0"),
            ("administrator.user", "admin"),
            ("role", "publisher"),
        ] {
            draft.set(key, value);
        }
        draft.set("features", &DEFAULT_FEATURES.join(" "));
        draft
    }

    /// The text of a key; empty when nothing was typed.
    pub(crate) fn get(&self, key: &str) -> &str {
        self.0.get(key).map_or("", String::as_str)
    }

    /// Sets the text of a key.
    pub(crate) fn set(&mut self, key: &str, value: &str) {
        self.0.insert(key.into(), value.into());
    }

    fn some(&self, key: &str) -> Option<String> {
        let text = self.get(key).trim();
        (!text.is_empty()).then(|| text.into())
    }

    fn list(&self, key: &str, most: usize) -> Vec<String> {
        (0..most)
            .filter_map(|at| self.some(&format!("{key}.{at}")))
            .collect()
    }

    /// Whether the address comes from DHCP.
    pub(crate) fn dhcp(&self) -> bool {
        self.get("network.dhcp") == "yes"
    }

    /// Whether the node joins a cluster.
    pub(crate) fn joins(&self) -> bool {
        self.get("role") == "subscriber"
    }

    /// The features that are ticked.
    pub(crate) fn features(&self) -> Vec<String> {
        self.get("features")
            .split_whitespace()
            .map(String::from)
            .collect()
    }

    /// The answers as they stand, checked or not.
    pub(crate) fn answers(&self) -> Answers {
        let trimmed = |key: &str| self.get(key).trim().to_owned();
        let account = |key: &str| Account {
            user: trimmed(&format!("{key}.user")),
            password: Secret(self.get(&format!("{key}.password")).into()),
        };
        let application_user = account("application_user");
        let given = !application_user.user.is_empty() || !application_user.password.0.is_empty();
        let joins = self.joins();
        Answers {
            product: "imp".into(),
            size: trimmed("size"),
            role: if joins {
                Role::Subscriber
            } else {
                Role::Publisher
            },
            publisher: self.some("publisher").filter(|_| joins),
            domain: trimmed("domain"),
            time_zone: trimmed("time_zone"),
            ntp: self.list("ntp", MOST_NTP),
            security_password: Secret(self.get("security_password").into()),
            features: self.features(),
            network: self.network(),
            administrator: account("administrator"),
            application_user: (given && !joins).then_some(application_user),
            certificate: Subject {
                organization: self.some("certificate.organization"),
                unit: self.some("certificate.unit"),
                location: self.some("certificate.location"),
                state: self.some("certificate.state"),
                country: self.some("certificate.country"),
            },
            smtp: self
                .some("smtp.server")
                .filter(|_| !joins)
                .map(|server| Smtp { server }),
        }
    }

    fn network(&self) -> Network {
        let dhcp = self.dhcp();
        let address = self.some("network.address").map(|address| {
            let length = rules::mask(self.get("network.mask").trim()).unwrap_or(0);
            format!("{address}/{length}")
        });
        Network {
            hostname: self.get("network.hostname").trim().into(),
            domain: self.some("network.domain"),
            dhcp,
            address: address.filter(|_| !dhcp),
            gateway: self.some("network.gateway").filter(|_| !dhcp),
            dns: self.list("network.dns", MOST_DNS),
            // What is no number is out of range.
            mtu: self.get("network.mtu").trim().parse().unwrap_or(0),
        }
    }

    /// Takes answers over from a file, passwords included.
    pub(crate) fn load(&mut self, answers: &Answers) {
        let network = &answers.network;
        let yes = |flag: bool| if flag { "yes" } else { "no" };
        let role = match answers.role {
            Role::Publisher => "publisher",
            Role::Subscriber => "subscriber",
        };
        let (address, length) = network
            .address
            .as_deref()
            .and_then(|address| address.split_once('/'))
            .unwrap_or_default();
        let mask = match length.parse::<u32>() {
            Ok(bits @ 1..=32) if address.contains('.') => {
                std::net::Ipv4Addr::from(u32::MAX << (32 - bits)).to_string()
            }
            _ => length.into(),
        };
        let some = |value: &Option<String>| value.clone().unwrap_or_default();
        let certificate = &answers.certificate;
        let web = answers.application_user.clone();
        let (web_user, web_password) = web.map(|a| (a.user, a.password.0)).unwrap_or_default();
        for (key, value) in [
            ("size", answers.size.clone()),
            ("role", role.into()),
            ("publisher", some(&answers.publisher)),
            ("domain", answers.domain.clone()),
            ("time_zone", answers.time_zone.clone()),
            ("features", answers.features.join(" ")),
            ("network.hostname", network.hostname.clone()),
            ("network.domain", some(&network.domain)),
            ("network.dhcp", yes(network.dhcp).into()),
            ("network.address", address.into()),
            ("network.mask", mask),
            ("network.gateway", some(&network.gateway)),
            ("network.mtu", network.mtu.to_string()),
            ("administrator.user", answers.administrator.user.clone()),
            ("certificate.organization", some(&certificate.organization)),
            ("certificate.unit", some(&certificate.unit)),
            ("certificate.location", some(&certificate.location)),
            ("certificate.state", some(&certificate.state)),
            ("certificate.country", some(&certificate.country)),
            (
                "smtp.server",
                answers.smtp.clone().map(|s| s.server).unwrap_or_default(),
            ),
            ("application_user.user", web_user),
        ] {
            self.set(key, &value);
        }
        for (key, secret) in [
            ("security_password", &answers.security_password.0),
            ("administrator.password", &answers.administrator.password.0),
            ("application_user.password", &web_password),
        ] {
            self.set(key, secret);
            self.set(&again(key), secret);
        }
        for (key, values, most) in [
            ("ntp", &answers.ntp, MOST_NTP),
            ("network.dns", &network.dns, MOST_DNS),
        ] {
            for at in 0..most {
                let value = values.get(at).map_or("", String::as_str);
                self.set(&format!("{key}.{at}"), value);
            }
        }
    }

    /// What is wrong, by key of the wizard.
    pub(crate) fn problems(&self, machine: &Machine) -> Vec<(String, String)> {
        let mut found: Vec<(String, String)> = check(&self.answers(), machine)
            .into_iter()
            .map(|problem| (self.key_of(&problem.field), problem.text))
            .collect();
        if !self.dhcp()
            && let Err(text) = rules::mask(self.get("network.mask").trim())
        {
            found.insert(0, ("network.mask".into(), text));
        }
        for key in SECRETS {
            if self.get(key) != self.get(&again(key)) {
                found.push((again(key), "must be the same password again".into()));
            }
        }
        found
    }

    /// The key of a field that the check names: `ntp[1]` is the second server
    /// that was typed, wherever on the page it stands.
    fn key_of(&self, field: &str) -> String {
        let Some((list, rest)) = field.split_once('[') else {
            return match field {
                "ntp" | "network.dns" => format!("{field}.0"),
                _ => field.into(),
            };
        };
        if list == "features" {
            return list.into();
        }
        let nth: usize = rest.trim_end_matches(']').parse().unwrap_or(0);
        (0..MOST_NTP)
            .map(|at| format!("{list}.{at}"))
            .filter(|key| self.some(key).is_some())
            .nth(nth)
            .unwrap_or_else(|| format!("{list}.0"))
    }
}

/// The passwords that are asked for twice.
const SECRETS: [&str; 3] = [
    "administrator.password",
    "security_password",
    "application_user.password",
];

fn again(key: &str) -> String {
    format!("{key}.again")
}
