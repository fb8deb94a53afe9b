//! A user's rows as the core keeps them.

/// Who sees whose presence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Subscription {
    /// Nobody.
    #[default]
    None,
    /// The user sees the contact.
    To,
    /// The contact sees the user.
    From,
    /// Each sees the other.
    Both,
}

impl Subscription {
    /// From its two halves.
    pub fn new(to: bool, from: bool) -> Self {
        match (to, from) {
            (false, false) => Self::None,
            (true, false) => Self::To,
            (false, true) => Self::From,
            (true, true) => Self::Both,
        }
    }

    /// Whether the user sees the contact.
    pub fn to(self) -> bool {
        matches!(self, Self::To | Self::Both)
    }

    /// Whether the contact sees the user.
    pub fn from(self) -> bool {
        matches!(self, Self::From | Self::Both)
    }

    /// The word of RFC 6121.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::To => "to",
            Self::From => "from",
            Self::Both => "both",
        }
    }
}

/// A contact of a user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RosterRow {
    /// The contact's bare address.
    pub contact: Box<str>,
    /// Name that the user gave; may be empty.
    pub name: Box<str>,
    /// Groups that the user chose.
    pub groups: Vec<Box<str>>,
    /// Who sees whose presence.
    pub subscription: Subscription,
    /// Whether the user asked for the contact's presence and waits.
    pub ask: bool,
    /// Whether the user approved the contact in advance.
    pub approved: bool,
    /// The contact's unanswered request.
    pub pending_in: Option<Box<str>>,
    /// Whether the contact is in the roster; otherwise it only asked.
    pub listed: bool,
}

impl RosterRow {
    /// Whether the row says anything that is worth keeping.
    pub(crate) fn is_needed(&self) -> bool {
        self.listed || self.pending_in.is_some()
    }

    /// Bytes of what the user chose.
    pub(crate) fn bytes(&self) -> usize {
        let groups = self.groups.iter().map(|group| group.len());
        self.contact.len() + self.name.len() + groups.sum::<usize>()
    }
}

/// A stored message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfflineRow {
    /// Order of arrival.
    pub sequence: i64,
    /// The stanza.
    pub stanza: Box<str>,
    /// When it came (XEP-0082).
    pub stamp: Box<str>,
}

/// Everything that is loaded of a user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserRows {
    /// Whether the user may sign in.
    pub enabled: bool,
    /// The node that the user is at home at.
    pub home: Option<Box<str>>,
    /// Contacts.
    pub roster: Vec<RosterRow>,
    /// Blocked addresses.
    pub blocks: Vec<Box<str>>,
    /// Sequence and size in bytes of each stored message, in order.
    pub offline: Vec<(i64, usize)>,
}

/// A change to a user's rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Set a contact.
    Roster(RosterRow),
    /// Remove a contact.
    RemoveRoster(Box<str>),
    /// Block an address.
    Block(Box<str>),
    /// Unblock an address.
    Unblock(Box<str>),
    /// Store a message.
    Offline(OfflineRow),
    /// Remove a stored message.
    RemoveOffline(i64),
    /// Set the vCard.
    VCard(Box<str>),
}
