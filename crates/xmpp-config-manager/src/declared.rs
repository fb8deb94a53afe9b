//! The parameters of the XMPP components: their names, defaults and whether a
//! change applies at once.

use parameter::{Applies, Definition, Values};

/// A parameter of one of the components.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Declared {
    /// Id of the service.
    pub service: &'static str,
    /// What it is.
    pub definition: Definition,
}

const fn hot(
    service: &'static str,
    name: &'static str,
    default: &'static str,
    values: Values,
    help: &'static str,
) -> Declared {
    Declared {
        service,
        definition: Definition::new(name, default, values, help),
    }
}

const fn restart(
    service: &'static str,
    name: &'static str,
    default: &'static str,
    values: Values,
    help: &'static str,
) -> Declared {
    Declared {
        service,
        definition: Definition::new(name, default, values, help).by_restart(),
    }
}

const fn count(low: u64, high: u64) -> Values {
    Values::Number(low, high, "")
}

const fn bytes(low: u64, high: u64) -> Values {
    Values::Number(low, high, "bytes")
}

const fn seconds(low: u64, high: u64) -> Values {
    Values::Number(low, high, "s")
}

const fn milliseconds(low: u64, high: u64) -> Values {
    Values::Number(low, high, "ms")
}

const ROUTER: &str = "xmpp-router";
const CONNECTION: &str = "xmpp-connection-manager";
const AUTHENTICATION: &str = "authentication-service";

/// Every parameter.
#[rustfmt::skip]
pub const DECLARED: &[Declared] = &[
    // Node identity: part of every address and certificate, read at the start.
    restart(ROUTER, "domain", "", Values::Fixed, "The XMPP domain that the node serves."),
    restart(CONNECTION, "domain", "", Values::Fixed, "The XMPP domain that the node serves."),
    restart(AUTHENTICATION, "domain", "", Values::Fixed, "The XMPP domain that the node serves."),
    restart(ROUTER, "node", "", Values::Fixed, "The node's name, under which the real-time stores hold its sessions."),
    hot(ROUTER, "ResourceConflict", "replace", Values::Word(&["replace", "generate"]), "What happens when a resource is bound twice: replace ends the old session, generate gives the new one another resource."),
    hot(ROUTER, "SessionsPerUser", "10", count(1, 100), "Most sessions of a user at one time."),
    hot(ROUTER, "RosterItems", "1000", count(1, 10_000), "Most contacts of a user."),
    hot(ROUTER, "RosterBytes", "1048576", bytes(64 << 10, 2 << 20), "Most bytes of the addresses, names and groups of a user's contacts."),
    hot(ROUTER, "BlockItems", "500", count(0, 1000), "Most blocked addresses of a user."),
    hot(ROUTER, "OfflineMessages", "500", count(0, 10_000), "Most messages that are stored for a user; 0 stores none."),
    hot(ROUTER, "OfflineBytes", "8388608", bytes(0, 256 << 20), "Most bytes of messages that are stored for a user."),
    hot(ROUTER, "OfflineBytesPerSender", "33554432", bytes(0, 1 << 40), "Most bytes that are stored within an hour for one sender's messages; 0 is no bound."),
    hot(ROUTER, "ResumeSeconds", "300", seconds(0, 86_400), "How long a lost session can be resumed; 0 allows no resumption."),
    hot(ROUTER, "QueueStanzas", "1000", count(10, 100_000), "Most stanzas that wait for a client."),
    hot(ROUTER, "QueueBytes", "4194304", bytes(64 << 10, 16 << 20), "Most bytes of stanzas that wait for a client."),
    hot(ROUTER, "AckRequestMilliseconds", "1000", milliseconds(50, 60_000), "After how long a client is asked to acknowledge."),
    hot(ROUTER, "HoldMilliseconds", "2000", milliseconds(0, 60_000), "How long a message then waits for the recipient's acknowledgement before it is stored, so that its sender's can be given."),
    hot(ROUTER, "AckTimeoutSeconds", "60", seconds(5, 3600), "How long a client may take to acknowledge before its connection counts as dead."),
    hot(ROUTER, "UnloadSeconds", "120", seconds(1, 86_400), "After how long the data of an idle user leaves memory."),
    hot(ROUTER, "VCardBytes", "131072", bytes(1024, 512 << 10), "Largest vCard."),
    hot(ROUTER, "Carbons", "true", Values::Flag, "Whether a user's clients get copies of each other's messages."),
    restart(CONNECTION, "Threads", "0", count(0, 64), "Threads that clients' connections are divided among; 0 for half as many as there are processors."),
    hot(CONNECTION, "MaxStanzaBytes", "262144", bytes(10_000, 512 << 10), "Largest stanza that a client may send."),
    hot(CONNECTION, "WriteBufferBytes", "262144", bytes(16 << 10, 8 << 20), "Bytes that wait to be written to a client above which the router holds stanzas back."),
    hot(CONNECTION, "MaxConnections", "60000", count(1, 250_000), "Most connections."),
    hot(CONNECTION, "MaxConnectionsPerAddress", "20000", count(1, 250_000), "Most connections from one address."),
    hot(CONNECTION, "MaxUnauthenticated", "4000", count(1, 100_000), "Most connections that have not signed in."),
    hot(CONNECTION, "MaxUnauthenticatedPerAddress", "500", count(1, 100_000), "Most connections from one address that have not signed in."),
    hot(CONNECTION, "AuthenticationSeconds", "30", seconds(5, 600), "How long a client may take to sign in."),
    hot(AUTHENTICATION, "AllowPlain", "true", Values::Flag, "Whether passwords may be sent as they are, inside TLS."),
    hot(AUTHENTICATION, "ScramIterations", "4096", count(4096, 1_000_000), "How often new passwords are hashed."),
    hot(AUTHENTICATION, "FailuresPerUserAndAddress", "5", count(1, 10_000), "Failures of a user from an address before sign-in is slowed down."),
    hot(AUTHENTICATION, "FailuresPerAddress", "50", count(1, 100_000), "Failures from an address before sign-in is slowed down."),
    hot(AUTHENTICATION, "FailuresPerUser", "30", count(1, 100_000), "Failures of a user before sign-in is slowed down."),
    hot(AUTHENTICATION, "LongestRefusalSeconds", "60", seconds(1, 3600), "Longest time for which sign-in is refused after failures."),
];

impl Declared {
    /// Whether a change waits for a restart of the service.
    pub fn applies_by_restart(&self) -> bool {
        self.definition.applies == Applies::Restart
    }

    /// Whether it is part of what the node is, and not among the settings.
    pub fn is_identity(&self) -> bool {
        self.definition.values == Values::Fixed
    }
}

/// The parameter of that service and name.
pub fn declared(service: &str, name: &str) -> Option<&'static Declared> {
    DECLARED
        .iter()
        .find(|known| known.service == service && known.definition.name == name)
}
