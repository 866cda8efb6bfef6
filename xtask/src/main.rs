//! `cargo xtask`: the commands of the project.
//!
//! No dependencies, so that it is built in a moment on a fresh machine. What it runs are the same
//! commands that a person would type; each fails with one line that says which.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command for people")]

mod aarch64;
mod api;
mod attack;
mod bench;
mod compliance;
mod croniter;
mod deb;
mod fuzz;
mod images;
mod install;
mod installs;
mod kernels;
mod miri;
mod monitoring;
mod oldest;
mod packages;
mod python;
mod release;
mod services;
mod status_page;
mod steps;
mod target;
mod tools;
mod yocto;

use std::process::ExitCode;
use tools::{Failure, cargo, run};

const USAGE: &str = "\
Usage: cargo xtask COMMAND

  build [bridge | --arch ARCH | --libc musl]
                  static release binaries; the last line of stdout names their directory. For x86_64 or aarch64:
                  those of a VM's image, with musl; with --libc musl all of them for this host; bridge: the
                  program for many hosts, which is in none of the others
  install --prefix DIR [--links]
                  release binaries, man pages and completions below DIR; with --links also links in
                  DIR/libexec/hashcluster/bin by the names of the programs that hashctl can stand for
  deb [--check]   a Debian package with all of that and services; --check also installs it in a clean
                  root directory, as root, and uses it there
  deb --services [vms]
                  starts, restarts and stops those services under a systemd in namespaces of its own; with vms
                  starts, reloads and stops VMs as a unit there; as root
  sbom            the same, with an SBOM in CycloneDX beside each binary
  reproduce       two release builds in different directories, which must be equal byte for byte
  test            everything that CI runs: format, clippy, house rules, shellcheck, build, tests
  test --libc musl
                  the tests of the real binaries and of VMs, with musl in all of them
  oldest ARG…     `cargo ARG…` with the oldest Rust that is supported, installed first where it is missing
  lint            the parts of `test` that run nothing: format, clippy, house rules, shellcheck,
                  documentation, dependencies
  attack [ARG]…   attacks on a running cluster beside an honest client, in up to 10 minutes; as root.
                  --quick is the part that `test` runs, --list only lists, other words select
  compliance [ARG]…
                  hashctl's personalities compared with the installed sha256sum, b3sum …; an ARG of its
                  own, --help lists them. HASHSUM_UNDER_TEST names another program or directory to try
  installs        the installations in docs/examples/many-hosts with kubectl, nats-server, docker-compose and schemas
  monitoring      monitoring/ with Debian's prometheus and prometheus-alertmanager, on a running cluster
  status-page     the controller's page in headless Chromium: it is live, accessible, and loads nothing from elsewhere
  croniter [EXPRESSIONS [SEED]]
                  due times of random cron expressions around clock changes, compared with those of
                  croniter [default: 10000 from a random seed]
  api [SECONDS [SEED]]
                  requests of every kind to the HTTP API of running controllers, by schemathesis from the
                  OpenAPI document [default: 300 from a random seed]
  sim [SEEDS]     the simulations of controller and bridge with SEEDS seeds each [default: 10000]
  sim items [NUMBER]
                  a job of NUMBER small files through 100 simulated hosts, in bounded memory [default: 10000000]
  fuzz [TARGET] [SECONDS]
                  libFuzzer on a fuzz target, or on all of them [default: 600 s each]
  soak [MINUTES]  mixed jobs on the static release binaries while workers are killed, files hang and
                  others flood: everything is right and given back [default: 30]
  kernels         the worker's kernels, once more for each CPU feature that is hidden
  aarch64         the same for aarch64 under qemu-aarch64; what is shipped builds for it, too
  miri            the protocol, parts of the controller's core, and the kernels with SHA extensions and AVX2
                  under Miri, which needs a nightly Rust
  valgrind        the worker's kernels for AVX2 under valgrind, which knows no newer ones
  bench [GROUP]…  benches of the real binaries against what people use today
  bench against DIR [GROUP]…
                  also against the programs of another build in DIR, in the same run
  bench libc      the programs with glibc and with musl, in turn; writes the table of docs/decisions/0028-libc.md
  images try debian|[arm64] [musl] [minimal] [disk]
                  the tests' main job in VMs of a development image: that of `./run.sh`, or one for arm64, with musl,
                  with the layer's kernel; on a disk a device with UEFI firmware, 20 power cuts and updates
  images sbom debian|[arm64] [musl]
                  such an image with its SBOM in CycloneDX; fails on a package or crate without licence
  images report   writes docs/images.md, the table of such runs
  yocto COMMAND   checks of meta-hashcluster/ and kas/; `yocto --help` lists them";

/// Seeds of a long simulation; a test run uses fewer.
const SIM_SEEDS: u64 = 10_000;

/// Files of a long simulated job; a test run uses fewer.
const SIM_ITEMS: u64 = 10_000_000;

/// Length of a soak run.
const SOAK_MINUTES: u64 = 30;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match args[..] {
        ["build"] => release::build().map(|bin_dir| println!("{}", bin_dir.display())),
        ["build", "bridge"] => release::build_bridge(target::Libc::Glibc)
            .map(|bin_dir| println!("{}", bin_dir.display())),
        ["build", "--libc", "musl"] => {
            release::build_musl().map(|bin_dir| println!("{}", bin_dir.display()))
        }
        ["build", "--arch", arch @ ("x86_64" | "aarch64")] => {
            release::build_for_image(arch).map(|bin_dir| println!("{}", bin_dir.display()))
        }
        ["install", ref args @ ..] => match install::InstallArgs::parse(args) {
            Ok(args) => install::install(&args),
            Err(what) => return usage(&what),
        },
        ["deb"] => deb::deb().map(|package| println!("{}", package.display())),
        ["deb", "--services"] => services::check(),
        ["deb", "--services", "vms"] => services::check_vms(),
        ["deb", "--check"] => deb::check().map(|package| println!("{}", package.display())),
        ["sbom"] => release::sbom(),
        ["reproduce"] => release::reproduce(),
        ["test"] => steps::test(),
        ["test", "--libc", "musl"] => steps::test_musl(),
        ["lint"] => steps::lint(),
        ["oldest", ref args @ ..] if !args.is_empty() => oldest::oldest(args),
        ["attack", ref args @ ..] => release::build().and_then(|dir| attack::attack(&dir, args)),
        ["compliance", ref args @ ..] => {
            release::build().and_then(|dir| compliance::compliance(&dir, args))
        }
        ["monitoring"] => release::build().and_then(|dir| {
            release::build_bridge(target::Libc::Glibc)?;
            monitoring::check(&dir)
        }),
        ["installs"] => release::build().and_then(|dir| {
            release::build_bridge(target::Libc::Glibc)?;
            installs::check(&dir)
        }),
        ["status-page"] => release::build().and_then(|dir| status_page::check(&dir)),
        ["croniter", ref args @ ..] if args.iter().all(|arg| arg.parse::<u32>().is_ok()) => {
            croniter::croniter(args)
        }
        ["api"] => release::build().and_then(|dir| api::api(&dir, &[api::LONG])),
        ["api", ref args @ ..]
            if args.len() <= 2 && args.iter().all(|arg| arg.parse::<u32>().is_ok()) =>
        {
            release::build().and_then(|dir| api::api(&dir, args))
        }
        ["sim"] => sim(SIM_SEEDS),
        ["sim", "items"] => items(SIM_ITEMS),
        ["sim", "items", number] => match number.parse() {
            Ok(number) => items(number),
            Err(_) => return usage(&format!("'{number}' is not a number of items")),
        },
        ["sim", seeds] => match seeds.parse() {
            Ok(seeds) => sim(seeds),
            Err(_) => return usage(&format!("'{seeds}' is not a number of seeds")),
        },
        ["fuzz", ref args @ ..] => match fuzz::FuzzArgs::parse(args) {
            Ok(args) => fuzz::fuzz(&args),
            Err(what) => return usage(&what),
        },
        ["soak"] => soak(SOAK_MINUTES),
        ["soak", minutes] => match minutes.parse() {
            Ok(minutes) => soak(minutes),
            Err(_) => return usage(&format!("'{minutes}' is not a number of minutes")),
        },
        ["kernels"] => kernels::run_here(),
        ["aarch64"] => aarch64::all(),
        ["miri"] => miri::all(),
        ["valgrind"] => valgrind(),
        ["bench", "libc"] => bench::compare_libcs(),
        ["bench", ref args @ ..] => match bench::BenchArgs::parse(args) {
            Ok(args) => bench::bench(&args),
            Err(what) => return usage(what),
        },
        ["images", "report"] => images::report(),
        ["images", what @ ("try" | "sbom"), ref words @ ..] if !words.is_empty() => {
            match images::ImageChoice::named(words) {
                Ok(image) if what == "try" => images::try_out(image),
                Ok(image) => images::sbom(image),
                Err(what) => return usage(&what),
            }
        }
        ["yocto", ref args @ ..] => match yocto::command(args) {
            Err(yocto::Error::Usage(what)) => return misused(&what, yocto::USAGE),
            Err(yocto::Error::Failed(failure)) => Err(failure),
            Ok(()) => Ok(()),
        },
        ["-h" | "--help" | "help"] => {
            println!("{USAGE}");
            Ok(())
        }
        [] => return usage("no command given"),
        [unknown, ..] => return usage(&format!("unknown command or arguments: {unknown}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("xtask: {failure}");
            failure.exit_code()
        }
    }
}

fn usage(what: &str) -> ExitCode {
    misused(what, USAGE)
}

fn misused(what: &str, usage: &str) -> ExitCode {
    eprintln!("xtask: {what}\n{usage}");
    ExitCode::from(2)
}

fn sim(seeds: u64) -> Result<(), Failure> {
    let test = ["test", "--release", "-p", "hashcluster-controller", "-p", "hashcluster-bridge"];
    // Of the core, of durable jobs, of schedules, and of many hosts.
    let filter = ["--test", "it", "--", "--nocapture", "simulation", "durable_jobs_have"];
    run(cargo(&test).args(filter).env("HASHCLUSTER_SIM_SEEDS", seeds.to_string()))
}

fn items(number: u64) -> Result<(), Failure> {
    let test =
        ["test", "--release", "-p", "hashcluster-bridge", "--test", "it", "--", "--nocapture"];
    run(cargo(&test).arg("long_list").env("HASHCLUSTER_SIM_ITEMS", number.to_string()))
}

fn soak(minutes: u64) -> Result<(), Failure> {
    let bin_dir = release::build()?;
    let soak = ["run", "--quiet", "-p", "system-tests", "--example", "soak", "--"];
    run(cargo(&soak).arg(minutes.to_string()).env("HASHCLUSTER_BIN_DIR", bin_dir))
}

/// Each message is in memory of its own, so that reading a byte outside it is an error.
fn valgrind() -> Result<(), Failure> {
    packages::ensure(packages::FOR_VALGRIND)?;
    let runner = format!("target.{}.runner", release::host()?);
    let runner = format!(r#"{runner} = ["valgrind", "--quiet", "--error-exitcode=1"]"#);
    let test =
        ["test", "-p", "engine", "-p", "hashcluster-worker", "--test", "it", "--config", &runner];
    let filter = ["--", "by_every_backend"];
    let backends = kernels::backends_with(&["avx2"]).join(",");
    run(cargo(&test).args(filter).env(kernels::REQUIRE_BACKENDS, backends))
}
