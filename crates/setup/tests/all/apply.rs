//! Applying answers in a temporary root, with the programs of the system
//! watched instead of run.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use certificates::{Authority, Certificate, Component, Identity, Names, Subject, verify};
use cluster::{Candidate, JoinError, Joined, Pair, Secret};
use setup::{Answers, Place, Step, System, apply};
use tempfile::TempDir;
use time::OffsetDateTime;
use time::macros::datetime;

use crate::common::{EXAMPLE, make_root};

pub(crate) const NOW: OffsetDateTime = datetime!(2026-11-21 06:00 UTC);

/// Watches what would be run; fails at the step that a test names.
#[derive(Default)]
pub(crate) struct Watched {
    ran: Vec<(String, String)>,
    fails_at: Option<&'static str>,
    pub(crate) addresses: Vec<IpAddr>,
    no_card: bool,
    waited: Duration,
    host_name: String,
    given: Vec<String>,
    /// Answers of the publisher, the next one last; unreachable when there are
    /// no more.
    joins: Vec<Result<Joined, JoinError>>,
    asked: Vec<(Candidate, String, String)>,
}

impl Watched {
    fn new() -> Self {
        Self {
            addresses: vec!["192.0.2.11".parse().unwrap()],
            ..Self::default()
        }
    }

    pub(crate) fn commands(&self) -> Vec<&str> {
        self.ran.iter().map(|(line, _)| line.as_str()).collect()
    }
}

impl System for Watched {
    fn run(&mut self, program: &str, arguments: &[&str], input: &str) -> anyhow::Result<String> {
        let line = format!("{program} {}", arguments.join(" "));
        if self.fails_at.is_some_and(|at| line.starts_with(at)) {
            anyhow::bail!("power cut");
        }
        self.ran.push((line, input.into()));
        Ok(String::new())
    }
    fn set_host_name(&mut self, name: &str) -> anyhow::Result<()> {
        self.host_name = name.into();
        Ok(())
    }
    fn addresses(&mut self, _: &str) -> Vec<IpAddr> {
        self.addresses.clone()
    }
    fn has_interface(&mut self, _: &str) -> bool {
        !self.no_card
    }
    fn give(&mut self, path: &Path, user: &str, group: &str) -> anyhow::Result<()> {
        let name = path.file_name().unwrap().to_string_lossy();
        self.given.push(format!("{name} {user}:{group}"));
        Ok(())
    }
    fn pause(&mut self, time: Duration) {
        self.waited += time;
    }
    fn join(
        &mut self,
        candidate: &Candidate,
        publisher: &str,
        password: &str,
    ) -> Result<Joined, JoinError> {
        self.asked
            .push((candidate.clone(), publisher.into(), password.into()));
        let nobody = || Err(JoinError::Unreachable(publisher.into(), "refused".into()));
        self.joins.pop().unwrap_or_else(nobody)
    }
    fn sync(&mut self) {}
    fn now(&self) -> OffsetDateTime {
        NOW
    }
}

pub(crate) struct Case {
    pub(crate) folder: TempDir,
    pub(crate) place: Place,
    pub(crate) system: Watched,
}

impl Case {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        make_root(folder.path());
        let place = Place::at(folder.path());
        std::fs::create_dir_all(place.answers_file().parent().unwrap()).unwrap();
        std::fs::write(place.answers_file(), EXAMPLE).unwrap();
        Self {
            place,
            folder,
            system: Watched::new(),
        }
    }

    pub(crate) fn apply(&mut self, answers: &Answers) -> anyhow::Result<()> {
        apply(answers, &self.place, &mut self.system, &mut |_| {})
    }

    pub(crate) fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(path))
            .unwrap_or_else(|error| panic!("{path}: {error}"))
    }
}

pub(crate) fn example() -> Answers {
    Answers::parse(EXAMPLE).unwrap()
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_symlink() || path.is_file() {
            found.push(path);
        } else {
            found.extend(files(&path));
        }
    }
    found
}

#[test]
fn a_node_is_set_up() {
    let mut case = Case::new();
    case.apply(&example()).unwrap();
    let paths = service::Paths::below(case.folder.path());
    std::fs::create_dir_all(paths.etc()).unwrap();
    std::fs::copy(case.place.node_file(), paths.node_file()).unwrap();
    let node = service::Node::load(&paths).unwrap();
    assert_eq!(
        (node.name.as_str(), node.domain.as_str()),
        ("node1", "example.org")
    );
    assert_eq!(
        (node.address.as_str(), node.size.as_str()),
        ("192.0.2.11", "5K")
    );
    assert_eq!(node.role, service::Role::Publisher);
    assert_eq!(case.system.host_name, "node1");
    assert_eq!(case.read("etc/hostname"), "node1\n");
    assert!(
        case.read("etc/hosts")
            .contains("192.0.2.11 node1.example.org node1\n")
    );
    let unit = case.read("etc/systemd/network/10-eth0.network");
    for line in [
        "Address=192.0.2.11/24",
        "Gateway=192.0.2.1",
        "DNS=192.0.2.2",
        "MTUBytes=1500",
    ] {
        assert!(unit.lines().any(|one| one == line), "{line} in {unit}");
    }
    let zone = std::fs::read_link(case.folder.path().join("etc/localtime")).unwrap();
    assert_eq!(zone, Path::new("/usr/share/zoneinfo/Etc/UTC"));
    assert!(
        case.read("etc/systemd/timesyncd.conf.d/20-setup.conf")
            .contains("NTP=ntp1.example.org ntp2")
    );
    let wants = case.folder.path().join("etc/signalbox/features");
    let link = std::fs::read_link(wants.join("xmpp-connection-manager.service")).unwrap();
    assert_eq!(
        link,
        Path::new("/usr/lib/systemd/system/xmpp-connection-manager.service")
    );
    let last = case.system.commands().last().copied().unwrap();
    assert!(
        last.starts_with("systemctl start --no-block signalbox.target"),
        "{last}"
    );
}

#[test]
fn certificates_are_for_every_name_of_the_node() {
    let mut case = Case::new();
    case.apply(&example()).unwrap();
    let ca = case.read("etc/signalbox/certificates/ca/certificate.pem");
    for component in ["tomcat", "xmpp"] {
        let own = case.read(&format!(
            "etc/signalbox/certificates/{component}/certificate.pem"
        ));
        for name in ["example.org", "node1.example.org", "node1", "192.0.2.11"] {
            verify(&own, &ca, name, NOW)
                .unwrap_or_else(|error| panic!("{component} {name}: {error}"));
        }
        assert!(
            Certificate::from_pem(&own)
                .unwrap()
                .subject
                .contains("L=Berlin")
        );
    }
}

#[test]
fn passwords_reach_no_command_line_and_no_file() {
    let mut case = Case::new();
    let answers = example();
    case.apply(&answers).unwrap();
    let secrets = [
        &answers.administrator.password.0,
        &answers.security_password.0,
        &answers.application_user.as_ref().unwrap().password.0,
    ];
    for secret in secrets {
        for (line, _) in &case.system.ran {
            assert!(!line.contains(secret.as_str()), "{line}");
        }
        for path in files(case.folder.path()) {
            if let Ok(text) = std::fs::read_to_string(&path) {
                assert!(!text.contains(secret.as_str()), "{}", path.display());
            }
        }
    }
    assert!(!case.place.answers_file().exists());
    let inputs: Vec<&str> = case
        .system
        .ran
        .iter()
        .map(|(_, input)| input.as_str())
        .collect();
    assert!(inputs.contains(&"admin:change-me-please\n"));
}

#[test]
fn only_root_reads_keys() {
    let mut case = Case::new();
    case.apply(&example()).unwrap();
    for path in files(&case.folder.path().join("etc/signalbox")) {
        // The activated services' links point to unit files, which a node has and this folder does not.
        if path.is_symlink() {
            continue;
        }
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        let name = path.file_name().unwrap().to_str().unwrap();
        let secret = ["key.pem", "cluster-secret.toml"].contains(&name);
        assert_eq!(
            mode,
            if secret { 0o600 } else { 0o644 },
            "{}",
            path.display()
        );
    }
    let seed = case
        .folder
        .path()
        .join("var/lib/signalbox/database/seed.json");
    assert_eq!(
        std::fs::metadata(&seed).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert!(
        case.system
            .given
            .contains(&"seed.json sb-database:signalbox".into())
    );
    assert!(
        case.system
            .given
            .contains(&"database sb-database:signalbox".into())
    );
}

#[test]
fn the_seed_holds_the_web_account_with_a_hash_that_fits() {
    use argon2::password_hash::{PasswordVerifier, phc::PasswordHash};
    let mut case = Case::new();
    case.apply(&example()).unwrap();
    let seed: serde_json::Value =
        serde_json::from_str(&case.read("var/lib/signalbox/database/seed.json")).unwrap();
    let user = &seed["tables"]["application_user"][0];
    assert_eq!(user["user"], "webadmin");
    let hash = user["password"].as_str().unwrap();
    assert!(hash.starts_with("$argon2id$"), "{hash}");
    let parsed = PasswordHash::new(hash).unwrap();
    let check = |password: &[u8]| {
        argon2::Argon2::default()
            .verify_password(password, &parsed)
            .is_ok()
    };
    assert!(check(b"change-me-as-well"));
    assert!(!check(b"change-me-please"));
    assert_eq!(seed["tables"]["process_node"][0]["address"], "192.0.2.11");
    let mut answers = example();
    answers.application_user = None;
    case.apply(&answers).unwrap();
    let seed = case.read("var/lib/signalbox/database/seed.json");
    assert!(seed.contains("\"user\": \"admin\""), "{seed}");
}

#[test]
fn a_run_that_was_cut_anywhere_leaves_the_node_not_set_up_and_runs_again() {
    for cut in ["networkctl", "systemctl try-restart", "useradd", "chpasswd"] {
        let mut case = Case::new();
        case.system.fails_at = Some(cut);
        let error = format!("{:#}", case.apply(&example()).unwrap_err());
        assert!(error.contains("power cut"), "{error}");
        assert!(!case.place.is_set_up(), "{cut}");
        assert!(case.place.answers_file().exists(), "{cut}");
        case.system.fails_at = None;
        case.apply(&example()).unwrap();
        assert!(case.place.is_set_up());
    }
}

#[test]
fn an_administrator_that_an_interrupted_run_left_is_removed() {
    let mut case = Case::new();
    let passwd = case.folder.path().join("etc/passwd");
    let text = std::fs::read_to_string(&passwd).unwrap()
        + "first:x:1001:999::/var/lib/signalbox/home/first:/usr/bin/signalbox-cli\n";
    std::fs::write(&passwd, text).unwrap();
    case.apply(&example()).unwrap();
    let commands = case.system.commands();
    let at = |start: &str| {
        commands
            .iter()
            .position(|line| line.starts_with(start))
            .unwrap()
    };
    assert!(at("userdel --force first") < at("useradd"));
    assert!(at("useradd") < at("chpasswd"));
}

#[test]
fn the_commit_point_comes_after_everything_that_it_vouches_for() {
    let mut case = Case::new();
    let place = case.place.clone();
    let mut seen = Vec::new();
    apply(&example(), &case.place, &mut case.system, &mut |step| {
        seen.push((step, place.is_set_up()));
    })
    .unwrap();
    let expected: Vec<_> = Step::ALL
        .iter()
        .map(|step| (*step, *step == Step::Start))
        .collect();
    assert_eq!(seen, expected);
}

#[test]
fn dhcp_waits_for_an_address_and_says_so_when_none_comes() {
    let mut answers = example();
    answers.network.dhcp = true;
    answers.network.address = None;
    answers.network.gateway = None;
    let mut case = Case::new();
    case.system.addresses = vec!["fe80::1".parse().unwrap(), "198.51.100.7".parse().unwrap()];
    case.apply(&answers).unwrap();
    assert!(
        case.read("etc/signalbox/node.toml")
            .contains("198.51.100.7")
    );
    let unit = case.read("etc/systemd/network/10-eth0.network");
    assert!(
        unit.contains("DHCP=ipv4") && !unit.contains("Address="),
        "{unit}"
    );
    let mut case = Case::new();
    case.system.addresses.clear();
    let error = format!("{:#}", case.apply(&answers).unwrap_err());
    assert!(error.contains("DHCP server"), "{error}");
    assert_eq!(case.system.waited.as_secs(), 60);
}

#[test]
fn a_machine_without_a_network_card_is_told_what_to_do() {
    let mut case = Case::new();
    case.system.no_card = true;
    let error = format!("{:#}", case.apply(&example()).unwrap_err());
    assert!(
        error.starts_with("Network settings: ") && error.contains("network card"),
        "{error}"
    );
}

#[test]
fn two_nodes_share_no_secret() {
    let secrets = |case: &Case| -> BTreeSet<String> {
        files(&case.folder.path().join("etc/signalbox"))
            .iter()
            .filter(|path| path.ends_with("key.pem") || path.ends_with("cluster-secret.toml"))
            .map(|path| std::fs::read_to_string(path).unwrap())
            .collect()
    };
    let (mut one, mut two) = (Case::new(), Case::new());
    one.apply(&example()).unwrap();
    two.apply(&example()).unwrap();
    assert_eq!(secrets(&one).len(), 5);
    assert!(secrets(&one).is_disjoint(&secrets(&two)));
}

/// Answers of a node that joins.
fn joining() -> Answers {
    Answers {
        role: service::Role::Subscriber,
        publisher: Some("node1.example.org".into()),
        application_user: None,
        smtp: None,
        ..example()
    }
}

/// What a publisher gives a node.
fn joined() -> Joined {
    let subject = Subject::default();
    let authority = Authority::create("the cluster", &subject, NOW).unwrap();
    let identity = Identity {
        replica: 2,
        cluster: "the-cluster".into(),
    };
    let pairs = Component::ALL.map(|component| {
        let names = Names {
            dns: vec![identity.host_name()],
            addresses: Vec::new(),
        };
        let issued = authority.issue(&subject, &names, NOW).unwrap();
        Pair {
            component: component.name(),
            certificate: issued.certificate_pem,
            key: issued.key_pem,
        }
    });
    Joined {
        cluster: identity.cluster,
        replica: 2,
        authority: authority.certificate_pem().into(),
        pairs: pairs.into(),
        secret: Secret::derive("change-me-too").unwrap(),
    }
}

#[test]
fn a_node_joins_its_cluster() {
    let mut case = Case::new();
    // An earlier run as a first node was cut off.
    case.system.fails_at = Some("systemctl start");
    assert!(case.apply(&example()).is_err());
    case.system.fails_at = None;
    let given = joined();
    let nobody = || JoinError::Unreachable("node1".into(), "refused".into());
    case.system.joins = vec![Ok(given.clone()), Err(nobody()), Err(nobody())];
    case.apply(&joining()).unwrap();
    assert!(
        case.system.waited >= Duration::from_secs(2),
        "it was patient"
    );
    let (candidate, publisher, password) = case.system.asked.pop().unwrap();
    assert_eq!(
        candidate,
        Candidate {
            name: "node1".into(),
            address: "192.0.2.11".into(),
            product: "imp".into(),
            domain: "example.org".into(),
            mtu: 1500,
        }
    );
    assert_eq!(
        (publisher.as_str(), password.as_str()),
        ("node1.example.org", "change-me-too")
    );
    let node: service::Node = toml::from_str(&case.read("etc/signalbox/node.toml")).unwrap();
    assert_eq!(node.role, service::Role::Subscriber);
    assert_eq!(node.cluster, "the-cluster");
    let folder = "etc/signalbox/certificates";
    assert_eq!(
        case.read(&format!("{folder}/ca/certificate.pem")),
        given.authority
    );
    for pair in &given.pairs {
        let own = format!("{folder}/{}", pair.component);
        assert_eq!(
            case.read(&format!("{own}/certificate.pem")),
            pair.certificate
        );
        let key = case.folder.path().join(own).join("key.pem");
        assert_eq!(std::fs::read_to_string(&key).unwrap(), pair.key);
        assert_eq!(key.metadata().unwrap().permissions().mode() & 0o077, 0);
    }
    let secret: Secret = toml::from_str(&case.read("etc/signalbox/cluster-secret.toml")).unwrap();
    assert!(secret == given.secret);
    // The authority's key is the publisher's alone, and so are first rows.
    let left = |path: &str| case.folder.path().join(path).exists();
    assert!(!left(&format!("{folder}/ca/key.pem")));
    assert!(!left("var/lib/signalbox/database/seed.json"));
}

#[test]
fn a_node_that_may_not_join_is_not_set_up_and_says_why() {
    for (answer, why) in [
        (JoinError::Password, "does not accept the security password"),
        (
            JoinError::Refused("node1 was not added".into()),
            "was not added",
        ),
        (
            JoinError::Unreachable("node1".into(), "refused".into()),
            "cannot be reached",
        ),
    ] {
        let mut case = Case::new();
        case.system.joins = vec![Err(answer.clone())];
        let error = format!("{:#}", case.apply(&joining()).unwrap_err());
        assert!(error.contains(why), "{error}");
        assert!(!case.place.is_set_up());
        let patient = matches!(answer, JoinError::Unreachable(..));
        assert_eq!(
            case.system.asked.len() > 1,
            patient,
            "only the way may get better"
        );
    }
}
