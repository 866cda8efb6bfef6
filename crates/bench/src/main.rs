#![expect(clippy::print_stdout, reason = "a bench prints its results")]
#![expect(clippy::cast_precision_loss, reason = "counts become figures for people")]
//! Ratios, measured side by side and interleaved in one run; `docs/benchmarks.md` has the method.
//!
//! Usage: `bench [GROUP…]`, through `cargo xtask bench`. Without a group, all but those that take
//! minutes or are of no daemon.

mod bystander;
mod files;
mod fleet;
mod idle;
mod inline;
mod large;
mod latency;
mod pair;
mod report;
mod simd;
mod vm;

use report::Report;

type Group = (&'static str, fn(&mut Report));

const GROUPS: [Group; 9] = [
    ("latency", latency::run),
    ("bystander", bystander::run),
    ("inline", inline::run),
    ("files", files::run),
    ("longer", files::run_longer),
    ("large", large::run),
    ("pair", pair::run),
    ("fleet", fleet::run),
    ("idle", idle::run),
];

/// Groups that run only when they are named.
const NAMED_GROUPS: [Group; 2] = [("simd", simd::run), ("vm", vm::run)];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["echo", path, core] => return latency::echo(path, core),
        ["redis-worker", path] => return latency::redis_worker(path),
        _ => {}
    }
    let groups = || GROUPS.iter().chain(&NAMED_GROUPS);
    if let Some(unknown) = args.iter().find(|arg| groups().all(|(name, _)| name != arg)) {
        let names: Vec<_> = groups().map(|(name, _)| *name).collect();
        println!("unknown group '{unknown}'; one of {}", names.join(", "));
        std::process::exit(2);
    }
    let mut report = Report::new();
    let by_default = if args.is_empty() { &GROUPS[..] } else { &[] };
    let named = groups().filter(|(name, _)| args.iter().any(|arg| arg == name));
    for (name, run) in by_default.iter().chain(named) {
        report.group(name);
        run(&mut report);
    }
    std::process::exit(report.finish());
}
