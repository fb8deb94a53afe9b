//! Watches configuration and tells the XMPP components what changed.
