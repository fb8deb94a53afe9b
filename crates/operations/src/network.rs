//! The node's network settings: shown, and changed after checks.

use std::net::{IpAddr, Ipv4Addr};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use serde::Serialize;

use crate::action::{Caller, actions};
use crate::error::{Error, Result};
use crate::ports::NetworkChange;
use crate::{Host, Operations};

/// The node's interface; its name is the same on every node.
pub const INTERFACE: &str = "eth0";

/// What `show network eth0` tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Network {
    /// Name of the interface.
    pub interface: String,
    /// Whether the address comes by DHCP.
    pub dhcp: bool,
    /// Whether the interface is up.
    pub up: bool,
    /// Whether there is a carrier.
    pub link: bool,
    /// Address, empty when there is none.
    pub address: String,
    /// Mask.
    pub mask: String,
    /// Speed in Mbit/s, when the interface tells.
    pub speed: Option<u32>,
    /// Duplex, when the interface tells.
    pub duplex: Option<String>,
    /// Largest packet.
    pub mtu: u32,
    /// Name servers.
    pub dns: Vec<String>,
    /// Search domain.
    pub domain: String,
    /// Gateway, empty when there is none.
    pub gateway: String,
}

impl Host {
    fn resolver(&self) -> String {
        let own = self.read("/run/systemd/resolve/resolv.conf");
        if own.is_empty() {
            self.read("/etc/resolv.conf")
        } else {
            own
        }
    }

    /// The name servers that the node asks.
    pub fn name_servers(&self) -> Vec<String> {
        words(&self.resolver(), "nameserver")
    }

    fn dhcp(&self) -> bool {
        let Ok(files) = std::fs::read_dir(self.path("/etc/systemd/network")) else {
            return false;
        };
        files
            .flatten()
            .filter_map(|file| std::fs::read_to_string(file.path()).ok())
            .any(|text| {
                text.lines()
                    .any(|line| matches!(line.trim(), "DHCP=yes" | "DHCP=ipv4" | "DHCP=true"))
            })
    }

    /// The settings of an interface.
    pub fn network(&self, interface: &str) -> Result<Network> {
        let of = |name: &str| {
            let text = self.read(&format!("/sys/class/net/{interface}/{name}"));
            text.trim().to_owned()
        };
        let mut network = Network {
            interface: interface.into(),
            dhcp: self.dhcp(),
            link: of("carrier") == "1",
            speed: of("speed").parse().ok(),
            duplex: Some(of("duplex")).filter(|duplex| duplex != "unknown" && !duplex.is_empty()),
            mtu: of("mtu").parse().unwrap_or(0),
            dns: self.name_servers(),
            domain: words(&self.resolver(), "search")
                .into_iter()
                .next()
                .unwrap_or_default(),
            gateway: gateway(&self.read("/proc/net/route"), interface)
                .map(|gateway| gateway.to_string())
                .unwrap_or_default(),
            ..Network::default()
        };
        let mut found = false;
        let addresses = getifaddrs().map_err(|error| Error::failed(error.to_string()))?;
        for one in addresses.filter(|one| one.interface_name == interface) {
            found = true;
            network.up |= one.flags.contains(InterfaceFlags::IFF_UP);
            let four = one
                .address
                .as_ref()
                .and_then(|address| address.as_sockaddr_in());
            let mask = one.netmask.as_ref().and_then(|mask| mask.as_sockaddr_in());
            if let (Some(address), Some(mask), true) = (four, mask, network.address.is_empty()) {
                network.address = address.ip().to_string();
                network.mask = mask.ip().to_string();
            }
        }
        if found {
            Ok(network)
        } else {
            Err(Error::not_found(format!(
                "there is no interface {interface}; the node's is {INTERFACE}"
            )))
        }
    }
}

fn words(text: &str, key: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            (words.next()? == key).then(|| words.next().map(str::to_owned))?
        })
        .collect()
}

/// The default gateway in `/proc/net/route`, whose addresses are hexadecimal
/// in the machine's byte order.
fn gateway(route: &str, interface: &str) -> Option<Ipv4Addr> {
    route.lines().find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        match fields.as_slice() {
            [name, "00000000", gateway, ..] if *name == interface => {
                let number = u32::from_str_radix(gateway, 16).ok()?;
                Some(Ipv4Addr::from(number.to_ne_bytes()))
            }
            _ => None,
        }
    })
}

/// An address that a node can have.
fn host_address(text: &str, what: &str) -> Result<IpAddr> {
    let address: IpAddr = text.parse().map_err(|_| {
        Error::invalid(format!(
            "{what} {text:?} is not an address such as 192.0.2.10"
        ))
    })?;
    if address.is_loopback() || address.is_multicast() || address.is_unspecified() {
        return Err(Error::invalid(format!(
            "{what} {address} is not an address that a machine can have"
        )));
    }
    Ok(address)
}

/// Prefix length of a mask such as `255.255.255.0`, `/24` or `24`.
fn prefix(text: &str) -> Result<u8> {
    let wrong = || {
        Error::invalid(format!(
            "mask {text:?} is not a mask such as 255.255.255.0 or /24"
        ))
    };
    if let Ok(mask) = text.parse::<Ipv4Addr>() {
        let bits = mask.to_bits();
        if bits.leading_ones() + bits.trailing_zeros() != 32 || bits == 0 {
            return Err(wrong());
        }
        return u8::try_from(bits.leading_ones()).map_err(|_| wrong());
    }
    match text.trim_start_matches('/').parse::<u8>() {
        Ok(length @ 1..=31) => Ok(length),
        _ => Err(wrong()),
    }
}

fn same_subnet(a: IpAddr, b: IpAddr, length: u8) -> bool {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            let shift = 32 - u32::from(length);
            a.to_bits() >> shift == b.to_bits() >> shift
        }
        _ => false,
    }
}

/// A change of address; the gateway must lie in the new subnet.
pub fn address_change(address: &str, mask: &str, gateway: &str) -> Result<NetworkChange> {
    let address = host_address(address, "the address")?;
    let prefix = prefix(mask)?;
    let gateway = host_address(gateway, "the gateway")?;
    if address == gateway {
        return Err(Error::invalid(
            "the gateway cannot be the node's own address",
        ));
    }
    if !same_subnet(address, gateway, prefix) {
        return Err(Error::invalid(format!(
            "the gateway {gateway} does not lie in the subnet of {address}/{prefix}. Correct the \
             mask or the gateway"
        )));
    }
    Ok(NetworkChange::Address {
        address,
        prefix,
        gateway,
    })
}

/// A change of gateway; it must lie in the present subnet.
pub fn gateway_change(now: &Network, gateway: &str) -> Result<NetworkChange> {
    let gateway = host_address(gateway, "the gateway")?;
    if let (Ok(address), Ok(prefix)) = (now.address.parse(), prefix(&now.mask))
        && !same_subnet(address, gateway, prefix)
    {
        return Err(Error::invalid(format!(
            "the gateway {gateway} does not lie in the node's subnet {address}/{prefix}. \
             \"set network ip eth0\" changes address and gateway together"
        )));
    }
    Ok(NetworkChange::Gateway { gateway })
}

/// A change of the first (`primary`) or second name server.
pub fn dns_change(now: &Network, primary: bool, server: &str) -> Result<NetworkChange> {
    let server = host_address(server, "the name server")?;
    let known: Vec<IpAddr> = now.dns.iter().filter_map(|one| one.parse().ok()).collect();
    let servers = if primary {
        let rest = known.into_iter().skip(1).filter(|one| *one != server);
        std::iter::once(server).chain(rest).collect()
    } else {
        let first = *known.first().ok_or_else(|| {
            Error::refused(
                "there is no primary name server yet. Set it first with \"set network dns \
                 primary\"",
            )
        })?;
        if first == server {
            return Err(Error::invalid(format!(
                "{server} is the primary name server already; give another one"
            )));
        }
        vec![first, server]
    };
    Ok(NetworkChange::Dns { servers })
}

fn label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

/// A change of host name.
pub fn hostname_change(name: &str) -> Result<NetworkChange> {
    if !label(name) || name.chars().all(|c| c.is_ascii_digit()) {
        return Err(Error::invalid(format!(
            "{name:?} is not a host name: 1 to 63 letters, digits and hyphens, no hyphen at \
             either end, and not digits alone"
        )));
    }
    Ok(NetworkChange::Hostname {
        name: name.to_lowercase(),
    })
}

/// A change of the search domain.
pub fn domain_change(domain: &str) -> Result<NetworkChange> {
    if domain.len() > 253 || !domain.split('.').all(label) {
        return Err(Error::invalid(format!(
            "{domain:?} is not a domain such as example.org"
        )));
    }
    Ok(NetworkChange::Domain {
        domain: domain.to_lowercase(),
    })
}

/// A change of the largest packet.
pub fn mtu_change(text: &str) -> Result<NetworkChange> {
    match text.parse::<u16>() {
        Ok(mtu @ 1280..=9000) => Ok(NetworkChange::Mtu { mtu }),
        _ => Err(Error::invalid(format!(
            "MTU {text:?} is not a number from 1280 to 9000; 1500 is usual, and it is the same on \
             every node of a cluster"
        ))),
    }
}

impl Operations {
    /// The network settings.
    pub async fn network(&self, caller: &Caller, interface: &str) -> Result<Network> {
        let work = async { self.host().network(interface) };
        caller.does(&actions::NETWORK_SHOW, interface, work).await
    }

    /// Changes the network settings.
    pub async fn set_network(&self, caller: &Caller, change: &NetworkChange) -> Result<()> {
        let subject = serde_json::to_string(change).unwrap_or_default();
        let work = self.supervision().set_network(change);
        caller.does(&actions::NETWORK_SET, &subject, work).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_is_the_route_to_everything() {
        let route = "Iface\tDestination\tGateway \tFlags\n\
                     eth0\t0007C90A\t00000000\t0001\neth0\t00000000\t0107C90A\t0003\n";
        assert_eq!(gateway(route, "eth0"), Some(Ipv4Addr::new(10, 201, 7, 1)));
        assert_eq!(gateway(route, "eth1"), None);
    }

    #[test]
    fn an_address_is_checked_against_mask_and_gateway() {
        let change = address_change("10.1.2.3", "255.255.255.0", "10.1.2.1").unwrap();
        let NetworkChange::Address { prefix, .. } = change else {
            panic!("{change:?}")
        };
        assert_eq!(prefix, 24);
        for (address, mask, gateway, word) in [
            ("10.1.2", "24", "10.1.2.1", "address"),
            ("127.0.0.1", "24", "10.1.2.1", "machine"),
            ("10.1.2.3", "255.0.255.0", "10.1.2.1", "mask"),
            ("10.1.2.3", "33", "10.1.2.1", "mask"),
            ("10.1.2.3", "24", "10.1.3.1", "subnet"),
            ("10.1.2.3", "24", "10.1.2.3", "own address"),
        ] {
            let message = address_change(address, mask, gateway).unwrap_err().message;
            assert!(message.contains(word), "{message}");
        }
    }

    #[test]
    fn names_follow_the_rules_of_the_wizard() {
        assert!(hostname_change("node-1").is_ok());
        for name in [
            "-node",
            "node-",
            "",
            "a.b",
            "12",
            "a b",
            &"x".repeat(64),
            "a;b",
        ] {
            assert!(hostname_change(name).is_err(), "{name:?}");
        }
        assert!(domain_change("example.org").is_ok());
        assert!(domain_change("example..org").is_err());
        assert!(mtu_change("1500").is_ok());
        assert!(mtu_change("100").is_err());
    }

    #[test]
    fn a_second_name_server_needs_a_first() {
        let mut now = Network::default();
        assert!(dns_change(&now, false, "192.0.2.2").is_err());
        now.dns = vec!["192.0.2.1".into(), "192.0.2.9".into()];
        let servers = |change| match change {
            NetworkChange::Dns { servers } => {
                servers.iter().map(IpAddr::to_string).collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(
            servers(dns_change(&now, false, "192.0.2.2").unwrap()),
            ["192.0.2.1", "192.0.2.2"]
        );
        assert_eq!(
            servers(dns_change(&now, true, "192.0.2.9").unwrap()),
            ["192.0.2.9"]
        );
    }
}
