//! Network settings as systemd's files.

use std::fmt::Write;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::answers::Network;
use crate::file;
use crate::rules::Interface;
use crate::system::{Place, System};

/// The one interface of a node. The kernel is told to use this name.
pub const INTERFACE: &str = "eth0";

/// What systemd-networkd reads.
const UNIT: &str = "etc/systemd/network/10-eth0.network";
/// The settings as they were given, for later changes.
pub(crate) const SETTINGS: &str = "etc/signalbox/network.toml";

/// How often to look for the address.
const STEP: Duration = Duration::from_millis(250);

/// The unit file of the interface.
pub(crate) fn unit(network: &Network) -> String {
    let mut text = format!(
        "# Written by signalbox; `set network` changes it.\n\
         [Match]\nName={INTERFACE}\n\n[Link]\nMTUBytes={}\nRequiredForOnline=yes\n\n[Network]\n",
        network.mtu
    );
    // Writing to a string cannot fail.
    if network.dhcp {
        text.push_str("DHCP=ipv4\n");
    } else {
        for (key, value) in [("Address", &network.address), ("Gateway", &network.gateway)] {
            if let Some(value) = value {
                let _ = writeln!(text, "{key}={value}");
            }
        }
    }
    for server in &network.dns {
        let _ = writeln!(text, "DNS={server}");
    }
    if let Some(domain) = &network.domain {
        let _ = writeln!(text, "Domains={domain}");
    }
    // Only what was asked for: no name service for the neighbours, and no
    // address or router that a neighbour announces.
    text.push_str("LLMNR=no\nMulticastDNS=no\nIPv6AcceptRA=no\n");
    if network.dhcp {
        // The same virtual machine gets the same address again; the name, the
        // time servers and the packet size are the administrator's.
        text.push_str(
            "\n[DHCPv4]\nClientIdentifier=mac\nUseHostname=no\nUseNTP=no\nUseMTU=no\n\
             SendHostname=yes\n",
        );
    }
    text
}

/// `/etc/hosts`: the node finds itself without a name server.
fn hosts(address: IpAddr, name: &str, full_name: &str) -> String {
    let names = if name == full_name {
        name.into()
    } else {
        format!("{full_name} {name}")
    };
    format!(
        "127.0.0.1 localhost\n::1       localhost ip6-localhost ip6-loopback\n{address} {names}\n"
    )
}

/// Writes the settings, has them applied, and returns the address that the
/// node has then.
pub(crate) fn apply(
    network: &Network,
    place: &Place,
    system: &mut dyn System,
) -> anyhow::Result<IpAddr> {
    must_have_card(system)?;
    file::write(&place.path(UNIT), 0o644, &unit(network))?;
    file::write(
        &place.path(SETTINGS),
        0o644,
        &toml::to_string_pretty(network)?,
    )?;
    system.run("networkctl", &["reload"], "")?;
    system.run("networkctl", &["reconfigure", INTERFACE], "")?;
    let address = wait_for_address(network, system)?;
    let hosts = hosts(address, &network.hostname, &network.full_name());
    file::write(&place.path("etc/hosts"), 0o644, &hosts)?;
    Ok(address)
}

/// Where systemd-networkd reads settings that are gone after a restart.
const TRIAL: &str = "run/systemd/network/10-eth0.network";

/// Tries settings out without keeping them; the address that the node has
/// then.
pub(crate) fn try_out(
    network: &Network,
    place: &Place,
    system: &mut dyn System,
) -> anyhow::Result<IpAddr> {
    must_have_card(system)?;
    file::write(&place.path(TRIAL), 0o644, &unit(network))?;
    system.run("networkctl", &["reload"], "")?;
    system.run("networkctl", &["reconfigure", INTERFACE], "")?;
    wait_for_address(network, system)
}

fn must_have_card(system: &mut dyn System) -> anyhow::Result<()> {
    if system.has_interface(INTERFACE) {
        return Ok(());
    }
    bail!(
        "there is no network interface {INTERFACE}. Give the virtual machine a network card and \
         restart it"
    );
}

fn wait_for_address(network: &Network, system: &mut dyn System) -> anyhow::Result<IpAddr> {
    let wanted = match &network.address {
        Some(address) => Some(
            Interface::parse(address)
                .map_err(anyhow::Error::msg)?
                .address,
        ),
        None => None,
    };
    let seconds: u32 = if wanted.is_some() { 15 } else { 60 };
    for _ in 0..=seconds * 4 {
        let now = system.addresses(INTERFACE);
        let found = match wanted {
            Some(wanted) => now.into_iter().find(|address| *address == wanted),
            None => now.into_iter().find(IpAddr::is_ipv4),
        };
        if let Some(address) = found {
            return Ok(address);
        }
        system.pause(STEP);
    }
    match wanted {
        Some(wanted) => bail!(
            "{INTERFACE} did not take the address {wanted} in {seconds} s. Is the network card \
             connected?"
        ),
        None => bail!(
            "no DHCP server gave {INTERFACE} an address in {seconds} s. Connect the network card \
             to a network that has one, or give a fixed address"
        ),
    }
}

/// The settings as they were given last.
pub(crate) fn load(place: &Place) -> anyhow::Result<Network> {
    let path = place.path(SETTINGS);
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("{} is not valid", path.display()))
}
