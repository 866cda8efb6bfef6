//! Where everything of a cluster of VMs is on its host.
//!
//! The run directory holds what lives as long as the cluster (sockets, pidfiles, settings handed
//! into VMs) and the logs; the state directory holds what outlives it: keys and the controller's
//! disk. [`Layout::transient`] is what a stop removes.

use std::path::{Path, PathBuf};

/// The controller's port for workers, inside its VM.
pub(super) const WORKER_PORT: u32 = 5000;

/// The controller's port for clients, inside its VM.
pub(super) const CLIENT_PORT: u32 = 5001;

/// What tells hashctl where the controller is.
pub(super) const ENDPOINT_FILE: &str = "client.endpoint";

/// What tells hashctl which directories are datasets.
pub(super) const DATASETS_DIR: &str = "datasets";

const STATE_DIR: &str = "state";

/// The directories of one cluster.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    run: PathBuf,
    state: PathBuf,
}

impl Layout {
    /// State is kept in the run directory unless it has a place of its own.
    pub(super) fn new(run: &Path, state: Option<&Path>) -> Self {
        let state = state.map_or_else(|| run.join(STATE_DIR), Path::to_owned);
        Self { run: run.to_owned(), state }
    }

    pub(super) fn run(&self) -> &Path {
        &self.run
    }

    pub(super) fn state(&self) -> &Path {
        &self.state
    }

    /// A file of one VM: a socket or a pidfile.
    pub(super) fn of_vm(&self, name: &str, what: &str) -> PathBuf {
        self.run.join(format!("{name}.{what}"))
    }

    /// What the VM `name` is told at its boot, one file a key.
    pub(super) fn settings(&self, name: &str) -> PathBuf {
        self.run.join("settings").join(name)
    }

    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.run.join("log").join(format!("{name}.log"))
    }

    pub(super) fn console(&self, name: &str) -> PathBuf {
        self.run.join("log").join(format!("{name}.console.log"))
    }

    pub(super) fn control_socket(&self) -> PathBuf {
        self.run.join("control.sock")
    }

    pub(super) fn endpoint_file(&self) -> PathBuf {
        self.run.join(ENDPOINT_FILE)
    }

    pub(super) fn token_file(&self) -> PathBuf {
        self.run.join("client.token")
    }

    pub(super) fn ssh_config(&self) -> PathBuf {
        self.run.join("ssh_config")
    }

    pub(super) fn datasets(&self) -> PathBuf {
        self.run.join(DATASETS_DIR)
    }

    /// An image of dataset number `index`.
    pub(super) fn snapshot(&self, index: usize) -> PathBuf {
        self.run.join("images").join(format!("dataset{index}.erofs"))
    }

    /// The copy of a VM image that running VMs boot from.
    pub(super) fn image(&self, digest: &str) -> PathBuf {
        self.run.join("images").join(digest.replace(':', "-"))
    }

    pub(super) fn ssh_key(&self) -> PathBuf {
        self.state.join("ssh").join("id_ed25519")
    }

    pub(super) fn known_hosts(&self) -> PathBuf {
        self.state.join("ssh").join("known_hosts")
    }

    pub(super) fn host_key(&self, name: &str) -> PathBuf {
        self.state.join("ssh").join(format!("{name}.host_key"))
    }

    pub(super) fn state_disk(&self, name: &str) -> PathBuf {
        self.state.join(format!("{name}.ext4"))
    }

    /// What is to be gone after a stop, besides the files of [`Self::of_vm`].
    pub(super) fn transient(&self) -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> =
            ["settings", "images", DATASETS_DIR].map(|name| self.run.join(name)).into();
        paths.extend([
            self.endpoint_file(),
            self.token_file(),
            self.ssh_config(),
            self.control_socket(),
        ]);
        paths
    }
}
