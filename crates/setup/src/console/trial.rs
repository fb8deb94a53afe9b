//! Trying answers out, with bounded waits.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::mpsc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::network;
use crate::rules::Interface;
use crate::system::{Node, Place, System, converse, join_address};
use crate::wizard::{Finding, Trial};
use crate::{Answers, INTERFACE, Network};

/// Longest wait for a name.
const NAME_LIMIT: Duration = Duration::from_secs(10);
/// Longest wait for a time server, per attempt.
const TIME_LIMIT: Duration = Duration::from_secs(2);

fn well(text: String) -> Finding {
    Finding { ok: true, text }
}

fn fail(text: String) -> Finding {
    Finding { ok: false, text }
}

/// Tries one thing out.
pub(crate) fn run(trial: &Trial, place: &Place) -> Vec<Finding> {
    match trial {
        Trial::Network(settings, full_name) => on_network(settings, full_name, place),
        Trial::Time(servers) => time_servers(servers),
        Trial::Cluster(answers) => vec![publisher(answers)],
        Trial::Name(name) => vec![match resolve(name) {
            Ok(addresses) => well(format!("{name} is {}.", first(&addresses))),
            Err(why) => fail(format!("{name} is not known: {why}.")),
        }],
    }
}

fn first(addresses: &[IpAddr]) -> String {
    addresses
        .first()
        .map(ToString::to_string)
        .unwrap_or_default()
}

fn on_network(settings: &Network, full_name: &str, place: &Place) -> Vec<Finding> {
    let mut system = Node;
    let address = match network::try_out(settings, place, &mut system) {
        Ok(address) => address,
        Err(error) => return vec![fail(format!("{error:#}."))],
    };
    let mut findings = vec![well(format!("{INTERFACE} has the address {address}."))];
    let gateway = settings
        .gateway
        .clone()
        .or_else(|| default_gateway(&mut system));
    if let Some(gateway) = gateway {
        let count = ["-n", "-q", "-c", "2", "-i", "0.5", "-W", "2", &gateway];
        findings.push(match system.run("ping", &count, "") {
            Ok(_) => well(format!("The gateway {gateway} answers.")),
            Err(_) => fail(format!("The gateway {gateway} does not answer to ping.")),
        });
    }
    if !settings.dns.is_empty() && settings.domain.is_some() {
        findings.push(match resolve(full_name) {
            Ok(found) if found.contains(&address) => {
                well(format!("The name servers know {full_name} as {address}."))
            }
            Ok(found) => fail(format!(
                "The name servers know {full_name} as {}, not as {address}.",
                first(&found)
            )),
            Err(why) => fail(format!("The name servers do not know {full_name}: {why}.")),
        });
    }
    let own = settings.address.as_deref().map(Interface::parse);
    if let Some(Ok(own)) = own
        && own.address != address
    {
        findings.push(fail(format!(
            "The address is {address}, not {}.",
            own.address
        )));
    }
    findings
}

/// Asks the publisher whether it takes the node.
fn publisher(answers: &Answers) -> Finding {
    let address = Node.addresses(INTERFACE).into_iter().find(IpAddr::is_ipv4);
    let candidate = answers.candidate(address);
    let publisher = answers.publisher.as_deref().unwrap_or_default();
    let at = join_address(publisher);
    let password = &answers.security_password.0;
    match converse(cluster::try_out(&candidate, &at, password)) {
        Ok(()) => well(format!("The publisher {publisher} takes this node.")),
        Err(error) => {
            let text = error.to_string();
            let mut letters = text.chars();
            let first = letters.next().map(|letter| letter.to_ascii_uppercase());
            fail(first.into_iter().chain(letters).chain(['.']).collect())
        }
    }
}

/// The gateway that a DHCP server told.
fn default_gateway(system: &mut dyn System) -> Option<String> {
    let route = system
        .run("ip", &["-4", "route", "show", "default"], "")
        .ok()?;
    let mut words = route.split_whitespace();
    words.find(|word| *word == "via")?;
    words.next().map(String::from)
}

/// The addresses of a host, looked up like any program does it.
fn resolve(name: &str) -> Result<Vec<IpAddr>, String> {
    let (sender, receiver) = mpsc::channel();
    let asked = name.to_owned();
    // The system's own lookup cannot be interrupted; a thread that waits on
    // is forgotten.
    std::thread::spawn(move || {
        let found = (asked.as_str(), 0).to_socket_addrs();
        let found = found.map(|all| all.map(|one| one.ip()).collect::<Vec<_>>());
        let _ = sender.send(found);
    });
    match receiver.recv_timeout(NAME_LIMIT) {
        Ok(Ok(addresses)) if !addresses.is_empty() => Ok(addresses),
        Ok(Ok(_)) => Err("no address".into()),
        Ok(Err(error)) => {
            // "failed to lookup address information: Name or service not known"
            let text = error.to_string();
            Err(text.rsplit(": ").next().unwrap_or(&text).to_lowercase())
        }
        Err(_) => Err(format!("no answer in {} s", NAME_LIMIT.as_secs())),
    }
}

/// Asks every server at once.
fn time_servers(servers: &[String]) -> Vec<Finding> {
    let asking: Vec<_> = servers
        .iter()
        .map(|server| {
            let server = server.clone();
            std::thread::spawn(move || time_server(&server))
        })
        .collect();
    let lost = || fail("A time server could not be asked.".into());
    let findings = asking
        .into_iter()
        .map(|thread| thread.join().unwrap_or_else(|_| lost()));
    findings.collect()
}

fn time_server(server: &str) -> Finding {
    let addresses = match resolve(server) {
        Ok(addresses) => addresses,
        Err(why) => return fail(format!("{server} is not known: {why}.")),
    };
    let mut why = String::new();
    for _ in 0..2 {
        match ask((addresses[0], 123).into()) {
            Ok(offset) => {
                let text = format!(
                    "{server} answers; this machine's clock differs by {:.1} s.",
                    offset.abs()
                );
                return well(text);
            }
            Err(error) => why = error,
        }
    }
    fail(format!(
        "{server} ({}) does not answer: {why}.",
        addresses[0]
    ))
}

/// Seconds between 1900, when NTP's time begins, and 1970.
const EPOCH: f64 = 2_208_988_800.0;

/// Asks a server for the time; its offset from ours in seconds.
fn ask(server: SocketAddr) -> Result<f64, String> {
    let any: SocketAddr = if server.is_ipv4() {
        ([0, 0, 0, 0], 0).into()
    } else {
        ([0u16; 8], 0).into()
    };
    let talk = || -> io::Result<(usize, [u8; 48])> {
        let socket = UdpSocket::bind(any)?;
        socket.set_read_timeout(Some(TIME_LIMIT))?;
        socket.connect(server)?;
        let mut request = [0u8; 48];
        request[0] = 0x23; // version 4, client
        socket.send(&request)?;
        let mut reply = [0u8; 48];
        let length = socket.recv(&mut reply)?;
        Ok((length, reply))
    };
    let (length, reply) = talk().map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            format!("nothing came in {} s", TIME_LIMIT.as_secs())
        }
        _ => error.to_string(),
    })?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |time| time.as_secs_f64());
    offset(&reply[..length], now)
}

/// Reads a server's reply.
fn offset(reply: &[u8], now: f64) -> Result<f64, String> {
    let Some(reply) = reply.first_chunk::<48>() else {
        return Err("its reply is too short".into());
    };
    let (leap, mode, stratum) = (reply[0] >> 6, reply[0] & 7, reply[1]);
    if mode != 4 {
        return Err("its reply is not a time server's".into());
    }
    if leap == 3 || stratum == 0 || stratum > 15 {
        return Err("it has no time to give yet".into());
    }
    let seconds = u32::from_be_bytes([reply[40], reply[41], reply[42], reply[43]]);
    let fraction = u32::from_be_bytes([reply[44], reply[45], reply[46], reply[47]]);
    let time = f64::from(seconds) + f64::from(fraction) / 4_294_967_296.0;
    // The seconds run over in 2036.
    let era = if seconds < 0x8000_0000 {
        4_294_967_296.0
    } else {
        0.0
    };
    Ok(time + era - EPOCH - now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(first: u8, stratum: u8, seconds: u32) -> [u8; 48] {
        let mut reply = [0; 48];
        reply[0] = first;
        reply[1] = stratum;
        reply[40..44].copy_from_slice(&seconds.to_be_bytes());
        reply[44] = 0x80;
        reply
    }

    #[test]
    fn a_reply_tells_the_offset() {
        // 2026-11-21 06:00 UTC.
        let (unix, ntp) = (1_795_240_800.0, 4_004_229_600);
        assert_eq!(offset(&reply(0x24, 2, ntp), unix), Ok(0.5));
        assert_eq!(offset(&reply(0x24, 2, ntp), unix + 10.0), Ok(-9.5));
        // 2036-02-07 06:28:17 UTC, a second into the next era.
        assert_eq!(offset(&reply(0x24, 2, 1), 2_085_978_497.0), Ok(0.5));
    }

    #[test]
    fn a_reply_without_time_is_none() {
        for (bytes, why) in [
            (&reply(0xe4, 2, 1)[..], "no time"),
            (&reply(0x24, 0, 1), "no time"),
            (&reply(0x24, 16, 1), "no time"),
            (&reply(0x23, 2, 1), "not a time server's"),
            (&[0x24, 2], "too short"),
        ] {
            let error = offset(bytes, 0.0).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_server_on_loopback_is_asked_and_answers() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let answering = std::thread::spawn(move || {
            let mut request = [0; 48];
            let (length, from) = server.recv_from(&mut request).unwrap();
            assert_eq!((length, request[0]), (48, 0x23));
            server
                .send_to(&reply(0x24, 1, 4_004_229_600), from)
                .unwrap();
        });
        assert!(ask(address).is_ok());
        answering.join().unwrap();
    }

    #[test]
    fn a_port_without_a_server_says_so() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        drop(socket);
        assert!(ask(address).unwrap_err().contains("refused"));
    }
}
