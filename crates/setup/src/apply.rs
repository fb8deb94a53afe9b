//! Applying the answers: a list of steps, the last of which makes the node
//! one that is set up.
//!
//! A power cut before `node.toml` is there lets set-up run again from the
//! beginning; every step replaces what an earlier run left.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::Context;
use cluster::{JoinError, Secret};
use service::Role;

use crate::answers::Answers;
use crate::system::{Place, System};
use crate::{account, file, issue, network, seed};

/// How often a publisher that cannot be reached is tried again, and the pause
/// before that.
const TRIES: u32 = 20;
const AGAIN: Duration = Duration::from_secs(3);

/// A step, in the words that a person sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Interface, address, name servers.
    Network,
    /// Host name.
    HostName,
    /// Time zone and time servers.
    Time,
    /// Authority and certificates, or those of the cluster that it joins.
    Certificates,
    /// Administrator's account.
    Account,
    /// First rows of the database.
    Database,
    /// Features that start with the node.
    Features,
    /// `node.toml`.
    Commit,
    /// Starting the services.
    Start,
}

impl Step {
    /// Every step, in order.
    pub const ALL: [Self; 9] = [
        Self::Network,
        Self::HostName,
        Self::Time,
        Self::Certificates,
        Self::Account,
        Self::Database,
        Self::Features,
        Self::Commit,
        Self::Start,
    ];

    /// What the step does, in a few words.
    pub fn title(self) -> &'static str {
        match self {
            Self::Network => "Network settings",
            Self::HostName => "Host name",
            Self::Time => "Time zone and time servers",
            Self::Certificates => "Certificates",
            Self::Account => "Administrator account",
            Self::Database => "Database contents",
            Self::Features => "Feature services",
            Self::Commit => "Settings made permanent",
            Self::Start => "Services started",
        }
    }
}

/// Applies answers that [`crate::check`] found nothing wrong with, calling
/// `report` before each step. When it fails, the node is as good as not set
/// up, and set-up can run again.
pub fn apply(
    answers: &Answers,
    place: &Place,
    system: &mut dyn System,
    report: &mut dyn FnMut(Step),
) -> anyhow::Result<()> {
    let mut run = Run {
        answers,
        place,
        system,
        address: None,
        cluster: uuid::Uuid::new_v4().to_string(),
        secret: None,
    };
    for step in Step::ALL {
        report(step);
        run.step(step).context(step.title())?;
    }
    Ok(())
}

struct Run<'a> {
    answers: &'a Answers,
    place: &'a Place,
    system: &'a mut dyn System,
    address: Option<IpAddr>,
    cluster: String,
    /// The secret of the cluster that the node joined.
    secret: Option<Secret>,
}

impl Run<'_> {
    fn step(&mut self, step: Step) -> anyhow::Result<()> {
        match step {
            Step::Network => self.network(),
            Step::HostName => self.host_name(),
            Step::Time => self.time(),
            Step::Certificates => self.certificates(),
            Step::Account => account::create(&self.answers.administrator, self.place, self.system),
            Step::Database => self.database(),
            Step::Features => self.features(),
            Step::Commit => self.commit(),
            Step::Start => self.start(),
        }
    }

    fn write(&self, below: &str, mode: u32, content: &str) -> anyhow::Result<()> {
        file::write(&self.place.path(below), mode, content)
    }

    fn network(&mut self) -> anyhow::Result<()> {
        let network = &self.answers.network;
        self.address = Some(network::apply(network, self.place, self.system)?);
        Ok(())
    }

    fn host_name(&mut self) -> anyhow::Result<()> {
        let name = &self.answers.network.hostname;
        self.write("etc/hostname", 0o644, &format!("{name}\n"))?;
        self.system.set_host_name(name)
    }

    fn time(&mut self) -> anyhow::Result<()> {
        let zone = format!("/usr/share/zoneinfo/{}", self.answers.time_zone);
        file::link(&self.place.path("etc/localtime"), &zone)?;
        let servers = self.answers.ntp.join(" ");
        self.write(
            "etc/systemd/timesyncd.conf.d/20-setup.conf",
            0o644,
            &format!("# Written by signalbox.\n[Time]\nNTP={servers}\n"),
        )?;
        // Does nothing where systemd does not keep the time, as in a container.
        self.system.run(
            "systemctl",
            &["try-restart", "systemd-timesyncd.service"],
            "",
        )?;
        Ok(())
    }

    fn certificates(&mut self) -> anyhow::Result<()> {
        let answers = self.answers;
        if answers.role == Role::Subscriber {
            return self.join();
        }
        let names = issue::names(&answers.network, &answers.domain, self.address()?);
        let now = self.system.now();
        issue::create(
            &answers.domain,
            &answers.certificate,
            &names,
            &self.cluster,
            self.place,
            now,
        )
    }

    /// Joins the cluster: its publisher issues the certificates.
    fn join(&mut self) -> anyhow::Result<()> {
        let answers = self.answers;
        let candidate = answers.candidate(Some(self.address()?));
        let publisher = answers.publisher.as_deref().unwrap_or_default();
        let mut tries = 0;
        let joined = loop {
            let password = &answers.security_password.0;
            match self.system.join(&candidate, publisher, password) {
                // It may be on its way up, like this node.
                Err(JoinError::Unreachable(..)) if tries < TRIES => {
                    tries += 1;
                    self.system.pause(AGAIN);
                }
                joined => break joined?,
            }
        };
        issue::keep(&joined, &answers.certificate, self.place)?;
        self.cluster.clone_from(&joined.cluster);
        self.secret = Some(joined.secret);
        Ok(())
    }

    fn database(&mut self) -> anyhow::Result<()> {
        if self.answers.role == Role::Subscriber {
            // All rows come from the publisher.
            let left = self.place.path("var/lib/signalbox/database/seed.json");
            return Ok(file::remove(&left)?);
        }
        let seed = seed::seed(self.answers, &self.node()?)?;
        let folder = self.place.path("var/lib/signalbox/database");
        file::folder_of(&folder, 0o700)?;
        let path = folder.join("seed.json");
        file::write(&path, 0o600, &serde_json::to_string_pretty(&seed)?)?;
        for path in [&path, &folder] {
            self.system.give(path, "sb-database", "signalbox")?;
        }
        Ok(())
    }

    fn features(&mut self) -> anyhow::Result<()> {
        // The supervisor's folder: a link in it is what "activated" means.
        let folder = self.place.path("etc/signalbox/features");
        if folder.is_dir() {
            for entry in std::fs::read_dir(&folder)? {
                std::fs::remove_file(entry?.path())?;
            }
        }
        for id in &self.answers.features {
            let unit = format!("{id}.service");
            let link = folder.join(&unit);
            file::link(&link, &format!("/usr/lib/systemd/system/{unit}"))?;
        }
        Ok(())
    }

    fn commit(&mut self) -> anyhow::Result<()> {
        let secret = match self.secret.take() {
            Some(secret) => secret,
            None => Secret::derive(&self.answers.security_password.0)?,
        };
        let secret = toml::to_string_pretty(&secret)?;
        self.write("etc/signalbox/cluster-secret.toml", 0o600, &secret)?;
        let node = toml::to_string_pretty(&self.node()?)?;
        // Programs of the system wrote files too; all must be on the disk
        // before the one that says that they are.
        self.system.sync();
        self.write("etc/signalbox/node.toml", 0o644, &node)?;
        forget(self.place)
    }

    fn start(&mut self) -> anyhow::Result<()> {
        self.system.run("systemctl", &["daemon-reload"], "")?;
        let units = ["signalbox.target", "sshd-keygen.service", "ssh.service"];
        let mut words = vec!["start", "--no-block"];
        words.extend(units);
        self.system.run("systemctl", &words, "")?;
        Ok(())
    }

    fn address(&self) -> anyhow::Result<IpAddr> {
        self.address.context("the node has no address yet")
    }

    fn node(&self) -> anyhow::Result<service::Node> {
        Ok(service::Node {
            name: self.answers.network.hostname.clone(),
            domain: self.answers.domain.clone(),
            address: self.address()?.to_string(),
            role: self.answers.role,
            product: self.answers.product.clone(),
            size: self.answers.size.clone(),
            cluster: self.cluster.clone(),
        })
    }
}

/// Removes answers that were applied: they hold passwords.
pub(crate) fn forget(place: &Place) -> anyhow::Result<()> {
    let path = place.answers_file();
    file::remove(&path)
        .and_then(|()| {
            if path.parent().is_some_and(std::path::Path::is_dir) {
                file::sync_folder(&path)
            } else {
                Ok(())
            }
        })
        .with_context(|| format!("cannot remove {}, which holds passwords", path.display()))
}
