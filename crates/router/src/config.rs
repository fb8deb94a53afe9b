//! Settings of the router.

/// What a new session of a resource that is taken means (RFC 6120, 7.7.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// The old session is ended with `conflict`.
    Replace,
    /// The new one gets another resource.
    Generate,
}

/// Settings of the router. All apply without a restart, the domain excepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What happens when a resource is taken.
    pub conflict: Conflict,
    /// Most sessions of a user at one time.
    pub sessions_per_user: usize,
    /// Most contacts of a user.
    pub roster_items: usize,
    /// Most bytes of their addresses, names and groups: all of a roster goes
    /// to a client in one element.
    pub roster_bytes: usize,
    /// Most blocked addresses of a user.
    pub block_items: usize,
    /// Most stored messages of a user; 0 stores none.
    pub offline_messages: usize,
    /// Most bytes of stored messages of a user.
    pub offline_bytes: usize,
    /// Most bytes that are stored within an hour for one sender's messages; 0
    /// is no bound.
    pub offline_bytes_per_sender: usize,
    /// Seconds for which a lost session can be resumed; 0 allows none.
    pub resume_seconds: u32,
    /// Most stanzas that wait for a client's acknowledgement, or to be
    /// written while its connection is congested.
    pub queue_stanzas: usize,
    /// Most bytes of those.
    pub queue_bytes: usize,
    /// Milliseconds after which an acknowledgement is asked for.
    pub ack_request_ms: u64,
    /// Milliseconds that a message may then still wait for the recipient's
    /// acknowledgement before it is stored, so that its sender's can be given.
    pub hold_ms: u64,
    /// Seconds within which a client must acknowledge when asked.
    pub ack_timeout_seconds: u64,
    /// Seconds for which a session that was taken over from another node waits
    /// for its client before its contacts are told that it is gone.
    pub phantom_seconds: u64,
    /// Seconds without a connection for which the users of a node that another
    /// one takes over are believed to be there.
    pub cover_seconds: u64,
    /// Seconds after which an idle user is forgotten until needed.
    pub unload_seconds: u64,
    /// Largest vCard, in bytes.
    pub vcard_bytes: usize,
    /// Whether message carbons are offered.
    pub carbons: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            conflict: Conflict::Replace,
            sessions_per_user: 10,
            roster_items: 1000,
            roster_bytes: 1 << 20,
            block_items: 500,
            offline_messages: 500,
            offline_bytes: 8 << 20,
            offline_bytes_per_sender: 32 << 20,
            resume_seconds: 300,
            queue_stanzas: 1000,
            queue_bytes: 4 << 20,
            ack_request_ms: 1000,
            hold_ms: 2000,
            ack_timeout_seconds: 60,
            phantom_seconds: 537,
            cover_seconds: 75,
            unload_seconds: 120,
            vcard_bytes: 128 << 10,
            carbons: true,
        }
    }
}
