//! Changing the network settings of a node that is set up.

use certificates::verify;
use setup::change_network;

use crate::apply::{Case, NOW, example};

const FILE: &str = "var/lib/signalbox/supervisor/network-change.toml";

/// A node that is set up, with a change left by the supervisor.
fn changed(change: &str) -> Case {
    let mut case = Case::new();
    case.apply(&example()).unwrap();
    let path = case.folder.path().join(FILE);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, change).unwrap();
    case
}

fn run(case: &mut Case) -> anyhow::Result<()> {
    change_network(&case.place, &mut case.system)
}

#[test]
fn a_new_address_is_taken_and_certified() {
    let mut case = changed("address = \"192.0.2.20/24\"\n");
    case.system.addresses = vec!["192.0.2.20".parse().unwrap()];
    run(&mut case).unwrap();
    assert!(
        case.read("etc/systemd/network/10-eth0.network")
            .contains("Address=192.0.2.20/24")
    );
    assert!(case.read("etc/signalbox/node.toml").contains("192.0.2.20"));
    assert!(
        case.read("etc/hosts")
            .contains("192.0.2.20 node1.example.org")
    );
    let ca = case.read("etc/signalbox/certificates/ca/certificate.pem");
    let own = case.read("etc/signalbox/certificates/xmpp/certificate.pem");
    verify(&own, &ca, "192.0.2.20", NOW).unwrap();
    assert!(verify(&own, &ca, "192.0.2.11", NOW).is_err());
    assert!(!case.folder.path().join(FILE).exists());
}

#[test]
fn only_what_is_named_changes() {
    let mut case = changed("dns = []\nmtu = 9000\n");
    run(&mut case).unwrap();
    let unit = case.read("etc/systemd/network/10-eth0.network");
    assert!(
        unit.contains("MTUBytes=9000") && !unit.contains("\nDNS="),
        "{unit}"
    );
    assert!(
        unit.contains("Address=192.0.2.11/24") && unit.contains("Gateway=192.0.2.1"),
        "{unit}"
    );
}

#[test]
fn settings_without_an_address_are_taken_back() {
    let mut case = changed("address = \"192.0.2.20/24\"\n");
    let error = format!("{:#}", run(&mut case).unwrap_err());
    assert!(
        error.contains("restored") && error.contains("192.0.2.20"),
        "{error}"
    );
    assert!(
        case.read("etc/systemd/network/10-eth0.network")
            .contains("Address=192.0.2.11/24")
    );
    assert!(case.read("etc/signalbox/node.toml").contains("192.0.2.11"));
}

#[test]
fn what_is_not_allowed_changes_nothing_and_is_not_tried_again() {
    for (change, what) in [
        ("gateway = \"10.0.0.1\"\n", "network.gateway"),
        ("hostname = \"a\\n[Service]\"\n", "network.hostname"),
        ("dns = [\"1.1.1.1\\nDNSSEC=no\"]\n", "network.dns[0]"),
        ("nonsense = 1\n", "not a change"),
    ] {
        let mut case = changed(change);
        let before = case.read("etc/systemd/network/10-eth0.network");
        let error = format!("{:#}", run(&mut case).unwrap_err());
        assert!(error.contains(what), "{error}");
        assert_eq!(case.read("etc/systemd/network/10-eth0.network"), before);
        assert!(!case.folder.path().join(FILE).exists());
    }
}

#[test]
fn a_new_name_reaches_the_kernel_and_the_certificates() {
    let mut case = changed("hostname = \"node9\"\n");
    run(&mut case).unwrap();
    assert_eq!(case.read("etc/hostname"), "node9\n");
    assert!(
        case.system
            .commands()
            .contains(&"hostnamectl hostname node9")
    );
    assert!(
        case.read("etc/signalbox/node.toml")
            .contains("name = \"node9\"")
    );
}

/// Runs a change whose file is something else, which must be refused and gone
/// afterwards; returns the error.
fn refused(make: impl FnOnce(&std::path::Path)) -> String {
    let mut case = changed("");
    let path = case.folder.path().join(FILE);
    std::fs::remove_file(&path).unwrap();
    make(&path);
    let before = case.read("etc/systemd/network/10-eth0.network");
    let error = format!("{:#}", run(&mut case).unwrap_err());
    assert_eq!(case.read("etc/systemd/network/10-eth0.network"), before);
    assert!(path.symlink_metadata().is_err(), "{error}");
    error
}

#[test]
fn a_link_is_not_followed() {
    // Also not to what would be a change.
    for text in ["hunter2\n", "mtu = 9000\n"] {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("secret");
        std::fs::write(&secret, text).unwrap();
        let error = refused(|path| std::os::unix::fs::symlink(&secret, path).unwrap());
        assert!(error.contains("cannot read"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
        assert_eq!(std::fs::read_to_string(&secret).unwrap(), text);
    }
}

#[test]
fn a_pipe_is_not_waited_for() {
    let mode = nix::sys::stat::Mode::S_IRWXU;
    let error = refused(|path| nix::unistd::mkfifo(path, mode).unwrap());
    assert!(error.contains("regular file"), "{error}");
}

#[test]
fn a_change_has_a_size() {
    let comment = format!("# {}\nmtu = 9000\n", "x".repeat(16 * 1024));
    let error = refused(|path| std::fs::write(path, comment).unwrap());
    assert!(error.contains("larger than 16384 bytes"), "{error}");
}

#[test]
fn a_file_of_somebody_else_is_refused() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("not checked: only root can give a file away");
        return;
    }
    let error = refused(|path| {
        std::fs::write(path, "mtu = 9000\n").unwrap();
        std::os::unix::fs::chown(path, Some(65534), None).unwrap();
    });
    assert!(error.contains("owner"), "{error}");
}

#[test]
fn what_stands_in_the_file_is_not_repeated() {
    for text in ["root:hunter2:\n", "hunter2 = 1\n", "mtu = \"hunter2\"\n"] {
        let error = refused(|path| std::fs::write(path, text).unwrap());
        assert!(error.contains("not a change"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}
