//! The whole catalogue, read from a folder of units.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use crate::{Service, Unit};

/// Something wrong in a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The unit file.
    pub file: PathBuf,
    /// Line number, from 1; 0 for the file as a whole.
    pub line: usize,
    /// What is wrong and what is allowed.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file.display(), self.line, self.text)
    }
}

/// Everything that is wrong, each with its file and line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the units are not a valid catalogue:")?;
        for problem in &self.0 {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
    }
}

/// The services of the appliance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalogue {
    services: BTreeMap<String, Service>,
    /// Ids in start order.
    order: Vec<String>,
}

impl Catalogue {
    /// Reads every `.service` file of a folder that has a section
    /// `[X-Signalbox]`; other units are passed over.
    pub fn read(folder: &Path) -> Result<Self, Problems> {
        let mut problems = Vec::new();
        let mut found = BTreeMap::new();
        for path in unit_files(folder)? {
            let id = path
                .file_stem()
                .map(|stem| stem.to_string_lossy().into_owned())
                .unwrap_or_default();
            let text = match std::fs::read_to_string(&path) {
                Ok(text) => text,
                // A unit masked by a link to nowhere is somebody else's.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => {
                    problems.push(problem(&path, 0, format!("cannot be read: {error}")));
                    continue;
                }
            };
            if !text.contains("[X-Signalbox]") {
                continue;
            }
            match Unit::parse(&text) {
                Ok(unit) => {
                    found.insert(id, (path, unit));
                }
                Err((line, text)) => problems.push(problem(&path, line, text)),
            }
        }
        let catalogue = Self::build(&found, &mut problems);
        if problems.is_empty() {
            Ok(catalogue)
        } else {
            Err(Problems(problems))
        }
    }

    fn build(found: &BTreeMap<String, (PathBuf, Unit)>, problems: &mut Vec<Problem>) -> Self {
        let mut services = BTreeMap::new();
        for (id, (path, unit)) in found {
            match Service::read(id, unit) {
                Ok(Some(service)) => {
                    services.insert(id.clone(), service);
                }
                Ok(None) => {}
                Err(list) => {
                    problems.extend(
                        list.into_iter()
                            .map(|(line, text)| problem(path, line, text)),
                    );
                }
            }
        }
        let mut names: BTreeMap<String, &str> = BTreeMap::new();
        for (id, service) in &services {
            let (path, unit) = &found[id];
            let line = |key: &str| {
                unit.of("X-Signalbox")
                    .find(|line| line.key == key)
                    .map_or(0, |line| line.number)
            };
            for (key, name) in [("Name", &service.name), ("Compat", &service.compat)] {
                if let Some(other) = names.insert(name.to_lowercase(), id)
                    && other != id
                {
                    let text = format!("{key}={name} is also a name of {other}");
                    problems.push(problem(path, line(key), text));
                }
            }
            for need in &service.activation_needs {
                if !found.contains_key(need) {
                    let text = format!("ActivationNeeds= names {need}, which is no service");
                    problems.push(problem(path, line("ActivationNeeds"), text));
                }
            }
        }
        let order = start_order(found, problems);
        let order = order.into_iter().filter(|id| services.contains_key(id));
        Self {
            order: order.collect(),
            services,
        }
    }

    /// The services by id.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.values()
    }

    /// The services in the order in which they start. Stop is the reverse.
    pub fn in_start_order(&self) -> impl Iterator<Item = &Service> {
        self.order.iter().filter_map(|id| self.services.get(id))
    }

    /// The service of an id.
    pub fn get(&self, id: &str) -> Option<&Service> {
        self.services.get(id)
    }

    /// The service of an id, a compat name or a plain name, in any case.
    pub fn find(&self, name: &str) -> Option<&Service> {
        let name = name.trim();
        self.services.get(name).or_else(|| {
            self.services.values().find(|service| {
                service.compat.eq_ignore_ascii_case(name)
                    || service.name.eq_ignore_ascii_case(name)
                    || service.id.eq_ignore_ascii_case(name)
            })
        })
    }

    /// A catalogue of given services, for tests of its users. Start order is
    /// the order given.
    pub fn of(services: impl IntoIterator<Item = Service>) -> Self {
        let mut catalogue = Self::default();
        for service in services {
            catalogue.order.push(service.id.clone());
            catalogue.services.insert(service.id.clone(), service);
        }
        catalogue
    }
}

fn problem(file: &Path, line: usize, text: String) -> Problem {
    Problem {
        file: file.into(),
        line,
        text,
    }
}

fn unit_files(folder: &Path) -> Result<Vec<PathBuf>, Problems> {
    let fail = |error: std::io::Error| {
        Problems(vec![problem(folder, 0, format!("cannot be read: {error}"))])
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "service")
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Orders the services by `After=`; services that are free of each other
/// stand in order of their ids.
fn start_order(
    found: &BTreeMap<String, (PathBuf, Unit)>,
    problems: &mut Vec<Problem>,
) -> Vec<String> {
    let mut waits: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (id, (_, unit)) in found {
        let after = unit.words("Unit", "After").into_iter();
        let after = after.filter_map(|name| name.strip_suffix(".service"));
        let after = after.filter(|name| found.contains_key(*name));
        waits.insert(id, after.collect());
    }
    let mut order: Vec<String> = Vec::new();
    while !waits.is_empty() {
        let ready: Vec<&str> = waits
            .iter()
            .filter(|(_, after)| after.is_empty())
            .map(|(id, _)| *id)
            .collect();
        if ready.is_empty() {
            let circle: Vec<&str> = waits.keys().copied().collect();
            let (path, _) = &found[circle[0]];
            let text = format!("After= goes in a circle among {}", circle.join(", "));
            problems.push(problem(path, 0, text));
            break;
        }
        for id in ready {
            waits.remove(id);
            for after in waits.values_mut() {
                after.remove(id);
            }
            order.push(id.into());
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: &str = "[Install]\nWantedBy=signalbox-network.target\n[X-Signalbox]\nName=N\n\
                         Compat=Cisco N\nKind=network\nGroup=G\nRoles=imp all/pub\nApplies=hot\n";

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    fn problems(files: &[(&str, &str)]) -> Vec<String> {
        let folder = folder(files);
        let problems = Catalogue::read(folder.path()).unwrap_err();
        let text = |problem: Problem| {
            format!(
                "{}:{}: {}",
                problem.file.file_name().unwrap().to_string_lossy(),
                problem.line,
                problem.text
            )
        };
        problems.0.into_iter().map(text).collect()
    }

    #[test]
    fn units_without_an_entry_are_passed_over_and_names_found_in_any_case() {
        let unit = format!("[Unit]\nDescription=D\n{ENTRY}");
        let folder = folder(&[("n.service", &unit), ("cron.service", "[Unit]\nX=y\n")]);
        let catalogue = Catalogue::read(folder.path()).unwrap();
        assert_eq!(catalogue.services().count(), 1);
        let service = catalogue.find("cisco n").unwrap();
        assert_eq!((service.id.as_str(), service.kind), ("n", Kind::Network));
        assert!(service.fits("imp", false) && service.fits("cuc", true));
        assert!(!service.fits("cuc", false));
        assert_eq!(catalogue.find("Cisco M"), None);
    }

    use crate::Kind;

    #[test]
    fn every_problem_is_named_with_file_and_line() {
        let found = problems(&[(
            "a.service",
            "[Unit]\nDescription=D\n[Install]\nWantedBy=multi-user.target\n[X-Signalbox]\n\
             Name=A\nKind=feature\nGroup=G\nRoles=xyz\nColour=red\nPorts=5222\n\
             ActivationNeeds=b\nApplies=cold\n",
        )]);
        let text = found.join("\n");
        for part in [
            "a.service:10: Colour= is unknown",
            "a.service:13: Applies=cold is none of hot, restart",
            "a.service:5: Compat= is missing",
            "a.service:9: role \"xyz\" is unknown",
            "a.service:11: port \"5222\" is not of the form",
            "a.service:5: Nodes= is missing",
            "a.service:4: a feature service is WantedBy=signalbox-feature.target",
        ] {
            assert!(text.contains(part), "{part} is not in:\n{text}");
        }
    }

    #[test]
    fn names_are_unique_needs_exist_and_order_has_no_circle() {
        let one = format!("[Unit]\nDescription=D\nAfter=b.service\n{ENTRY}");
        let two = one
            .replace("After=b", "After=a")
            .replace("Name=N", "Name=M");
        let text = problems(&[("a.service", &one), ("b.service", &two)]).join("\n");
        assert!(
            text.contains("b.service:8: Compat=Cisco N is also a name of a"),
            "{text}"
        );
        assert!(
            text.contains("After= goes in a circle among a, b"),
            "{text}"
        );
        let lonely = one
            .replace("network", "feature")
            .replace("Applies=hot", "Applies=hot\nNodes=all\nActivationNeeds=z");
        let text = problems(&[("a.service", &lonely)]).join("\n");
        assert!(
            text.contains("a.service:14: ActivationNeeds= names z"),
            "{text}"
        );
    }

    #[test]
    fn start_order_follows_after() {
        let unit = |name: &str, after: &str| {
            format!("[Unit]\nDescription=D\nAfter={after}\n{ENTRY}")
                .replace("=N\n", &format!("={name}\n"))
                .replace("Cisco N", &format!("Cisco {name}"))
        };
        let folder = folder(&[
            ("a.service", &unit("A", "c.service network.target")),
            ("b.service", &unit("B", "a.service")),
            ("c.service", &unit("C", "")),
        ]);
        let catalogue = Catalogue::read(folder.path()).unwrap();
        let order: Vec<_> = catalogue.in_start_order().map(|s| s.id.as_str()).collect();
        assert_eq!(order, ["c", "a", "b"]);
    }
}
