//! The cluster of a run directory, by the command line of its supervisor.

use crate::args::{
    AccelChoice, Args, DeploymentOptions, LocalCommand, LocalOptions, Mode, StartOptions, VmOptions,
};
use crate::vm::{OPTIONS_FILE, SSH_CONFIG};
use crate::{pidfile, quote, run_dir};
use clap::Parser;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// A cluster that runs, starts or stops.
#[derive(Debug)]
pub(super) struct StartedCluster {
    pub(super) pid: u32,
    /// Files of its VMs, if it has any and its command line can be read.
    pub(super) deployment: Option<DeploymentOptions>,
    pub(super) is_local: bool,
    /// Its state directory, if that is not in the run directory.
    pub(super) state: Option<PathBuf>,
    /// Options of its start, for a shell.
    pub(super) words: Vec<String>,
}

impl StartedCluster {
    /// The cluster in `run_dir`, if its supervisor runs.
    pub(super) fn find(run_dir: &Path) -> Option<Self> {
        let pid = pidfile::find(&run_dir::pidfile_of(run_dir)).ok().flatten()?.pid;
        let process = PathBuf::from(format!("/proc/{pid}"));
        let line = fs::read(process.join("cmdline")).unwrap_or_default();
        let words = line.split_inclusive(|&byte| byte == 0);
        let words = words.map(|word| OsStr::from_bytes(word.strip_suffix(b"\0").unwrap_or(word)));
        let dir = fs::read_link(process.join("cwd")).unwrap_or_default();
        let state = state_of(run_dir);
        let started = Self { pid, deployment: None, is_local: false, state, words: Vec::new() };
        // Later commands may have changed what it was started with.
        let counting = fs::read_to_string(run_dir.join(OPTIONS_FILE)).ok();
        if let Some(options) = counting.as_deref().and_then(LocalOptions::from_file) {
            return Some(started.of_processes(&options.start, &dir));
        }
        if let Some(Ok(options)) = counting.as_deref().map(VmOptions::from_line) {
            return Some(started.of_vms(&options, &dir));
        }
        Some(match Args::try_parse_from(words).map(|args| args.mode) {
            Ok(Mode::Up { options, .. } | Mode::Run { options, .. }) => {
                started.of_vms(&options, &dir)
            }
            Ok(Mode::Local { command: LocalCommand::Up { options } }) => {
                started.of_processes(&options.start, &dir)
            }
            Ok(Mode::Local { command: LocalCommand::Run { options, .. } }) => {
                started.of_processes(&options, &dir)
            }
            // Of another version; a cluster of processes has its socket on this host.
            _ => Self { is_local: run_dir.join("client.sock").exists(), ..started },
        })
    }

    fn of_vms(mut self, options: &VmOptions, dir: &Path) -> Self {
        let DeploymentOptions { config, datasets, snapshot, .. } = &options.deployment;
        let absolute = |path: &PathBuf| dir.join(path);
        let dataset = |word: &OsString| absolute_dataset(word, dir);
        let deployment = DeploymentOptions {
            ports: Some(dir.join(options.deployment.ports())),
            config: config.as_ref().map(absolute),
            datasets: datasets.iter().map(dataset).collect(),
            snapshot: *snapshot,
            ..DeploymentOptions::default()
        };
        self.option("--ports", deployment.ports().as_os_str());
        if let Some(config) = &deployment.config {
            self.option("--config", config.as_os_str());
        }
        for dataset in &deployment.datasets {
            self.option("--dataset", dataset);
        }
        if *snapshot {
            self.words.push("--snapshot".to_owned());
        }
        if let Some(state) = &options.state {
            self.option("--state-dir", absolute(state).as_os_str());
        }
        match options.accel {
            None | Some(AccelChoice::Auto) => {}
            Some(AccelChoice::Kvm) => self.option("--accel", "kvm".as_ref()),
            Some(AccelChoice::Tcg) => self.option("--accel", "tcg".as_ref()),
        }
        if let Some(image) = options.image() {
            self.option("--image", dir.join(image).as_os_str());
        }
        self.deployment = Some(deployment);
        self
    }

    fn of_processes(mut self, options: &StartOptions, dir: &Path) -> Self {
        if let Some(config) = &options.config {
            self.option("--config", dir.join(config).as_os_str());
        }
        self.words.push("--local".to_owned());
        self.words.extend(options.workers.map(|workers| workers.to_string()));
        self.is_local = true;
        self
    }

    fn option(&mut self, option: &str, value: &OsStr) {
        self.words.extend([option.to_owned(), quote::shell(value)]);
    }
}

/// The directory of the keys that the cluster's VMs let in.
fn state_of(run_dir: &Path) -> Option<PathBuf> {
    let text = fs::read_to_string(run_dir.join(SSH_CONFIG)).ok()?;
    let key = text.lines().find_map(|line| line.trim().strip_prefix("IdentityFile "))?;
    let key = key.trim_matches('"').replace("%%", "%");
    Some(Path::new(&key).parent()?.parent()?.to_owned())
}

/// `NAME=DIR` with an absolute directory.
fn absolute_dataset(word: &OsStr, dir: &Path) -> OsString {
    let bytes = word.as_bytes();
    let Some(at) = bytes.iter().position(|&byte| byte == b'=') else { return word.to_owned() };
    let path = dir.join(OsStr::from_bytes(&bytes[at + 1..]));
    OsString::from_vec([&bytes[..=at], path.as_os_str().as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_found_again_from_another_directory() {
        let words = ["x", "up", "--image", "/i", "--ports=p", "--dataset=d=data", "--snapshot"];
        let Mode::Up { options, .. } = Args::try_parse_from(words).unwrap().mode else {
            panic!("not up")
        };
        let state = None;
        let started =
            StartedCluster { pid: 1, deployment: None, is_local: false, state, words: Vec::new() };
        let started = started.of_vms(&options, Path::new("/a b"));
        let want = "--ports '/a b/p' --dataset 'd=/a b/data' --snapshot --image /i";
        assert_eq!(started.words.join(" "), want);
        assert!(Args::try_parse_from(["x", "up", "--dataset", "x=/y", "--image", "i"]).is_ok());
    }
}
