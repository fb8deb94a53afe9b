//! What a node is called in the log.
//!
//! A node has a number in its cluster, which its certificate says. The log
//! knows it by a name that is new whenever the node begins without its log, or
//! without the end of it: what it may have promised before, it no longer
//! knows, so it must not be taken for the one who promised. The number is the
//! lower half of the name.

use crate::recovery::OpenError;

const HALF: u32 = 32;

/// The number in the cluster of the node that the log calls so.
pub fn number(name: u64) -> u64 {
    name & u64::from(u32::MAX)
}

/// The name of the node that founds a log.
pub(crate) fn founder(number: u64) -> Result<u64, OpenError> {
    if number == 0 || number > u64::from(u32::MAX) {
        return Err(OpenError::Raft(format!("{number} is no number of a node")));
    }
    Ok(number)
}

/// A name that no node had before.
pub(crate) fn new(number: u64) -> Result<u64, OpenError> {
    // 31 bits of chance, never 0; the top bit stays free for signed readers.
    let chance = uuid::Uuid::new_v4().as_u64_pair().1 & u64::from(u32::MAX >> 1);
    Ok(founder(number)? | chance.max(1) << HALF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_name_is_of_the_same_node_and_no_other_name() {
        let names = [founder(7).unwrap(), new(7).unwrap(), new(7).unwrap()];
        assert_eq!(names.map(number), [7; 3]);
        assert!(names[0] != names[1] && names[1] != names[2], "{names:?}");
        assert!(new(0).is_err() && founder(1 << 32).is_err());
    }
}
