//! The sandbox of the controller: all that it keeps once it listens.

use super::Settings;
use super::log::{Event, LOG};
use ipc_proto::endpoint::Endpoint;
use ipc_proto::message::SandboxLayers;
use nix::fcntl::{OFlag, open};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::Mode;
use sandbox::{
    AllowedCall, Call, CapabilitySet, Enforcement, EnterError, Files, Layer, Profile, ThreadRole,
    allowed_calls,
};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use telemetry::http::HttpAddress;

/// A thread's task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It runs the event loop, and ends the process.
    EventLoop,
    /// It writes the log.
    Log,
    /// It writes to the journal, or reads from it.
    Journal,
    /// It closes descriptors, and starts another one if that can take long.
    Closer,
}

impl ThreadRole for Role {
    fn starts_threads(self) -> bool {
        self == Self::Closer
    }
}

/// Only older architectures have the older calls.
#[cfg(not(target_arch = "x86_64"))]
use libc::{SYS_epoll_pwait as SYS_epoll_wait, SYS_unlinkat as SYS_unlink};
#[cfg(target_arch = "x86_64")]
use libc::{SYS_epoll_wait, SYS_unlink};

/// System calls of a controller that serves, besides those of its runtime.
const OWN: &[AllowedCall<Role>] = allowed_calls! {
    [Role::EventLoop] epoll_wait SYS_epoll_wait, [], "waiting for peers";
    [Role::EventLoop] epoll_pwait libc::SYS_epoll_pwait, [], "the same, with musl";
    [Role::EventLoop] epoll_ctl libc::SYS_epoll_ctl, [], "peers that come and go";
    [Role::EventLoop] accept4 libc::SYS_accept4, [], "peers";
    [Role::EventLoop] getsockopt libc::SYS_getsockopt, [], "who a peer is";
    [Role::EventLoop] recvmsg libc::SYS_recvmsg, [], "messages, with their files";
    [Role::EventLoop] recvfrom libc::SYS_recvfrom, [], "that a signal arrived";
    [Role::EventLoop] sendto libc::SYS_sendto, [], "that a signal arrived, in its handler";
    [Role::Log] sendto libc::SYS_sendto, [], "lines to a syslog collector";
    [Role::Log] getsockopt libc::SYS_getsockopt, [], "that a collector refuses a line";
    [Role::EventLoop] write libc::SYS_write, [], "waking the event loop, and readiness";
    [Role::EventLoop] shutdown libc::SYS_shutdown, [], "the end of a connection";
    [Role::EventLoop] statx libc::SYS_statx, [], "no directory was passed";
    [Role::EventLoop] fstat libc::SYS_fstat, [], "the same, with musl";
    [Role::EventLoop] pread64 libc::SYS_pread64, [], "files that SIGHUP reads again";
    [Role::Journal] pread64 libc::SYS_pread64, [], "pages of the journal";
    [Role::Journal] pwrite64 libc::SYS_pwrite64, [], "the same";
    [Role::Journal] fdatasync libc::SYS_fdatasync, [], "commits";
    [Role::Journal] ftruncate libc::SYS_ftruncate, [], "a journal that grows or shrinks";
    [Role::Journal] statx libc::SYS_statx, [], "the length of the journal";
    [Role::Journal] fstat libc::SYS_fstat, [], "the same, with musl";
    [Role::Journal] write libc::SYS_write, [], "waking the event loop";
    [Role::EventLoop] getdents64 libc::SYS_getdents64, [], "its open files, which /metrics counts";
    [Role::EventLoop] lseek libc::SYS_lseek, [], "the same, from the start";
    [Role::EventLoop] unlink SYS_unlink, [], "removing its sockets at the end";
    [Role::EventLoop] flock libc::SYS_flock, [], "their locks, at the end";
};

/// All system calls of a controller that serves.
pub fn allowed_calls() -> impl Iterator<Item = &'static AllowedCall<Role>> {
    AllowedCall::RUNTIME.iter().chain(OWN)
}

fn calls(role: Option<Role>) -> Vec<Call> {
    allowed_calls().filter(|row| row.is_for(role)).map(|row| row.call).collect()
}

/// The sandbox that this process is in.
#[derive(Clone, Copy, Debug, Default)]
pub struct ControllerSandbox {
    filters: bool,
    layers: SandboxLayers,
}

impl ControllerSandbox {
    /// Gives up everything but [`allowed_calls()`] and the removal of files beside the sockets in
    /// `settings`. There is a single thread.
    ///
    /// # Errors
    /// [`EnterError`] if the host does not have a layer, and `mode` insists.
    pub fn enter(mode: Enforcement, settings: &Settings) -> Result<Self, EnterError> {
        let sockets = [&settings.client_socket, &settings.worker_socket];
        let paths = sockets.into_iter().filter_map(|endpoint| match endpoint {
            Endpoint::Unix(path) => Some(path),
            Endpoint::Vsock { .. } | Endpoint::VsockUnix { .. } => None,
        });
        let http = settings.http.as_ref().and_then(|address| match address {
            HttpAddress::Unix(path) => Some(path),
            HttpAddress::Tcp(_) => None,
        });
        let directories: Vec<_> = paths.chain(http).filter_map(|path| directory(path)).collect();
        let files = Files::Removed { directories: &directories };
        let (capabilities, calls) = (CapabilitySet::empty(), calls(None));
        // Set by an operator, as `memlock` of cluster.toml.
        let keeps_memlock = true;
        let mut profile = Profile { files, keeps_memlock, capabilities, calls: &calls };
        let report = sandbox::enter(&mut profile, mode)?;
        LOG.log(&Event::Sandbox { layers: &report });
        Ok(Self { filters: report.has(Layer::Seccomp), layers: report.layers() })
    }

    /// The layers that this process has.
    #[must_use]
    pub fn layers(self) -> SandboxLayers {
        self.layers
    }

    /// Leaves to this thread what writing the log needs, for which `dir` becomes its working directory.
    ///
    /// # Errors
    /// As [`Self::narrow`], or `dir` cannot be entered.
    pub fn narrow_log(self, dir: Option<File>) -> io::Result<()> {
        dir.map_or(Ok(()), |dir| sandbox::work_in(&dir))?;
        self.narrow(Role::Log)
    }

    /// Leaves to this thread, and to those that it starts, the calls of one role. Signals go to the event loop: the
    /// others may not wake it, and one that the kernel gave to them would be lost.
    ///
    /// # Errors
    /// The kernel does not take the filter, or the mask.
    pub fn narrow(self, role: Role) -> io::Result<()> {
        if role != Role::EventLoop {
            let signals = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];
            signals.into_iter().collect::<SigSet>().thread_block()?;
        }
        if self.filters {
            sandbox::narrow(&calls(Some(role))).map_err(io::Error::other)?;
        }
        Ok(())
    }
}

/// The directory of a socket. A socket whose directory cannot be opened is not removed at the end, as one
/// that a killed controller leaves.
fn directory(path: &Path) -> Option<OwnedFd> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    open(dir, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).ok()
}
