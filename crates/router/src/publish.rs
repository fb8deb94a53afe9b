//! Sessions, routes and presence, told to the real-time stores, and what other
//! nodes told theirs.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use datastore::{Entry, LOGIN, Login, Owner, PRESENCE, Presence, ROUTE, Reader, Route};
use serde::{Deserialize, Serialize};
use service::Paths;

use crate::event::{Left, Soft};

/// Which stores take a piece of news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    All,
    Login,
    Route,
    Presence,
}

/// The router's rows in the real-time stores.
#[derive(Debug)]
pub(crate) struct Publisher {
    node: String,
    login: Owner,
    route: Owner,
    presence: Owner,
}

fn value(row: &impl Serialize) -> Bytes {
    // Rows are structs of texts and numbers, which always serialize.
    serde_json::to_vec(row).unwrap_or_default().into()
}

impl Publisher {
    /// Begins an epoch, which must be higher than that of an earlier start.
    pub(crate) fn new(paths: &Paths, node: &str, epoch: u64) -> Self {
        let owner = format!("{node}/xmpp-router");
        let start = |id| Owner::start(&paths.datastore_socket(id), &owner, epoch);
        Self {
            node: node.into(),
            login: start(LOGIN),
            route: start(ROUTE),
            presence: start(PRESENCE),
        }
    }

    /// Waits until a store wants everything.
    pub(crate) async fn wanted(&self) -> To {
        tokio::select! {
            () = self.login.wanted() => To::Login,
            () = self.route.wanted() => To::Route,
            () = self.presence.wanted() => To::Presence,
        }
    }

    /// Everything was told to the store.
    pub(crate) fn synced(&self, to: To) {
        match to {
            To::Login => self.login.synced(),
            To::Route => self.route.synced(),
            To::Presence => self.presence.synced(),
            To::All => {}
        }
    }

    /// Tells a piece of news.
    pub(crate) fn tell(&self, news: Soft, to: To) {
        let takes = |store| to == To::All || to == store;
        match news {
            Soft::Session {
                jid,
                peer,
                since,
                connected,
            } if takes(To::Login) => {
                let row = Login {
                    peer: peer.into(),
                    since,
                    connected,
                };
                self.login.put(&jid, value(&row), None);
            }
            Soft::SessionEnded { jid } if takes(To::Login) => self.login.delete(&jid),
            Soft::Route { jid, resources } if takes(To::Route) => {
                if resources.is_empty() {
                    self.route.delete(&jid);
                } else {
                    let row = Route {
                        node: self.node.clone(),
                        resources: resources.into_iter().map(Into::into).collect(),
                    };
                    self.route.put(&jid, value(&row), None);
                }
            }
            Soft::Presence {
                jid,
                stanza,
                directed,
            } if takes(To::Presence) => {
                if stanza.is_none() && directed.is_empty() {
                    self.presence.delete(&jid);
                    return;
                }
                let text = |stanza: Box<[u8]>| String::from_utf8_lossy(&stanza).into_owned();
                let row = Presence {
                    stanza: stanza.map(text).unwrap_or_default(),
                    directed: directed.into_iter().map(Into::into).collect(),
                };
                self.presence.put(&jid, value(&row), None);
            }
            Soft::Session { .. }
            | Soft::SessionEnded { .. }
            | Soft::Route { .. }
            | Soft::Presence { .. } => {}
        }
    }
}

/// How long the stores may take to hand out what another node told them.
const ADOPTION: Duration = Duration::from_secs(5);

/// What the other node of the group told of its sessions. It is taken out of
/// the stores: what is made of it becomes this router's own.
pub(crate) async fn adopt(paths: Paths) -> Vec<Left> {
    let all = async |id: &str| {
        let reader = Reader::connect(&paths.datastore_socket(id));
        match tokio::time::timeout(ADOPTION, reader.adopt()).await {
            Ok(Ok(rows)) => rows,
            Ok(Err(status)) => {
                tracing::warn!(store = id, %status, "What another node had is not known.");
                Vec::new()
            }
            Err(_) => {
                tracing::warn!(store = id, "What another node had is not told in time.");
                Vec::new()
            }
        }
    };
    let (logins, presences) = tokio::join!(all(LOGIN), all(PRESENCE));
    let mut logins: HashMap<String, Login> = logins.iter().filter_map(row).collect();
    let left = presences
        .iter()
        .filter_map(row::<Presence>)
        .map(|(jid, presence)| {
            let login = logins.remove(&jid);
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

fn row<T: for<'a> Deserialize<'a>>(entry: &Entry) -> Option<(String, T)> {
    match serde_json::from_slice(&entry.value) {
        Ok(value) => Some((entry.key.clone(), value)),
        Err(error) => {
            tracing::warn!(key = entry.key, owner = entry.owner, %error, "A row cannot be read.");
            None
        }
    }
}
