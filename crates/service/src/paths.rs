//! Where things are on a node. Tests move the three roots by environment.

use std::path::{Path, PathBuf};

/// The folders of a node, each overridable by an environment variable so that
/// a test can run any service inside a temporary folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    run: PathBuf,
    state: PathBuf,
    etc: PathBuf,
}

impl Paths {
    /// Reads `SIGNALBOX_RUN`, `SIGNALBOX_STATE` and `SIGNALBOX_ETC`, with the
    /// appliance's own folders as defaults.
    pub fn from_environment() -> Self {
        let get = |name: &str, default: &str| {
            std::env::var_os(name).map_or_else(|| PathBuf::from(default), PathBuf::from)
        };
        Self {
            run: get("SIGNALBOX_RUN", "/run/signalbox"),
            state: get("SIGNALBOX_STATE", "/var/lib/signalbox"),
            etc: get("SIGNALBOX_ETC", "/etc/signalbox"),
        }
    }

    /// All three roots below one folder: `run`, `state` and `etc`.
    pub fn below(root: &Path) -> Self {
        Self {
            run: root.join("run"),
            state: root.join("state"),
            etc: root.join("etc"),
        }
    }

    /// Runtime folder of a service, where its sockets are.
    pub fn runtime(&self, id: &str) -> PathBuf {
        self.run.join(id)
    }

    /// State folder of a service, kept over restarts.
    pub fn state(&self, id: &str) -> PathBuf {
        self.state.join(id)
    }

    /// The configuration folder.
    pub fn etc(&self) -> &Path {
        &self.etc
    }

    /// `node.toml`, written at set-up; the node is set up when it exists.
    pub fn node_file(&self) -> PathBuf {
        self.etc.join("node.toml")
    }

    /// The control socket of a service (see [`crate::introspect`]).
    pub fn control_socket(&self, id: &str) -> PathBuf {
        self.runtime(id).join("control.sock")
    }

    /// A socket that only its callers may open: it takes its group from the
    /// folder that it has for itself (`tmpfiles.d/signalbox.conf`).
    fn socket(&self, folder: impl AsRef<Path>) -> PathBuf {
        self.run.join("sockets").join(folder).join("socket")
    }

    /// The database's socket for one kind of callers (`database::Access`).
    pub fn database_socket(&self, access: &str) -> PathBuf {
        self.socket(Path::new("database").join(access))
    }

    /// The supervisor's socket.
    pub fn supervisor_socket(&self) -> PathBuf {
        self.socket("supervisor")
    }

    /// The socket of the service that carries out administrators' commands.
    pub fn administration_socket(&self) -> PathBuf {
        self.socket("administration")
    }

    /// The configuration manager's socket.
    pub fn configuration_socket(&self) -> PathBuf {
        self.socket("xmpp-config-manager")
    }

    /// The authentication service's socket.
    pub fn authentication_socket(&self) -> PathBuf {
        self.socket("authentication-service")
    }

    /// The recovery manager's socket.
    pub fn recovery_socket(&self) -> PathBuf {
        self.socket("server-recovery-manager/administration")
    }

    /// The socket on which the recovery manager tells the router whose users the
    /// node serves.
    pub fn homes_socket(&self) -> PathBuf {
        self.socket("server-recovery-manager/homes")
    }

    /// The router's socket for components (crate `xcp`).
    pub fn router_socket(&self) -> PathBuf {
        self.socket("xmpp-router")
    }

    /// The socket of a real-time store, such as `presence-datastore`.
    pub fn datastore_socket(&self, id: &str) -> PathBuf {
        self.socket(id)
    }

    /// Ids of the services that have a control socket now.
    pub fn running(&self) -> std::io::Result<Vec<String>> {
        let mut ids = Vec::new();
        for entry in std::fs::read_dir(&self.run)? {
            let entry = entry?;
            if entry.path().join("control.sock").exists()
                && let Ok(id) = entry.file_name().into_string()
            {
                ids.push(id);
            }
        }
        ids.sort();
        Ok(ids)
    }
}
