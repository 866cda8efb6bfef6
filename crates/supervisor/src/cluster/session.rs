//! A cluster from its start to its end.
//!
//! `up` of VMs starts a supervisor in a session of its own and returns when the cluster is ready; until
//! then the supervisor dies with whoever started it, so that a start that is broken off leaves
//! nothing. `local up` stays in the foreground. `run` is a supervisor for as long as its command.

use super::context::Context;
use super::control::{self, supervisor_of};
use super::description::{Declared, Description};
use super::error::Error;
use super::fleet::{Awaited, Fleet, Limits, OnHangup, Senses};
use super::log::{LOG, LogTarget, MemberEvent};
use super::ps::{ClusterKind, ClusterReport};
use super::ready::await_ready;
use super::watch::Watch;
use super::{pages, show, targets};
use crate::args::{LocalOptions, StartOptions, VmOptions, state_dir};
use crate::deployment::{Dataset, Member, Strategy, Vm};
use crate::local::{self, LocalContext};
use crate::run_dir::{self, RUNTIME_DIR_VARIABLE, RunDir, RunDirError};
use crate::say::{indented, say};
use crate::supervise::{
    Caught, Console, Event, Manager, Program, Signals, Supervisor, become_daemon, sys,
};
use crate::vm::{self, CONTROL_SOCKET, Guest, HTTP_SOCKET, Layout, Plan, Sight};
use crate::{exit, linger, quote};
use ipc_proto::endpoint::CLIENT_SOCKET;
use nix::sys::signal::Signal;
use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};
use std::time::{Duration, Instant};
use telemetry::SyslogTarget;
use telemetry::http::HttpAddress;

/// Time that COMMAND has after a signal that asks it to end, other than SIGINT, which it may
/// take as it likes.
const COMMAND_STOP_LIMIT: Duration = Duration::from_secs(10);

/// Time limit for a guest to power off.
const POWER_OFF_LIMIT: Duration = Duration::from_secs(15);

/// Starts a cluster of VMs, says where it is, and leaves it running.
pub(crate) fn up(
    options: &VmOptions,
    foreground: bool,
    ready_fd: Option<u32>,
) -> Result<ExitCode, Error> {
    if let Some(ready_fd) = ready_fd {
        return supervise(options, ready_fd);
    }
    let run_path = vm::run_path(options);
    if let Some(pid) = supervisor_of(&run_path) {
        send_changes(options, &run_path)?;
        return match options.dry_run {
            true => Ok(ExitCode::SUCCESS),
            false => already_runs(&run_path, pid),
        };
    }
    if options.dry_run {
        return vm::dry_run(options, &run_path, options.state_dir().as_deref(), &[]);
    }
    // What is wrong with the command line is said before anything else happens.
    vm::load(options)?.datasets.iter().filter_map(Dataset::fault).for_each(say);
    warn_root();
    // One in the foreground ends with its terminal, or is started by a manager.
    if !foreground && let Some(warning) = linger::warning(&run_path) {
        say(warning);
    }
    let signals = Signals::block().map_err(Error::step("block signals"))?;
    if foreground {
        let run_dir = claim_for_up(&run_path)?;
        let kind =
            Kind::Vms { options, state: options.state_dir(), paths: Vec::new(), stays: true };
        return hold(kind, run_dir, signals, |session| {
            say(format_args!("ready in {}", run_path.display()));
            session.stay()
        });
    }
    let mut supervisor = Supervisor::new(signals);
    let program = Program {
        name: "supervisor".to_owned(),
        path: env::current_exe().map_err(Error::step("find this program"))?,
        args: env::args_os().skip(1).collect(),
        env: Vec::new(),
        console: Console::Foreground,
        announces_ready: true,
    };
    let id = supervisor.start(program).map_err(Error::step("start a supervisor"))?;
    loop {
        match supervisor.next(None, None).map_err(Error::step("wait"))? {
            Event::Ready => break,
            // Its own SIGHUP means something else.
            Event::Signal(caught) if caught.signal == Signal::SIGHUP => {
                supervisor.signal(id, Signal::SIGTERM);
            }
            Event::Signal(caught) => supervisor.signal(id, caught.signal),
            Event::Exited { status, .. } => return Ok(shell_status(status)),
            Event::Readable | Event::Deadline => {}
        }
    }
    if run_dir::found_by_clients() != run_path {
        say(format_args!("first  export {RUNTIME_DIR_VARIABLE}={}", quote::path(&run_path)));
    }
    show::print_table(&run_path).map(|()| ExitCode::SUCCESS)
}

/// The supervisor of [`up`], in a process of its own.
fn supervise(options: &VmOptions, ready_fd: u32) -> Result<ExitCode, Error> {
    // Nobody else is to hold it open: its end tells of ours.
    let announcer = sys::adopt(ready_fd).map_err(Error::step("find the descriptor to announce on"));
    let mut announcer = announcer?;
    let signals = Signals::block().map_err(Error::step("block signals"))?;
    // Ctrl-C goes to whoever started us, who passes it on.
    nix::unistd::setsid().map_err(|error| Error::step("leave the terminal")(error.into()))?;
    let run_path = vm::run_path(options);
    let run_dir = claim_for_up(&run_path)?;
    let kind = Kind::Vms { options, state: options.state_dir(), paths: Vec::new(), stays: true };
    hold(kind, run_dir, signals, |session| {
        let log = session.fleet.context.layout().log("supervisor");
        become_daemon(&log).map_err(Error::step("move the messages to a log"))?;
        LOG.stamp();
        LOG.log(&MemberEvent::Supervises { pid: std::process::id() });
        let said = announcer.write_all(b"ready\n");
        said.map_err(Error::step("say that the cluster is ready"))?;
        session.stay()
    })
}

fn claim_for_up(run_path: &Path) -> Result<RunDir, Error> {
    match RunDir::claim(run_path) {
        Err(RunDirError::Busy) => {
            let text = format!("another start or stop is under way in {}", run_path.display());
            Err(Error::Refused(text))
        }
        claimed => Ok(claimed?),
    }
}

/// Changes the cluster that runs, be it of VMs or of processes.
pub(crate) fn apply(options: &VmOptions) -> Result<ExitCode, Error> {
    let run_path = vm::run_path(options);
    if has_local(&run_path) {
        let options = LocalOptions::of_any(options).map_err(Error::Refused)?;
        return send_local_changes(&options, &run_path).map(|()| ExitCode::SUCCESS);
    }
    send_changes(options, &run_path).map(|()| ExitCode::SUCCESS)
}

fn send_local_changes(options: &LocalOptions, run_path: &Path) -> Result<(), Error> {
    let options = options.absolute().map_err(Error::step("find this directory"))?;
    control::send(run_path, &format!("apply {}", options.to_line()))
}

/// Has the supervisor print the difference to what `options` and the files describe, and change it.
fn send_changes(options: &VmOptions, run_path: &Path) -> Result<(), Error> {
    control::send(run_path, &apply_line(options, run_path)?)
}

fn apply_line(options: &VmOptions, run_path: &Path) -> Result<String, Error> {
    if has_local(run_path) {
        let text = format!("a cluster without VMs runs in {}", run_path.display());
        let how = "; ./run.sh --local changes it, scripts/stop.sh stops it";
        return Err(Error::Refused(text + how));
    }
    let options = options.absolute().map_err(Error::step("find this directory"))?;
    Ok(format!("apply {}", options.to_line()))
}

/// An error if the cluster that runs is not the one that `options` describe.
fn require_unchanged(options: &VmOptions, run_path: &Path) -> Result<(), Error> {
    let asked = VmOptions { dry_run: true, ..options.clone() };
    let changes = control::ask(run_path, &apply_line(&asked, run_path)?)?;
    if changes.is_empty() {
        return Ok(());
    }
    let run_path = run_path.display();
    let text = format!(
        "the cluster in {run_path} is not what these options describe; the same without a \
                        command changes it:\n"
    );
    Err(Error::Refused(text + &changes.join("\n")))
}

/// Runs `command` with a cluster of VMs: the one that runs in the run directory, or one of its own.
pub(crate) fn run(options: &VmOptions, command: &[OsString]) -> Result<ExitCode, Error> {
    let paths = vm::paths_of(command);
    // What lives as long as its command has no state to keep, unless it is told where.
    let state = options.state.clone();
    let run_path = vm::run_path(options);
    if options.dry_run {
        return vm::dry_run(options, &run_path, state.as_deref(), &paths);
    }
    if supervisor_of(&run_path).is_some() {
        // One that does not answer cannot say what it runs.
        if await_ready(&run_path)? && options.are_given() {
            require_unchanged(options, &run_path)?;
        }
        say(format_args!("uses the cluster in {}", run_path.display()));
        let (program, args) = command.split_first().expect("clap asks for a COMMAND");
        let mut command = Command::new(program);
        let error = command.args(args).env(RUNTIME_DIR_VARIABLE, &run_path).exec();
        return Err(Error::Command { command: program.display().to_string(), error });
    }
    vm::load(options)?.datasets.iter().filter_map(Dataset::fault).for_each(say);
    warn_root();
    let signals = Signals::block().map_err(Error::step("block signals"))?;
    let run_dir = match &options.runtime.dir {
        Some(path) => RunDir::claim(path)?,
        // Not in a runtime directory, which is in memory: there may be images of datasets.
        None => RunDir::private_in(&env::temp_dir())?,
    };
    let kind = Kind::Vms { options, state, paths, stays: false };
    hold(kind, run_dir, signals, |session| session.run_command(command))
}

/// Starts a cluster of processes and stays until a signal, or changes the one that runs.
pub(crate) fn local_up(options: &LocalOptions) -> Result<ExitCode, Error> {
    let signals = Signals::block().map_err(Error::step("block signals"))?;
    let start = &options.start;
    let mut context = LocalContext::new(start)?;
    let path = run_dir::or_default(start.runtime.dir.as_deref());
    if let Some(pid) = supervisor_of(&path) {
        if report_is_of(&path, ClusterKind::Vms)? {
            let text = format!("a cluster of VMs runs in {}", path.display());
            return Err(Error::Refused(text + "; ./run.sh changes it, scripts/stop.sh stops it"));
        }
        send_local_changes(options, &path)?;
        return match options.dry_run {
            true => Ok(ExitCode::SUCCESS),
            false => already_runs(&path, pid),
        };
    }
    let state = state_dir(None, start.runtime.dir.as_deref());
    let state = Layout::new(&path, state.as_deref()).journal();
    // The controller has another working directory.
    let state = std::path::absolute(&state).map_err(Error::step("find this directory"))?;
    if options.dry_run {
        context.state = Some(state);
        return local::dry_run(&context, &Layout::new(&path, None));
    }
    let run_dir = RunDir::claim(&path)?;
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&state);
    if let Err(error) = made {
        run_dir.release()?;
        return Err(Error::step(format!("make the state directory {}", state.display()))(error));
    }
    context.state = Some(state);
    let declared = options.absolute().map_err(Error::step("find this directory"))?;
    let declared = Some(Box::new(declared));
    let kind = Kind::Local { context, declared, awaited: Awaited::All };
    hold(kind, run_dir, signals, |session| {
        session.explain();
        session.stay()
    })
}

/// Starts a cluster of processes, runs `command` with it, and ends it.
pub(crate) fn local_run(
    options: &StartOptions,
    early: bool,
    command: &[OsString],
) -> Result<ExitCode, Error> {
    let signals = Signals::block().map_err(Error::step("block signals"))?;
    let context = LocalContext::new(options)?;
    let run_dir = match &options.runtime.dir {
        None => RunDir::private(),
        Some(path) => match (RunDir::claim(path), supervisor_of(path)) {
            (Err(RunDirError::Busy), Some(pid)) => {
                let path = path.display();
                let text = format!("a cluster already runs in {path} (pid {pid}); use it with ");
                let how = format!("hashctl --runtime-dir {path}, or leave out --runtime-dir");
                return Err(Error::Refused(text + &how));
            }
            (claimed, _) => claimed,
        },
    }?;
    let awaited = if early { Awaited::Early } else { Awaited::All };
    let kind = Kind::Local { context, declared: None, awaited };
    hold(kind, run_dir, signals, |session| session.run_command(command))
}

/// True if a cluster without VMs runs there.
fn has_local(run_path: &Path) -> bool {
    supervisor_of(run_path).is_some() && run_path.join(CLIENT_SOCKET).exists()
}

/// True if the cluster that runs there is of this kind.
fn report_is_of(run_path: &Path, kind: ClusterKind) -> Result<bool, Error> {
    Ok(show::report_of(run_path)?.kind == Some(kind))
}

fn already_runs(run_path: &Path, pid: u32) -> Result<ExitCode, Error> {
    control::send(run_path, "ready")?;
    let path = run_path.display();
    say(format_args!("already runs in {path} (pid {pid}); scripts/stop.sh stops it"));
    show::print_table(run_path).map(|()| ExitCode::SUCCESS)
}

fn warn_root() {
    if nix::unistd::geteuid().is_root() {
        say("runs as root, and so do QEMU and its daemons; an ordinary user is enough");
    }
}

/// The kind of cluster to start.
enum Kind<'a> {
    Vms {
        options: &'a VmOptions,
        state: Option<PathBuf>,
        paths: Vec<PathBuf>,
        /// False if it lives as long as a command.
        stays: bool,
    },
    Local {
        context: LocalContext,
        /// None if it lives as long as a command.
        declared: Option<Box<LocalOptions>>,
        awaited: Awaited,
    },
}

/// Prepares, starts, does `work`, and stops everything, whatever happened; the first error counts.
fn hold(
    kind: Kind<'_>,
    run_dir: RunDir,
    signals: Signals,
    work: impl FnOnce(&mut Session) -> Result<ExitCode, Error>,
) -> Result<ExitCode, Error> {
    let own = Layout::new(run_dir.path(), None);
    let place = match run_dir.was_left {
        true => vm::clean(&own).map_err(Error::step("remove what an earlier cluster left")),
        false => vm::check_unused(&own),
    };
    if let Err(error) = place {
        run_dir.release()?;
        return Err(error);
    }
    let mut lock = None;
    let home = run_dir.witness()?;
    let result = Session::open(kind, run_dir.path(), signals, &mut lock).and_then(|mut session| {
        session.fleet.home = Some(run_dir.witness()?);
        let result = session.fleet.start().and_then(|()| {
            session.fleet.supervisor.manager.ready();
            work(&mut session)
        });
        session.fleet.supervisor.manager.stopping();
        let stopped = session.stop();
        result.and_then(|code| stopped.map(|()| code))
    });
    LOG.flush();
    // Others may have the images' place from here on; `clean` opens the lock again to remove them.
    drop(lock);
    if home.is_lost() {
        // With it, what was to be removed.
        return result;
    }
    targets::remove(run_dir.path());
    let cleaned = vm::clean(&own).map_err(Error::step("remove the cluster's files"));
    let released = run_dir.release();
    let code = result?;
    cleaned?;
    released?;
    Ok(code)
}

/// Sends our events and what members write from now on to `target`.
fn send_logs(layout: &Layout, target: &SyslogTarget) -> Result<LogTarget, Error> {
    let mut logs = LogTarget::NONE;
    logs.turn_to(layout, target)?;
    Ok(logs)
}

/// A cluster that starts or runs.
struct Session {
    fleet: Fleet,
    /// True if members are asked to stop, not just killed.
    keeps_state: bool,
}

impl Session {
    /// Everything up to the first start; `lock` is that of the state directory.
    fn open(
        kind: Kind<'_>,
        run_path: &Path,
        signals: Signals,
        lock: &mut Option<File>,
    ) -> Result<Self, Error> {
        let mut supervisor = Supervisor::new(signals);
        let (manager, fault) = Manager::from_env();
        supervisor.manager = manager;
        if let Some(error) = fault {
            say(format_args!("the service manager at NOTIFY_SOCKET is told nothing: {error}"));
        }
        match kind {
            Kind::Local { context, declared, awaited } => {
                let layout = Layout::new(run_path, None);
                context.notices().for_each(say);
                context.check_datasets(&layout)?;
                context.tell_datasets(&layout)?;
                let members = context.members();
                let logs = send_logs(&layout, &context.syslog())?;
                let senses =
                    listen(&layout, &members, ClusterKind::Local, context.metrics_port, logs)?;
                let limits = Limits {
                    strategy: Strategy::Parallel,
                    awaited,
                    startup_timeout: LocalContext::STARTUP_TIMEOUT,
                    stop_limit: context.stop_limit,
                };
                let context = Context::Local(context, layout);
                let keeps_state = declared.is_some();
                let on_hangup = if keeps_state { OnHangup::Apply } else { OnHangup::End };
                let mut fleet =
                    Fleet::new(context, limits, members, None, supervisor, senses, on_hangup);
                if let Some(options) = declared {
                    fleet.declare(Declared::Local(LocalOptions { forget: false, ..*options }));
                }
                fleet.write_targets();
                Ok(Self { fleet, keeps_state })
            }
            Kind::Vms { options, state, paths, stays } => {
                let Plan { deployment, mut image, mut context } =
                    vm::plan_of(options, run_path, state.as_deref(), &paths, false)?;
                *lock = Some(vm::lock_state(&context.layout)?);
                vm::images(&context.layout)?;
                let logs = send_logs(&context.layout, &deployment.syslog)?;
                let members: Vec<Member> = deployment.vms.iter().map(Vm::member).collect();
                // Others wait here from now on, even though nobody answers yet.
                let port = options.metrics_port;
                let senses = listen(&context.layout, &members, ClusterKind::Vms, port, logs)?;
                image = image.copy_to(&context.layout.image(&image.digest))?;
                let guests = Guest::all(&deployment.vms, &context.shares);
                vm::prepare_all(&context, &guests, &mut supervisor)?;
                context.accel = vm::choose_accel(options, &image, &context, &mut supervisor)?;
                let limits = Limits {
                    strategy: deployment.strategy,
                    awaited: match deployment.wait_for_healthy {
                        true => Awaited::All,
                        false => Awaited::Controller,
                    },
                    startup_timeout: deployment.startup_timeout,
                    stop_limit: POWER_OFF_LIMIT,
                };
                let image = Some(&image);
                let on_hangup = if stays { OnHangup::Apply } else { OnHangup::End };
                let context = Context::Vms(context, guests);
                let mut fleet =
                    Fleet::new(context, limits, members, image, supervisor, senses, on_hangup);
                if stays {
                    let own = options.absolute().map_err(Error::step("find this directory"))?;
                    fleet.declare(Declared::Vms(own));
                }
                fleet.publish(&[])?;
                Ok(Self { fleet, keeps_state: true })
            }
        }
    }

    fn stop(&mut self) -> Result<(), Error> {
        if self.keeps_state { self.fleet.stop_all() } else { self.fleet.kill_all() }
    }

    /// Keeps the cluster alive until a signal.
    fn stay(&mut self) -> Result<ExitCode, Error> {
        loop {
            if let Some(caught) = self.fleet.take_signal() {
                let Caught { signal, pid, uid, .. } = caught;
                LOG.log(&MemberEvent::Stopping { signal: &signal, pid, uid });
                return Ok(ExitCode::SUCCESS);
            }
            match self.fleet.take_request() {
                Some(request) => request.serve(&mut self.fleet),
                None => self.fleet.next(None)?,
            }
        }
    }

    /// Keeps the cluster alive until `command` has ended.
    fn run_command(&mut self, command: &[OsString]) -> Result<ExitCode, Error> {
        let (path, args) = command.split_first().expect("clap asks for a COMMAND");
        let name = path.to_string_lossy().into_owned();
        if let Context::Vms(..) = self.fleet.context {
            say(format_args!("ready; running {name}"));
        }
        let program = Program {
            name: name.clone(),
            path: path.into(),
            args: args.to_vec(),
            env: vec![(RUNTIME_DIR_VARIABLE, self.fleet.context.layout().run().into())],
            console: Console::Foreground,
            announces_ready: false,
        };
        let started = self.fleet.supervisor.start(program);
        let id = started.map_err(|error| Error::Command { command: name, error })?;
        let mut deadline: Option<Instant> = None;
        loop {
            if let Some(status) = self.fleet.take_end(id) {
                return Ok(shell_status(status));
            }
            if let Err(error) = self.fleet.complete_start() {
                self.fleet.supervisor.signal(id, Signal::SIGKILL);
                return Err(error);
            }
            if let Some(caught) = self.fleet.take_signal() {
                // A terminal has sent it to the command already, which would take a second one for
                // impatience.
                if !caught.from_terminal {
                    self.fleet.supervisor.signal(id, caught.signal);
                }
                if caught.signal != Signal::SIGINT {
                    deadline.get_or_insert(Instant::now() + COMMAND_STOP_LIMIT);
                }
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                self.fleet.supervisor.signal(id, Signal::SIGKILL);
                deadline = None;
            }
            match self.fleet.take_request() {
                Some(request) => request.serve(&mut self.fleet),
                None => self.fleet.next(deadline)?,
            }
        }
    }

    /// Says how to use a cluster that stays in the foreground, and how to stop it.
    fn explain(&self) {
        let Context::Local(context, layout) = &self.fleet.context else { return };
        let (run, pid) = (layout.run(), std::process::id());
        let workers = match self.fleet.machines.len() - 1 {
            1 => "1 worker".to_owned(),
            n => format!("{n} workers"),
        };
        say(format_args!("controller and {workers} are ready in {} (pid {pid})", run.display()));
        let dir = quote::path(run);
        if run_dir::found_by_clients() != run {
            indented(format_args!("first  export {RUNTIME_DIR_VARIABLE}={dir}"));
        }
        indented(format_args!("hash   {} sum PATH…", quote::path(&context.program("hashctl"))));
        let asked = match run_dir::or_default(None) == run {
            true => String::new(),
            false => format!(" --runtime-dir {dir}"),
        };
        indented(format_args!("stop   Ctrl-C here, or scripts/stop.sh{asked}"));
    }
}

/// Starts to ask how the members are, to look at what there is for them, and to take commands.
fn listen(
    layout: &Layout,
    members: &[Member],
    kind: ClusterKind,
    metrics_port: Option<u16>,
    logs: LogTarget,
) -> Result<Senses, Error> {
    let watch = Watch::start(layout, members).map_err(Error::step("start a thread"))?;
    let sight = watch.waker().and_then(Sight::start).map_err(Error::step("start a thread"))?;
    let description = Description::start().map_err(Error::step("start a thread"))?;
    let (path, preparing) = (layout.file(CONTROL_SOCKET), ClusterReport::preparing(kind, layout));
    let requests = watch.waker().and_then(|waker| control::listen(&path, waker, &preparing));
    let requests = requests.map_err(Error::step("listen for commands"))?;
    let socket = || HttpAddress::Unix(layout.of_vm("supervisor", HTTP_SOCKET));
    let http = metrics_port.map_or_else(socket, pages::local);
    pages::start(layout.run().to_owned(), &http).map_err(Error::step("start a thread"))?;
    Ok(Senses { watch, sight, description, requests, http, logs })
}

/// The exit status of a shell for a command that ended with `status`.
fn shell_status(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| exit::KILLED + signal));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(exit::FAILED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commands_end_becomes_the_status_that_a_shell_would_give() {
        for (raw, want) in [(0, 0), (1 << 8, 1), (4 << 8, 4), (255 << 8, 255), (2, 130), (15, 143)]
        {
            let found = shell_status(ExitStatus::from_raw(raw));
            assert_eq!(format!("{found:?}"), format!("{:?}", ExitCode::from(want)), "{raw}");
        }
    }
}
