//! Who asks, by the kernel's word, and whether they may change something.
//!
//! What an administrator may is decided in one place, `operations`, by the
//! service that carries out their commands; the supervisor takes changes from
//! that service, and from root. The recovery manager may stop and start
//! critical services at a failover, and no more.

use nix::unistd::{Uid, User};
use tonic::transport::server::UdsConnectInfo;
use tonic::{Extensions, Status};

/// The user of `signalbox-administration.service`.
const ADMINISTRATION: &str = "sb-administration";
/// The user of `server-recovery-manager.service`.
const RECOVERY: &str = "sb-server-recovery-manager";

/// Refuses callers who may not change anything. Everyone who reaches the
/// socket may look.
pub(crate) fn may_change(extensions: &Extensions) -> Result<String, Status> {
    check(extensions, ADMINISTRATION)
}

/// Refuses callers who may not stop and start critical services at a failover.
pub(crate) fn may_fail_over(extensions: &Extensions) -> Result<String, Status> {
    check(extensions, RECOVERY)
}

fn check(extensions: &Extensions, who: &str) -> Result<String, Status> {
    let peer = extensions
        .get::<UdsConnectInfo>()
        .and_then(|info| info.peer_cred)
        .ok_or_else(|| Status::permission_denied("the caller is unknown"))?;
    let user = User::from_uid(Uid::from_raw(peer.uid()))
        .ok()
        .flatten()
        .map_or_else(|| peer.uid().to_string(), |user| user.name);
    if allowed(peer.uid(), &user, who) {
        Ok(user)
    } else {
        tracing::warn!(%user, "A command of a user who may not give it was refused.");
        Err(Status::permission_denied(format!(
            "{user} may not change services; administrators do it with the command line"
        )))
    }
}

fn allowed(uid: u32, user: &str, who: &str) -> bool {
    uid == 0 || user == who
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failover_is_the_recovery_managers() {
        assert!(allowed(993, "sb-server-recovery-manager", RECOVERY));
        assert!(!allowed(989, "sb-administration", RECOVERY));
    }

    #[test]
    fn administration_and_root_may_and_nobody_else() {
        for (uid, user, may) in [
            (0, "root", true),
            (989, "sb-administration", true),
            (1000, "anna", false),
            (990, "sb-web", false),
            (991, "sb-xmpp-router", false),
            (992, "992", false),
            (993, "sb-server-recovery-manager", false),
        ] {
            assert_eq!(allowed(uid, user, ADMINISTRATION), may, "{user}");
        }
    }
}
