//! The XMPP router: sessions, rosters, presence and message routing.
