//! The XMPP wire: streams, stanzas, addresses and SASL mechanisms.
