//! The link between the router and the components around it.
