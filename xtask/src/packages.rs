//! Host programs that tests and benches need, and the Debian packages that contain them.

use crate::tools::{Failure, has_program, run};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

/// True once this run has read the lists of packages.
static LISTS_READ: AtomicBool = AtomicBool::new(false);

/// A program or the path of a file, and the packages to install when it is missing.
pub(crate) type Need = (&'static str, &'static [&'static str]);

/// Programs of `cargo xtask test`, besides cargo. A missing oracle fails a test.
pub(crate) const FOR_TESTS: &[Need] = &[
    ("cc", &["gcc", "libc6-dev"]),
    ("git", &["git"]),
    ("shellcheck", &["shellcheck"]),
    ("python3", &["python3"]),
    ("sha256sum", &["coreutils"]),
    ("b3sum", &["b3sum"]),
    ("fincore", &["util-linux-extra"]),
    ("strace", &["strace"]),
    ("rsyslogd", &["rsyslog"]),
    ("curl", &["curl"]),
    ("nats-server", &["nats-server"]),
    ("openssl", &["openssl"]),
    ("jq", &["jq"]),
    // With its library, which tests put before a program.
    ("faketime", &["faketime"]),
    ("ip", &["iproute2"]),
    ("tc", &["iproute2"]),
];

/// Programs of `cargo xtask monitoring`.
pub(crate) const FOR_MONITORING: &[Need] = &[
    ("prometheus", &["prometheus"]),
    ("promtool", &["prometheus"]),
    ("prometheus-alertmanager", &["prometheus-alertmanager"]),
    ("prometheus-node-exporter", &["prometheus-node-exporter"]),
    ("docker-compose", &["docker-compose"]),
    ("nats-server", &["nats-server"]),
];

/// Programs of `cargo xtask installs`.
pub(crate) const FOR_INSTALLATIONS: &[Need] = &[
    ("kubectl", &["kubernetes-client"]),
    ("docker-compose", &["docker-compose"]),
    ("nats-server", &["nats-server"]),
    ("openssl", &["openssl"]),
];

/// Programs of `cargo xtask status-page`.
pub(crate) const FOR_BROWSER: &[Need] =
    &[("chromium", &["chromium"]), ("node", &["nodejs"]), ("npm", &["npm"])];

/// Programs of `cargo xtask valgrind`, which needs the symbols of the C library.
pub(crate) const FOR_VALGRIND: &[Need] = &[("valgrind", &["valgrind", "libc6-dbg"])];

/// Programs of `cargo xtask fuzz`, besides cargo-fuzz: libFuzzer is C++.
pub(crate) const FOR_FUZZING: &[Need] = &[("c++", &["g++"])];

/// Programs of `cargo xtask aarch64`.
pub(crate) const FOR_AARCH64: &[Need] =
    &[FOR_CROSS[0], FOR_CROSS[1], ("qemu-aarch64", &["qemu-user"])];

/// The compiler of release binaries for aarch64 on other machines, and the headers that it does not bring.
pub(crate) const FOR_CROSS: &[Need] = &[
    ("aarch64-linux-gnu-gcc", &["gcc-aarch64-linux-gnu"]),
    ("/usr/aarch64-linux-gnu/include/assert.h", &["libc6-dev-arm64-cross"]),
];

/// Programs that `cargo xtask bench` measures against.
pub(crate) const FOR_BENCHES: &[Need] = &[
    ("cc", &["gcc", "libc6-dev"]),
    ("sha256sum", &["coreutils"]),
    ("openssl", &["openssl"]),
    ("rhash", &["rhash"]),
    ("redis-server", &["redis-server"]),
];

/// Programs that `cargo xtask bench journal` measures against.
pub(crate) const FOR_JOURNAL_BENCH: &[Need] =
    &[("cc", &["gcc", "libc6-dev"]), ("nats-server", &["nats-server"])];

/// Requirements of `cargo xtask bench simd`: a compiler for `ring`, and the package of libcrypto.
pub(crate) const FOR_SIMD_BENCH: &[Need] =
    &[("cc", &["gcc", "libc6-dev"]), ("openssl", &["openssl"])];

/// Programs of `cargo xtask bench vm`, in addition to those of `qemu/setup.sh`.
pub(crate) const FOR_VM_BENCH: &[Need] =
    &[("cc", &["gcc", "libc6-dev"]), ("qemu-x86_64", &["qemu-user"])];

/// Programs that install and run Python packages; bitbake's fetcher calls wget.
pub(crate) const FOR_PYTHON: &[Need] = &[("python3", &["python3"]), ("wget", &["wget"])];

/// Programs that bitbake requires at its start (HOSTTOOLS of oe-core).
pub(crate) const FOR_BITBAKE: &[Need] = &[
    ("python3", &["python3"]),
    ("wget", &["wget"]),
    ("g++", &["g++"]),
    ("make", &["make"]),
    ("patch", &["patch"]),
    ("perl", &["perl"]),
    ("chrpath", &["chrpath"]),
    ("diffstat", &["diffstat"]),
    ("gawk", &["gawk"]),
    ("cpio", &["cpio"]),
    ("file", &["file"]),
    ("lz4", &["lz4"]),
    ("zstd", &["zstd"]),
    ("xz", &["xz-utils"]),
    ("rpcgen", &["rpcsvc-proto"]),
    ("localedef", &["locales", "libc-bin"]),
];

/// Substitutes for tools that oe-core would build (`xtask/yocto/smoke`).
pub(crate) const FOR_SMOKE: &[Need] = &[
    ("pseudo", &["pseudo"]),
    ("quilt", &["quilt"]),
    ("apt-ftparchive", &["apt-utils"]),
    ("pkg-config", &["pkg-config"]),
];

/// Installs the missing ones of `needs` as root; otherwise the error says how to.
pub(crate) fn ensure(needs: &[Need]) -> Result<(), Failure> {
    let missing: Vec<&Need> = needs.iter().filter(|(program, _)| !has_program(program)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let programs: Vec<&str> = missing.iter().map(|(program, _)| *program).collect();
    install(&programs.join(", "), &packages_of(&missing))?;
    match missing.iter().find(|(program, _)| !has_program(program)) {
        None => Ok(()),
        Some((program, _)) => Err(Failure::Wrong(format!("{program} is still not in PATH"))),
    }
}

/// Debian's support for Python virtual environments is a separate package.
pub(crate) fn ensure_python_venv() -> Result<(), Failure> {
    let mut python = Command::new("python3");
    python.args(["-c", "import ensurepip, venv"]).stderr(Stdio::null());
    if python.status().is_ok_and(|status| status.success()) {
        return Ok(());
    }
    install("the module ensurepip of Python", &["python3-venv"])
}

fn install(missing: &str, packages: &[&str]) -> Result<(), Failure> {
    if !(is_root() && has_program("apt-get")) {
        let packages = packages.join(" ");
        return Err(Failure::Packages {
            missing: missing.into(),
            install: format!("sudo apt-get update && sudo apt-get install -y {packages}"),
        });
    }
    // The lists do not change within a run.
    if !LISTS_READ.swap(true, Ordering::Relaxed) {
        run(apt_get().arg("update"))?;
    }
    run(apt_get().args(["install", "-y", "--no-install-recommends"]).args(packages))
}

fn packages_of(needs: &[&Need]) -> Vec<&'static str> {
    needs.iter().flat_map(|(_, packages)| packages.iter().copied()).collect()
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.arg("-q").env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// True for root: a process's own entry in /proc belongs to its effective user (proc_pid(5)).
pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::root;

    #[test]
    fn programs_that_are_present_are_not_installed() {
        assert!(ensure(&[("sh", &["no-such-package"])]).is_ok());
    }

    #[test]
    fn every_missing_program_adds_all_its_packages() {
        let needs = [&FOR_TESTS[0], &FOR_TESTS[1]];
        assert_eq!(packages_of(&needs), ["gcc", "libc6-dev", "git"]);
    }

    #[test]
    fn vms_for_arm64_have_what_cross_builds_need() {
        let script = fs::read_to_string(root().join("qemu/host-packages.sh")).unwrap();
        for (program, packages) in FOR_CROSS {
            for package in *packages {
                let line = format!("{program} {package}");
                assert!(script.lines().any(|other| other == line), "{line}");
            }
        }
    }
}
