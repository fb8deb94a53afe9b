//! One rule of one crate, broken.

/// A broken rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutation {
    Recovery(recovery::Mutation),
    Router(router::Mutation),
    Datastore(datastore::Mutation),
}
