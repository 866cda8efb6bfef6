//! Where everything of a cluster of VMs is on its host.
//!
//! The run directory holds what lives as long as the cluster (sockets, pidfiles, settings handed
//! into VMs) and the logs; the state directory holds what outlives it, keys and the controller's
//! disk, and what is large. [`Layout::left`] is what a stop removes.

use ipc_proto::endpoint::{CLIENT_ENDPOINT_FILE, CLIENT_TOKEN_FILE};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The controller's port for workers, inside its VM.
pub(super) const WORKER_PORT: u32 = 5000;

/// The controller's port for clients, inside its VM.
pub(super) const CLIENT_PORT: u32 = 5001;

/// Directory that tells hashctl which directories are datasets.
pub(super) const DATASETS_DIR: &str = "datasets";

/// File in it that names those that are live, one per line.
pub(super) const LIVE_DATASETS_FILE: &str = ".live";

/// Where the supervisor takes commands.
pub(crate) const CONTROL_SOCKET: &str = "control.sock";

/// Lines `NAME TOKEN`, one per worker.
pub(super) const WORKER_TOKENS_FILE: &str = "worker.tokens";

/// Names of datasets, one per line.
pub(super) const DATASET_NAMES_FILE: &str = "dataset.names";

/// Options that count, as one line: those of the start, and of later commands.
pub(crate) const OPTIONS_FILE: &str = "cluster.options";

/// Configuration of ssh(1) for a person, and the keys that it expects.
pub(crate) const SSH_CONFIG: &str = "ssh_config";
pub(super) const KNOWN_HOSTS: &str = "known_hosts";

const SETTINGS_DIR: &str = "settings";

const STATE_DIR: &str = "state";

/// Images in the state directory, and a link to them for those who know the run directory only.
/// Nobody else has such a directory among their own files.
pub(super) const IMAGES_DIR: &str = "hashcluster-images";

/// Everything in the run directory that lives as long as the cluster, except files of one VM.
const FILES: [&str; 11] = [
    SETTINGS_DIR,
    DATASETS_DIR,
    IMAGES_DIR,
    CLIENT_ENDPOINT_FILE,
    CLIENT_TOKEN_FILE,
    WORKER_TOKENS_FILE,
    DATASET_NAMES_FILE,
    OPTIONS_FILE,
    SSH_CONFIG,
    KNOWN_HOSTS,
    CONTROL_SOCKET,
];

/// Ends of the names of files of one VM; a number may follow `.ds`.
const VM_SUFFIXES: [&str; 6] = [".vhost", ".vsock", ".vsock_5000", ".qmp", ".ds", ".http"];

/// The end of the name of a socket that serves a member's pages over HTTP.
pub(crate) const HTTP_SOCKET: &str = "http";

/// The directories of one cluster.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    run: PathBuf,
    state: PathBuf,
}

impl Layout {
    /// State is kept in the run directory unless it has a place of its own.
    pub(crate) fn new(run: &Path, state: Option<&Path>) -> Self {
        let state = state.map_or_else(|| run.join(STATE_DIR), Path::to_owned);
        Self { run: run.to_owned(), state }
    }

    pub(crate) fn run(&self) -> &Path {
        &self.run
    }

    pub(crate) fn state(&self) -> &Path {
        &self.state
    }

    /// One of the files and directories named above, in the run directory.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.run.join(name)
    }

    /// A file of one VM: a socket or a pidfile.
    pub(crate) fn of_vm(&self, name: &str, what: &str) -> PathBuf {
        self.run.join(format!("{name}.{what}"))
    }

    /// Settings that the VM `name` reads at its boot, one file per key.
    pub(super) fn settings(&self, name: &str) -> PathBuf {
        self.run.join(SETTINGS_DIR).join(name)
    }

    /// The directory of all logs.
    pub(crate) fn logs(&self) -> PathBuf {
        self.run.join("log")
    }

    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.logs().join(format!("{name}.log"))
    }

    /// The log of a guest's console, with the time of each line.
    pub(crate) fn console(&self, name: &str) -> PathBuf {
        self.run.join("log").join(format!("{name}.console.log"))
    }

    /// The console itself, which QEMU writes and the supervisor copies into that log.
    pub(crate) fn console_raw(&self, name: &str) -> PathBuf {
        self.run.join("log").join(format!("{name}.console"))
    }

    /// The log that a guest's syslogd writes, of all its lives.
    pub(crate) fn syslog(&self, name: &str) -> PathBuf {
        self.run.join("log").join(format!("{name}.syslog.log"))
    }

    /// Where images are: on a disk, as run directories are often in memory.
    pub(super) fn images(&self) -> PathBuf {
        self.state.join(IMAGES_DIR)
    }

    /// The image of the snapshot with this number.
    pub(super) fn snapshot(&self, number: usize) -> PathBuf {
        self.images().join(format!("dataset{number}.erofs"))
    }

    /// The copy of a VM image that running VMs boot from.
    pub(crate) fn image(&self, digest: &str) -> PathBuf {
        self.images().join(digest.replace(':', "-"))
    }

    /// Held by the cluster whose state this is.
    pub(crate) fn state_lock(&self) -> PathBuf {
        self.state.join("state.lock")
    }

    /// Where a controller that is a process of this host keeps its durable jobs.
    pub(crate) fn journal(&self) -> PathBuf {
        self.state.join("journal")
    }

    pub(crate) fn ssh_key(&self) -> PathBuf {
        self.state.join("ssh").join("id_ed25519")
    }

    pub(crate) fn host_key(&self, name: &str) -> PathBuf {
        self.state.join("ssh").join(format!("{name}.host_key"))
    }

    pub(crate) fn state_disk(&self, name: &str) -> PathBuf {
        self.state.join(format!("{name}.ext4"))
    }

    /// The lock of the state to which images at `path` belong.
    pub(super) fn lock_of_images(path: &Path) -> Option<PathBuf> {
        let is_ours = path.file_name().is_some_and(|name| name == IMAGES_DIR);
        is_ours.then(|| Self::new(path, path.parent()).state_lock())
    }

    /// Everything in the runtime directory that has to be gone after a stop, whichever VMs
    /// there were.
    pub(crate) fn left(&self) -> io::Result<Vec<PathBuf>> {
        let mut left: Vec<PathBuf> = FILES.map(|name| self.run.join(name)).into();
        for entry in fs::read_dir(&self.run)? {
            let path = entry?.path();
            if path.file_name().and_then(|name| name.to_str()).is_some_and(is_of_vm) {
                left.push(path);
            }
        }
        left.retain(|path| fs::symlink_metadata(path).is_ok());
        Ok(left)
    }
}

/// True if a file of the runtime directory belongs to a VM, by its name.
fn is_of_vm(name: &str) -> bool {
    let name = name.strip_suffix(".pid").filter(|name| *name != "supervisor").map_or(name, |vm| {
        // QEMU's is NAME.pid, a file server's NAME.dsN.pid.
        if vm.contains('.') { vm } else { "x.vhost" }
    });
    let name = name.trim_end_matches(|c: char| c.is_ascii_digit() && name.contains(".ds"));
    VM_SUFFIXES.iter().any(|suffix| name.len() > suffix.len() && name.ends_with(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_vms_are_known_by_their_names() {
        for (name, want) in [
            ("worker1.vhost", true),
            ("worker1.vsock", true),
            ("worker1.vsock_5000", true),
            ("controller.qmp", true),
            ("worker1.pid", true),
            ("worker1.ds0", true),
            ("worker1.ds15", true),
            ("worker1.ds0.pid", true),
            ("supervisor.pid", false),
            ("lock", false),
            ("log", false),
            ("state", false),
            ("client.sock", false),
            (".vsock", false),
        ] {
            assert_eq!(is_of_vm(name), want, "{name}");
        }
    }
}
