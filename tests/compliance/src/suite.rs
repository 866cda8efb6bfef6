//! Runs invocations on both sides, compares what came of them, and counts.

use crate::cases::{Case, parse};
use crate::families::Family;
use crate::programs::{Programs, Side};
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Longest time of one command.
const TIMEOUT: &str = "60";

/// Exit status of timeout(1).
const TIMED_OUT: i32 = 124;

/// Most differences that are printed in full.
const SHOWN_MAX: usize = 20;

/// Everything that a caller can observe of an invocation.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Exit status, or the negated signal.
    pub(crate) status: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

/// One run over the cases of a family.
pub(crate) struct Suite<'a> {
    pub(crate) family: &'static Family,
    pub(crate) programs: &'a Programs,
    ran: usize,
    failed: usize,
    known: usize,
    start: Instant,
}

impl<'a> Suite<'a> {
    pub(crate) fn new(family: &'static Family, programs: &'a Programs) -> Result<Self, String> {
        let suite = Self { family, programs, ran: 0, failed: 0, known: 0, start: Instant::now() };
        suite.check_pin()?;
        Ok(suite)
    }

    /// Other versions of the originals behave otherwise.
    fn check_pin(&self) -> Result<(), String> {
        let bin = self.programs.choose(Side::Original);
        for tool in self.family.tools {
            let output = Command::new(bin.join(tool)).arg("--version").output();
            let output = output.map_err(|error| format!("{tool}: {error}"))?;
            let version = String::from_utf8_lossy(&output.stdout);
            let version = version.lines().next().unwrap_or_default();
            let is_pinned = version.ends_with(self.family.version)
                || version.contains(&format!("{}.", self.family.version));
            if !is_pinned {
                return Err(format!("{version}: the suite is about {}", self.family.version));
            }
        }
        Ok(())
    }

    /// Runs the family's cases that contain every one of `words`.
    pub(crate) fn run_cases(&mut self, words: &[String]) {
        for (text, differs) in [(self.family.cases, false), (self.family.differs, true)] {
            for case in parse(text, self.family.tools) {
                let name = format!("{}: {}", case.tool, case.command);
                if words.iter().all(|word| name.contains(word.as_str())) {
                    self.run_case(&case, &name, differs);
                }
            }
        }
    }

    fn run_case(&mut self, case: &Case, name: &str, differs: bool) {
        let [want, got] = Side::BOTH.map(|side| {
            let bin = self.programs.choose(side);
            let work = self.programs.work();
            // Missing the first time; a case may have taken rights away.
            let _ = fs::remove_dir_all(&work);
            fs::create_dir(&work).expect("a directory in our own one");
            (self.family.files)(&work, case.tool);
            let mut command = Command::new("timeout");
            command.args(["--kill-after=5", TIMEOUT, "bash", "-c", case.command]);
            command.env("PATH", format!("{}:/usr/bin:/bin", bin.display())).env("T", case.tool);
            for (name, value) in (self.family.variables)(case.tool) {
                command.env(name, value);
            }
            self.run(command.current_dir(&work).stdin(Stdio::null()))
        });
        self.judge(name, &want, &got, differs.then_some(case.heading));
    }

    /// Runs `command` in a clean environment, to which it may have added, and captures its output in files:
    /// a process that it leaves behind holds nothing up.
    pub(crate) fn run(&self, command: &mut Command) -> Outcome {
        let [stdout, stderr] = ["stdout", "stderr"].map(|name| self.programs.capture(name));
        let create = |path: &Path| File::create(path).expect("a file in our own directory");
        let added: Vec<_> =
            command.get_envs().map(|(k, v)| (k.to_owned(), v.map(ToOwned::to_owned))).collect();
        command.env_clear().env("LANG", "C.UTF-8");
        for (name, value) in added {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        let status = command.stdout(create(&stdout)).stderr(create(&stderr)).status();
        let status = status.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let code = status.code().unwrap_or_else(|| -status.signal().expect("code or signal"));
        let read = |path: &Path| fs::read(path).expect("it was just written");
        Outcome { status: code, stdout: read(&stdout), stderr: read(&stderr) }
    }

    /// Counts a case, and prints it if it is not as expected. `differs` is the reason of a known
    /// difference.
    pub(crate) fn judge(
        &mut self,
        name: &str,
        want: &Outcome,
        got: &Outcome,
        differs: Option<&str>,
    ) {
        self.ran += 1;
        let what = if want.status == TIMED_OUT || got.status == TIMED_OUT {
            "timed out"
        } else if want == got && differs.is_some() {
            "no longer differs"
        } else if want != got && differs.is_none() {
            "differs"
        } else {
            self.known += usize::from(differs.is_some());
            return;
        };
        self.failed += 1;
        if self.failed <= SHOWN_MAX {
            println!("\n{what}: {name}");
            show("status", want.status.to_string().as_bytes(), got.status.to_string().as_bytes());
            show("stdout", &want.stdout, &got.stdout);
            show("stderr", &want.stderr, &got.stderr);
        }
    }

    /// Prints the counts; true if nothing failed.
    pub(crate) fn summary(&self) -> bool {
        let Self { family, ran, failed, known, .. } = self;
        let time: Duration = self.start.elapsed();
        let name = family.name;
        println!(
            "{name}: {ran} cases, {known} of them known differences, {failed} failed, {time:.1?}"
        );
        self.failed == 0
    }
}

/// Prints where two texts part.
fn show(what: &str, want: &[u8], got: &[u8]) {
    if want == got {
        return;
    }
    let lines = |text: &[u8]| -> Vec<String> {
        text.split_inclusive(|&byte| byte == b'\n')
            .map(|line| line.escape_ascii().to_string())
            .collect()
    };
    let (want, got) = (lines(want), lines(got));
    let same = want.iter().zip(&got).take_while(|(want, got)| want == got).count();
    for (side, lines) in [(Side::Original, want), (Side::UnderTest, got)] {
        println!("  {what}, {}, from line {}:", side.name(), same + 1);
        lines.iter().skip(same).take(5).for_each(|line| println!("    {line}"));
    }
}
