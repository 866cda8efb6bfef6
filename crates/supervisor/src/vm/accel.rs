//! Finds out whether KVM runs guests here. `/dev/kvm` that opens proves nothing: there are hosts
//! whose guests hang, and ones that only run a BIOS. So the kernel and initrd that are going to be
//! used boot once, up to a sign of life of their `/init`.

use super::arch::Arch;
use super::image::Image;
use super::layout::Layout;
use super::plan::Accel;
use super::prepare;
use crate::cluster::Error;
use crate::deployment::Role;
use crate::say::say;
use crate::supervise::Supervisor;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

/// Exit status that QEMU's `isa-debug-exit` makes of the guest's sign of life.
const ALIVE: i32 = 33;

/// Word of the kernel's command line that the guest's `/init` looks for.
const PROBE_WORD: &str = "hashcluster.probe=1";

/// Start of the names of files with answers, and how many of them are kept: each image has its own.
const ANSWER: &str = "accel-";
const ANSWERS_MAX: usize = 8;

/// Time limit for a guest; the slowest good one seen took 3 s without KVM.
const LIMIT: Duration = Duration::from_secs(5);

/// KVM if it works, else what works everywhere. The answer is kept in `cache` for this boot of the
/// host, this QEMU and this image.
pub(super) fn probe(
    qemu: &Path,
    image: &Image,
    cache: &Path,
    layout: &Layout,
    supervisor: &mut Supervisor,
) -> Result<Accel, Error> {
    if !image.arch.is_native() {
        say(format_args!(
            "the VMs are for {}, and translated on this host (TCG)",
            image.arch.name()
        ));
        return Ok(Accel::Tcg);
    }
    if image.arch != Arch::X86_64 {
        // The sign of life is a device of x86-64.
        say(
            "whether KVM works is only found out for x86_64: VMs run without it, unless --accel kvm is given",
        );
        return Ok(Accel::Tcg);
    }
    if fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_err() {
        say("no access to /dev/kvm: VMs run without it (TCG), slower");
        return Ok(Accel::Tcg);
    }
    let kept = cache_file(qemu, image, cache);
    let known = kept.as_ref().and_then(|path| fs::read_to_string(path).ok());
    let accel = match known.as_deref() {
        Some("kvm") => Accel::Kvm,
        Some("tcg") => Accel::Tcg,
        _ => {
            let probe = probe_command(qemu, image);
            let (status, _) = prepare::long(layout, supervisor, &probe, Some(LIMIT))?;
            let accel = if status.code() == Some(ALIVE) { Accel::Kvm } else { Accel::Tcg };
            if let Some(path) = kept {
                // Without it the next start asks again.
                let _ = fs::create_dir_all(cache).and_then(|()| fs::write(path, accel.name()));
                drop_old_answers(cache);
            }
            accel
        }
    };
    if accel == Accel::Tcg {
        say("/dev/kvm opens but runs no guest here: VMs run without it (TCG), slower");
    }
    Ok(accel)
}

fn probe_command(qemu: &Path, image: &Image) -> Command {
    let append = format!("{} {PROBE_WORD}", Accel::Kvm.kernel_args(image.arch));
    let mut command = Command::new(qemu);
    command
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        .args([
            "-machine",
            "q35",
            "-accel",
            "kvm",
            "-cpu",
            image.arch.cpu(Accel::Kvm),
            "-m",
            "192M",
        ])
        .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04", "-append", &append])
        .arg("-kernel")
        .arg(image.kernel(Accel::Kvm))
        .arg("-initrd")
        .arg(image.initrd(Role::Worker));
    command
}

fn cache_file(qemu: &Path, image: &Image, cache: &Path) -> Option<PathBuf> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let version = Command::new(qemu).arg("--version").stdin(Stdio::null()).output().ok()?;
    let plain = |text: &str| text.chars().filter(char::is_ascii_alphanumeric).collect::<String>();
    let version = String::from_utf8_lossy(&version.stdout);
    let version = plain(version.lines().next()?);
    let name = format!("{ANSWER}{}-{:.40}-{}", plain(&boot), version, plain(&image.digest));
    Some(cache.join(name))
}

/// Removes all but the newest answers. What cannot be removed is tried again next time.
fn drop_old_answers(cache: &Path) {
    let entries = fs::read_dir(cache).into_iter().flatten().flatten();
    let is_answer = |name: &OsStr| name.as_encoded_bytes().starts_with(ANSWER.as_bytes());
    let mut answers: Vec<(SystemTime, PathBuf)> = entries
        .filter(|entry| is_answer(&entry.file_name()))
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    answers.sort_unstable_by(|one, other| other.cmp(one));
    for (_, path) in answers.iter().skip(ANSWERS_MAX) {
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_for_images_of_the_past_do_not_pile_up() {
        let cache = tempfile::tempdir().unwrap();
        for second in 0..12 {
            let file = fs::File::create(cache.path().join(format!("accel-{second:02}"))).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(second)).unwrap();
        }
        fs::write(cache.path().join("tools"), "").unwrap();
        drop_old_answers(cache.path());
        let mut left: Vec<String> = fs::read_dir(cache.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort_unstable();
        let want: Vec<String> = (4..12).map(|second| format!("accel-{second:02}")).collect();
        assert_eq!(left, [want, vec!["tools".to_owned()]].concat());
    }
}
