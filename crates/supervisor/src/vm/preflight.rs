//! From the command line to a plan: what is found out before anything starts.

use super::accel;
use super::arch::Arch;
use super::image::Image;
use super::layout::Layout;
use super::plan::{Accel, ClusterContext, Guest, Tools, VirtiofsdKind};
use super::share::{self, Root, Share};
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
        Some(AccelChoice::Kvm) => Ok(Accel::Kvm),
        Some(AccelChoice::Tcg) => Ok(Accel::Tcg),
        None | Some(AccelChoice::Auto) => {
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

/// The cluster that files and command line describe, with the programs and the image that are there.
#[derive(Debug)]
pub(crate) struct DescribedCluster {
    pub(crate) deployment: Deployment,
    pub(crate) shares: Vec<Share>,
    /// None if nothing names one.
    pub(crate) image: Option<Image>,
    pub(crate) tools: Tools,
}

/// The cluster that `options` describe now.
///
/// # Errors
/// A fault of them, of the files, or of what those name.
pub(crate) fn wanted(options: &VmOptions) -> Result<DescribedCluster, Error> {
    let deployment = load(options)?;
    let shares = share::all(&deployment.datasets);
    let image = options.image().map(Image::open).transpose()?;
    let arch = image.as_ref().map(|image| image.arch).unwrap_or_default();
    let tools = tools(options, arch, !shares.is_empty(), false)?;
    Ok(DescribedCluster { deployment, shares, image, tools })
}

/// Refuses datasets that would show workers the keys of the cluster.
///
/// # Errors
/// [`Error::Refused`] names the dataset, and what it contains.
pub(crate) fn check_shares(shares: &[Share], layout: &Layout) -> Result<(), Error> {
    for share in shares {
        let Some(dir) = share.root.dir() else { continue };
        if let Some((what, option, inner)) = contained(dir, layout) {
            return Err(Error::Refused(format!(
                "dataset {}: {} contains the {what} directory {}, whose keys no worker may see; name \
                 another one with {option}, or a smaller dataset",
                share.name,
                dir.display(),
                inner.display()
            )));
        }
    }
    Ok(())
}

/// The directory of the cluster that `dir` contains, if it does, and the option that names another one.
fn contained(dir: &Path, layout: &Layout) -> Option<(&'static str, &'static str, PathBuf)> {
    // The last part may be still to be made.
    let real = |path: &Path| match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => {
            std::fs::canonicalize(parent).map_or(path.to_owned(), |parent| parent.join(name))
        }
        _ => path.to_owned(),
    };
    let own = [("run", "--runtime-dir", layout.run()), ("state", "--state-dir", layout.state())];
    let own = own.map(|(what, option, path)| (what, option, real(path)));
    own.into_iter().find(|(_, _, path)| path.starts_with(dir))
}

/// Checks that paths of sockets of the VM `name` are short enough.
///
/// # Errors
/// [`Error::RunDir`] if they are not.
pub(crate) fn check_sockets(layout: &Layout, name: &str) -> Result<(), Error> {
    // The longest one.
    let checked = endpoint::check(&layout.of_vm(name, "vsock_5000"));
    let path = layout.run().to_owned();
    checked.map_err(|error| Error::RunDir(RunDirError::Socket { path, error }))
}

fn tools(
    options: &VmOptions,
    arch: Arch,
    serves_files: bool,
    is_dry: bool,
) -> Result<Tools, Error> {
    let program = |path: &Option<PathBuf>, default: &str| {
        path.clone().unwrap_or_else(|| PathBuf::from(default))
    };
    let virtiofsd = program(&options.virtiofsd, "/usr/lib/qemu/virtiofsd");
    Ok(Tools {
        qemu: resolve(&program(&options.qemu, arch.qemu()), is_dry)?,
        vsock: resolve(&program(&options.vsock, "vhost-device-vsock"), is_dry)?,
        virtiofsd: if serves_files { resolve(&virtiofsd, is_dry)? } else { virtiofsd },
        virtiofsd_kind: options.virtiofsd_kind.unwrap_or(VirtiofsdKind::C),
        own: env::current_exe().map_err(Error::step("find this program"))?,
    })
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
    let mut shares = share::all(&deployment.datasets);
    // The supervisor has another working directory.
    let state = state.map(std::path::absolute).transpose();
    let state = state.map_err(Error::step("find the state directory"))?;
    let layout = Layout::new(run_path, state.as_deref());
    let own = env::current_exe().map_err(Error::step("find this program"))?;
    // What has the keys in it goes as bytes.
    let paths: Vec<PathBuf> =
        paths.iter().filter(|path| contained(path, &layout).is_none()).cloned().collect();
    if may_show(&paths, &shares, &own) {
        let root = Root::Members(paths);
        let number = shares.len();
        shares.push(Share { name: PATHS.to_owned(), root, io_threads: None, number });
        for vm in deployment.vms.iter_mut().filter(|vm| vm.role == Role::Worker) {
            vm.datasets.push(PATHS.to_owned());
        }
    }
    if !is_dry {
        check_ports_free(options.deployment.ports(), &deployment.vms, &[])?;
    }
    let Some(image) = options.image() else {
        let text = "--image DIR names what the VMs boot; ./run.sh makes an image and names it";
        return Err(Error::Refused(text.to_owned()));
    };
    let image = match Image::open(image) {
        Err(_) if is_dry => Image::unseen(image),
        opened => opened?,
    };
    let arch = image.arch;
    let tools = tools(options, arch, !shares.is_empty(), is_dry)?;
    deployment.vms.iter().try_for_each(|vm| check_sockets(&layout, &vm.name))?;
    check_shares(&shares, &layout)?;
    let accel = match options.accel {
        Some(AccelChoice::Kvm) if !arch.is_native() => {
            return Err(Error::Refused(format!(
                "--accel kvm: the image is for {}, this host is not; without the option it is translated",
                arch.name()
            )));
        }
        Some(AccelChoice::Kvm) => Accel::Kvm,
        None | Some(AccelChoice::Auto | AccelChoice::Tcg) => Accel::Tcg,
    };
    Ok(Plan {
        deployment,
        image,
        context: ClusterContext { layout, tools, arch, accel, shares, leaving: Vec::new() },
    })
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
    let of = |guest: Guest| {
        let Unit { daemons, main } = context.unit(&guest, &image);
        let programs = daemons.into_iter().map(|daemon| daemon.program).chain([main]).collect();
        (guest.vm.name, programs)
    };
    let guests = Guest::all(&deployment.vms, &context.shares);
    print_command_lines(guests.into_iter().map(of))
}

/// Prints the command lines of the programs of each member.
///
/// # Errors
/// Standard output does not take them.
pub(crate) fn print_command_lines(
    members: impl Iterator<Item = (String, Vec<Program>)>,
) -> Result<ExitCode, Error> {
    let mut text = String::new();
    for (name, programs) in members {
        text += &format!("# {name}\n");
        for program in &programs {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dataset_that_shows_workers_the_keys_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| std::fs::canonicalize(dir.path()).unwrap().join(name);
        for name in ["run", "state", "data"] {
            std::fs::create_dir(path(name)).unwrap();
        }
        let layout = Layout::new(&path("run"), Some(&path("state")));
        let check = |root: Root| {
            let share = Share { name: "d".to_owned(), root, io_threads: None, number: 0 };
            check_shares(&[share], &layout).map_err(|error| error.to_string())
        };
        check(Root::Directory(path("data"))).unwrap();
        for root in [Root::Directory(path("state")), Root::Snapshot("/".into())] {
            let error = check(root).unwrap_err();
            assert!(
                error.starts_with("dataset d: / contains the run directory")
                    || error.contains("state contains the state directory"),
                "{error}"
            );
        }
    }
}
