//! The certificate files of a node.

use std::net::IpAddr;

use anyhow::Context;
use certificates::{Authority, Certificate, Component, Identity, Names, Subject};
use cluster::Joined;
use time::OffsetDateTime;

use crate::answers::Network;
use crate::file;
use crate::system::Place;

/// Folder of the certificates.
const FOLDER: &str = "etc/signalbox/certificates";
/// The authority's key; only the publisher has it.
const AUTHORITY_KEY: &str = "etc/signalbox/certificates/ca/key.pem";
/// What the certificates say of the organisation, for those issued later.
const SUBJECT: &str = "etc/signalbox/certificates/subject.toml";

/// Makes the cluster's authority and the first certificates.
pub(crate) fn create(
    domain: &str,
    subject: &Subject,
    names: &Names,
    cluster: &str,
    place: &Place,
    now: OffsetDateTime,
) -> anyhow::Result<()> {
    let authority = Authority::create(&authority_name(domain), subject, now)?;
    file::write(
        &place.path(SUBJECT),
        0o644,
        &toml::to_string_pretty(subject)?,
    )?;
    write(
        place,
        "ca",
        authority.certificate_pem(),
        &authority.key_pem(),
    )?;
    // The node that founds a cluster has the number 1 in its log.
    let identity = Identity {
        replica: 1,
        cluster: cluster.into(),
    };
    let all = Component::ALL;
    components(all, &authority, subject, names, &identity, place, now)
}

/// Keeps what a node that joined a cluster was given. The authority's key
/// stays with the publisher.
pub(crate) fn keep(joined: &Joined, subject: &Subject, place: &Place) -> anyhow::Result<()> {
    file::write(
        &place.path(SUBJECT),
        0o644,
        &toml::to_string_pretty(subject)?,
    )?;
    // An earlier set-up that was cut off may have made an authority.
    file::remove(&place.path(AUTHORITY_KEY))?;
    let authority = place.path(FOLDER).join("ca/certificate.pem");
    file::write(&authority, 0o644, &joined.authority)?;
    for pair in &joined.pairs {
        write(place, pair.component, &pair.certificate, &pair.key)?;
    }
    Ok(())
}

/// Whether this node has the cluster's authority, and so can issue.
pub(crate) fn has_authority(place: &Place) -> bool {
    place.path(AUTHORITY_KEY).exists()
}

/// Issues the certificates with the node's names anew. The one by which the
/// cluster's nodes know each other has none of these names, and stays.
pub(crate) fn again(
    names: &Names,
    cluster: &str,
    place: &Place,
    now: OffsetDateTime,
) -> anyhow::Result<()> {
    let read = |path: String| {
        let path = place.path(&path);
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let authority = Authority::load(
        &read(format!("{FOLDER}/ca/certificate.pem"))?,
        &read(format!("{FOLDER}/ca/key.pem"))?,
    )?;
    let subject = toml::from_str(&read(SUBJECT.into())?)?;
    let own = read(format!("{FOLDER}/cluster/certificate.pem"));
    let known = own
        .ok()
        .and_then(|own| Certificate::from_pem(&own).ok()?.identity());
    let changed = Component::ALL
        .into_iter()
        .filter(|component| known.is_none() || !matches!(component, Component::Cluster));
    let identity = known.clone().unwrap_or_else(|| Identity {
        replica: 1,
        cluster: cluster.into(),
    });
    components(changed, &authority, &subject, names, &identity, place, now)
}

fn components(
    which: impl IntoIterator<Item = Component>,
    authority: &Authority,
    subject: &Subject,
    names: &Names,
    identity: &Identity,
    place: &Place,
    now: OffsetDateTime,
) -> anyhow::Result<()> {
    for component in which {
        let names = match component {
            Component::Cluster => &Names {
                dns: vec![identity.host_name()],
                addresses: Vec::new(),
            },
            Component::Tomcat | Component::Xmpp => names,
        };
        let issued = authority.issue(subject, names, now)?;
        write(
            place,
            component.name(),
            &issued.certificate_pem,
            &issued.key_pem,
        )?;
    }
    Ok(())
}

fn write(place: &Place, name: &str, certificate: &str, key: &str) -> anyhow::Result<()> {
    let folder = place.path(FOLDER).join(name);
    file::write(&folder.join("key.pem"), 0o600, key)?;
    file::write(&folder.join("certificate.pem"), 0o644, certificate)
}

/// Common name of a cluster's authority, at most 64 characters.
fn authority_name(domain: &str) -> String {
    let end = " authority";
    let start: String = domain.chars().take(64 - end.len()).collect();
    start + end
}

/// The names that a node's certificates are for.
pub(crate) fn names(network: &Network, domain: &str, address: IpAddr) -> Names {
    let mut dns = vec![network.full_name()];
    for name in [network.hostname.as_str(), domain] {
        if !dns.iter().any(|one| one == name) {
            dns.push(name.into());
        }
    }
    Names {
        dns,
        addresses: vec![address],
    }
}
