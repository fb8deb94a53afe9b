//! Whether a node may join: what it says, what the cluster knows, and the time
//! go in; why not comes out.

use database::tables::ProcessNode;

use crate::rpc::JoinRequest;

/// Most seconds that two clocks may differ.
const CLOCK: u64 = 60;

/// The cluster, as its publisher sees it.
#[derive(Clone, Debug)]
pub(crate) struct Own<'a> {
    pub(crate) version: &'a str,
    pub(crate) product: &'a str,
    /// The XMPP domain.
    pub(crate) domain: &'a str,
    /// Largest packet of the publisher's interface; none when it is not known.
    pub(crate) mtu: Option<u32>,
    /// Seconds since 1970.
    pub(crate) time: i64,
}

/// The row of a node that may join, or a sentence that says why it may not and
/// what to do.
pub(crate) fn check(
    asked: &JoinRequest,
    own: &Own<'_>,
    rows: &[ProcessNode],
) -> Result<ProcessNode, String> {
    let name = &asked.name;
    if asked.version != own.version {
        return Err(format!(
            "the node's software is version {}, the cluster's is {}. Install version {1} on the \
             node",
            asked.version, own.version
        ));
    }
    let apart = asked.time.abs_diff(own.time);
    if apart > CLOCK {
        return Err(format!(
            "the clocks of the two nodes differ by {apart} s, and at most {CLOCK} s are allowed. \
             Give both nodes the same time servers"
        ));
    }
    if let Some(mtu) = own.mtu
        && asked.mtu != mtu
    {
        return Err(format!(
            "the node's MTU is {}, the publisher's is {mtu}. It must be the same on every node of \
             a cluster",
            asked.mtu
        ));
    }
    if asked.product != own.product || asked.domain != own.domain {
        return Err(format!(
            "the node is set up as {} for the domain {}, the cluster is {} for {}. Correct the \
             node's answers",
            asked.product, asked.domain, own.product, own.domain
        ));
    }
    let Some(row) = rows.iter().find(|row| row.name == *name) else {
        return Err(format!(
            "node {name} was not added to the cluster. Add it on the publisher first: set network \
             cluster subscriber details {} {name} {} {}",
            asked.product, asked.address, asked.domain
        ));
    };
    if row.role != "subscriber" {
        return Err(format!(
            "{name} is the publisher's own name. Give the node another host name"
        ));
    }
    if row.address != asked.address {
        return Err(format!(
            "node {name} was added with the address {}, and it has the address {}. Remove it on \
             the publisher (unset network cluster subscriber {name}) and add it with its address",
            row.address, asked.address
        ));
    }
    Ok(row.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, role: &str, address: &str) -> ProcessNode {
        ProcessNode {
            name: name.into(),
            domain: "example.org".into(),
            address: address.into(),
            role: role.into(),
            product: "imp".into(),
            replica: 0,
        }
    }

    fn asked() -> JoinRequest {
        JoinRequest {
            name: "node2".into(),
            address: "192.0.2.12".into(),
            product: "imp".into(),
            version: "1.0".into(),
            time: 1_000_000,
            mtu: 1500,
            domain: "example.org".into(),
            ..JoinRequest::default()
        }
    }

    const OWN: Own<'_> = Own {
        version: "1.0",
        product: "imp",
        domain: "example.org",
        mtu: Some(1500),
        time: 1_000_060,
    };

    fn refusal(change: impl FnOnce(&mut JoinRequest)) -> String {
        let rows = [
            row("node1", "publisher", "192.0.2.11"),
            row("node2", "subscriber", "192.0.2.12"),
        ];
        let mut asked = asked();
        change(&mut asked);
        check(&asked, &OWN, &rows).err().unwrap_or_default()
    }

    #[test]
    fn a_node_that_was_added_may_join() {
        assert_eq!(refusal(|_| {}), "");
    }

    #[test]
    fn each_reason_against_it_has_its_own_words() {
        let version = refusal(|asked| asked.version = "1.1".into());
        assert!(
            version.contains("version 1.1") && version.contains("1.0"),
            "{version}"
        );
        let early = refusal(|asked| asked.time = 999_999);
        assert!(early.contains("differ by 61 s"), "{early}");
        let late = refusal(|asked| asked.time = i64::MAX);
        assert!(late.contains("differ by"), "{late}");
        let mtu = refusal(|asked| asked.mtu = 9000);
        assert!(mtu.contains("MTU is 9000") && mtu.contains("1500"), "{mtu}");
        let domain = refusal(|asked| asked.domain = "example.net".into());
        assert!(domain.contains("example.net"), "{domain}");
        let name = refusal(|asked| asked.name = "node3".into());
        assert!(
            name.contains("node3 was not added")
                && name.contains("set network cluster subscriber details imp node3 192.0.2.12"),
            "{name}"
        );
        let own = refusal(|asked| asked.name = "node1".into());
        assert!(own.contains("publisher's own name"), "{own}");
        let address = refusal(|asked| asked.address = "192.0.2.13".into());
        assert!(
            address.contains("192.0.2.12") && address.contains("192.0.2.13"),
            "{address}"
        );
    }
}
