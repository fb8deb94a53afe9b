//! The unit files read as the catalogue of services.
