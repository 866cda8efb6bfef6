//! Runs cases, one line each, and judges what became of everybody else.

use crate::bystander::Latency;
use crate::cases::KNOWN_BROKEN;
use crate::site::Site;
use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Where an attacker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Boundary {
    Client,
    Worker,
    Controller,
    Vsock,
    Descriptors,
    Files,
    Commands,
    Signals,
    Resources,
    Terminal,
    Directories,
    Sandbox,
}

impl fmt::Display for Boundary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client socket",
            Self::Worker => "worker socket",
            Self::Controller => "a hostile controller",
            Self::Vsock => "vsock and tokens",
            Self::Descriptors => "descriptors",
            Self::Files => "files and manifests",
            Self::Commands => "commands and environment",
            Self::Signals => "signals",
            Self::Resources => "resources",
            Self::Terminal => "terminal and log",
            Self::Directories => "directories",
            Self::Sandbox => "inside the sandbox",
        })
    }
}

/// One attack.
pub(crate) struct Case {
    boundary: Boundary,
    name: String,
    /// The answer to the attacker.
    pub(crate) expected: &'static str,
    /// True if every run of the tests includes it.
    pub(crate) is_quick: bool,
    attack: Box<dyn Fn(&Site)>,
}

impl Case {
    pub(crate) fn title(&self) -> String {
        format!("{} / {}", self.boundary, self.name)
    }
}

/// All cases of one boundary.
pub(crate) struct Cases {
    boundary: Boundary,
    list: Vec<Case>,
}

impl Cases {
    pub(crate) fn at(boundary: Boundary) -> Self {
        Self { boundary, list: Vec::new() }
    }

    /// Adds an attack of well below a second, which every run of the tests includes.
    pub(crate) fn add(
        &mut self,
        name: impl Into<String>,
        expected: &'static str,
        attack: impl Fn(&Site) + 'static,
    ) {
        self.push(name.into(), expected, true, Box::new(attack));
    }

    /// Adds an attack that takes longer.
    pub(crate) fn add_slow(
        &mut self,
        name: impl Into<String>,
        expected: &'static str,
        attack: impl Fn(&Site) + 'static,
    ) {
        self.push(name.into(), expected, false, Box::new(attack));
    }

    fn push(
        &mut self,
        name: String,
        expected: &'static str,
        is_quick: bool,
        attack: Box<dyn Fn(&Site)>,
    ) {
        self.list.push(Case { boundary: self.boundary, name, expected, is_quick, attack });
    }

    pub(crate) fn done(self) -> Vec<Case> {
        self.list
    }
}

/// The honest client's 99th percentile may be this many times what it was, and [`NOISE`] more.
pub(crate) const LATENCY_FACTOR: u32 = 2;

/// Time that the scheduler of a busy machine may add to a percentile of some hundred samples.
const NOISE: Duration = Duration::from_millis(5);

/// No single file of the honest client may take this much longer than any did before.
const STARVED: Duration = Duration::from_secs(1);

/// Latency is a matter of luck as well: a case has failed by it only if it does so this often.
const TRIES: u32 = 3;

/// An attack is repeated for this long, and the honest client measured as long before.
const WINDOW: Duration = Duration::from_millis(200);
const QUICK_WINDOW: Duration = Duration::from_millis(40);

/// Characters of a fault that are shown.
const FAULT_LEN_MAX: usize = 2000;

struct Outcome {
    fault: Option<String>,
    latency: [Latency; 2],
    took: Duration,
}

impl Outcome {
    /// Quotient of the latencies meanwhile and before.
    fn ratio(&self) -> f64 {
        let [before, meanwhile] = self.latency;
        meanwhile.p99.as_secs_f64() / before.p99.as_secs_f64().max(1e-6)
    }
}

/// Runs `cases` against a cluster of their own.
pub(crate) fn run(cases: &[Case], is_quick: bool) -> ExitCode {
    panic::set_hook(Box::new(|info| {
        let message = payload(info.payload());
        let place = info.location().map_or(String::new(), |l| format!("{}:{}", l.file(), l.line()));
        LAST_PANIC.with_borrow_mut(|last| *last = format!("{message} ({place})"));
    }));
    let start = Instant::now();
    let mut site = Site::start();
    let window = if is_quick { QUICK_WINDOW } else { WINDOW };
    let mut outcomes = Vec::new();
    for case in cases {
        let outcome = (0..TRIES).find_map(|number| {
            let mut outcome = attempt(&mut site, case, window);
            if is_quick {
                // What passes is not to depend on the clock: `cargo xtask attack` judges latency.
                outcome.fault = outcome.fault.filter(|fault| !fault.starts_with(SLOWED));
            }
            let is_slow = outcome.fault.as_ref().is_some_and(|fault| fault.starts_with(SLOWED));
            (!is_slow || number + 1 == TRIES).then_some(outcome)
        });
        let outcome = outcome.expect("the last try counts");
        let [before, meanwhile] = outcome.latency;
        let verdict = if outcome.fault.is_none() { "ok    " } else { "FAILED" };
        println!(
            "{verdict} {:<88} {:>6.2} s  p99 {:>5.1} -> {:>5.1} ms of {}",
            case.title(),
            outcome.took.as_secs_f64(),
            before.p99.as_secs_f64() * 1e3,
            meanwhile.p99.as_secs_f64() * 1e3,
            meanwhile.samples,
        );
        if let Some(fault) = &outcome.fault {
            let fault: String =
                fault.replace('\n', "\n       ").chars().take(FAULT_LEN_MAX).collect();
            println!("       expected: {}\n       {fault}", case.expected);
        }
        outcomes.push((case.title(), outcome));
    }
    report(outcomes, start.elapsed())
}

/// First words of a fault that is one of latency only.
const SLOWED: &str = "the honest client was slowed down";

thread_local! {
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

fn payload(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned()
}

/// Runs an attack once, or repeatedly until `window` is over.
fn attempt(site: &mut Site, case: &Case, window: Duration) -> Outcome {
    let before = site.bystander.measure(window);
    site.begin();
    let start = Instant::now();
    let result = panic::catch_unwind(AssertUnwindSafe(|| {
        loop {
            (case.attack)(site);
            if start.elapsed() >= window {
                break;
            }
        }
    }));
    let took = start.elapsed();
    let meanwhile = site.bystander.take();
    let mut fault = result.err().map(|caught| {
        let said = LAST_PANIC.with_borrow_mut(std::mem::take);
        if said.is_empty() { payload(&*caught) } else { said }
    });
    let harm = site.harm();
    if let (None, Some(harm)) = (&fault, &harm) {
        fault = Some(harm.clone());
    }
    if harm.is_some() {
        site.restart();
    }
    let limit = before.p99 * LATENCY_FACTOR + NOISE;
    if fault.is_none() && meanwhile.p99 > limit {
        let [before, now] = [before.p99, meanwhile.p99];
        fault = Some(format!("{SLOWED}: p99 of {now:?}, {before:?} before"));
    }
    if fault.is_none() && meanwhile.longest > STARVED + before.longest {
        fault = Some(format!("{SLOWED}: one file took {:?}", meanwhile.longest));
    }
    Outcome { fault, latency: [before, meanwhile], took }
}

fn report(mut outcomes: Vec<(String, Outcome)>, took: Duration) -> ExitCode {
    outcomes.sort_by(|(_, a), (_, b)| b.ratio().total_cmp(&a.ratio()));
    println!("\nlatency of the honest client, the ten worst:");
    for (title, outcome) in outcomes.iter().take(10) {
        println!("{:>8.2} x  {title}", outcome.ratio());
    }
    let is_known = |title: &str| KNOWN_BROKEN.iter().any(|(known, _)| *known == title);
    let (mut failed, mut broken) = (Vec::new(), Vec::new());
    for (title, outcome) in &outcomes {
        match (outcome.fault.is_some(), is_known(title)) {
            (true, false) => failed.push(title),
            (true, true) => broken.push(title),
            (false, true) => println!("\n{title}: passes; take it off the list KNOWN_BROKEN"),
            (false, false) => {}
        }
    }
    for (title, why) in KNOWN_BROKEN.iter().filter(|(t, _)| broken.iter().any(|b| *b == t)) {
        println!("\nKNOWN BROKEN: {title}: {why}");
    }
    for title in &failed {
        println!("\nFAILED: {title}");
    }
    println!(
        "\n{} attacks in {:.0} s: {} refused as expected, {} KNOWN BROKEN, {} FAILED",
        outcomes.len(),
        took.as_secs_f64(),
        outcomes.len() - failed.len() - broken.len(),
        broken.len(),
        failed.len()
    );
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
