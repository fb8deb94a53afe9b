//! Addresses in stanzas, resolved without allocation where possible.

use std::borrow::Cow;

use xmpp::Jid;

/// A prepared address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address<'a> {
    text: Cow<'a, str>,
    /// Length of the node; 0 without one.
    node: usize,
    /// Length of the bare address.
    bare: usize,
}

impl<'a> Address<'a> {
    /// Reads an address. The short way is for what nearly every address is:
    /// plain lower-case characters at the router's own domain.
    pub(crate) fn read(text: Cow<'a, str>, domain: &str) -> Option<Self> {
        if let Some((node, bare)) = short(&text, domain) {
            return Some(Self { text, node, bare });
        }
        let jid = Jid::new(&text).ok()?;
        Some(Self {
            node: jid.node().map_or(0, str::len),
            bare: jid.bare_str().len(),
            text: Cow::Owned(jid.as_str().into()),
        })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn bare(&self) -> &str {
        &self.text[..self.bare]
    }

    pub(crate) fn node(&self) -> Option<&str> {
        (self.node > 0).then(|| &self.text[..self.node])
    }

    pub(crate) fn domain(&self) -> &str {
        let start = if self.node > 0 { self.node + 1 } else { 0 };
        &self.text[start..self.bare]
    }

    pub(crate) fn resource(&self) -> Option<&str> {
        (self.bare < self.text.len()).then(|| &self.text[self.bare + 1..])
    }
}

fn short(text: &str, domain: &str) -> Option<(usize, usize)> {
    let bytes = text.as_bytes();
    let node = bytes.iter().position(|byte| {
        !(byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(byte))
    })?;
    let bare = node + 1 + domain.len();
    if node == 0 || node > 1023 || bytes[node] != b'@' {
        return None;
    }
    let rest = text[node + 1..].strip_prefix(domain)?;
    match rest.as_bytes() {
        [] => Some((node, bare)),
        [b'/', resource @ ..] => {
            let plain = resource.iter().all(|byte| matches!(byte, 0x21..=0x7E));
            (plain && !resource.is_empty() && resource.len() <= 1023).then_some((node, bare))
        }
        _ => None,
    }
}

/// Whether a blocked address covers this one (XEP-0191, section 5).
pub(crate) fn covers(blocked: &str, address: &str) -> bool {
    let bare = address.split('/').next().unwrap_or(address);
    if blocked == address || blocked == bare {
        return true;
    }
    let Some((_, host)) = address.split_once('@') else {
        return false;
    };
    if blocked == host {
        return true;
    }
    bare.split_once('@')
        .is_some_and(|(_, domain)| blocked == domain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_block_covers_what_it_names_and_all_below() {
        for (blocked, address, covered) in [
            ("a@b", "a@b", true),
            ("a@b", "a@b/c", true),
            ("a@b/c", "a@b/c", true),
            ("a@b/c", "a@b/d", false),
            ("a@b/c", "a@b", false),
            ("b", "a@b/c", true),
            ("b", "b", true),
            ("b", "x.b", false),
            ("b/c", "a@b/c", true),
            ("b/c", "a@b/d", false),
            ("x@b", "a@b", false),
        ] {
            assert_eq!(covers(blocked, address), covered, "{blocked} {address}");
        }
    }

    proptest! {
        #[test]
        fn the_short_way_agrees_with_the_long_one(
            text in "[a-zA-Z0-9._ -]{0,6}@?(example\\.com|b)?(/[ -~]{0,5})?",
        ) {
            let address = Address::read(Cow::Borrowed(&text), "example.com");
            let jid = Jid::new(&text).ok();
            prop_assert_eq!(address.is_some(), jid.is_some());
            if let (Some(address), Some(jid)) = (address, jid) {
                prop_assert_eq!(address.as_str(), jid.as_str());
                prop_assert_eq!(address.node(), jid.node());
                prop_assert_eq!(address.domain(), jid.domain());
                prop_assert_eq!(address.resource(), jid.resource());
            }
        }
    }
}
