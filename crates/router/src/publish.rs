//! Sessions, routes and presence, told to the real-time stores, and what other
//! nodes told theirs.

use std::time::Duration;

use datastore::{Entry, LOGIN, Owner, PRESENCE, ROUTE, Reader};
use service::Paths;

use crate::event::{Left, Soft};
use crate::soft::left;

/// Which stores take a piece of news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    All,
    Login,
    Route,
    Presence,
}

impl To {
    fn takes(self, store: &str) -> bool {
        match self {
            Self::All => true,
            Self::Login => store == LOGIN,
            Self::Route => store == ROUTE,
            Self::Presence => store == PRESENCE,
        }
    }
}

/// The router's rows in the real-time stores.
#[derive(Debug)]
pub(crate) struct Publisher {
    node: String,
    login: Owner,
    route: Owner,
    presence: Owner,
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
        let row = news.row(&self.node);
        if !to.takes(row.store) {
            return;
        }
        let owner = match row.store {
            LOGIN => &self.login,
            ROUTE => &self.route,
            _ => &self.presence,
        };
        match row.value {
            Some(value) => owner.put(&row.key, value, None),
            None => owner.delete(&row.key),
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
    fn rows(entries: &[Entry]) -> Vec<(&str, &[u8])> {
        let each = entries.iter();
        each.map(|entry| (&*entry.key, &*entry.value)).collect()
    }
    let (logins, presences) = tokio::join!(all(LOGIN), all(PRESENCE));
    left(&rows(&logins), &rows(&presences))
}
