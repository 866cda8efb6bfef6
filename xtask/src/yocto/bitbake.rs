//! Commands of oe-core and bitbake, in directories that the caller cloned: nothing is fetched here.
//!
//! bitbake refuses to run as root, so root runs it as a user created for it.

use super::versions::rust_of_series;
use crate::packages;
use crate::python::FOR_YOCTO;
use crate::tools::{Failure, judge, root, run};
use std::env;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const USER: &str = "hashcluster-build";

const MACHINES: [&str; 2] = ["qemux86-64", "qemuarm64"];

const TARGETS: [&str; 3] =
    ["hashcluster-image-controller", "hashcluster-image-worker", "hashcluster-vm-image"];

/// Directories of one build, and whether bitbake needs another user.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) oe_core: PathBuf,
    bitbake: PathBuf,
    pub(super) work: PathBuf,
    is_root: bool,
}

pub(super) fn parse() -> Result<(), Failure> {
    let site = Site::find("parse")?;
    for machine in MACHINES {
        let build = site.build_dir(machine, "")?;
        let said = site.bitbake(&build, &["-p"])?;
        println!("{machine}: {}", line_with(&said, "Parsing of "));
    }
    Ok(())
}

pub(super) fn dry_run() -> Result<(), Failure> {
    let site = Site::find("dry-run")?;
    for machine in MACHINES {
        // As kas/no-runqemu.yml: thousands of tasks of a native QEMU say nothing about this layer.
        let build = site.build_dir(machine, "IMAGE_CLASSES:remove = \"qemuboot\"\n")?;
        let said = site.bitbake(&build, &[&["-n"], &TARGETS[..]].concat())?;
        println!("{machine}: {}", line_with(&said, "Tasks Summary"));
    }
    Ok(())
}

impl Site {
    pub(super) fn find(what: &'static str) -> Result<Self, Failure> {
        let dir = |name| env::var_os(name).filter(|dir| !dir.is_empty()).map(PathBuf::from);
        let (Some(oe_core), Some(bitbake)) = (dir("OE_CORE_DIR"), dir("BITBAKE_DIR")) else {
            return Err(Failure::Unavailable {
                what: format!("yocto {what}"),
                how: format!(
                    "clone openembedded-core (branch wrynose) and bitbake (branch 2.18), then\n    \
                     OE_CORE_DIR=… BITBAKE_DIR=… cargo xtask yocto {what}"
                ),
            });
        };
        let (oe_core, bitbake) = (absolute(&oe_core)?, absolute(&bitbake)?);
        check_has(&bitbake, "bin/bitbake")?;
        check_has(&oe_core, "meta/conf/bitbake.conf")?;
        // versions::check relies on it.
        check_has(&oe_core, &format!("meta/recipes-devtools/rust/rust_{}.bb", rust_of_series()))?;
        packages::ensure(packages::FOR_BITBAKE)?;
        let work = match dir("YOCTO_WORK_DIR") {
            Some(dir) => dir,
            None => FOR_YOCTO.work_dir()?.join("build"),
        };
        fs::create_dir_all(&work).map_err(told(&work))?;
        let site = Self { oe_core, bitbake, work: absolute(&work)?, is_root: packages::is_root() };
        site.make_user()?;
        site.make_locale()?;
        Ok(site)
    }

    fn make_user(&self) -> Result<(), Failure> {
        if !self.is_root {
            return Ok(());
        }
        let mut id = Command::new("id");
        id.arg(USER).stdout(Stdio::null()).stderr(Stdio::null());
        if !id.status().is_ok_and(|status| status.success()) {
            run(Command::new("useradd").args(["--system", "--user-group", USER]))?;
        }
        for dir in [&self.oe_core, &self.bitbake, &root()] {
            let mut look = Command::new("runuser");
            look.args(["-u", USER, "--", "ls"]).arg(dir).stdout(Stdio::null());
            run(&mut look).map_err(|_| {
                let dir = dir.display();
                Failure::Wrong(format!(
                    "the user {USER}, who runs bitbake for root, cannot read {dir}"
                ))
            })?;
        }
        Ok(())
    }

    fn make_locale(&self) -> Result<(), Failure> {
        let has = Command::new("locale").arg("-a").output();
        let has = has.is_ok_and(|all| String::from_utf8_lossy(&all.stdout).contains("en_US.utf8"));
        if has {
            return Ok(());
        } else if !self.is_root {
            let how = "the locale en_US.UTF-8 is missing; \
                       run `sudo localedef -i en_US -f UTF-8 en_US.UTF-8`";
            return Err(Failure::Wrong(how.into()));
        }
        run(Command::new("localedef").args(["-i", "en_US", "-f", "UTF-8", "en_US.UTF-8"]))
    }

    /// A build directory as kas makes it, with the layer of this tree.
    fn build_dir(&self, machine: &str, more: &str) -> Result<PathBuf, Failure> {
        let layers = root().join("meta-hashcluster").display().to_string();
        let more = format!("DISTRO = \"hashcluster\"\n{more}");
        self.build_dir_of(machine, machine, &layers, &more)
    }

    /// A build directory with its own name and with `layers` in addition to oe-core.
    pub(super) fn build_dir_of(
        &self,
        name: &str,
        machine: &str,
        layers: &str,
        more: &str,
    ) -> Result<PathBuf, Failure> {
        let build = self.work.join(name);
        let conf = build.join("conf");
        fs::create_dir_all(&conf).map_err(told(&conf))?;
        let core = self.oe_core.display();
        let layers = format!(
            "LCONF_VERSION = \"7\"\nBBPATH = \"${{TOPDIR}}\"\nBBFILES ?= \"\"\n\
             BBLAYERS = \"{core}/meta {layers}\"\n"
        );
        let local = format!(
            "CONF_VERSION = \"2\"\nMACHINE = \"{machine}\"\n\
             CONNECTIVITY_CHECK_URIS = \"\"\nINHERIT_DISTRO:remove = \"uninative\"\n\
             BB_SERVER_TIMEOUT = \"0\"\n{more}"
        );
        for (name, text) in [("bblayers.conf", layers), ("local.conf", local)] {
            let path = conf.join(name);
            fs::write(&path, text).map_err(told(&path))?;
        }
        self.give(&build)?;
        Ok(build)
    }

    /// Makes the user who runs bitbake the owner of `path` and everything below it.
    pub(super) fn give(&self, path: &Path) -> Result<(), Failure> {
        if !self.is_root {
            return Ok(());
        }
        run(Command::new("chown").args(["-R", USER]).arg(path))
    }

    /// Runs bitbake to its end and returns its output, if it succeeded without a warning or error
    /// about our layer.
    pub(super) fn bitbake(&self, build: &Path, args: &[&str]) -> Result<String, Failure> {
        self.run_in(build, &self.bitbake.join("bin/bitbake"), args)
    }

    /// Runs another program of bitbake or oe-core in the same way. Programs in `tools` of the build
    /// directory come first in its path.
    pub(super) fn run_in(
        &self,
        build: &Path,
        program: &Path,
        args: &[&str],
    ) -> Result<String, Failure> {
        let mut command = if self.is_root {
            let mut command = Command::new("runuser");
            command.args(["-u", USER, "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        let path = [build.join("tools"), self.oe_core.join("scripts"), self.bitbake.join("bin")];
        let path = path.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(":");
        let log = build.join("bitbake.log");
        let out = File::create(&log).map_err(told(&log))?;
        let err = out.try_clone().map_err(told(&log))?;
        command.args(args).current_dir(build).stdin(Stdio::null()).stdout(out).stderr(err);
        command.env_clear().env("HOME", build).env("LANG", "en_US.UTF-8").env("BUILDDIR", build);
        command.env("PATH", format!("{path}:/usr/sbin:/usr/bin:/sbin:/bin"));
        // The checkouts belong to the user who started us.
        command.env("GIT_CONFIG_COUNT", "1").env("GIT_CONFIG_KEY_0", "safe.directory");
        command.env("GIT_CONFIG_VALUE_0", "*");
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        println!("{name} {} in {}", args.join(" "), build.display());
        let status = command.status();
        let said = fs::read_to_string(&log).map_err(told(&log))?;
        let ours = faults(&said);
        if !ours.is_empty() {
            let what = format!("bitbake reports about this layer:\n  {}", ours.join("\n  "));
            return Err(Failure::Wrong(what));
        }
        let last: Vec<&str> = said.lines().rev().take(20).collect();
        judge(&command, status).inspect_err(|_| {
            last.iter().rev().for_each(|line| eprintln!("{line}"));
        })?;
        Ok(said)
    }
}

/// Warnings and errors about this layer.
fn faults(said: &str) -> Vec<&str> {
    let is_fault = |line: &&str| line.contains("WARNING: ") || line.contains("ERROR: ");
    said.lines().filter(is_fault).filter(|line| line.contains("hashcluster")).collect()
}

pub(super) fn line_with<'a>(said: &'a str, what: &str) -> &'a str {
    said.lines().find(|line| line.contains(what)).unwrap_or("done")
}

fn absolute(dir: &Path) -> Result<PathBuf, Failure> {
    fs::canonicalize(dir).map_err(told(dir))
}

fn check_has(dir: &Path, file: &str) -> Result<(), Failure> {
    if dir.join(file).is_file() {
        return Ok(());
    }
    Err(Failure::Wrong(format!("{}: {file} is missing; is it the right branch?", dir.display())))
}

pub(super) fn told(path: &Path) -> impl Fn(io::Error) -> Failure {
    let path = path.display().to_string();
    move |error| Failure::Wrong(format!("{path}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_about_other_layers_are_ignored() {
        let said = "NOTE: hashcluster\nWARNING: glibc: x\nWARNING: hashctl-0.1.0: hashcluster x\n";
        assert_eq!(faults(said), ["WARNING: hashctl-0.1.0: hashcluster x"]);
    }
}
