//! From the command line to a plan: what is found out before anything starts.

use super::accel;
use super::image::Image;
use super::layout::Layout;
use super::plan::{Accel, ClusterContext, Tools};
use super::share::{Root, Share};
use crate::args::{AccelChoice, VmOptions, cache_dir};
use crate::cluster::{Error, Unit};
use crate::deployment::{CpuSet, Deployment, Role, check_ports_free};
use crate::quote;
use crate::run_dir::{self, RunDirError};
use crate::say::say;
use crate::supervise::{Program, Supervisor, is_executable};
use ipc_proto::endpoint;
use ipc_proto::limits::DATASETS_MAX;
use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// Name of the dataset that holds what `run` is given on its command line.
const PATHS: &str = "paths";

/// Everything that is known before anything starts.
pub(crate) struct Plan {
    pub(crate) deployment: Deployment,
    pub(crate) image: Image,
    pub(crate) context: ClusterContext,
}

/// The accelerator: as asked, or the best that works here.
pub(crate) fn choose_accel(
    options: &VmOptions,
    image: &Image,
    context: &ClusterContext,
    supervisor: &mut Supervisor,
) -> Result<Accel, Error> {
    match options.accel {
        AccelChoice::Kvm => Ok(Accel::Kvm),
        AccelChoice::Tcg => Ok(Accel::Tcg),
        AccelChoice::Auto => {
            let (qemu, cache) = (&context.tools.qemu, cache_dir());
            accel::probe(qemu, image, &cache, &context.layout, supervisor)
        }
    }
}

pub(crate) fn run_path(options: &VmOptions) -> PathBuf {
    let path = run_dir::or_default(options.runtime.dir.as_deref());
    std::path::absolute(&path).unwrap_or(path)
}

/// Reads and checks what describes the cluster.
pub(crate) fn load(options: &VmOptions) -> Result<Deployment, Error> {
    let cpus = CpuSet::of_this_process().map_err(Error::step("read this host's CPUs"))?;
    Ok(Deployment::load(&options.deployment, &cpus)?)
}

/// Everything that is known before anything starts.
pub(crate) fn plan_of(
    options: &VmOptions,
    run_path: &Path,
    state: Option<&Path>,
    paths: &[PathBuf],
    is_dry: bool,
) -> Result<Plan, Error> {
    let mut deployment = load(options)?;
    let mut shares: Vec<Share> = deployment.datasets.iter().map(share).collect();
    let own = env::current_exe().map_err(Error::step("find this program"))?;
    if may_show(paths, &shares, &own) {
        let root = Root::Members(paths.to_vec());
        shares.push(Share { name: PATHS.to_owned(), root, io_threads: None });
        for vm in deployment.vms.iter_mut().filter(|vm| vm.role == Role::Worker) {
            vm.datasets.push(PATHS.to_owned());
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
    Ok(Plan { deployment, image, context: ClusterContext { layout, tools, accel, shares } })
}

/// True if the paths of a command can be a dataset; else their bytes go to the workers.
fn may_show(paths: &[PathBuf], shares: &[Share], own: &Path) -> bool {
    if paths.is_empty() || shares.iter().any(|share| share.name == PATHS) {
        return false;
    }
    if shares.len() >= DATASETS_MAX {
        say("there are as many datasets as there can be: the files go to the workers as bytes");
        return false;
    }
    let mut view = Command::new(own);
    view.args(["share-view", "--chdir", "/", "--", "true"]).stdin(Stdio::null());
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
    let found = if path.components().count() > 1 {
        std::path::absolute(path).ok().filter(|path| is_executable(path))
    } else {
        let dirs = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&dirs).map(|dir| dir.join(path)).find(|path| is_executable(path))
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

/// Prints what would be run, one command per line.
pub(crate) fn dry_run(
    options: &VmOptions,
    run_path: &Path,
    state: Option<&Path>,
    paths: &[PathBuf],
) -> Result<ExitCode, Error> {
    let Plan { deployment, image, context } = plan_of(options, run_path, state, paths, true)?;
    let mut text = String::new();
    for (i, vm) in deployment.vms.iter().enumerate() {
        let Unit { daemons, main } = context.unit(vm, i, &image);
        text += &format!("# {}\n", vm.name);
        for program in daemons.iter().map(|daemon| &daemon.program).chain([&main]) {
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
