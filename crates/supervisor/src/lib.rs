//! The one process that talks to systemd about services.
