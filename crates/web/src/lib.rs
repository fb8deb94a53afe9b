//! The web front and its pages.
