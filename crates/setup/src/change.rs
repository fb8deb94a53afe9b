//! Changing the network settings of a node that is set up.
//!
//! The supervisor, which has no rights of its own, leaves the change in a
//! file and starts a unit; this is what the unit runs, as root.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, bail, ensure};
use nix::fcntl::OFlag;
use supervisor::NetworkChange;

use crate::answers::Network;
use crate::check::check_network;
use crate::system::{Place, System};
use crate::{file, issue, network};

/// Where the supervisor leaves a change.
const CHANGE: &str = "var/lib/signalbox/supervisor/network-change.toml";
/// More than any change needs.
const LIMIT: u64 = 16 * 1024;

/// Applies the change that the supervisor left. Settings with which the node
/// gets no address are taken back.
pub fn change_network(place: &Place, system: &mut dyn System) -> anyhow::Result<()> {
    let change = take(place)?;
    let old = network::load(place)?;
    let new = changed(&old, change);
    if !issue::has_authority(place) && is_known_by(&new) != is_known_by(&old) {
        bail!(
            "the network settings stay as they are: the cluster knows a subscriber by its name \
             and address. Remove the node on the publisher, add it there with the new ones, and \
             set it up again"
        );
    }
    let problems = check_network(&new);
    if !problems.is_empty() {
        let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
        bail!(
            "the network settings stay as they are: {}",
            texts.join("; ")
        );
    }
    let address = match network::apply(&new, place, system) {
        Ok(address) => address,
        Err(error) => {
            network::apply(&old, place, system)
                .context("the old network settings cannot be restored either")?;
            return Err(error.context("the old network settings were restored"));
        }
    };
    if new.hostname != old.hostname {
        file::write(
            &place.path("etc/hostname"),
            0o644,
            &format!("{}\n", new.hostname),
        )?;
        system.run("hostnamectl", &["hostname", &new.hostname], "")?;
    }
    settle(&old, &new, address, place, system)
}

/// What others know a node by.
fn is_known_by(network: &Network) -> (&str, Option<&str>, Option<&str>, bool) {
    let (name, domain) = (&network.hostname, network.domain.as_deref());
    (name, domain, network.address.as_deref(), network.dhcp)
}

/// Reads the change and removes it: one that fails is not tried again.
fn take(place: &Place) -> anyhow::Result<NetworkChange> {
    let path = place.path(CHANGE);
    let text = read(&path).with_context(|| format!("cannot read {}", path.display()));
    let removed = file::remove(&path);
    let text = text?;
    removed.with_context(|| format!("cannot remove {}", path.display()))?;
    // The parser's error quotes the file, and the supervisor reads this one.
    toml::from_str(&text).map_err(|_| {
        anyhow::anyhow!(
            "{} is not a change as the supervisor writes it; give the command again",
            path.display()
        )
    })
}

/// Reads what the supervisor left. Its folder is its own, so that anything
/// may be there under the name: a link to a file that only root may read, a
/// pipe that nobody writes to.
fn read(path: &Path) -> anyhow::Result<String> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits())
        .open(path)?;
    let about = file.metadata()?;
    ensure!(about.is_file(), "it is not a regular file");
    // A second name of somebody else's file, too, belongs to somebody else.
    let owner = File::open(path.parent().unwrap_or(path))?.metadata()?.uid();
    ensure!(
        about.uid() == owner,
        "it does not belong to the owner of its folder"
    );
    ensure!(about.len() <= LIMIT, "it is larger than {LIMIT} bytes");
    let mut text = String::new();
    file.take(LIMIT).read_to_string(&mut text)?;
    Ok(text)
}

/// The settings with the change in them.
fn changed(old: &Network, change: NetworkChange) -> Network {
    let mut new = old.clone();
    let given = |text: String| (!text.is_empty()).then_some(text);
    if let Some(address) = change.address {
        new.address = given(address);
        new.dhcp = false;
    }
    if let Some(gateway) = change.gateway {
        new.gateway = given(gateway);
    }
    if let Some(dhcp) = change.dhcp {
        new.dhcp = dhcp;
        if dhcp {
            new.address = None;
            new.gateway = None;
        }
    }
    if let Some(dns) = change.dns {
        new.dns = dns;
    }
    if let Some(domain) = change.domain {
        new.domain = given(domain);
    }
    if let Some(name) = change.hostname {
        new.hostname = name;
    }
    if let Some(mtu) = change.mtu {
        new.mtu = mtu;
    }
    new
}

/// What follows from a new name or address: certificates for it, and
/// `node.toml`, which services read when they start. Certificates that would
/// say the same stay, so that nothing restarts for them.
fn settle(
    before: &Network,
    new: &Network,
    address: IpAddr,
    place: &Place,
    system: &mut dyn System,
) -> anyhow::Result<()> {
    let path = place.node_file();
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let old: service::Node =
        toml::from_str(&text).with_context(|| format!("{} is not valid", path.display()))?;
    let node = service::Node {
        name: new.hostname.clone(),
        address: address.to_string(),
        ..old.clone()
    };
    let renamed = node != old || new.full_name() != before.full_name();
    if renamed && issue::has_authority(place) {
        let names = issue::names(new, &node.domain, address);
        issue::again(&names, &node.cluster, place, system.now())?;
    }
    if node != old {
        file::write(&path, 0o644, &toml::to_string_pretty(&node)?)?;
    }
    Ok(())
}
