//! Connections of XMPP clients: TCP, TLS, stream negotiation and framing.
