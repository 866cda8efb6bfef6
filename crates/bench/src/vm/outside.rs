//! A controller, and a worker if wanted, as processes of this host.

use super::kept::{Kept, Scratch};
use client::{Address, Client};
use ipc_proto::endpoint::{Endpoint, WORKER_SOCKET};
use std::fs::File;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::time::Duration;
use test_kit::bin;

/// The longest that a worker may take to be ready.
const READY_TIMEOUT: Duration = Duration::from_secs(20);

/// Way to run a program outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Runner {
    /// The processor.
    Native,
    /// QEMU's user mode, with the processor model of the VMs.
    Translated,
}

impl Runner {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Translated => "translated",
        }
    }

    fn words(self, program: &str) -> Vec<String> {
        let emulator: &[&str] = match self {
            Self::Native => &[],
            Self::Translated => &["qemu-x86_64", "-cpu", "max"],
        };
        let program = bin(program).to_str().expect("a path that is text").to_owned();
        emulator.iter().map(|&word| word.to_owned()).chain([program]).collect()
    }
}

#[derive(Debug)]
pub(super) struct Outside<'a> {
    dir: PathBuf,
    _worker: Option<Kept>,
    _controller: Kept,
    _scratch: PhantomData<&'a Scratch>,
}

impl<'a> Outside<'a> {
    /// Starts a controller and no worker.
    pub(super) fn controller(scratch: &'a Scratch, name: &str, runner: Runner) -> Self {
        let dir = scratch.dir(name);
        let mut words = runner.words("hashcluster-controller");
        words.extend(["--ready-fd", "1", "--runtime-dir"].map(str::to_owned));
        words.push(text(&dir));
        let controller = Kept::ready(Kept::tied(&words).stderr(log(&dir, "controller")));
        let controller = controller.unwrap_or_else(|| panic!("no controller:\n{}", logs(&dir)));
        Self { dir, _worker: None, _controller: controller, _scratch: PhantomData }
    }

    /// Starts a controller, and a worker of one thread that `runner` runs, and waits for it.
    pub(super) fn with_worker(scratch: &'a Scratch, name: &str, runner: Runner) -> Self {
        let outside = Self::controller(scratch, name, Runner::Native);
        let mut words = runner.words("hashcluster-worker");
        words.extend(["--threads", "1", "--name", "worker1", "--runtime-dir"].map(str::to_owned));
        words.push(text(&outside.dir));
        let worker = Kept::start(Kept::tied(&words).stderr(log(&outside.dir, "worker")));
        let mut client = Client::connect(&outside.clients()).expect("the controller lives");
        let ready = client.wait_ready(1, READY_TIMEOUT).expect("the controller lives");
        assert!(ready.enough, "no worker: {ready:?}\n{}", logs(&outside.dir));
        Self { _worker: Some(worker), ..outside }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn worker_endpoint(&self) -> Endpoint {
        Endpoint::Unix(self.dir.join(WORKER_SOCKET))
    }

    pub(super) fn clients(&self) -> Address {
        Address::in_dir(&self.dir).expect("a short path")
    }
}

fn log(dir: &Path, name: &str) -> File {
    File::create(dir.join(format!("{name}.log"))).expect("room for a file")
}

fn logs(dir: &Path) -> String {
    let read = |name| std::fs::read_to_string(dir.join(format!("{name}.log"))).unwrap_or_default();
    ["controller", "worker"].map(read).concat()
}

fn text(path: &Path) -> String {
    path.to_str().expect("a temporary path is text").to_owned()
}
