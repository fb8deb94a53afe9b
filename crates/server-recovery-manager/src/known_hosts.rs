//! Other known hosts, for a cluster without a third node: whoever reaches one
//! of them is not cut off (seed 003, events of a status change, step 2).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::net::TcpStream;

/// The port that is tried. Whether somebody listens there does not matter: a
/// refusal is an answer, too.
const PORT: u16 = 53;

/// What the kernel says of IPv4 routes.
const ROUTES: &str = "/proc/self/net/route";
/// The name servers that the node was given.
const SERVERS: &str = "/run/systemd/resolve/resolv.conf";

/// The gateways and name servers of this node.
pub(crate) fn known_hosts() -> Vec<IpAddr> {
    let read = |path: &str| std::fs::read_to_string(Path::new(path)).unwrap_or_default();
    let mut hosts = gateways(&read(ROUTES));
    hosts.extend(name_servers(&read(SERVERS)));
    hosts.sort();
    hosts.dedup();
    hosts
}

/// Gateways of default routes: the kernel writes addresses as numbers in the
/// order of bytes of the machine.
fn gateways(routes: &str) -> Vec<IpAddr> {
    let gateway = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let (destination, gateway) = (words.next()?, words.next()?);
        let number = u32::from_str_radix(gateway, 16).ok()?;
        let address = Ipv4Addr::from(number.to_ne_bytes());
        (destination == "00000000" && !address.is_unspecified()).then_some(IpAddr::V4(address))
    };
    routes.lines().skip(1).filter_map(gateway).collect()
}

fn name_servers(text: &str) -> Vec<IpAddr> {
    let lines = text
        .lines()
        .filter_map(|line| line.strip_prefix("nameserver "));
    let addresses = lines.filter_map(|address| address.trim().parse::<IpAddr>().ok());
    addresses.filter(|address| !address.is_loopback()).collect()
}

/// Whether one of these hosts answers in that time: takes a connection or
/// refuses it.
pub(crate) async fn reached(hosts: Vec<IpAddr>, limit: Duration) -> bool {
    let mut answers: FuturesUnordered<_> = hosts
        .into_iter()
        .map(|host| async move {
            match TcpStream::connect(SocketAddr::new(host, PORT)).await {
                Ok(_) => true,
                Err(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
            }
        })
        .collect();
    let any = async {
        while let Some(answered) = answers.next().await {
            if answered {
                return true;
            }
        }
        false
    };
    tokio::time::timeout(limit, any).await.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateways_and_name_servers_are_known() {
        let gateway = u32::from_ne_bytes([192, 0, 2, 1]);
        let routes = format!(
            "Iface\tDestination\tGateway \tFlags\n\
             eth0\t00000000\t{gateway:08X}\t0003\n\
             eth0\t0002000A\t00000000\t0001\n"
        );
        let expected: IpAddr = [192, 0, 2, 1].into();
        assert_eq!(gateways(&routes), [expected]);
        let servers = "# made by a program\nnameserver 192.0.2.53\nnameserver 127.0.0.53\n\
                       nameserver 2001:db8::53\nsearch example.org\n";
        let expected: [IpAddr; 2] = [[192, 0, 2, 53].into(), "2001:db8::53".parse().unwrap()];
        assert_eq!(name_servers(servers), expected);
    }

    #[tokio::test]
    async fn a_refusal_is_an_answer() {
        let limit = Duration::from_secs(5);
        assert!(reached(vec![Ipv4Addr::LOCALHOST.into()], limit).await);
        assert!(!reached(Vec::new(), limit).await);
    }
}
