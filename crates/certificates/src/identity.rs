//! Which node of which cluster a certificate is for.

/// End of the names; a domain that no name server has.
const DOMAIN: &str = ".signalbox.internal";

/// A node of a cluster, as its certificate for connections between nodes names
/// it: by the cluster's identity and the node's number in the replication log.
/// A node that is reset gets a new number, and with it a new certificate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// Number in the replication log.
    pub replica: u64,
    /// Identity of the cluster, a UUID.
    pub cluster: String,
}

impl Identity {
    /// The name that the certificate is for.
    pub fn host_name(&self) -> String {
        format!("n{}.{}{DOMAIN}", self.replica, self.cluster)
    }

    /// The identity that a name of a certificate stands for.
    pub fn parse(name: &str) -> Option<Self> {
        let (node, cluster) = name.strip_suffix(DOMAIN)?.split_once('.')?;
        let number = node.strip_prefix('n')?;
        let replica = number.parse().ok()?;
        let sound =
            !cluster.is_empty() && !cluster.contains('.') && !number.starts_with(['0', '+']);
        sound.then(|| Self {
            replica,
            cluster: cluster.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_its_identity_are_the_same_thing() {
        let identity = Identity {
            replica: 12,
            cluster: "0b51-c".into(),
        };
        assert_eq!(identity.host_name(), "n12.0b51-c.signalbox.internal");
        assert_eq!(Identity::parse(&identity.host_name()), Some(identity));
        for other in [
            "n0.c.signalbox.internal",
            "n+1.c.signalbox.internal",
            "n1.signalbox.internal",
            "n1.a.b.signalbox.internal",
            "node1.example.org",
            "1.c.signalbox.internal",
        ] {
            assert_eq!(Identity::parse(other), None, "{other}");
        }
    }
}
