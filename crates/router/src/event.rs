//! What goes into the core and what comes out of it.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use xcp::{LinkId, PeerFrame, PeerReply, ToComponent};
use xmpp::{Condition, StreamError};

use crate::cluster::Node;
use crate::connect::stream_error;
use crate::rows::{OfflineRow, RosterRow, UserRows, Write};

/// The time, twice: for intervals and for stamps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Time {
    /// Milliseconds that only ever grow.
    pub monotonic: u64,
    /// Milliseconds since the Unix epoch.
    pub unix: i64,
}

/// A client connection: a number on a component's link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    /// The link.
    pub link: LinkId,
    /// The component's number for the connection.
    pub number: u64,
}

/// The database could not do it; the words say why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StoreFailure(pub String);

/// What happens to the core.
#[derive(Clone, Debug)]
pub enum Event {
    /// A component connected.
    LinkUp {
        /// Its link.
        link: LinkId,
        /// Id of its service.
        component: String,
    },
    /// A link ended, and every connection of it.
    LinkDown {
        /// The link.
        link: LinkId,
    },
    /// A frame from a component.
    Frame {
        /// Its link.
        link: LinkId,
        /// The frame.
        frame: xcp::ToRouter,
    },
    /// Answer to [`StoreRequest::Load`]; `None` when there is no such user.
    Loaded {
        /// The user.
        user: Box<str>,
        /// The user's rows.
        rows: Result<Option<UserRows>, StoreFailure>,
    },
    /// Answer to [`StoreRequest::Write`].
    Written {
        /// The user.
        user: Box<str>,
        /// Whether the rows are durable now.
        result: Result<(), StoreFailure>,
    },
    /// Answer to [`StoreRequest::Offline`].
    Offline {
        /// The user.
        user: Box<str>,
        /// The stored messages in order.
        rows: Result<Vec<OfflineRow>, StoreFailure>,
    },
    /// Answer to [`StoreRequest::VCard`].
    VCard {
        /// The user.
        user: Box<str>,
        /// The `<vCard/>` element.
        xml: Result<Option<String>, StoreFailure>,
    },
    /// Answer to [`StoreRequest::Roster`].
    Roster {
        /// The user.
        user: Box<str>,
        /// All contacts.
        rows: Result<Vec<RosterRow>, StoreFailure>,
    },
    /// A contact was set or removed in the database: by an administrator, by
    /// another node, or by this router itself.
    RosterChanged {
        /// The user.
        user: Box<str>,
        /// The contact's bare address.
        contact: Box<str>,
        /// The row; `None` when it was removed.
        row: Option<RosterRow>,
    },
    /// Changes to contacts may have been missed.
    RostersChanged,
    /// A user was added, changed or removed by an administrator.
    UserChanged {
        /// The user.
        user: Box<str>,
        /// Whether the user exists and may sign in.
        enabled: bool,
        /// The node that the user is at home at.
        home: Option<Box<str>>,
    },
    /// All users, and where they are at home. What was known before is void.
    UsersRead(Vec<(Box<str>, Option<Box<str>>)>),
    /// A message for a user was stored, perhaps by another node.
    StoredElsewhere {
        /// The user.
        user: Box<str>,
        /// Sequence of the row.
        sequence: i64,
        /// Its size in bytes.
        size: usize,
    },
    /// The nodes of the cluster.
    Nodes {
        /// Name of this one.
        own: Box<str>,
        /// All of them.
        nodes: Vec<Node>,
    },
    /// The homes that this node serves, with the epoch of each claim. Until it
    /// comes, the node serves its own in epoch 0, and nobody if another node
    /// stands in for it.
    Serving(BTreeMap<Box<str>, u64>),
    /// What other routers left in the real-time stores, of sessions of users
    /// whom this node has begun to serve.
    Adopted {
        /// The homes of these users.
        homes: Vec<Box<str>>,
        /// The sessions, among others that do not count.
        sessions: Vec<Left>,
    },
    /// This router connected to that of another node.
    PeerConnected {
        /// The node's number.
        node: u64,
        /// Number of the connection; components' links have others.
        link: LinkId,
    },
    /// The other one answered.
    PeerReply {
        /// The connection.
        link: LinkId,
        /// The answer.
        reply: PeerReply,
    },
    /// The router of another node connected to this one.
    GuestConnected {
        /// The node's number, as its certificate says.
        node: u64,
        /// Number of the connection; components' links have others.
        link: LinkId,
    },
    /// It sent something.
    GuestFrame {
        /// The connection.
        link: LinkId,
        /// The frame.
        frame: PeerFrame,
    },
    /// A connection between routers ended.
    PeerClosed {
        /// The connection.
        link: LinkId,
    },
    /// Settings changed.
    Configured(crate::Config),
    /// Time went on; timers that are due fire.
    Tick,
    /// The service stops: every stream is closed, what is undelivered stored.
    Shutdown,
}

/// What the core wants from the database. At most one request of a user is
/// under way; the next comes only after its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreRequest {
    /// Read a user's rows.
    Load {
        /// The user.
        user: Box<str>,
    },
    /// Write rows in one transaction. Writing them again does no harm.
    Write {
        /// The user.
        user: Box<str>,
        /// The rows.
        writes: Vec<Write>,
    },
    /// Read a user's stored messages.
    Offline {
        /// The user.
        user: Box<str>,
    },
    /// Read a user's contacts.
    Roster {
        /// The user.
        user: Box<str>,
    },
    /// Read a user's vCard.
    VCard {
        /// The user.
        user: Box<str>,
    },
}

/// What is known of a session by the real-time stores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// Full address.
    pub jid: Box<str>,
    /// The client's address and port.
    pub peer: Box<str>,
    /// Milliseconds since the Unix epoch when it began.
    pub since: i64,
    /// The last available presence; `None` when unavailable.
    pub presence: Option<Box<[u8]>>,
    /// Addresses that got directed presence.
    pub directed: Vec<Box<str>>,
}

/// What the real-time stores are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Soft {
    /// A session began, changed or was resumed.
    Session {
        /// Full address.
        jid: Box<str>,
        /// The client's address and port.
        peer: Box<str>,
        /// Milliseconds since the Unix epoch when it began.
        since: i64,
        /// Whether a client is connected; otherwise it may come back.
        connected: bool,
    },
    /// A session ended.
    SessionEnded {
        /// Full address.
        jid: Box<str>,
    },
    /// Where a user's sessions are changed.
    Route {
        /// Bare address.
        jid: Box<str>,
        /// Resources of the sessions; none when the last ended.
        resources: Vec<Box<str>>,
    },
    /// Presence of a session.
    Presence {
        /// Full address.
        jid: Box<str>,
        /// The presence stanza; `None` when unavailable.
        stanza: Option<Box<[u8]>>,
        /// Addresses that got directed presence.
        directed: Vec<Box<str>>,
    },
}

/// What the core wants done. Gathered over many events, then carried out.
#[derive(Debug, Default)]
pub struct Actions {
    /// Encoded frames for each link, to components and other routers, that has
    /// some.
    pub links: Vec<(LinkId, BytesMut)>,
    /// Requests to the database.
    pub store: Vec<StoreRequest>,
    /// News for the real-time stores.
    pub soft: Vec<Soft>,
    /// Links whose component broke the protocol, with the reason.
    pub broken: Vec<(LinkId, &'static str)>,
    /// Connections to other routers that are to be ended, with the reason.
    pub closed: Vec<(LinkId, &'static str)>,
}

impl Actions {
    /// Where frames for a link are encoded to.
    pub(crate) fn link(&mut self, link: LinkId) -> &mut BytesMut {
        // There are a handful of links at most.
        let at = match self.links.iter().position(|(known, _)| *known == link) {
            Some(at) => at,
            None => {
                self.links.push((link, BytesMut::new()));
                self.links.len() - 1
            }
        };
        &mut self.links[at].1
    }

    /// Sends an element. One that the link does not take ends its own stream,
    /// and not the link.
    pub(crate) fn element(&mut self, to: ConnectionId, pieces: &[&[u8]]) {
        use xcp::Frame;
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        if length > ToComponent::LIMIT {
            let error = StreamError::new(
                Condition::ResourceConstraint,
                "What is to be sent is too large.",
            );
            return self.close(to, stream_error(error));
        }
        ToComponent::encode_element(self.link(to.link), to.number, pieces);
    }

    pub(crate) fn frame(&mut self, link: LinkId, frame: &ToComponent) {
        use xcp::Frame;
        frame.encode(self.link(link));
    }

    pub(crate) fn close(&mut self, connection: ConnectionId, last: Vec<u8>) {
        let frame = ToComponent::Close {
            connection: connection.number,
            last: Bytes::from(last),
        };
        self.frame(connection.link, &frame);
    }
}

#[cfg(test)]
mod tests {
    use xcp::{Decoder, Frame};

    use super::*;

    #[test]
    fn what_the_link_does_not_take_ends_one_stream_only() {
        let to = ConnectionId { link: 1, number: 7 };
        let mut out = Actions::default();
        out.element(to, &[&vec![b'x'; ToComponent::LIMIT]]);
        out.element(to, &[&vec![b'x'; ToComponent::LIMIT], b"x"]);
        let mut decoder = Decoder::<ToComponent>::default();
        decoder.buffer().extend_from_slice(&out.links[0].1);
        let first = decoder.next_frame().unwrap().unwrap();
        assert!(matches!(first, ToComponent::Element { .. }));
        let second = decoder.next_frame().unwrap().unwrap();
        let ToComponent::Close { connection, last } = second else {
            panic!("{second:?}");
        };
        assert_eq!(connection, 7);
        let last = String::from_utf8(last.to_vec()).unwrap();
        assert!(last.contains("<resource-constraint"), "{last}");
    }
}
