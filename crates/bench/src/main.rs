#![expect(clippy::print_stdout, reason = "a bench prints its results")]
#![expect(clippy::cast_precision_loss, reason = "counts become figures for people")]
//! Ratios, measured side by side and interleaved in one run; `docs/benchmarks.md` has the method.
//!
//! Usage: `bench [GROUP…]`, through `cargo xtask bench`. Without a group, all but those that take
//! minutes or are of no daemon. With another build's programs in `HASHCLUSTER_OTHER_BIN_DIR` each
//! group is also held against that build.

mod bystander;
mod contest;
mod embedded;
mod files;
mod fleet;
mod hosts;
mod idle;
mod inline;
mod journal;
mod latency;
mod machine;
mod nats;
mod one_shot;
mod other;
mod overhead;
mod peers;
mod report;
mod sides;
mod simd;
mod vm;

use report::Report;

/// A name, the measurements, and how another build is measured.
type Group = (&'static str, fn(&mut Report), Against);

/// The part of a group in a comparison of builds.
#[derive(Clone, Copy, PartialEq)]
enum Against {
    /// The programs of both builds are contenders of the group.
    Contenders,
    /// The group speaks the protocol: each build's own bench program measures it.
    OwnBench,
    /// There is no comparison.
    Nothing,
}

const GROUPS: [Group; 10] = [
    ("latency", latency::run, Against::OwnBench),
    ("bystander", bystander::run, Against::OwnBench),
    ("inline", inline::run, Against::OwnBench),
    ("one_shot", one_shot::run, Against::Contenders),
    ("files", files::run, Against::Contenders),
    ("longer", files::run_longer, Against::Contenders),
    ("large", files::run_large, Against::Contenders),
    ("pair", files::run_pair, Against::Contenders),
    ("fleet", fleet::run, Against::OwnBench),
    ("idle", idle::run, Against::OwnBench),
];

/// Groups that run only when they are named.
const NAMED_GROUPS: [Group; 7] = [
    ("containment", overhead::containment, Against::Nothing),
    ("embedded", embedded::run, Against::Nothing),
    ("hosts", hosts::run, Against::Nothing),
    ("journal", journal::run, Against::Nothing),
    ("metrics", overhead::metrics, Against::Nothing),
    ("simd", simd::run, Against::Nothing),
    ("vm", vm::run, Against::Contenders),
];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [word, path] = &args[..]
        && word == "redis-worker"
    {
        return latency::redis_worker(path);
    }
    let groups = || GROUPS.iter().chain(&NAMED_GROUPS);
    if let Some(unknown) = args.iter().find(|arg| groups().all(|(name, ..)| name != arg)) {
        let names: Vec<_> = groups().map(|(name, ..)| *name).collect();
        println!("unknown group '{unknown}'; one of {}", names.join(", "));
        std::process::exit(2);
    }
    let mut report = Report::new();
    let by_default = if args.is_empty() { &GROUPS[..] } else { &[] };
    let named = groups().filter(|(name, ..)| args.iter().any(|arg| arg == name));
    for (name, run, against) in by_default.iter().chain(named) {
        report.group(name);
        match sides::other_dir() {
            Some(dir) if *against == Against::OwnBench => other::compare(&mut report, name, &dir),
            _ => run(&mut report),
        }
    }
    std::process::exit(report.finish());
}
