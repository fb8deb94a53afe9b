//! Sessions, routes and presence, told to the real-time stores.

use bytes::Bytes;
use datastore::{LOGIN, Login, Owner, PRESENCE, Presence, ROUTE, Route};
use serde::Serialize;
use service::Paths;

use crate::event::Soft;

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
            Soft::Presence { jid, stanza } if takes(To::Presence) => match stanza {
                Some(stanza) => {
                    let row = Presence {
                        stanza: String::from_utf8_lossy(&stanza).into_owned(),
                    };
                    self.presence.put(&jid, value(&row), None);
                }
                None => self.presence.delete(&jid),
            },
            Soft::Session { .. }
            | Soft::SessionEnded { .. }
            | Soft::Route { .. }
            | Soft::Presence { .. } => {}
        }
    }
}
