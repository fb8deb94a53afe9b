//! Which nodes belong to the cluster: what is and what is wanted go in, the
//! next change comes out.

use std::collections::{BTreeMap, BTreeSet};

use openraft::{BasicNode, ChangeMembers};

use crate::node::NodeMember;

/// The next change that brings the members nearer to what is wanted: the
/// others by name and address, and this node's own address. None when all is
/// as it should be. Who votes is decided elsewhere (`voters`): voters are never
/// removed here.
pub(crate) fn next_change(
    members: &[NodeMember],
    own: (u64, &str),
    learners: &BTreeMap<u64, String>,
) -> Option<ChangeMembers<u64, BasicNode>> {
    let extra: BTreeSet<u64> = members
        .iter()
        .filter(|member| !member.voter && !learners.contains_key(&member.node))
        .map(|member| member.node)
        .collect();
    if !extra.is_empty() {
        return Some(ChangeMembers::RemoveNodes(extra));
    }
    let there: BTreeMap<u64, &str> = members
        .iter()
        .map(|member| (member.node, member.address.as_str()))
        .collect();
    let (mut new, mut moved) = (BTreeMap::new(), BTreeMap::new());
    let wanted = learners
        .iter()
        .map(|(node, address)| (*node, address.as_str()));
    for (node, address) in wanted.chain([own]) {
        match there.get(&node) {
            Some(known) if *known == address => {}
            Some(_) => drop(moved.insert(node, BasicNode::new(address))),
            None => drop(new.insert(node, BasicNode::new(address))),
        }
    }
    if !moved.is_empty() {
        return Some(ChangeMembers::SetNodes(moved));
    }
    (!new.is_empty()).then_some(ChangeMembers::AddNodes(new))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(node: u64, address: &str, voter: bool) -> NodeMember {
        NodeMember {
            node,
            address: address.into(),
            voter,
            matched: None,
        }
    }

    fn wanted(all: &[(u64, &str)]) -> BTreeMap<u64, String> {
        all.iter()
            .map(|(node, address)| (*node, (*address).into()))
            .collect()
    }

    fn nodes(all: &[(u64, &str)]) -> BTreeMap<u64, BasicNode> {
        all.iter()
            .map(|(node, address)| (*node, BasicNode::new(*address)))
            .collect()
    }

    #[test]
    fn changes_come_one_by_one_until_there_is_none() {
        let mut members = vec![
            member(1, "", true),
            member(2, "b:1", false),
            member(3, "c:1", false),
        ];
        let want = wanted(&[(2, "b:2"), (4, "d:1")]);
        let next = |members: &[NodeMember]| next_change(members, (1, "a:1"), &want);
        let gone = ChangeMembers::RemoveNodes(BTreeSet::from([3]));
        assert_eq!(next(&members), Some(gone));
        members.pop();
        let moved = ChangeMembers::SetNodes(nodes(&[(1, "a:1"), (2, "b:2")]));
        assert_eq!(next(&members), Some(moved));
        members = vec![member(1, "a:1", true), member(2, "b:2", false)];
        let new = ChangeMembers::AddNodes(nodes(&[(4, "d:1")]));
        assert_eq!(next(&members), Some(new));
        members.push(member(4, "d:1", false));
        assert_eq!(next(&members), None);
    }

    #[test]
    fn a_voter_is_never_removed() {
        let members = [member(1, "a:1", true), member(2, "b:1", true)];
        assert_eq!(next_change(&members, (1, "a:1"), &BTreeMap::new()), None);
    }
}
