#![expect(clippy::unwrap_used, reason = "a step that fails is a case that fails")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command for people")]
#![expect(clippy::wildcard_enum_match_arm, reason = "every other reply is a wrong one")]
//! Attacks on a running cluster, each with its expected refusal and an honest client beside it.
//!
//! A [`Case`](suite::Case) is what an attacker does at one boundary; its function panics if the answer
//! is not the one that is expected. The [`Site`](site::Site) is the real cluster under attack, with an
//! honest client ([`bystander`]) that hashes all the time. After each case the processes must be the
//! same and as large as before, every digest of the honest client right, and its latency within
//! [`suite::LATENCY_FACTOR`] of that measured right before.
//!
//! `attack [--quick] [--list] [FILTER]…`, with the programs in `$HASHCLUSTER_BIN_DIR`.

mod bystander;
mod cases;
mod intruder;
mod site;
mod suite;
mod user;
mod wire;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (options, filters): (Vec<_>, Vec<_>) = args.iter().partition(|arg| arg.starts_with("--"));
    let has = |name| options.iter().any(|option| *option == name);
    if let Some(unknown) = options.iter().find(|o| !["--quick", "--list"].contains(&o.as_str())) {
        eprintln!("attack: unknown option {unknown}\nUsage: attack [--quick] [--list] [FILTER]…");
        return ExitCode::from(2);
    }
    let mut cases = cases::all();
    cases.retain(|case| !has("--quick") || case.is_quick);
    cases.retain(|case| filters.is_empty() || filters.iter().any(|f| case.title().contains(*f)));
    if has("--list") {
        for case in &cases {
            println!("{}: {}", case.title(), case.expected);
        }
        println!("{} cases", cases.len());
        return ExitCode::SUCCESS;
    }
    if !nix::unistd::geteuid().is_root() {
        eprintln!("attack: not run: attackers are users of their own, which needs root");
        return ExitCode::from(3);
    }
    suite::run(&cases, has("--quick"))
}
