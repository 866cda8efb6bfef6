//! A controller, and a worker if wanted, as processes of this host.

use super::kept::{Kept, Scratch};
use ipc_proto::endpoint::{CLIENT_SOCKET, Endpoint, WORKER_SOCKET};
use ipc_proto::message::{ClientReply, ClientRequest};
use std::fs::File;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use test_kit::{bin, client};

/// How long a worker may take to be ready, in milliseconds.
const READY_TIMEOUT_MS: u32 = 20_000;

/// What runs a program outside.
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
        let mut asker = client(&outside.dir.join(CLIENT_SOCKET));
        let request = ClientRequest::WaitReady { workers: 1, timeout_ms: READY_TIMEOUT_MS };
        asker.sender.send(&request, &[]).expect("the controller lives");
        let (reply, _) = asker.receiver.receive().expect("the controller lives");
        let is_ready = matches!(reply, ClientReply::Ready { enough: true, .. });
        assert!(is_ready, "no worker: {reply:?}\n{}", logs(&outside.dir));
        Self { _worker: Some(worker), ..outside }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn worker_endpoint(&self) -> Endpoint {
        Endpoint::Unix(self.dir.join(WORKER_SOCKET))
    }

    pub(super) fn client_endpoint(&self) -> Endpoint {
        Endpoint::Unix(self.dir.join(CLIENT_SOCKET))
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
