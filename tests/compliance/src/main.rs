//! Compliance suite: each case runs the original first, then the program under test, in fresh directories
//! with equal files. Standard output, standard error and exit status must be equal.
//!
//! The cases are lines for bash in `cases/`: `NAME.txt` holds those of a family, `NAME-differs.txt` those
//! that are known to differ, below a heading with the reason. A known difference that is gone fails,
//! too. Random lists and names come on top (`random`).
//!
//! `HASHSUM_UNDER_TEST` names a program, or a directory of programs, to try instead of the hashctl in
//! `HASHCLUSTER_BIN_DIR`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command for people")]

mod cases;
mod families;
mod programs;
mod random;
mod suite;

use families::FAMILIES;
use programs::Programs;
use std::process::ExitCode;
use suite::Suite;

const USAGE: &str = "\
Usage: compliance [--family NAME] [--random N] [--seed N] [WORD]…

Runs the cases that contain every WORD; without a WORD all of them and N random invocations of each kind.

  --family NAME  only gnu or b3sum
  --random N     random invocations of each kind [default: 2000]
  --seed N       seed of the random numbers [default: another one in each run]";

/// Random invocations of each kind.
const RANDOM_USUAL: usize = 2000;

#[derive(Debug, Default)]
struct Args {
    family: Option<String>,
    random: Option<usize>,
    seed: Option<u64>,
    words: Vec<String>,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|arg| arg == "--help") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let args = match parse(args.into_iter()) {
        Ok(args) => args,
        Err(what) => {
            eprintln!("compliance: {what}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(what) => {
            eprintln!("compliance: {what}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Args, String> {
    let mut parsed = Args::default();
    while let Some(arg) = args.next() {
        let mut number = |name: &str| -> Result<u64, String> {
            let text = args.next().ok_or(format!("{name} needs a number"))?;
            text.parse().map_err(|_| format!("{name}: '{text}' is not a number"))
        };
        match arg.as_str() {
            "--random" => parsed.random = usize::try_from(number("--random")?).ok(),
            "--seed" => parsed.seed = Some(number("--seed")?),
            "--family" => {
                let name = args.next().ok_or("--family needs a name")?;
                if !FAMILIES.iter().any(|family| family.name == name) {
                    return Err(format!("unknown family '{name}'"));
                }
                parsed.family = Some(name);
            }
            option if option.starts_with("--") => return Err(format!("unknown option '{option}'")),
            _ => parsed.words.push(arg),
        }
    }
    Ok(parsed)
}

/// True if every case did as expected.
fn run(args: &Args) -> Result<bool, String> {
    let is_chosen = |name: &str| args.family.as_ref().is_none_or(|family| family == name);
    let mut is_ok = true;
    for family in FAMILIES.iter().filter(|family| is_chosen(family.name)) {
        let programs = Programs::find(family.tools)?;
        let mut suite = Suite::new(family, &programs)?;
        suite.run_cases(&args.words);
        if args.words.is_empty() {
            let mut random = match args.seed {
                Some(seed) => test_kit::Random::new(seed),
                None => test_kit::Random::from_entropy(),
            };
            println!("{}: random invocations of seed {}", family.name, random.seed());
            (family.random)(&mut suite, args.random.unwrap_or(RANDOM_USUAL), &mut random);
        }
        is_ok &= suite.summary();
    }
    Ok(is_ok)
}
