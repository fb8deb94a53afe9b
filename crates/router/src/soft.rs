//! What the real-time stores are told, as rows, and what another router told
//! them, read back.

use std::collections::HashMap;

use bytes::Bytes;
use datastore::{LOGIN, Login, PRESENCE, Presence, ROUTE, Route};
use serde::{Deserialize, Serialize};

use crate::event::{Left, Soft};

/// A row that a piece of news sets or removes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SoftRow {
    /// Id of the store that it is in.
    pub store: &'static str,
    /// Its key.
    pub key: Box<str>,
    /// Its value; `None` when it is gone.
    pub value: Option<Bytes>,
}

fn value(row: &impl Serialize) -> Option<Bytes> {
    // Rows are structs of texts and numbers, which always serialize.
    Some(serde_json::to_vec(row).unwrap_or_default().into())
}

impl Soft {
    /// The row, as the router of that node writes it.
    pub fn row(self, node: &str) -> SoftRow {
        let (store, key, value) = match self {
            Self::Session {
                jid,
                peer,
                since,
                connected,
            } => {
                let row = Login {
                    peer: peer.into(),
                    since,
                    connected,
                };
                (LOGIN, jid, value(&row))
            }
            Self::SessionEnded { jid } => (LOGIN, jid, None),
            Self::Route { jid, resources } if resources.is_empty() => (ROUTE, jid, None),
            Self::Route { jid, resources } => {
                let row = Route {
                    node: node.into(),
                    resources: resources.into_iter().map(Into::into).collect(),
                };
                (ROUTE, jid, value(&row))
            }
            Self::Presence {
                jid,
                stanza: None,
                directed,
            } if directed.is_empty() => (PRESENCE, jid, None),
            Self::Presence {
                jid,
                stanza,
                directed,
            } => {
                let text = |stanza: Box<[u8]>| String::from_utf8_lossy(&stanza).into_owned();
                let row = Presence {
                    stanza: stanza.map(text).unwrap_or_default(),
                    directed: directed.into_iter().map(Into::into).collect(),
                };
                (PRESENCE, jid, value(&row))
            }
        };
        SoftRow { store, key, value }
    }
}

/// The sessions that another router told of, from its rows in the stores of
/// sessions and of presence: keys and values. Rows that cannot be read are left
/// out.
pub fn left(logins: &[(&str, &[u8])], presences: &[(&str, &[u8])]) -> Vec<Left> {
    let mut logins: HashMap<&str, Login> = logins.iter().filter_map(read).collect();
    let left = presences
        .iter()
        .filter_map(read::<Presence>)
        .map(|(jid, presence)| {
            let login = logins.remove(jid);
            let (peer, since) = login
                .map(|login| (login.peer, login.since))
                .unwrap_or_default();
            Left {
                jid: jid.into(),
                peer: peer.into(),
                since,
                presence: (!presence.stanza.is_empty())
                    .then(|| presence.stanza.into_bytes().into()),
                directed: presence.directed.into_iter().map(Into::into).collect(),
            }
        });
    left.collect()
}

fn read<'a, T: for<'b> Deserialize<'b>>((key, value): &(&'a str, &[u8])) -> Option<(&'a str, T)> {
    match serde_json::from_slice(value) {
        Ok(row) => Some((key, row)),
        Err(error) => {
            tracing::warn!(key, %error, "A row cannot be read.");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_read_back_as_it_was_told() {
        let jid: Box<str> = "alice@ex/a".into();
        let login = Soft::Session {
            jid: jid.clone(),
            peer: "192.0.2.1:5".into(),
            since: 7,
            connected: true,
        };
        let presence = Soft::Presence {
            jid: jid.clone(),
            stanza: Some((*b"<presence/>").into()),
            directed: vec!["bob@ex".into()],
        };
        let (login, presence) = (login.row("one"), presence.row("one"));
        assert_eq!((login.store, presence.store), (LOGIN, PRESENCE));
        fn told(row: &SoftRow) -> (&str, &[u8]) {
            (&row.key, row.value.as_deref().unwrap_or_default())
        }
        let broken: (&str, &[u8]) = ("bob@ex/a", b"no row");
        let left = left(&[told(&login)], &[broken, told(&presence)]);
        let expected = Left {
            jid: jid.clone(),
            peer: "192.0.2.1:5".into(),
            since: 7,
            presence: Some((*b"<presence/>").into()),
            directed: vec!["bob@ex".into()],
        };
        assert_eq!(left, [expected]);
        let gone = Soft::Presence {
            jid,
            stanza: None,
            directed: Vec::new(),
        };
        assert_eq!(gone.row("one").value, None);
    }
}
