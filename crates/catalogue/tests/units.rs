//! The units of the repository hold what the catalogue and the node promise.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use catalogue::{Catalogue, Kind, Unit};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn units() -> PathBuf {
    repository().join("units")
}

fn catalogue() -> Catalogue {
    Catalogue::read(&units()).unwrap_or_else(|problems| panic!("{problems}"))
}

/// Id → (compat name, kind) of every service there is to be.
fn complete() -> BTreeMap<String, (String, String)> {
    include_str!("services.tsv")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let fields: Vec<_> = line.split('\t').collect();
            let [id, compat, kind] = fields[..] else {
                panic!("services.tsv: {line:?} has not three fields")
            };
            (id.into(), (compat.into(), kind.into()))
        })
        .collect()
}

fn missing() -> BTreeMap<String, (String, String)> {
    let text = std::fs::read_to_string(units().join("missing.toml")).unwrap();
    let file: toml::Table = text.parse().unwrap();
    let services = file["service"].as_table().unwrap();
    services
        .iter()
        .map(|(id, entry)| {
            let word = |key: &str| entry[key].as_str().unwrap().to_owned();
            (id.clone(), (word("compat"), word("kind")))
        })
        .collect()
}

#[test]
fn services_that_present_a_certificate_name_its_files() {
    let catalogue = catalogue();
    for (id, component) in [("web", "tomcat"), ("xmpp-connection-manager", "xmpp")] {
        let folder = Path::new("/etc/signalbox/certificates").join(component);
        assert_eq!(
            catalogue.get(id).unwrap().credentials,
            [folder.join("certificate.pem"), folder.join("key.pem")]
        );
    }
    let folder = Path::new("/etc/signalbox/certificates");
    for id in ["database", "route-datastore", "xmpp-router"] {
        assert_eq!(
            catalogue.get(id).unwrap().credentials,
            [
                folder.join("ca/certificate.pem"),
                folder.join("cluster/certificate.pem"),
                folder.join("cluster/key.pem")
            ]
        );
    }
    let without = catalogue.get("data-monitor").unwrap();
    assert!(without.credentials.is_empty());
}

#[test]
fn units_and_the_missing_list_make_up_the_complete_list() {
    let complete = complete();
    assert_eq!(complete.len(), 119);
    let missing = missing();
    let mut together = missing.clone();
    for service in catalogue().services() {
        assert!(
            !missing.contains_key(&service.id),
            "{} has a unit and still stands in units/missing.toml",
            service.id
        );
        let entry = (service.compat.clone(), service.kind.to_string());
        together.insert(service.id.clone(), entry);
    }
    assert_eq!(together, complete);
}

/// The unit of a service with its drop-ins, as systemd reads them.
fn merged(id: &str) -> Unit {
    let mut text = std::fs::read_to_string(units().join(format!("{id}.service"))).unwrap();
    let folder = units().join(format!("{id}.service.d"));
    let mut parts: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{} links to common.d: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    parts.sort();
    for part in parts {
        text.push('\n');
        text.push_str(&std::fs::read_to_string(part).unwrap());
    }
    Unit::parse(&text).unwrap_or_else(|(line, problem)| panic!("{id}:{line}: {problem}"))
}

#[test]
fn every_service_is_fenced_watched_restarted_and_runs_as_its_own_user() {
    for service in catalogue().services() {
        let unit = merged(&service.id);
        let id = &service.id;
        let value = |key: &str| unit.value("Service", key).unwrap_or_default();
        let conditions: Vec<_> = unit
            .of("Unit")
            .filter(|line| line.key == "ConditionPathExists")
            .map(|line| line.value.as_str())
            .collect();
        assert!(conditions.contains(&"/etc/signalbox/node.toml"), "{id}");
        assert_eq!(value("Type"), "notify", "{id}");
        assert_eq!(value("ExecStart"), "/usr/bin/signalbox serve %p", "{id}");
        assert_eq!(value("User"), "sb-%p", "{id}");
        assert_eq!(value("Group"), "signalbox", "{id}");
        assert_eq!(value("Restart"), "always", "{id}");
        assert_eq!(value("RestartPreventExitStatus"), "78", "{id}");
        assert!(!value("WatchdogSec").is_empty(), "{id}");
        assert_eq!(
            unit.value("Unit", "StartLimitIntervalSec"),
            Some("0"),
            "{id}"
        );
        // A limit on a queued start would lose services that wait for the gate.
        assert_eq!(unit.value("Unit", "JobTimeoutSec"), None, "{id}");
        // Users' names are limited to 31 characters.
        assert!(id.len() <= 28, "{id}: give it a shorter user in a drop-in");
        assert!(value("AmbientCapabilities").is_empty(), "{id}");
        assert!(value("CapabilityBoundingSet").is_empty(), "{id}");
        let network = unit
            .words("Service", "RestrictAddressFamilies")
            .iter()
            .any(|family| family.starts_with("AF_INET"));
        assert_eq!(network, value("PrivateNetwork") != "yes", "{id}");
        assert!(
            network || service.ports.is_empty(),
            "{id} has ports but no network"
        );
    }
}

#[test]
fn what_order_and_needs_name_exists() {
    let missing = missing();
    let outside = [
        "signalbox-supervisor.service",
        "dbus.service",
        "dbus.socket",
    ];
    let mut checked = 0;
    for service in catalogue().services() {
        let unit = merged(&service.id);
        for key in [
            "After",
            "Before",
            "Requires",
            "Wants",
            "PartOf",
            "BindsTo",
            "Requisite",
        ] {
            for word in unit.words("Unit", key) {
                let known = word
                    .strip_suffix(".service")
                    .is_some_and(|id| missing.contains_key(id) || units().join(word).exists())
                    || (word.ends_with(".target") && units().join(word).exists())
                    || outside.contains(&word);
                assert!(known, "{}: {key}={word} names no unit", service.id);
                checked += 1;
            }
        }
    }
    assert!(checked > 30);
}

#[test]
fn services_start_in_the_order_of_the_original() {
    let order: Vec<String> = catalogue().in_start_order().map(|s| s.id.clone()).collect();
    let place = |id: &str| order.iter().position(|other| other == id).unwrap();
    let stages = [
        vec!["database"],
        vec!["database-replicator"],
        vec!["sync-agent"],
        vec!["data-monitor"],
        vec!["server-recovery-manager"],
        vec![
            "route-datastore",
            "login-datastore",
            "sip-registration-datastore",
            "presence-datastore",
        ],
        vec!["xmpp-config-manager"],
        vec!["xmpp-router"],
        vec!["authentication-service", "xmpp-connection-manager"],
    ];
    for pair in stages.windows(2) {
        for before in &pair[0] {
            for after in &pair[1] {
                assert!(place(before) < place(after), "{before} before {after}");
            }
        }
    }
}

#[test]
fn what_works_with_replicated_data_waits_for_the_gate() {
    let without = [
        "database",
        "database-replicator",
        "database-layer-monitor",
        "web",
        "log-partition-monitor",
        "sync-agent",
        "data-monitor",
    ];
    for service in catalogue().services() {
        let unit = merged(&service.id);
        let gated = unit
            .words("Unit", "Requires")
            .contains(&"data-monitor.service")
            && unit
                .words("Unit", "After")
                .contains(&"data-monitor.service");
        assert_eq!(
            gated,
            !without.contains(&service.id.as_str()),
            "{}",
            service.id
        );
    }
}

#[test]
fn a_crash_reaches_nobody() {
    let catalogue = catalogue();
    let mut leaders = BTreeSet::new();
    for service in catalogue.services() {
        let unit = merged(&service.id);
        for key in ["Requires", "PartOf", "BindsTo", "Requisite"] {
            let words = unit.words("Unit", key).into_iter();
            leaders
                .extend(words.filter_map(|word| word.strip_suffix(".service").map(str::to_owned)));
        }
    }
    assert_eq!(Vec::from_iter(&leaders), ["data-monitor", "xmpp-router"]);
    for service in catalogue.services() {
        let unit = merged(&service.id);
        let direct = unit.value("Service", "RestartMode") == Some("direct");
        // Elsewhere a start that fails ends its job, and what is only ordered
        // behind it goes on.
        assert_eq!(direct, leaders.contains(&service.id), "{}", service.id);
    }
}

#[test]
fn xmpp_feature_services_are_part_of_the_router() {
    for service in catalogue().services() {
        let xmpp = service.kind == Kind::Feature && service.compat.starts_with("Cisco XCP");
        let part = merged(&service.id)
            .words("Unit", "PartOf")
            .contains(&"xmpp-router.service");
        assert_eq!(part, xmpp, "{}", service.id);
    }
}

#[test]
fn the_preset_enables_exactly_the_network_services() {
    let path = "rootfs/usr/lib/systemd/system-preset/20-signalbox-services.preset";
    let text = std::fs::read_to_string(repository().join(path)).unwrap();
    let enabled: BTreeSet<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("enable ")?.strip_suffix(".service"))
        .map(str::to_owned)
        .collect();
    let network: BTreeSet<String> = catalogue()
        .services()
        .filter(|service| service.kind == Kind::Network)
        .map(|service| service.id.clone())
        .collect();
    assert_eq!(enabled, network);
}

#[test]
fn the_supervisor_may_drive_exactly_the_services_and_the_network_change() {
    let path = "rootfs/usr/share/polkit-1/rules.d/50-signalbox.rules";
    let text = std::fs::read_to_string(repository().join(path)).unwrap();
    let list = text.split_once("var units = [").unwrap().1;
    let list = list.split_once(']').unwrap().0;
    let allowed: BTreeSet<&str> = list
        .split(',')
        .map(|word| word.trim().trim_matches('"'))
        .collect();
    let catalogue = catalogue();
    let mut wanted: BTreeSet<&str> = catalogue.services().map(|s| s.id.as_str()).collect();
    wanted.insert("signalbox-network-change");
    assert_eq!(allowed, wanted);
    // A name without a unit could be taken by a transient one.
    for id in wanted {
        assert!(units().join(format!("{id}.service")).exists(), "{id}");
    }
}

/// Lines of a file below `rootfs` that begin with that word, as words.
fn lines(path: &str, first: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(repository().join("rootfs").join(path)).unwrap();
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
    let lines = text.lines().map(words);
    lines
        .filter(|words: &Vec<String>| words.first().is_some_and(|word| word == first))
        .collect()
}

#[test]
fn each_sensitive_socket_has_a_folder_a_group_and_a_caller() {
    const SOCKETS: &str = "/run/signalbox/sockets/";
    let groups: BTreeSet<String> = lines("usr/lib/sysusers.d/signalbox.conf", "g")
        .into_iter()
        .map(|words| words[1].clone())
        .filter(|group| group.starts_with("call-"))
        .collect();
    assert!(groups.iter().all(|group| group.len() <= 31));
    let mut given = BTreeSet::new();
    for words in lines("usr/lib/tmpfiles.d/signalbox.conf", "d") {
        let [_, path, mode, user, group, ..] = &words[..] else {
            panic!("{words:?}")
        };
        let Some(name) = path.strip_prefix(SOCKETS) else {
            continue;
        };
        if group.starts_with("call-") {
            // Set-group-id: the socket gets the folder's group. Nobody else
            // gets past the folder.
            assert_eq!(mode, "2710", "{path}");
            let server = name.split('/').next().unwrap();
            assert_eq!(user, &format!("sb-{server}"), "{path}");
            given.insert(group.clone());
        }
    }
    assert_eq!(given, groups);
    let mut called = BTreeSet::new();
    let mut callers: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for entry in std::fs::read_dir(units()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let Some(id) = name.strip_suffix(".service") else {
            continue;
        };
        let unit = Unit::parse(&std::fs::read_to_string(&path).unwrap()).unwrap();
        for group in unit.words("Service", "SupplementaryGroups") {
            if group.starts_with("call-") {
                called.insert(group.to_owned());
                let callers = callers.entry(group.to_owned()).or_default();
                callers.insert(id.to_owned());
            }
        }
    }
    assert_eq!(called, groups);
    // Who reaches what a taken-over service would look for first.
    for (group, who) in [
        (
            "call-database-administration",
            &["signalbox-administration"][..],
        ),
        ("call-database-assignment", &["sync-agent"]),
        ("call-database-cluster", &["signalbox-cluster-manager"]),
        ("call-database-keys", &["authentication-service"]),
        ("call-database-conversation", &["xmpp-router"]),
        ("call-xmpp-router", &["xmpp-connection-manager"]),
        ("call-authentication-service", &["xmpp-connection-manager"]),
        (
            "call-server-recovery-manager",
            &["signalbox-administration", "signalbox-farewell"],
        ),
        ("call-served-homes", &["xmpp-router"]),
        (
            "call-supervisor",
            &["server-recovery-manager", "signalbox-administration", "web"],
        ),
    ] {
        let callers: Vec<_> = callers[group].iter().map(String::as_str).collect();
        assert_eq!(callers, who, "{group}");
    }
}

#[test]
fn sysusers_makes_exactly_the_users_of_the_units() {
    let path = "rootfs/usr/lib/sysusers.d/signalbox.conf";
    let text = std::fs::read_to_string(repository().join(path)).unwrap();
    let made: BTreeSet<&str> = text
        .lines()
        .filter(|line| line.starts_with("u!"))
        .filter_map(|line| line.split_whitespace().nth(1))
        .collect();
    let mut wanted: BTreeSet<String> = catalogue()
        .services()
        .map(|service| format!("sb-{}", service.id))
        .collect();
    for entry in std::fs::read_dir(units()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("signalbox-") && name.ends_with(".service") {
            let unit = Unit::parse(&std::fs::read_to_string(&path).unwrap()).unwrap();
            let user = unit.value("Service", "User");
            wanted.extend(
                user.filter(|user| user.starts_with("sb-"))
                    .map(str::to_owned),
            );
        }
    }
    let wanted: BTreeSet<&str> = wanted.iter().map(String::as_str).collect();
    assert_eq!(made, wanted);
}
