//! Figures for the counters.

/// What the router counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Sessions, connected or waiting to be resumed.
    pub sessions: usize,
    /// Sessions of another node that wait for their clients to sign in here.
    pub phantoms: usize,
    /// Connections that are bound here in case that this node takes over.
    pub inactive: usize,
    /// Users who have sessions.
    pub users_active: usize,
    /// Sessions with a client connected.
    pub sessions_connected: usize,
    /// Users in memory.
    pub users_loaded: usize,
    /// Messages that users sent, in all.
    pub messages: u64,
    /// Messages stored for later, in all.
    pub stored: u64,
    /// Sessions resumed, in all.
    pub resumed: u64,
}
