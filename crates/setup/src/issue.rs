//! The certificate files of a node.

use std::net::IpAddr;

use anyhow::Context;
use certificates::{Authority, Component, Names, Subject};
use time::OffsetDateTime;

use crate::answers::{CertificateData, Network};
use crate::file;
use crate::system::Place;

/// Folder of the certificates.
const FOLDER: &str = "etc/signalbox/certificates";
/// What the certificates say of the organisation, for those issued later.
const SUBJECT: &str = "etc/signalbox/certificates/subject.toml";

/// Makes the cluster's authority and the first certificates.
pub(crate) fn create(
    domain: &str,
    data: &CertificateData,
    names: &Names,
    place: &Place,
    now: OffsetDateTime,
) -> anyhow::Result<()> {
    let authority = Authority::create(&authority_name(domain), &subject(data), now)?;
    file::write(&place.path(SUBJECT), 0o644, &toml::to_string_pretty(data)?)?;
    write(
        place,
        "ca",
        authority.certificate_pem(),
        &authority.key_pem(),
    )?;
    components(&authority, data, names, place, now)
}

/// Issues every component's certificate anew, for changed names.
pub(crate) fn again(names: &Names, place: &Place, now: OffsetDateTime) -> anyhow::Result<()> {
    let read = |path: String| {
        let path = place.path(&path);
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let authority = Authority::load(
        &read(format!("{FOLDER}/ca/certificate.pem"))?,
        &read(format!("{FOLDER}/ca/key.pem"))?,
    )?;
    let data = toml::from_str(&read(SUBJECT.into())?)?;
    components(&authority, &data, names, place, now)
}

fn components(
    authority: &Authority,
    data: &CertificateData,
    names: &Names,
    place: &Place,
    now: OffsetDateTime,
) -> anyhow::Result<()> {
    for component in Component::ALL {
        let issued = authority.issue(&subject(data), names, now)?;
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

fn subject(data: &CertificateData) -> Subject {
    let data = data.clone();
    Subject {
        organization: data.organization,
        unit: data.unit,
        location: data.location,
        state: data.state,
        country: data.country,
    }
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
