//! The administrator's account on the system.

use anyhow::Context;

use crate::answers::Account;
use crate::file;
use crate::system::{Place, System};

/// Group of the administrators; sshd and the sockets know it.
const ADMINISTRATORS: &str = "signalbox-admin";
/// The command line as login shell.
const SHELL: &str = "/usr/bin/signalbox-cli";
/// Where administrators' files are, such as the history of the command line.
const HOMES: &str = "var/lib/signalbox/home";

/// Makes the account, in place of any that an interrupted set-up left.
pub(crate) fn create(
    account: &Account,
    place: &Place,
    system: &mut dyn System,
) -> anyhow::Result<()> {
    let name = account.user.as_str();
    for old in administrators(place)? {
        system.run("userdel", &["--force", &old], "")?;
    }
    let homes = place.path(HOMES);
    file::folder_of(&homes, 0o755)?;
    let home = format!("/{HOMES}/{name}");
    system.run(
        "useradd",
        &[
            // The rule for names is ours, and stricter.
            "--badname",
            "--no-create-home",
            "--home-dir",
            &home,
            "--shell",
            SHELL,
            "--no-user-group",
            "--gid",
            ADMINISTRATORS,
            // No names of other accounts inside a user namespace.
            "--key",
            "SUB_UID_COUNT=0",
            "--key",
            "SUB_GID_COUNT=0",
            name,
        ],
        "",
    )?;
    let folder = homes.join(name);
    file::folder_of(&folder, 0o700)?;
    system.give(&folder, name, ADMINISTRATORS)?;
    let line = format!("{name}:{}\n", account.password.0);
    system.run("chpasswd", &["--crypt-method", "YESCRYPT"], &line)?;
    Ok(())
}

/// The accounts that have the command line as their shell.
pub(crate) fn administrators(place: &Place) -> anyhow::Result<Vec<String>> {
    let path = place.path("etc/passwd");
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let ours = text
        .lines()
        .filter(|line| line.split(':').nth(6) == Some(SHELL));
    Ok(ours
        .filter_map(|line| line.split(':').next())
        .map(String::from)
        .collect())
}
