//! Checking a whole set of answers.

use std::collections::BTreeSet;
use std::fmt;

use service::Role;

use crate::answers::{Account, Answers, Network};
use crate::machine::Machine;
use crate::rules::{self, Check, Interface};

/// An answer that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The field, as it stands in an answer file: `network.gateway`.
    pub field: String,
    /// What is allowed: `must be …`.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.field, self.text)
    }
}

/// Most name servers that the resolver asks.
pub const MOST_DNS: usize = 3;
/// Most time servers.
pub const MOST_NTP: usize = 5;

/// Every problem of a set of answers; none when it can be applied.
pub fn check(answers: &Answers, machine: &Machine) -> Vec<Problem> {
    let mut found = Found::default();
    found.field("product", rules::product(&answers.product));
    found.field("size", rules::size(&answers.size));
    role(answers, &mut found);
    found.field("domain", rules::xmpp_domain(&answers.domain));
    found.field("time_zone", machine.time_zone(&answers.time_zone));
    found.list("ntp", &answers.ntp, MOST_NTP, rules::host);
    found.field(
        "security_password",
        rules::password(&answers.security_password.0),
    );
    features(answers, machine, &mut found);
    network(&answers.network, &mut found);
    account("administrator", &answers.administrator, &mut found);
    found.field(
        "administrator.user",
        machine.free_account(&answers.administrator.user),
    );
    if let Some(user) = &answers.application_user {
        account("application_user", user, &mut found);
    }
    certificate(answers, &mut found);
    if let Some(smtp) = &answers.smtp {
        found.field("smtp.server", rules::host(&smtp.server));
    }
    found.0
}

/// What only a node that joins has, and what only the first one has.
fn role(answers: &Answers, found: &mut Found) {
    match (answers.role, &answers.publisher) {
        (Role::Publisher, None) => {}
        (Role::Publisher, Some(_)) => found.add(
            "publisher",
            "must be left out on the first node; a node that joins a cluster has role = \"subscriber\"",
        ),
        (Role::Subscriber, Some(publisher)) => found.field("publisher", rules::host(publisher)),
        (Role::Subscriber, None) => found.add(
            "publisher",
            "must be the name or address of the cluster's first node",
        ),
    }
    if answers.role == Role::Publisher {
        return;
    }
    let text = "must be left out on a node that joins: the cluster has it already";
    if answers.application_user.is_some() {
        found.add("application_user", text);
    }
    if answers.smtp.is_some() {
        found.add("smtp", text);
    }
}

#[derive(Default)]
struct Found(Vec<Problem>);

impl Found {
    fn add(&mut self, field: &str, text: &str) {
        self.0.push(Problem {
            field: field.into(),
            text: text.into(),
        });
    }

    fn field(&mut self, field: &str, check: Check) {
        if let Err(text) = check {
            self.add(field, &text);
        }
    }

    fn list(&mut self, field: &str, values: &[String], most: usize, check: impl Fn(&str) -> Check) {
        if values.len() > most {
            self.add(field, &format!("must have at most {most} entries"));
        }
        let mut seen = BTreeSet::new();
        for (at, value) in values.iter().enumerate() {
            let place = format!("{field}[{at}]");
            self.field(&place, check(value));
            if !seen.insert(value) {
                self.add(&place, &format!("must not be {value:?} a second time"));
            }
        }
    }
}

fn features(answers: &Answers, machine: &Machine, found: &mut Found) {
    let most = machine.features().len().max(1);
    found.list("features", &answers.features, most, |id| {
        machine.feature(id)
    });
    for (at, id) in answers.features.iter().enumerate() {
        let needs = machine.features().get(id).map(|feature| &feature.needs);
        for need in needs.into_iter().flatten() {
            if !answers.features.contains(need) {
                let text = format!("must come with {need}, which {id} needs");
                found.add(&format!("features[{at}]"), &text);
            }
        }
    }
}

/// Every problem of network settings alone.
pub(crate) fn check_network(settings: &Network) -> Vec<Problem> {
    let mut found = Found::default();
    network(settings, &mut found);
    found.0
}

fn network(network: &Network, found: &mut Found) {
    found.field("network.hostname", rules::host_name(&network.hostname));
    if let Some(domain) = &network.domain {
        found.field("network.domain", rules::domain(domain));
    }
    found.field("network.mtu", rules::mtu(network.mtu));
    found.list("network.dns", &network.dns, MOST_DNS, |server| {
        rules::unicast(server).map(|_| ())
    });
    let address = network.address.as_deref();
    let gateway = network.gateway.as_deref();
    if network.dhcp {
        for (field, value) in [("address", address), ("gateway", gateway)] {
            if value.is_some() {
                found.add(
                    &format!("network.{field}"),
                    "must be left out when network.dhcp is true",
                );
            }
        }
        return;
    }
    match address.map(Interface::parse) {
        None => found.add(
            "network.address",
            "must be given, such as 192.0.2.11/24, or network.dhcp must be true",
        ),
        Some(Err(text)) => {
            found.add("network.address", &text);
            if let Some(Err(text)) = gateway.map(rules::unicast) {
                found.add("network.gateway", &text);
            }
        }
        Some(Ok(interface)) => {
            if let Some(gateway) = gateway {
                found.field("network.gateway", rules::gateway(gateway, interface));
            }
        }
    }
}

fn account(field: &str, account: &Account, found: &mut Found) {
    found.field(&format!("{field}.user"), rules::account_name(&account.user));
    found.field(
        &format!("{field}.password"),
        rules::password(&account.password.0),
    );
}

fn certificate(answers: &Answers, found: &mut Found) {
    let data = &answers.certificate;
    for (field, value) in [
        ("organization", &data.organization),
        ("unit", &data.unit),
        ("location", &data.location),
        ("state", &data.state),
    ] {
        if let Some(value) = value {
            found.field(
                &format!("certificate.{field}"),
                rules::certificate_text(value),
            );
        }
    }
    if let Some(country) = &data.country {
        found.field("certificate.country", rules::country(country));
    }
}
