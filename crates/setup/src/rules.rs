//! What an answer may be: one function per kind of field, used alike for a
//! file and for the console.
//!
//! An error says what is allowed, as the end of a sentence that begins with
//! the field.

use std::net::IpAddr;

/// The result of a check: nothing, or what is allowed.
pub type Check = Result<(), String>;

fn unless(ok: bool, allowed: &str) -> Check {
    if ok { Ok(()) } else { Err(allowed.into()) }
}

/// Sizes that a node is made for, with processors and memory in GiB.
pub const SIZES: [(&str, u32, u64); 6] = [
    ("500", 1, 2),
    ("1K", 1, 2),
    ("2K", 1, 4),
    ("5K", 2, 4),
    ("15K", 4, 8),
    ("25K", 6, 16),
];

/// A deployment size.
pub fn size(text: &str) -> Check {
    let known = SIZES.iter().any(|(size, ..)| *size == text);
    unless(known, "must be one of 500, 1K, 2K, 5K, 15K, 25K")
}

/// A kind of node.
pub fn product(text: &str) -> Check {
    unless(
        text == "imp",
        "must be imp; other kinds of node come with later versions",
    )
}

fn label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// A host name without a domain.
pub fn host_name(text: &str) -> Check {
    // A name of digits alone would be taken for an address.
    let ok = label(text) && !text.bytes().all(|b| b.is_ascii_digit()) && text != "localhost";
    unless(
        ok,
        "must be 1 to 63 letters, digits and hyphens, not begin or end with a hyphen, not be \
         digits alone, and not contain a dot",
    )
}

/// A domain name.
pub fn domain(text: &str) -> Check {
    let top = text.rsplit('.').next().unwrap_or_default();
    let ok =
        text.len() <= 253 && text.split('.').all(label) && !top.bytes().all(|b| b.is_ascii_digit());
    unless(
        ok,
        "must be a domain name such as example.org: parts of 1 to 63 letters, digits and \
         hyphens, separated by dots, at most 253 characters in all",
    )
}

/// An XMPP domain. Certificates and addresses carry it in lower case.
pub fn xmpp_domain(text: &str) -> Check {
    domain(text)?;
    unless(
        !text.bytes().any(|b| b.is_ascii_uppercase()),
        "must be written in lower case",
    )
}

/// A host by name or address.
pub fn host(text: &str) -> Check {
    let ok = text.parse::<IpAddr>().is_ok() || domain(text).is_ok();
    unless(
        ok,
        "must be a host name such as ntp.example.org or an address such as 192.0.2.5",
    )
}

/// An address with its prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The address.
    pub address: IpAddr,
    /// Leading bits that name the network.
    pub prefix: u8,
}

impl Interface {
    /// Reads `192.0.2.11/24`; the part behind the slash may also be a mask.
    pub fn parse(text: &str) -> Result<Self, String> {
        let allowed = "must be an address with the length of its network, such as 192.0.2.11/24";
        let (address, prefix) = text.split_once('/').ok_or(allowed)?;
        let address = unicast(address).map_err(|_| allowed)?;
        let prefix = mask(prefix).map_err(|_| allowed)?;
        let one = Self { address, prefix };
        let longest = if address.is_ipv4() { 32 } else { 128 };
        if prefix == 0 || prefix > longest {
            return Err(format!(
                "must end in a network length from 1 to {longest}, such as 192.0.2.11/24"
            ));
        }
        if address.is_ipv4() && prefix < 31 && (one.host_bits() == 0 || one.all_ones()) {
            return Err("must not be the network's own or its broadcast address".into());
        }
        Ok(one)
    }

    fn bits(address: IpAddr) -> (u128, u32) {
        match address {
            IpAddr::V4(four) => (u128::from(four.to_bits()), 32),
            IpAddr::V6(six) => (six.to_bits(), 128),
        }
    }

    fn host_mask(self) -> u128 {
        let (_, width) = Self::bits(self.address);
        u128::MAX
            .checked_shr(128 - width + u32::from(self.prefix))
            .unwrap_or(0)
    }

    fn host_bits(self) -> u128 {
        Self::bits(self.address).0 & self.host_mask()
    }

    fn all_ones(self) -> bool {
        self.host_bits() == self.host_mask()
    }

    /// Whether an address lies in the same network.
    pub fn contains(self, other: IpAddr) -> bool {
        let mask = !self.host_mask();
        self.address.is_ipv4() == other.is_ipv4()
            && Self::bits(self.address).0 & mask == Self::bits(other).0 & mask
    }
}

/// An address that a host can have.
pub fn unicast(text: &str) -> Result<IpAddr, String> {
    let allowed = "must be an address of a host, such as 192.0.2.1";
    let address: IpAddr = text.parse().map_err(|_| allowed)?;
    let broadcast = matches!(address, IpAddr::V4(four) if four.is_broadcast());
    if address.is_unspecified() || address.is_loopback() || address.is_multicast() || broadcast {
        return Err(allowed.into());
    }
    Ok(address)
}

/// A mask (`255.255.255.0`) or the length of it (`24`, also `/24`).
pub fn mask(text: &str) -> Result<u8, String> {
    let allowed = "must be a mask such as 255.255.255.0 or its length such as 24";
    if let Ok(IpAddr::V4(four)) = text.parse::<IpAddr>() {
        let bits = four.to_bits();
        let ones = bits.leading_ones();
        let whole = bits.checked_shl(ones).unwrap_or(0) == 0 && ones > 0;
        return if whole {
            u8::try_from(ones).map_err(|_| allowed.into())
        } else {
            Err(allowed.into())
        };
    }
    let number = text.trim_start_matches('/').parse::<u8>();
    number.map_err(|_| allowed.into())
}

/// A gateway of an interface.
pub fn gateway(text: &str, interface: Interface) -> Check {
    let gateway = unicast(text)?;
    if gateway == interface.address {
        return Err("must not be the node's own address".into());
    }
    unless(
        interface.contains(gateway),
        &format!(
            "must lie in the network of {}/{}",
            interface.address, interface.prefix
        ),
    )
}

/// The largest packet in bytes.
pub fn mtu(value: u32) -> Check {
    unless(
        (1280..=9000).contains(&value),
        "must be 1280 to 9000; 1500 is usual",
    )
}

/// Names that an account must not take, beside those of the system's own
/// accounts.
const RESERVED: [&str; 3] = ["root", "signalbox", "nobody"];

/// An administrator's or application user's id.
pub fn account_name(text: &str) -> Check {
    let ok = (1..=32).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    unless(
        ok,
        "must begin with a letter, then letters, digits, - and _, at most 32 characters",
    )?;
    unless(
        !RESERVED.contains(&text) && !text.starts_with("sb-") && !text.starts_with("systemd-"),
        "must not be an account of the system",
    )
}

/// A password.
pub fn password(text: &str) -> Check {
    let length = text.chars().count();
    unless(
        length >= 8 && text.len() <= 256 && !text.chars().any(char::is_control),
        "must have 8 characters or more, at most 256 bytes, and no control characters",
    )
}

/// Text in a certificate.
pub fn certificate_text(text: &str) -> Check {
    let ok = !text.trim().is_empty()
        && text.chars().count() <= 64
        && !text.chars().any(char::is_control);
    unless(ok, "must be 1 to 64 characters of text")
}

/// A country in a certificate.
pub fn country(text: &str) -> Check {
    unless(
        text.len() == 2 && text.bytes().all(|b| b.is_ascii_uppercase()),
        "must be two capital letters, such as DE",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names() {
        for good in ["a", "node1", "1a", "a-b", &"a".repeat(63)] {
            assert_eq!(host_name(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "-a",
            "a-",
            "a.b",
            "a_b",
            "ä",
            "123",
            "localhost",
            &"a".repeat(64),
        ] {
            assert!(host_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn domains() {
        for good in ["example.org", "test", "a.b.c-d.e1"] {
            assert_eq!(domain(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            ".",
            "a..b",
            "a.",
            "192.0.2.1",
            "a b",
            &format!("{}.org", "a.".repeat(130)),
        ] {
            assert!(domain(bad).is_err(), "{bad}");
        }
        assert!(xmpp_domain("Example.org").unwrap_err().contains("lower"));
    }

    #[test]
    fn interfaces_and_gateways() {
        let one = Interface::parse("192.0.2.11/24").unwrap();
        assert_eq!(Interface::parse("192.0.2.11/255.255.255.0"), Ok(one));
        for bad in [
            "192.0.2.11",
            "192.0.2.0/24",
            "192.0.2.255/24",
            "192.0.2.11/33",
            "192.0.2.11/0",
            "192.0.2.11/255.0.255.0",
            "127.0.0.1/8",
            "224.0.0.1/24",
            "0.0.0.0/24",
            "x/24",
        ] {
            assert!(Interface::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(gateway("192.0.2.1", one), Ok(()));
        assert!(
            gateway("192.0.3.1", one)
                .unwrap_err()
                .contains("192.0.2.11/24")
        );
        assert!(gateway("192.0.2.11", one).unwrap_err().contains("own"));
        assert!(gateway("2001:db8::1", one).is_err());
        let six = Interface::parse("2001:db8::11/64").unwrap();
        assert_eq!(gateway("2001:db8::1", six), Ok(()));
        assert!(gateway("2001:db8:1::1", six).is_err());
        let point = Interface::parse("192.0.2.0/31").unwrap();
        assert_eq!(gateway("192.0.2.1", point), Ok(()));
    }

    #[test]
    fn masks() {
        for (text, length) in [
            ("24", 24),
            ("/24", 24),
            ("255.255.255.0", 24),
            ("255.255.255.255", 32),
            ("128.0.0.0", 1),
        ] {
            assert_eq!(mask(text), Ok(length), "{text}");
        }
        for bad in ["", "255.0.255.0", "0.0.0.0", "x", "256"] {
            assert!(mask(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn accounts_and_passwords() {
        for good in ["admin", "A1", "a-b_c"] {
            assert_eq!(account_name(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "1a",
            "-a",
            "a b",
            "ä",
            "root",
            "sb-web",
            "systemd-x",
            &"a".repeat(33),
            "a:b",
        ] {
            assert!(account_name(bad).is_err(), "{bad}");
        }
        assert_eq!(password("pass:word ÄÖ"), Ok(()));
        for bad in ["", "short12", "line\nbreak", &"a".repeat(257)] {
            assert!(password(bad).is_err());
        }
    }
}
