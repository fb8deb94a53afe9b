//! Parameters, read where they are needed and changed while we run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use database::Parameters;
use xmpp_config_manager::declared;

use crate::admission::Limits;
use crate::dual::Dual;

/// Id of the service.
const ID: &str = "xmpp-connection-manager";

/// The parameters, shared by all shards.
#[derive(Clone, Debug)]
pub(crate) struct Settings(Arc<Values>);

#[derive(Debug)]
struct Values {
    plain: AtomicBool,
    element: AtomicUsize,
    write_buffer: AtomicUsize,
    patience: AtomicU64,
    all: AtomicUsize,
    address: AtomicUsize,
    anonymous: AtomicUsize,
    anonymous_address: AtomicUsize,
    dual: Dual,
}

impl Default for Settings {
    fn default() -> Self {
        Self(Arc::new(Values {
            plain: true.into(),
            element: (256 << 10).into(),
            write_buffer: (256 << 10).into(),
            patience: 30.into(),
            all: 60_000.into(),
            address: 20_000.into(),
            anonymous: 4_000.into(),
            anonymous_address: 500.into(),
            dual: Dual::default(),
        }))
    }
}

/// Longest element that the link to the router takes.
const LONGEST_ELEMENT: usize = 512 << 10;

impl Settings {
    /// Takes over what the database says.
    pub(crate) fn update(&self, own: &Parameters, authentication: &Parameters) {
        let values = &*self.0;
        let set = |value: &AtomicUsize, name: &str, least: usize, most: usize| {
            // A setting that was taken back has its default again.
            let default =
                declared(ID, name).and_then(|known| known.definition.default.parse().ok());
            let now = own.get(name, default.unwrap_or(least));
            value.store(now.clamp(least, most), Ordering::Relaxed);
        };
        set(&values.element, "MaxStanzaBytes", 10_000, LONGEST_ELEMENT);
        set(&values.write_buffer, "WriteBufferBytes", 16 << 10, 8 << 20);
        set(&values.all, "MaxConnections", 1, 250_000);
        set(&values.address, "MaxConnectionsPerAddress", 1, 250_000);
        set(&values.anonymous, "MaxUnauthenticated", 1, 100_000);
        set(
            &values.anonymous_address,
            "MaxUnauthenticatedPerAddress",
            1,
            100_000,
        );
        let patience = own.get("AuthenticationSeconds", 30).clamp(5, 600);
        values.patience.store(patience, Ordering::Relaxed);
        let plain = authentication.get("AllowPlain", true);
        values.plain.store(plain, Ordering::Relaxed);
    }

    /// The other node of the redundancy group, for dual connections.
    pub(crate) fn dual(&self) -> &Dual {
        &self.0.dual
    }

    /// Whether PLAIN is offered.
    pub(crate) fn plain(&self) -> bool {
        self.0.plain.load(Ordering::Relaxed)
    }

    /// Longest element of an authenticated client, in bytes.
    pub(crate) fn element(&self) -> usize {
        self.0.element.load(Ordering::Relaxed)
    }

    /// Bytes that may wait for a client before the router is to hold back.
    pub(crate) fn write_buffer(&self) -> usize {
        self.0.write_buffer.load(Ordering::Relaxed)
    }

    /// How long signing in may take.
    pub(crate) fn patience(&self) -> Duration {
        Duration::from_secs(self.0.patience.load(Ordering::Relaxed))
    }

    /// How many may connect.
    pub(crate) fn limits(&self) -> Limits {
        let values = &*self.0;
        let get = |value: &AtomicUsize| value.load(Ordering::Relaxed);
        Limits {
            all: get(&values.all),
            address: get(&values.address),
            anonymous: get(&values.anonymous),
            anonymous_address: get(&values.anonymous_address),
        }
    }
}
