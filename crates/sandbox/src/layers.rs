#![expect(unsafe_code, reason = "prctl(2) has an option that neither nix nor rustix offers")]
//! The layers, in the order in which they are put on.

use crate::view::View;
use crate::{Enforcement, Files, Profile, calls};
use ipc_proto::message::{SandboxLayer as Layer, SandboxLayers};
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{getegid, geteuid};
use rustix::thread::{self, CapabilitySet, CapabilitySets};
use std::error::Error;
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// Landlock of Linux 6.12, the newest of which the rules make use.
const LANDLOCK: ABI = ABI::V6;

/// Rights to files that are denied, those of Linux 5.19. Of the later ones truncate(2) is no listed call,
/// and devices are not read; each would have every open walk up to the root.
const LANDLOCK_FILES: ABI = ABI::V2;

/// True if a host that cannot have `layer` cannot run an enforced sandbox. Many hosts keep namespaces
/// from who is not root, and before Linux 6.3 written code is denied by system calls alone.
const fn is_required(layer: Layer) -> bool {
    !matches!(layer, Layer::Namespaces | Layer::WrittenCode)
}

fn put_on(
    layer: Layer,
    profile: &mut Profile<'_, '_>,
    report: &Report,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    match layer {
        Layer::Namespaces => return separate(&mut profile.files),
        Layer::Limits => limit(profile.keeps_memlock)?,
        Layer::NewPrivileges => prctl::set_no_new_privs()?,
        Layer::WrittenCode => deny_written_code()?,
        Layer::Landlock => return landlock(&profile.files, report.has(Layer::Namespaces)),
        Layer::Capabilities => drop_capabilities(profile.capabilities)?,
        Layer::Seccomp => {
            calls::hide_clone3()?;
            calls::narrow(profile.calls)?;
        }
    }
    Ok(())
}
/// The layers that a process has, and those that it lacks.
#[derive(Debug, Default)]
pub struct Report {
    /// All that are missing, with the kernel's reason.
    pub missing: Vec<(Layer, Box<dyn Error + Send + Sync>)>,
    is_off: bool,
}

impl Report {
    /// True if the process has that layer.
    #[must_use]
    pub fn has(&self, layer: Layer) -> bool {
        !self.is_off && self.missing.iter().all(|(missing, _)| *missing != layer)
    }

    /// The layers that the process has.
    #[must_use]
    pub fn layers(&self) -> SandboxLayers {
        Layer::ALL.into_iter().filter(|layer| self.has(*layer)).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_off {
            return f.write_str("off");
        }
        let has = |layer: &Layer| self.has(*layer);
        let names: Vec<_> = Layer::ALL.into_iter().filter(has).map(Layer::name).collect();
        f.write_str(&names.join(", "))?;
        for (i, (layer, error)) in self.missing.iter().enumerate() {
            let before = if i == 0 { "; without " } else { ", " };
            write!(f, "{before}{} ({error})", layer.name())?;
        }
        Ok(())
    }
}

/// A layer that has to be there is not.
#[derive(Debug)]
pub struct EnterError {
    layer: Layer,
    source: Box<dyn Error + Send + Sync>,
}

impl fmt::Display for EnterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { layer, source } = self;
        let name = layer.name();
        write!(f, "this host gives no {name} for the sandbox ({source}); ")?;
        f.write_str("--sandbox best-effort starts without what is missing")
    }
}

impl Error for EnterError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.source)
    }
}

/// Takes everything away from this process but what `profile` names. Call it while there is a single
/// thread.
///
/// # Errors
/// [`EnterError`] with [`Enforcement::Enforce`]; the process is to end then, as it may have lost some already.
pub fn enter(profile: &mut Profile<'_, '_>, mode: Enforcement) -> Result<Report, EnterError> {
    let mut report = Report { is_off: mode == Enforcement::Off, ..Report::default() };
    let layers: &[Layer] = if report.is_off { &[] } else { &Layer::ALL };
    for &layer in layers {
        if let Err(source) = put_on(layer, profile, &report) {
            if mode == Enforcement::Enforce && is_required(layer) {
                return Err(EnterError { layer, source });
            }
            report.missing.push((layer, source));
        }
    }
    Ok(report)
}

fn limit(keeps_memlock: bool) -> nix::Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    if !keeps_memlock {
        setrlimit(Resource::RLIMIT_MEMLOCK, 0, 0)?;
    }
    prctl::set_dumpable(false)
}

fn separate(files: &mut Files<'_, '_>) -> Result<(), Box<dyn Error + Send + Sync>> {
    let own = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC;
    match files {
        Files::Below { directories, keeps_cwd } => {
            let view = View::find(directories)?;
            unshare_as_anybody(own | CloneFlags::CLONE_NEWNS)?;
            view.become_root(*keeps_cwd)
        }
        Files::Removed { .. } => Ok(unshare(own)?),
    }
}

fn unshare_as_anybody(own: CloneFlags) -> io::Result<()> {
    match unshare(own) {
        Err(Errno::EPERM) => {}
        result => return Ok(result?),
    }
    let (user, group) = (geteuid(), getegid());
    unshare(own | CloneFlags::CLONE_NEWUSER)?;
    // It stays who it is, for files and for peers.
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
    fs::write("/proc/self/gid_map", format!("{group} {group} 1"))
}

fn deny_written_code() -> nix::Result<()> {
    // SAFETY: no pointers; prctl(2) wants the arguments that it does not use to be zero.
    let result = unsafe { libc::prctl(libc::PR_SET_MDWE, libc::PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) };
    Errno::result(result).map(drop)
}

fn landlock(
    files: &Files<'_, '_>,
    has_namespaces: bool,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let (directories, rights): (Vec<BorrowedFd<'_>>, _) = match files {
        Files::Below { directories, .. } => (
            directories.iter().map(|dir| dir.as_fd()).collect(),
            AccessFs::ReadFile | AccessFs::ReadDir,
        ),
        Files::Removed { directories } => {
            (directories.iter().map(AsFd::as_fd).collect(), AccessFs::RemoveFile.into())
        }
    };
    // Where nothing else can be found, rights to files would only have each file that is opened cost the way
    // to its root. Before Linux 6.7 there is no other right.
    let is_shown = has_namespaces && matches!(files, Files::Below { .. });
    for denies_files in if is_shown { [false, true] } else { [true; 2] } {
        let mut ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessNet::from_all(LANDLOCK))?
            .scope(BitFlags::<Scope>::all())?;
        let mut rules = Vec::new();
        if denies_files {
            ruleset = ruleset.handle_access(AccessFs::from_all(LANDLOCK_FILES))?;
            rules.extend(directories.iter().map(|dir| PathBeneath::new(*dir, rights)));
        }
        let rules = rules.into_iter().map(Ok::<_, RulesetError>);
        let status = ruleset.create()?.add_rules(rules)?.restrict_self()?;
        if status.ruleset != RulesetStatus::NotEnforced {
            return Ok(());
        }
    }
    Err("the kernel was built or started without it".into())
}

fn drop_capabilities(kept: CapabilitySet) -> rustix::io::Result<()> {
    for capability in CapabilitySet::all().difference(kept) {
        match thread::remove_capability_from_bounding_set(capability) {
            // Unknown to an older kernel, or nothing to take from a process without capabilities.
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::PERM) => {}
            Err(error) => return Err(error),
        }
    }
    thread::clear_ambient_capability_set()?;
    let held = thread::capabilities(None)?.permitted & kept;
    let sets =
        CapabilitySets { effective: held, permitted: held, inheritable: CapabilitySet::empty() };
    thread::set_capabilities(None, sets)
}
