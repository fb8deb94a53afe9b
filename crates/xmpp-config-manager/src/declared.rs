//! The parameters of the XMPP components: their names, defaults and whether a
//! change applies at once.

/// A parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Declared {
    /// Id of the service.
    pub service: &'static str,
    /// Name of the parameter.
    pub name: &'static str,
    /// Default, as text.
    pub default: &'static str,
    /// Whether it applies only after a restart of the service.
    pub restart: bool,
    /// What it does, as a sentence.
    pub meaning: &'static str,
}

const fn hot(
    service: &'static str,
    name: &'static str,
    default: &'static str,
    meaning: &'static str,
) -> Declared {
    Declared {
        service,
        name,
        default,
        restart: false,
        meaning,
    }
}

const fn restart(
    service: &'static str,
    name: &'static str,
    default: &'static str,
    meaning: &'static str,
) -> Declared {
    Declared {
        restart: true,
        ..hot(service, name, default, meaning)
    }
}

const ROUTER: &str = "xmpp-router";
const CONNECTION: &str = "xmpp-connection-manager";
const AUTHENTICATION: &str = "authentication-service";

/// Every parameter.
#[rustfmt::skip]
pub const DECLARED: &[Declared] = &[
    // Node identity: part of every address and certificate, read at the start.
    restart(ROUTER, "domain", "", "The XMPP domain that the node serves."),
    restart(CONNECTION, "domain", "", "The XMPP domain that the node serves."),
    restart(AUTHENTICATION, "domain", "", "The XMPP domain that the node serves."),
    restart(ROUTER, "node", "", "The node's name, under which the real-time stores hold its sessions."),
    hot(ROUTER, "ResourceConflict", "replace", "What happens when a resource is bound twice: replace ends the old session, generate gives the new one another resource."),
    hot(ROUTER, "SessionsPerUser", "10", "Most sessions of a user at one time."),
    hot(ROUTER, "RosterItems", "1000", "Most contacts of a user."),
    hot(ROUTER, "BlockItems", "500", "Most blocked addresses of a user."),
    hot(ROUTER, "OfflineMessages", "500", "Most messages that are stored for a user; 0 stores none."),
    hot(ROUTER, "OfflineBytes", "8388608", "Most bytes of messages that are stored for a user."),
    hot(ROUTER, "ResumeSeconds", "300", "How long a lost session can be resumed; 0 allows no resumption."),
    hot(ROUTER, "QueueStanzas", "1000", "Most stanzas that wait for a client."),
    hot(ROUTER, "QueueBytes", "4194304", "Most bytes of stanzas that wait for a client."),
    hot(ROUTER, "AckRequestMilliseconds", "1000", "After how long a client is asked to acknowledge."),
    hot(ROUTER, "HoldMilliseconds", "2000", "How long a message then waits for the recipient's acknowledgement before it is stored, so that its sender's can be given."),
    hot(ROUTER, "AckTimeoutSeconds", "60", "How long a client may take to acknowledge before its connection counts as dead."),
    hot(ROUTER, "UnloadSeconds", "120", "After how long the data of an idle user leaves memory."),
    hot(ROUTER, "VCardBytes", "131072", "Largest vCard."),
    hot(ROUTER, "Carbons", "true", "Whether a user's clients get copies of each other's messages."),
    restart(CONNECTION, "Threads", "0", "Threads that clients' connections are divided among; 0 for half as many as there are processors."),
    hot(CONNECTION, "MaxStanzaBytes", "262144", "Largest stanza that a client may send."),
    hot(CONNECTION, "WriteBufferBytes", "262144", "Bytes that wait to be written to a client above which the router holds stanzas back."),
    hot(CONNECTION, "MaxConnections", "60000", "Most connections."),
    hot(CONNECTION, "MaxConnectionsPerAddress", "20000", "Most connections from one address."),
    hot(CONNECTION, "MaxUnauthenticated", "4000", "Most connections that have not signed in."),
    hot(CONNECTION, "MaxUnauthenticatedPerAddress", "500", "Most connections from one address that have not signed in."),
    hot(CONNECTION, "AuthenticationSeconds", "30", "How long a client may take to sign in."),
    hot(AUTHENTICATION, "AllowPlain", "true", "Whether passwords may be sent as they are, inside TLS."),
    hot(AUTHENTICATION, "ScramIterations", "4096", "How often new passwords are hashed."),
    hot(AUTHENTICATION, "FailuresPerUserAndAddress", "5", "Failures of a user from an address before sign-in is slowed down."),
    hot(AUTHENTICATION, "FailuresPerAddress", "50", "Failures from an address before sign-in is slowed down."),
    hot(AUTHENTICATION, "FailuresPerUser", "30", "Failures of a user before sign-in is slowed down."),
    hot(AUTHENTICATION, "LongestRefusalSeconds", "60", "Longest time for which sign-in is refused after failures."),
];

impl Declared {
    /// Whether it is part of what the node is, and not among the settings.
    pub fn is_identity(&self) -> bool {
        matches!(self.name, "domain" | "node")
    }
}

/// The parameter of that service and name.
pub fn declared(service: &str, name: &str) -> Option<&'static Declared> {
    DECLARED
        .iter()
        .find(|known| known.service == service && known.name == name)
}
