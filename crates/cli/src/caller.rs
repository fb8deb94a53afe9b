//! Who sits at the command line, by the word of the system.

use nix::unistd::{Group, Uid, User, getgid, getgroups};
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

/// The caller; an error when they are no administrator.
pub(crate) fn caller() -> Result<Caller, String> {
    let uid = Uid::effective();
    let user = User::from_uid(uid)
        .ok()
        .flatten()
        .map_or_else(|| uid.to_string(), |user| user.name);
    // The groups of this process: what the kernel will let it do.
    let mut ids = getgroups().unwrap_or_default();
    ids.push(getgid());
    let groups: Vec<_> = ids
        .into_iter()
        .filter_map(|id| Group::from_gid(id).ok().flatten())
        .map(|group| group.name)
        .collect();
    let level = level(uid.as_raw(), &groups).ok_or_else(|| {
        format!(
            "{user} is not an administrator of this node. Administrators are members of one of \
             the groups {}",
            GROUPS
                .iter()
                .map(|(name, _)| *name)
                .collect::<Vec<_>>()
                .join(", ")
        )
    })?;
    let origin = std::env::var("SSH_CONNECTION")
        .ok()
        .and_then(|connection| connection.split(' ').next().map(str::to_owned))
        .filter(|address| address.parse::<std::net::IpAddr>().is_ok())
        .unwrap_or_else(|| "console".into());
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
}
