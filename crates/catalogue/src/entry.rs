//! One service of the catalogue: the typed form of `[X-Signalbox]`.

use std::fmt;
use std::path::PathBuf;

use crate::Unit;

/// The section that makes a unit a service of the catalogue.
pub(crate) const SECTION: &str = "X-Signalbox";

/// How a service comes to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Starts by itself; never activated or deactivated.
    Network,
    /// Runs where an administrator activated it.
    Feature,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Network => "network",
            Self::Feature => "feature",
        })
    }
}

/// What an administrator may do to a service by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Control {
    /// Start, stop and restart it.
    #[default]
    All,
    /// Start and restart it, not stop it.
    Restart,
    /// Nothing.
    None,
}

/// When a changed parameter takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applies {
    /// At once.
    Hot,
    /// After a restart of the service.
    Restart,
}

/// On which of the nodes that may run a service it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// On each.
    Each,
    /// On the first node only.
    Publisher,
    /// On one node of the cluster, of the administrator's choice.
    One,
}

/// A kind of node that may run a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// `imp`, `ucm`, `cuc`, or `all`.
    pub product: String,
    /// On which of those nodes.
    pub spread: Spread,
}

impl Role {
    fn parse(word: &str) -> Result<Self, String> {
        let (product, spread) = match word.split_once('/') {
            None => (word, Spread::Each),
            Some((product, "pub")) => (product, Spread::Publisher),
            Some((product, "1")) => (product, Spread::One),
            Some(_) => return Err(format!("role \"{word}\" ends in neither /pub nor /1")),
        };
        if !["all", "imp", "ucm", "cuc"].contains(&product) {
            return Err(format!(
                "role \"{word}\" is unknown; there are all, imp, ucm and cuc"
            ));
        }
        Ok(Self {
            product: product.into(),
            spread,
        })
    }

    /// Whether a node of that product and place in the cluster may run it.
    pub fn fits(&self, product: &str, publisher: bool) -> bool {
        (self.product == "all" || self.product == product)
            && (self.spread != Spread::Publisher || publisher)
    }
}

/// Transport of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A port on which a service listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// Transport.
    pub protocol: Protocol,
    /// Number.
    pub number: u16,
}

impl Port {
    fn parse(word: &str) -> Result<Self, String> {
        let wrong = || format!("port \"{word}\" is not of the form tcp:5222 or udp:5060");
        let (protocol, number) = word.split_once(':').ok_or_else(wrong)?;
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return Err(wrong()),
        };
        let number = number.parse().map_err(|_| wrong())?;
        Ok(Self { protocol, number })
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        write!(f, "{protocol}:{}", self.number)
    }
}

/// One service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Id: the unit's name without `.service`.
    pub id: String,
    /// Plain name.
    pub name: String,
    /// The name that administrators' scripts and API clients use.
    pub compat: String,
    /// What it does, in a few words.
    pub description: String,
    /// Network or feature.
    pub kind: Kind,
    /// Group on the pages.
    pub group: String,
    /// Kinds of node that may run it.
    pub roles: Vec<Role>,
    /// On which nodes an administrator is advised to activate it.
    pub nodes: String,
    /// Whether people are affected at once when it is down.
    pub critical: bool,
    /// Ports on which it listens.
    pub ports: Vec<Port>,
    /// Ids of services that must run on this node when it is activated.
    pub activation_needs: Vec<String>,
    /// What may be done to it by hand.
    pub control: Control,
    /// When changed parameters take effect.
    pub applies: Applies,
    /// Files that systemd copies for the service when it starts
    /// (`LoadCredential=`); a change of one needs a restart.
    pub credentials: Vec<PathBuf>,
}

impl Service {
    /// The unit's name.
    pub fn unit(&self) -> String {
        format!("{}.service", self.id)
    }

    /// Whether a node of that product and place in the cluster may run it.
    pub fn fits(&self, product: &str, publisher: bool) -> bool {
        self.roles.iter().any(|role| role.fits(product, publisher))
    }

    /// Reads the entry of a unit; none when the unit is not of the catalogue.
    /// Problems are line numbers with reasons.
    pub(crate) fn read(id: &str, unit: &Unit) -> Result<Option<Self>, Vec<(usize, String)>> {
        let Some(header) = unit.section(SECTION) else {
            return Ok(None);
        };
        let mut reader = Reader {
            unit,
            header,
            problems: Vec::new(),
        };
        reader.known_keys();
        let kind = reader.choice(
            "Kind",
            &[("network", Kind::Network), ("feature", Kind::Feature)],
        );
        let applies = reader.choice(
            "Applies",
            &[("hot", Applies::Hot), ("restart", Applies::Restart)],
        );
        let control = reader.optional(
            "Control",
            &[
                ("all", Control::All),
                ("restart", Control::Restart),
                ("none", Control::None),
            ],
        );
        let critical = reader.optional("Critical", &[("yes", true), ("no", false)]);
        let name = reader.text("Name");
        let compat = reader.text("Compat");
        let group = reader.text("Group");
        let roles = reader.list("Roles", Role::parse);
        if roles.is_empty() {
            reader.problem(
                "Roles",
                "Roles= is missing; a service runs on some kind of node",
            );
        }
        let ports = reader.list("Ports", Port::parse);
        let needs = reader.list("ActivationNeeds", |word| Ok(word.to_owned()));
        let nodes = unit.value(SECTION, "Nodes").unwrap_or_default().to_owned();
        match kind {
            Some(Kind::Feature) if nodes.is_empty() => reader.problem(
                "Nodes",
                "Nodes= is missing; a feature service says where it is activated",
            ),
            Some(Kind::Network) if !needs.is_empty() => reader.problem(
                "ActivationNeeds",
                "a network service is never activated; use Requires= or Wants=",
            ),
            _ => {}
        }
        if let Some(kind) = kind {
            reader.installed(kind);
        }
        let description = unit.value("Unit", "Description").unwrap_or_default();
        if description.is_empty() {
            reader.problem("Description", "Description= is missing in [Unit]");
        }
        let (Some(kind), Some(applies), true) = (kind, applies, reader.problems.is_empty()) else {
            return Err(reader.problems);
        };
        Ok(Some(Self {
            id: id.into(),
            name,
            compat,
            description: description.into(),
            kind,
            group,
            roles,
            nodes,
            critical: critical.unwrap_or(false),
            ports,
            activation_needs: needs,
            control: control.unwrap_or_default(),
            applies,
            credentials: credentials(unit),
        }))
    }
}

/// The files of `LoadCredential=ID:PATH`.
fn credentials(unit: &Unit) -> Vec<PathBuf> {
    unit.of("Service")
        .filter(|line| line.key == "LoadCredential")
        .filter_map(|line| line.value.split_once(':'))
        .map(|(_, path)| path.into())
        .collect()
}

const KEYS: [&str; 11] = [
    "Name",
    "Compat",
    "Kind",
    "Group",
    "Roles",
    "Nodes",
    "Critical",
    "Ports",
    "ActivationNeeds",
    "Control",
    "Applies",
];

struct Reader<'a> {
    unit: &'a Unit,
    header: usize,
    problems: Vec<(usize, String)>,
}

impl Reader<'_> {
    /// Line of a key, or of the section when the key is missing.
    fn line(&self, key: &str) -> usize {
        self.unit
            .lines
            .iter()
            .rfind(|line| line.key == key)
            .map_or(self.header, |line| line.number)
    }

    fn problem(&mut self, key: &str, text: impl Into<String>) {
        self.problems.push((self.line(key), text.into()));
    }

    fn known_keys(&mut self) {
        let mut seen = Vec::new();
        for line in self.unit.of(SECTION) {
            if !KEYS.contains(&line.key.as_str()) {
                let text = format!("{}= is unknown; there are {}", line.key, KEYS.join(", "));
                self.problems.push((line.number, text));
            } else if seen.contains(&&line.key) {
                let text = format!("{}= stands here a second time", line.key);
                self.problems.push((line.number, text));
            }
            seen.push(&line.key);
        }
    }

    fn text(&mut self, key: &str) -> String {
        let value = self.unit.value(SECTION, key).unwrap_or_default();
        if value.is_empty() {
            self.problem(key, format!("{key}= is missing"));
        }
        value.into()
    }

    fn optional<T: Copy>(&mut self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let value = self.unit.value(SECTION, key)?;
        let found = choices.iter().find(|(word, _)| *word == value);
        if found.is_none() {
            let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
            self.problem(
                key,
                format!("{key}={value} is none of {}", words.join(", ")),
            );
        }
        found.map(|(_, choice)| *choice)
    }

    fn choice<T: Copy>(&mut self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        if self.unit.value(SECTION, key).is_none() {
            self.problem(key, format!("{key}= is missing"));
            return None;
        }
        self.optional(key, choices)
    }

    fn list<T>(&mut self, key: &str, parse: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        let mut items = Vec::new();
        for word in self.unit.words(SECTION, key) {
            match parse(word) {
                Ok(item) => items.push(item),
                Err(text) => self.problem(key, text),
            }
        }
        items
    }

    fn installed(&mut self, kind: Kind) {
        let wanted = self.unit.words("Install", "WantedBy");
        let right: &[&str] = match kind {
            Kind::Network => &["signalbox-platform.target", "signalbox-network.target"],
            Kind::Feature => &["signalbox-feature.target"],
        };
        if !matches!(wanted.as_slice(), [one] if right.contains(one)) {
            self.problem(
                "WantedBy",
                format!("a {kind} service is WantedBy={}", right.join(" or ")),
            );
        }
    }
}
