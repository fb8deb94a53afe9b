//! Who asks, by the kernel's word, and what he may.

use nix::unistd::{Gid, Group, Uid, User};
use tonic::transport::server::UdsConnectInfo;
use tonic::{Extensions, Status};

/// Members of this group administer the node.
const ADMINISTRATORS: &str = "signalbox-admin";

/// Refuses callers who may not change anything. Everyone who reaches the
/// socket may look.
pub(crate) fn may_change(extensions: &Extensions) -> Result<String, Status> {
    let peer = extensions
        .get::<UdsConnectInfo>()
        .and_then(|info| info.peer_cred)
        .ok_or_else(|| Status::permission_denied("the caller is unknown"))?;
    let user = User::from_uid(Uid::from_raw(peer.uid()))
        .ok()
        .flatten()
        .map_or_else(|| peer.uid().to_string(), |user| user.name);
    let members = Group::from_name(ADMINISTRATORS).ok().flatten();
    let members = members.map_or_else(Vec::new, |group| {
        let mut members = group.mem;
        if Gid::from_raw(peer.gid()) == group.gid {
            members.push(user.clone());
        }
        members
    });
    if allowed(peer.uid(), &user, &members) {
        Ok(user)
    } else {
        tracing::warn!(%user, "A command of a user who may not give it was refused.");
        Err(Status::permission_denied(format!(
            "{user} may not change services: that is for administrators, members of \
             {ADMINISTRATORS}"
        )))
    }
}

fn allowed(uid: u32, user: &str, administrators: &[String]) -> bool {
    uid == 0 || administrators.iter().any(|member| member == user)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn administrators_and_root_may_and_services_not() {
        let administrators = ["anna".to_owned()];
        for (uid, user, may) in [
            (0, "root", true),
            (1000, "anna", true),
            (1001, "otto", false),
            (990, "sb-web", false),
            (991, "sb-xmpp-router", false),
            (992, "992", false),
        ] {
            assert_eq!(allowed(uid, user, &administrators), may, "{user}");
        }
    }
}
