//! `vm up`, `vm run` and their kin: a cluster of VMs from its start to its end.
//!
//! `up` starts a supervisor in a session of its own and returns when the cluster is ready; until
//! then the supervisor dies with whoever started it, so that a start that is broken off leaves
//! nothing. `run` is a supervisor itself, for as long as its command.

use super::accel;
use super::control;
use super::error::Error;
use super::fleet::Fleet;
use super::image::Image;
use super::layout::Layout;
use super::operands;
use super::plan::{Accel, Frame, Tools, Unit};
use super::prepare;
use super::share::{Root, Share};
use super::watch::Watch;
use crate::args::{AccelChoice, VmOptions};
use crate::deployment::{Deployment, LoadOptions, Role, check_ports_free};
use crate::exit;
use crate::quote;
use crate::run_dir::{self, RUNTIME_DIR_VARIABLE, RunDir, RunDirError};
use crate::say::say;
use crate::supervise::{Console, Event, Program, Restart, Signals, Supervisor, become_daemon, sys};
use ipc_proto::endpoint;
use ipc_proto::limits::DATASETS_MAX;
use nix::sys::signal::Signal;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// Name of the dataset that holds what `run` is given on its command line.
const OPERANDS: &str = "paths";

/// How long COMMAND may go on after a signal that asks it to end, other than SIGINT, which it may
/// take as it likes.
const COMMAND_STOP_LIMIT: Duration = Duration::from_secs(10);

/// What is known before anything starts.
struct Plan {
    deployment: Deployment,
    image: Image,
    frame: Frame,
}

/// Starts a cluster, says where it is, and leaves it running.
pub(crate) fn up(options: &VmOptions, ready_fd: Option<u32>) -> Result<ExitCode, Error> {
    if let Some(ready_fd) = ready_fd {
        return supervise(options, ready_fd);
    }
    let run_path = run_path(options);
    if options.dry_run {
        return dry_run(&plan_of(options, &run_path, options.state_dir().as_deref(), &[], true)?);
    }
    let control = Layout::new(&run_path, None).control_socket();
    if has_local(&run_path) {
        let text = format!("a cluster without VMs runs in {}", run_path.display());
        return Err(Error::Refused(text + "; scripts/stop.sh stops it"));
    }
    if control::is_supervised(&run_path) {
        await_ready(&run_path)?;
        say(format_args!("already runs in {}; scripts/stop.sh stops it", run_path.display()));
        return control::send(&control, &run_path, "status").map(|()| ExitCode::SUCCESS);
    }
    // What is wrong with the command line is said before anything else happens.
    load(options)?;
    warn_root();
    let signals = Signals::block().map_err(Error::step("block signals"))?;
    let mut supervisor = Supervisor::new(signals);
    let program = Program {
        name: "supervisor".to_owned(),
        path: env::current_exe().map_err(Error::step("find this program"))?,
        args: env::args_os().skip(1).collect(),
        env: Vec::new(),
        console: Console::Foreground,
        announces_ready: true,
    };
    let id =
        supervisor.start(program, Restart::Never).map_err(Error::step("start a supervisor"))?;
    loop {
        match supervisor.next(None, None).map_err(Error::step("wait"))? {
            Event::Ready(_) => break,
            Event::Signal(caught) => supervisor.signal(id, caught.signal),
            Event::Exited { status, .. } => {
                let code = status.code().and_then(|code| u8::try_from(code).ok());
                return Ok(ExitCode::from(code.unwrap_or(exit::FAILED)));
            }
            Event::NotStarted { .. } | Event::Readable | Event::Deadline => {}
        }
    }
    if run_dir::found_by_clients() != run_path {
        say(format_args!("first  export {RUNTIME_DIR_VARIABLE}={}", quote::path(&run_path)));
    }
    control::send(&control, &run_path, "status").map(|()| ExitCode::SUCCESS)
}

/// Whether a cluster without VMs runs there.
fn has_local(run_path: &Path) -> bool {
    control::is_supervised(run_path) && run_path.join(endpoint::CLIENT_SOCKET).exists()
}

fn warn_root() {
    if nix::unistd::geteuid().is_root() {
        say("runs as root, and so do QEMU and its daemons; an ordinary user is enough");
    }
}

/// Waits until the start of a cluster that is supervised is over.
fn await_ready(run_path: &Path) -> Result<(), Error> {
    let control = Layout::new(run_path, None).control_socket();
    control::send(&control, run_path, "ready")
}

/// The supervisor of [`up`], in a process of its own.
fn supervise(options: &VmOptions, ready_fd: u32) -> Result<ExitCode, Error> {
    // Nobody else is to hold it open: its end tells of ours.
    let announcer = sys::adopt(ready_fd).map_err(Error::step("find the descriptor to announce on"));
    let announcer = announcer?;
    let signals = Signals::block().map_err(Error::step("block signals"))?;
    // Ctrl-C goes to whoever started us, who passes it on.
    nix::unistd::setsid().map_err(|error| Error::step("leave the terminal")(error.into()))?;
    let run_path = run_path(options);
    let run_dir = match RunDir::claim(&run_path) {
        Err(RunDirError::Busy) => {
            return Err(Error::Refused(format!(
                "another start or stop is under way in {}",
                run_path.display()
            )));
        }
        claimed => claimed?,
    };
    let state = options.state_dir();
    hold(options, state.as_deref(), &[], signals, run_dir, |session| {
        let log = session.fleet.frame.layout.log("supervisor");
        become_daemon(&log).map_err(Error::step("move the messages to a log"))?;
        announce(announcer).map_err(Error::step("say that the cluster is ready"))?;
        session.stay()?;
        Ok(ExitCode::SUCCESS)
    })
}

/// Runs `command` with a cluster: the one that runs in the run directory, or one of its own.
pub(crate) fn run(options: &VmOptions, command: &[OsString]) -> Result<ExitCode, Error> {
    let operands = operands::of(command);
    // What lives as long as its command has no state to keep, unless it is told where.
    let state = options.state.as_deref();
    if options.dry_run {
        return dry_run(&plan_of(options, &run_path(options), state, &operands, true)?);
    }
    let run_path = run_path(options);
    if control::is_supervised(&run_path) {
        if !has_local(&run_path) {
            await_ready(&run_path)?;
        }
        say(format_args!("uses the cluster in {}", run_path.display()));
        let (program, args) = command.split_first().expect("clap asks for a COMMAND");
        let mut command = Command::new(program);
        command.args(args).env(RUNTIME_DIR_VARIABLE, &run_path);
        let error = std::os::unix::process::CommandExt::exec(&mut command);
        return Err(Error::step(format!("run {}", program.display()))(error));
    }
    load(options)?;
    warn_root();
    let signals = Signals::block().map_err(Error::step("block signals"))?;
    let run_dir = match &options.run_dir {
        Some(path) => RunDir::claim(path)?,
        // Not in a runtime directory, which is in memory: there may be images of datasets.
        None => RunDir::private_in(&env::temp_dir())?,
    };
    hold(options, state, &operands, signals, run_dir, |session| session.run_command(command))
}

/// Prepares, boots, does `work`, and stops everything, whatever happened; the first error counts.
fn hold(
    options: &VmOptions,
    state: Option<&Path>,
    operands: &[PathBuf],
    signals: Signals,
    run_dir: RunDir,
    work: impl FnOnce(&mut Session) -> Result<ExitCode, Error>,
) -> Result<ExitCode, Error> {
    let own = Layout::new(run_dir.path(), None);
    let place = match run_dir.was_left {
        true => prepare::clean(&own).map_err(Error::step("remove what an earlier cluster left")),
        false => prepare::check_unused(&own),
    };
    let plan = place.and_then(|()| plan_of(options, run_dir.path(), state, operands, false));
    let plan = match plan {
        Ok(plan) => plan,
        Err(error) => {
            run_dir.release()?;
            return Err(error);
        }
    };
    let layout = plan.frame.layout.clone();
    let mut state = None;
    let result = prepare::lock_state(&layout)
        .and_then(|lock| {
            state = Some(lock);
            prepare::images(&layout)
        })
        .and_then(|()| Session::open(plan, options, signals))
        .and_then(|mut session| {
            let result = session.fleet.start().and_then(|()| work(&mut session));
            let stopped = session.fleet.stop_all();
            result.and_then(|code| stopped.map(|()| code))
        });
    // Others may have the images' place from here on; we open the lock anew to remove them.
    drop(state);
    let cleaned = prepare::clean(&layout).map_err(Error::step("remove the cluster's files"));
    let released = run_dir.release();
    let code = result?;
    cleaned?;
    released?;
    Ok(code)
}

/// A cluster that starts or runs.
struct Session {
    fleet: Fleet,
}

impl Session {
    fn open(mut plan: Plan, options: &VmOptions, signals: Signals) -> Result<Self, Error> {
        let layout = &plan.frame.layout;
        let mut supervisor = Supervisor::new(signals);
        let watch =
            Watch::start(layout, &plan.deployment).map_err(Error::step("start a thread"))?;
        // Others wait here from now on, even though nobody answers yet.
        let requests = watch
            .waker()
            .and_then(|waker| control::listen(&layout.control_socket(), waker))
            .map_err(Error::step("listen for commands"))?;
        plan.image = plan.image.copy_to(&layout.image(&plan.image.digest))?;
        prepare::all(&plan.frame, &plan.deployment, &plan.image, &mut supervisor)?;
        plan.frame.accel = match options.accel {
            AccelChoice::Kvm => Accel::Kvm,
            AccelChoice::Tcg => Accel::Tcg,
            AccelChoice::Auto => {
                let (qemu, cache) = (&plan.frame.tools.qemu, options.cache_dir());
                accel::probe(qemu, &plan.image, &cache, layout, &mut supervisor)?
            }
        };
        let Plan { deployment, image, frame } = plan;
        Ok(Self { fleet: Fleet::new(frame, deployment, &image, supervisor, watch, requests) })
    }

    /// Keeps the cluster alive until a signal.
    fn stay(&mut self) -> Result<(), Error> {
        loop {
            if let Some(caught) = self.fleet.take_signal() {
                let signal = caught.signal;
                say(format_args!("{signal}: stopping the workers, then the controller"));
                return Ok(());
            }
            match self.fleet.take_request() {
                Some(request) => request.serve(&mut self.fleet),
                None => self.fleet.next(None)?,
            }
        }
    }

    /// Keeps the cluster alive until `command` has ended.
    fn run_command(&mut self, command: &[OsString]) -> Result<ExitCode, Error> {
        say(format_args!("ready; running {}", Path::new(&command[0]).display()));
        let (path, args) = command.split_first().expect("clap asks for a COMMAND");
        let program = Program {
            name: path.to_string_lossy().into_owned(),
            path: path.into(),
            args: args.to_vec(),
            env: vec![(RUNTIME_DIR_VARIABLE, self.fleet.frame.layout.run().into())],
            console: Console::Foreground,
            announces_ready: false,
        };
        let started = self.fleet.supervisor.start(program, Restart::Never);
        let id = started.map_err(Error::step(format!("run {}", path.display())))?;
        let mut deadline: Option<Instant> = None;
        loop {
            if let Some(status) = self.fleet.take_end(id) {
                let code = status.code().or_else(|| status.signal().map(|n| exit::KILLED + n));
                let code = code.and_then(|code| u8::try_from(code).ok());
                return Ok(ExitCode::from(code.unwrap_or(exit::FAILED)));
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
}

/// Removes what a supervisor that had no time for it left in its run directory.
pub(crate) fn sweep(asked: Option<&Path>) -> Result<(), Error> {
    let path = run_dir::or_default(asked);
    // Whoever goes in good order removes the pidfile last.
    if !run_dir::pidfile_of(&path).exists() {
        return Ok(());
    }
    let run_dir = match RunDir::claim(&path) {
        // The next cluster has it already.
        Err(RunDirError::Busy) => return Ok(()),
        claimed => claimed?,
    };
    let cleaned = prepare::clean(&Layout::new(run_dir.path(), None));
    run_dir.release()?;
    cleaned.map_err(Error::step("remove the cluster's files"))
}

/// Sends a command about VMs to the supervisor.
pub(crate) fn command(
    asked: Option<&Path>,
    word: &str,
    names: &[String],
) -> Result<ExitCode, Error> {
    let run_path = run_dir::or_default(asked);
    let control = Layout::new(&run_path, None).control_socket();
    let line = [&[word.to_owned()], names].concat().join(" ");
    control::send(&control, &run_path, &line).map(|()| ExitCode::SUCCESS)
}

/// Prints where the console log of a VM is, whether it runs or not.
pub(crate) fn console(asked: Option<&Path>, name: &str) -> Result<ExitCode, Error> {
    let path = Layout::new(&run_dir::or_default(asked), None).console(name);
    writeln!(io::stdout().lock(), "{}", path.display()).map_err(Error::step("write to stdout"))?;
    Ok(ExitCode::SUCCESS)
}

/// Becomes `ssh` to a VM.
pub(crate) fn ssh(asked: Option<&Path>, name: &str, args: &[OsString]) -> Error {
    let run_path = run_dir::or_default(asked);
    let config = Layout::new(&run_path, None).ssh_config();
    let Ok(text) = fs::read_to_string(&config) else {
        return Error::NotRunning { run_dir: run_path };
    };
    // Else it would be looked for in the network.
    let names: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("Host ")).collect();
    if name == "*" || !names.contains(&name) {
        let names = names.into_iter().filter(|name| *name != "*").collect::<Vec<_>>().join(", ");
        return Error::NoSuchVm { name: name.to_owned(), names };
    }
    let mut command = Command::new("ssh");
    command.arg("-F").arg(config).arg("--").arg(name).args(args);
    Error::step("run ssh")(std::os::unix::process::CommandExt::exec(&mut command))
}

fn run_path(options: &VmOptions) -> PathBuf {
    let path = run_dir::or_default(options.run_dir.as_deref());
    std::path::absolute(&path).unwrap_or(path)
}

fn load(options: &VmOptions) -> Result<Deployment, Error> {
    let load_options = LoadOptions::new(&options.deployment);
    Ok(Deployment::load(&load_options.map_err(Error::step("look at the host's CPUs"))?)?)
}

fn plan_of(
    options: &VmOptions,
    run_path: &Path,
    state: Option<&Path>,
    operands: &[PathBuf],
    is_dry: bool,
) -> Result<Plan, Error> {
    let mut deployment = load(options)?;
    let mut shares: Vec<Share> = deployment.datasets.iter().map(share).collect();
    let own = env::current_exe().map_err(Error::step("find this program"))?;
    if may_show(operands, &shares, &own) {
        let root = Root::Members(operands.to_vec());
        shares.push(Share { name: OPERANDS.to_owned(), root, io_threads: None });
        for vm in deployment.vms.iter_mut().filter(|vm| vm.role == Role::Worker) {
            vm.datasets.push(OPERANDS.to_owned());
        }
    }
    if !is_dry {
        check_ports_free(&options.deployment.ports, &deployment.vms)?;
    }
    let image = match Image::open(&options.image) {
        Err(_) if is_dry => Image::unseen(&options.image),
        opened => opened?,
    };
    let tools = Tools {
        qemu: resolve(&options.qemu, is_dry)?,
        vsock: resolve(&options.vsock, is_dry)?,
        virtiofsd: match shares.is_empty() {
            true => options.virtiofsd.clone(),
            false => resolve(&options.virtiofsd, is_dry)?,
        },
        virtiofsd_kind: options.virtiofsd_kind,
        own,
    };
    // The supervisor has another working directory.
    let state = state.map(std::path::absolute).transpose();
    let state = state.map_err(Error::step("find the state directory"))?;
    let layout = Layout::new(run_path, state.as_deref());
    for vm in &deployment.vms {
        // The longest path of a socket.
        let path = layout.of_vm(&vm.name, "vsock_5000");
        endpoint::check(&path).map_err(|error| {
            Error::RunDir(RunDirError::Socket { path: run_path.to_owned(), error })
        })?;
    }
    let accel = match options.accel {
        AccelChoice::Kvm => Accel::Kvm,
        AccelChoice::Auto | AccelChoice::Tcg => Accel::Tcg,
    };
    Ok(Plan { deployment, image, frame: Frame { layout, tools, accel, shares } })
}

/// Whether the operands of a command can be a dataset; else their bytes go to the workers.
fn may_show(operands: &[PathBuf], shares: &[Share], own: &Path) -> bool {
    if operands.is_empty() || shares.iter().any(|share| share.name == OPERANDS) {
        return false;
    }
    if shares.len() >= DATASETS_MAX {
        say("there are as many datasets as there can be: the files go to the workers as bytes");
        return false;
    }
    let mut view = Command::new(own);
    view.args(["view", "--chdir", "/", "--", "true"]).stdin(Stdio::null());
    let can_show = view.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    if !can_show {
        say("this host gives us no mount namespace: the files go to the workers as bytes");
    }
    can_show
}

fn share(dataset: &crate::deployment::Dataset) -> Share {
    let root = match dataset.snapshot {
        true => Root::Snapshot(dataset.dir.clone()),
        false => Root::Directory(dataset.dir.clone()),
    };
    Share { name: dataset.name.clone(), root, io_threads: dataset.io_threads }
}

/// The program at `path`, or of that name in `$PATH`.
fn resolve(path: &Path, is_dry: bool) -> Result<PathBuf, Error> {
    let is_program =
        |path: &Path| nix::unistd::access(path, nix::unistd::AccessFlags::X_OK).is_ok();
    let found = if path.components().count() > 1 {
        std::path::absolute(path).ok().filter(|path| is_program(path))
    } else {
        let dirs = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&dirs).map(|dir| dir.join(path)).find(|path| is_program(path))
    };
    match found {
        Some(found) => Ok(found),
        None if is_dry => Ok(path.to_owned()),
        None => Err(Error::Tool {
            what: format!("find {}", path.display()),
            how: "it is not installed; qemu/host-packages.sh says how".to_owned(),
            output: String::new(),
        }),
    }
}

/// Prints what would be run, one command a line.
fn dry_run(plan: &Plan) -> Result<ExitCode, Error> {
    let mut text = String::new();
    for (i, vm) in plan.deployment.vms.iter().enumerate() {
        let Unit { daemons, qemu } = plan.frame.unit(vm, i, &plan.image);
        text += &format!("# {}\n", vm.name);
        for program in daemons.iter().map(|daemon| &daemon.program).chain([&qemu]) {
            text += &command_line(program);
            text.push('\n');
        }
    }
    io::stdout().lock().write_all(text.as_bytes()).map_err(Error::step("write to stdout"))?;
    Ok(ExitCode::SUCCESS)
}

fn command_line(program: &Program) -> String {
    let env = program.env.iter().map(|(key, value)| format!("{key}={}", quote::shell(value)));
    let words = std::iter::once(program.path.as_os_str())
        .chain(program.args.iter().map(OsString::as_os_str))
        .map(|word: &OsStr| quote::shell(word));
    env.chain(words).collect::<Vec<String>>().join(" ")
}

fn announce(mut announcer: File) -> io::Result<()> {
    announcer.write_all(b"ready\n")
}
