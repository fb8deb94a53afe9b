//! Who gives a command, by the word of the kernel, and what they may.

use std::ffi::CString;
use std::net::IpAddr;

use nix::unistd::{Group, Uid, User, getgrouplist};
use operations::{Caller, Level};

/// Groups of administrators, with their levels; the highest counts.
const GROUPS: &[(&str, Level)] = &[
    ("signalbox-admin", Level::Administer),
    ("signalbox-operator", Level::Operate),
    ("signalbox-viewer", Level::Look),
];

/// The level of a user by the groups they are in; none for strangers.
fn level(uid: u32, groups: &[String]) -> Option<Level> {
    if uid == 0 {
        return Some(Level::Administer);
    }
    GROUPS
        .iter()
        .filter(|(name, _)| groups.iter().any(|group| group == name))
        .map(|(_, level)| *level)
        .max()
}

/// The groups that a user is in now, by the node's own files: who was taken
/// out of a group loses its level at once, not at the next sign-in.
fn groups(user: &User) -> Vec<String> {
    let Ok(name) = CString::new(user.name.as_str()) else {
        return Vec::new();
    };
    let ids = getgrouplist(&name, user.gid).unwrap_or_default();
    ids.into_iter()
        .filter_map(|id| Group::from_gid(id).ok().flatten())
        .map(|group| group.name)
        .collect()
}

/// The caller with that user id; an error when they are no administrator.
/// `origin` is where their session says that they signed in from.
pub(crate) fn caller(uid: u32, origin: &str) -> Result<Caller, String> {
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    let groups = user.as_ref().map(groups).unwrap_or_default();
    let user = user.map_or_else(|| uid.to_string(), |user| user.name);
    let level = level(uid, &groups).ok_or_else(|| {
        let names: Vec<_> = GROUPS.iter().map(|(name, _)| *name).collect();
        format!(
            "{user} is not an administrator of this node. Administrators are members of one of \
             the groups {}",
            names.join(", ")
        )
    })?;
    let origin = origin
        .parse::<IpAddr>()
        .map_or_else(|_| "console".into(), |address| address.to_string());
    Ok(Caller {
        user,
        level,
        face: "cli",
        origin,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_group_counts_and_strangers_have_none() {
        let groups = |names: &[&str]| {
            names
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(level(1000, &groups(&["signalbox"])), None);
        assert_eq!(
            level(1000, &groups(&["users", "signalbox-viewer"])),
            Some(Level::Look)
        );
        assert_eq!(
            level(1000, &groups(&["signalbox-viewer", "signalbox-operator"])),
            Some(Level::Operate)
        );
        assert_eq!(
            level(1000, &groups(&["signalbox-admin"])),
            Some(Level::Administer)
        );
        assert_eq!(level(0, &[]), Some(Level::Administer));
    }

    #[test]
    fn an_origin_is_an_address_or_the_console() {
        let origin = |text| caller(0, text).map(|caller| caller.origin);
        assert_eq!(origin("192.0.2.7"), Ok("192.0.2.7".into()));
        assert_eq!(origin("a\nforged line"), Ok("console".into()));
        assert_eq!(origin(""), Ok("console".into()));
    }
}
