//! What the tests of this crate share: the example file and a small root.

use std::path::Path;

use setup::Machine;

/// The committed example.
pub(crate) const EXAMPLE: &str = include_str!("../../../../image/answers.example.toml");

/// A root with what set-up looks at: time zones, feature units, accounts.
pub(crate) fn make_root(root: &Path) {
    let write = |path: &str, text: &str| {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    for zone in [
        "Etc/UTC",
        "Europe/Berlin",
        "Europe/London",
        "America/Argentina/Salta",
        "tzdata.zi",
    ] {
        write(&format!("usr/share/zoneinfo/{zone}"), "TZif");
    }
    for (id, rest) in [
        (
            "xmpp-connection-manager",
            "Kind=feature\nNodes=all\nActivationNeeds=xmpp-router authentication-service",
        ),
        (
            "authentication-service",
            "Kind=feature\nNodes=all\nActivationNeeds=xmpp-router",
        ),
        ("xmpp-router", "Kind=network"),
    ] {
        let target = if rest.starts_with("Kind=feature") {
            "signalbox-feature.target"
        } else {
            "signalbox-network.target"
        };
        let unit = format!(
            "[Unit]\nDescription=x\n\n[Service]\nExecStart=/usr/bin/signalbox serve {id}\n\n[Install]\nWantedBy={target}\n\n\
             [X-Signalbox]\nName=The {id}\nCompat=Old {id}\nGroup=Test\nRoles=imp\nApplies=hot\n{rest}\n"
        );
        write(&format!("usr/lib/systemd/system/{id}.service"), &unit);
    }
    write(
        "etc/passwd",
        "root:x:0:0::/root:/bin/sh\ndaemon:x:1:1::/:/bin/sh\nadmin:x:1000:1000::/:/bin/sh\n",
    );
}

/// What such a root knows.
pub(crate) fn machine() -> Machine {
    let root = tempfile::tempdir().unwrap();
    make_root(root.path());
    Machine::read(root.path())
}
