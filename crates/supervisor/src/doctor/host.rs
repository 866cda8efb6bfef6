//! Checks that this host can run VMs.

use super::ask::{ask, find, version};
use super::diagnosis::{CheckResult, Diagnosis};
use super::remedy::{Commands, Remedy};
use super::report::plain_bytes;
use crate::quote;
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{User, geteuid};
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

/// Programs of the host and their Debian packages, as in qemu/host-packages.sh.
const NEEDS: [(&str, &str); 11] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("mkfs.erofs", "erofs-utils"),
    ("mkfs.ext4", "e2fsprogs"),
    ("cpio", "cpio"),
    ("lz4", "lz4"),
    ("depmod", "kmod"),
    ("modprobe", "kmod"),
    ("dropbearkey", "dropbear-bin"),
    ("ssh", "openssh-client"),
    ("ssh-keygen", "openssh-client"),
    ("flock", "util-linux"),
];

/// Programs of the project beside this one.
const OWN_PROGRAMS: [&str; 3] = ["hashctl", "hashcluster-controller", "hashcluster-worker"];

/// Time limit for qemu/setup.sh, which looks and builds nothing.
const SETUP_LIMIT: Duration = Duration::from_secs(5);

/// Open files that a file server of a dataset may need at least.
const OPEN_FILES_MIN: u64 = 4096;

/// Findings of qemu/setup.sh.
#[derive(Debug, Default)]
pub(super) struct HostSetup {
    pub(super) image: Option<PathBuf>,
    vsock: Option<PathBuf>,
    virtiofsd: Option<PathBuf>,
}

/// The name of this user, or its number.
pub(super) fn user_name() -> String {
    let uid = geteuid();
    User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
}

pub(super) fn user() -> CheckResult {
    match geteuid().is_root() {
        true => Diagnosis::RootUser.of(
            "user",
            "root, so QEMU and its daemons have the rights of root",
            Remedy::say(
                "run the cluster as a user of its own, which needs no right but to open /dev/kvm",
            ),
        ),
        false => CheckResult::ok("user", user_name()),
    }
}

/// The programs of the project: beside this one, and of its version.
pub(super) fn own_programs(dir: &Path, commands: &Commands) -> Vec<CheckResult> {
    let want = env!("CARGO_PKG_VERSION");
    let fault = |name: &str| {
        let path = dir.join(name);
        let found = match path.exists() {
            true => version(&path, "--version"),
            false => Err("is missing".to_owned()),
        };
        let why = match found {
            Ok(said) if said.rsplit(' ').next() == Some(want) => return None,
            Ok(said) => format!("is {said}, and hashcluster-vm is {want}"),
            Err(error) => error,
        };
        let build = Remedy::run(commands.at_root("cargo xtask build"));
        let text = format!("{} {why}", path.display());
        Some(Diagnosis::OwnProgramMissing.of("programs", text, build))
    };
    let faults: Vec<CheckResult> = OWN_PROGRAMS.iter().filter_map(|name| fault(name)).collect();
    match faults.is_empty() {
        true => vec![CheckResult::ok("programs", format!("version {want} in {}", dir.display()))],
        false => faults,
    }
}

/// The programs of the host.
pub(super) fn programs() -> Vec<CheckResult> {
    let missing: Vec<CheckResult> =
        NEEDS.iter().filter(|(name, _)| find(name).is_none()).map(missing).collect();
    if !missing.is_empty() {
        return missing;
    }
    let said = |name: &str, option| {
        find(name).map_or_else(String::new, |path| version(&path, option).unwrap_or_else(|e| e))
    };
    let text = format!("{}, {}", said("qemu-system-x86_64", "--version"), said("ssh", "-V"));
    vec![CheckResult::ok("host programs", text)]
}

fn missing((name, package): &(&str, &str)) -> CheckResult {
    let remedy = match find("apt-get") {
        Some(_) => {
            let sudo = if geteuid().is_root() { "" } else { "sudo " };
            Remedy::run(format!("{sudo}apt-get install -y --no-install-recommends {package}"))
        }
        None => Remedy::say(format!("install it; Debian has it in the package {package}")),
    };
    Diagnosis::ProgramMissing.of("host programs", format!("{name} is missing"), remedy)
}

/// Asks qemu/setup.sh for the daemons and the image of VMs, without building them.
pub(super) fn setup(
    image: Option<&OsStr>,
    bin_dir: &Path,
    commands: &Commands,
) -> (HostSetup, Vec<CheckResult>) {
    let Some(script) = commands.root.as_ref().map(|root| root.join("qemu/setup.sh")) else {
        let setup = HostSetup {
            image: image.map(PathBuf::from),
            vsock: find("vhost-device-vsock"),
            virtiofsd: find("virtiofsd"),
        };
        return (setup, Vec::new());
    };
    let mut args: Vec<OsString> = vec!["--dry-run".into()];
    args.extend(image.into_iter().flat_map(|image| ["--image".into(), image.to_owned()]));
    args.push(bin_dir.into());
    let words = match ask(&script, &args, b"", SETUP_LIMIT) {
        Ok(answer) if answer.succeeded() => return (parse_setup(&answer.stdout), Vec::new()),
        Ok(answer) => answer.last_words(),
        Err(error) => error.to_string(),
    };
    let remedy = match image.is_some_and(|image| image == "yocto") {
        true => {
            Remedy::run(commands.at_root("kas build kas/hashcluster.yml")).note("several hours")
        }
        false => Remedy::run(format!("{} --dry-run", commands.start())).note("shows it all"),
    };
    (HostSetup::default(), vec![Diagnosis::SetupFailed.of("set-up", words, remedy)])
}

fn parse_setup(text: &[u8]) -> HostSetup {
    let value = |option: &str| {
        let mut lines = text.split(|&byte| byte == b'\n');
        let value = lines.find_map(|line| line.strip_prefix(option.as_bytes()))?;
        (!value.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(value)))
    };
    HostSetup {
        image: value("--image="),
        vsock: value("--vsock="),
        virtiofsd: value("--virtiofsd="),
    }
}

/// The two daemons of VMs.
pub(super) fn daemons(setup: &HostSetup, cache: &Path, commands: &Commands) -> Vec<CheckResult> {
    let daemon = |name: &str, path: Option<&PathBuf>| {
        let build = commands.of_tree("qemu/tools.sh");
        let Some(path) = path else {
            let remedy = Remedy::run(build).note("some minutes, once; ./run.sh does it, too");
            return Diagnosis::DaemonMissing.of(name, "not built yet", remedy);
        };
        match version(path, "--version") {
            Ok(said) => CheckResult::ok(name, format!("{said}, {}", path.display())),
            Err(words) => {
                let remedy = match path.starts_with(cache) {
                    true => Remedy::run(format!("rm -f {} && {build}", quote::path(path))),
                    false => Remedy::say("reinstall the package that it comes from"),
                };
                let text = format!("{} does not run: {words}", path.display());
                Diagnosis::DaemonBroken.of(name, text, remedy)
            }
        }
    };
    vec![
        daemon("vhost-device-vsock", setup.vsock.as_ref()),
        daemon("virtiofsd", setup.virtiofsd.as_ref()),
    ]
}

/// That it opens proves nothing; a start tests it and leaves the result in the cache.
pub(super) fn kvm(cache: &Path) -> CheckResult {
    let subject = "/dev/kvm";
    match OpenOptions::new().read(true).write(true).open(subject) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let remedy =
                Remedy::say("switch virtualisation on in the firmware, or pass --accel tcg");
            return Diagnosis::KvmMissing.of(subject, "not there, VMs are slow", remedy);
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let command =
                format!("sudo usermod -aG kvm {}", quote::shell(OsStr::new(&user_name())));
            let remedy = Remedy::run(command).note("then log in again");
            return Diagnosis::KvmDenied.of(subject, "not for this user, VMs are slow", remedy);
        }
        Err(error) => {
            let text = format!("cannot be opened, VMs are slow: {error}");
            return Diagnosis::KvmMissing.of(subject, text, Remedy::say("pass --accel tcg"));
        }
    }
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let boot: String = boot.chars().filter(char::is_ascii_alphanumeric).collect();
    let prefix = format!("accel-{boot}-");
    match latest_result(cache, &prefix).as_deref() {
        None => CheckResult::ok(subject, "opens; the next start finds out if it runs guests"),
        Some("kvm") => CheckResult::ok(subject, "runs guests"),
        Some(_) => {
            let files = format!("{}*", quote::path(&cache.join(prefix)));
            let remedy =
                Remedy::run(format!("rm {files}")).note("so that the next start tries again");
            let text = "opens and runs no guest, as on some nested hosts; VMs are slow";
            Diagnosis::KvmBroken.of(subject, text, remedy)
        }
    }
}

/// The youngest result of a test of KVM.
fn latest_result(cache: &Path, prefix: &str) -> Option<String> {
    let entries = fs::read_dir(cache).ok()?.flatten();
    let results = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
    let latest =
        results.max_by_key(|entry| entry.metadata().and_then(|data| data.modified()).ok())?;
    fs::read_to_string(latest.path()).ok()
}

/// A file server has a mount namespace of its own; tried as a start does it.
pub(super) fn namespaces(needed: bool) -> CheckResult {
    let subject = "mount namespaces";
    let mut view = Command::new(env::current_exe().unwrap_or_else(|_| "hashcluster-vm".into()));
    view.args(["share-view", "--chdir", "/", "--", "true"]);
    let output = view.stdin(Stdio::null()).stdout(Stdio::null()).output();
    if output.as_ref().is_ok_and(|output| output.status.success()) {
        return CheckResult::ok(subject, "directories can be shown to VMs");
    }
    let why = output.map_or_else(|error| error.to_string(), |output| plain_bytes(&output.stderr));
    let switches = [
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        ("/proc/sys/kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
        ("/proc/sys/user/max_user_namespaces", "0", "user.max_user_namespaces=10000"),
    ];
    let is_set =
        |path: &str, value: &str| fs::read_to_string(path).is_ok_and(|text| text.trim() == value);
    let switch = switches.iter().find(|(path, value, _)| is_set(path, value));
    let remedy = match switch {
        Some((_, _, setting)) => Remedy::run(format!("sudo sysctl -w {setting}")),
        None => Remedy::say("a container has to allow them from outside; or start with --snapshot"),
    };
    match needed {
        true => Diagnosis::DatasetsUnshareable.of(subject, why, remedy),
        false => Diagnosis::NamespacesDenied.of(subject, why, remedy),
    }
}

/// File servers raise their soft limit to the hard one.
pub(super) fn open_files() -> CheckResult {
    let subject = "open files";
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((_, hard)) if hard < OPEN_FILES_MIN => {
            let user = user_name();
            let line = quote::shell(OsStr::new(&format!("{user} hard nofile 524288")));
            let command =
                format!("echo {line} | sudo tee -a /etc/security/limits.d/hashcluster.conf");
            let remedy = Remedy::run(command).note("then log in again");
            Diagnosis::FewDescriptors.of(subject, format!("hard limit {hard}"), remedy)
        }
        Ok((_, hard)) => CheckResult::ok(subject, format!("hard limit {hard}")),
        Err(error) => CheckResult::ok(subject, format!("limit unknown: {error}")),
    }
}

/// VMs take their time from the host.
pub(super) fn clock() -> CheckResult {
    let built = env::current_exe().and_then(fs::metadata).and_then(|data| data.modified());
    let ahead = built.ok().and_then(|built| built.duration_since(SystemTime::now()).ok());
    match ahead.filter(|ahead| ahead.as_secs() > 60) {
        Some(ahead) => {
            let text = format!("{} s before this program was built", ahead.as_secs());
            let remedy =
                Remedy::run("sudo timedatectl set-ntp true").note("or set it by `date -s`");
            Diagnosis::ClockBehind.of("clock", text, remedy)
        }
        None => CheckResult::ok("clock", "after the build of this program"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_programs_are_those_of_host_packages() {
        let script = include_str!("../../../../qemu/host-packages.sh");
        let (_, list) = script.split_once("NEEDS='\n").unwrap();
        let (list, _) = list.split_once('\'').unwrap();
        let want: Vec<(&str, &str)> =
            list.lines().map(|line| line.split_once(' ').unwrap()).collect();
        assert_eq!(NEEDS.to_vec(), want);
    }

    #[test]
    fn the_youngest_result_of_a_test_of_kvm_counts() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(latest_result(dir.path(), "accel-b-"), None);
        for (name, result, age_s) in
            [("accel-b-1", "kvm", 9), ("accel-b-2", "tcg", 5), ("accel-c-1", "kvm", 1)]
        {
            let path = dir.path().join(name);
            fs::write(&path, result).unwrap();
            let file = fs::File::open(path).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age_s)).unwrap();
        }
        assert_eq!(latest_result(dir.path(), "accel-b-").as_deref(), Some("tcg"));
    }

    #[test]
    fn the_output_of_setup_is_read_line_by_line() {
        let setup = parse_setup(b"--image=/a b\n--vsock=/v\n--virtiofsd-kind=c\n");
        assert_eq!(setup.image, Some("/a b".into()));
        assert_eq!((setup.vsock, setup.virtiofsd), (Some("/v".into()), None));
    }
}
