//! Authentication of XMPP clients: SASL exchanges over stored SCRAM keys, and what slows guessing down.
