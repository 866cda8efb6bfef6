#![expect(clippy::print_stdout, reason = "a bench prints its results")]
#![expect(clippy::cast_precision_loss, reason = "counts become figures for people")]
//! Ratios, measured side by side and interleaved in one run; `docs/benchmarks.md` has the method.
//!
//! Usage: `bench [GROUP…]`, through `cargo xtask bench`.

mod bystander;
mod files;
mod fleet;
mod idle;
mod inline;
mod large;
mod latency;
mod report;

use report::Report;

type Group = (&'static str, fn(&mut Report));

const GROUPS: [Group; 7] = [
    ("latency", latency::run),
    ("bystander", bystander::run),
    ("inline", inline::run),
    ("files", files::run),
    ("large", large::run),
    ("fleet", fleet::run),
    ("idle", idle::run),
];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["echo", path, core] => return latency::echo(path, core),
        ["redis-worker", path] => return latency::redis_worker(path),
        _ => {}
    }
    if let Some(unknown) = args.iter().find(|arg| GROUPS.iter().all(|(name, _)| name != arg)) {
        let names: Vec<_> = GROUPS.iter().map(|(name, _)| *name).collect();
        println!("unknown group '{unknown}'; one of {}", names.join(", "));
        std::process::exit(2);
    }
    let mut report = Report::new();
    for (name, run) in GROUPS {
        if args.is_empty() || args.iter().any(|arg| arg == name) {
            report.group(name);
            run(&mut report);
        }
    }
    std::process::exit(report.finish());
}
