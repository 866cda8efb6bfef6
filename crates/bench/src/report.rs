//! What was measured, against what was promised.

use std::time::Duration;

/// Results, printed as they come and once more at the end.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<String>,
    missed: usize,
}

/// Which side of the target is good.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    AtLeast(f64),
    AtMost(f64),
}

impl Report {
    pub(crate) fn new() -> Self {
        let report = Self::default();
        println!("machine: {}", machine());
        report
    }

    pub(crate) fn group(&mut self, name: &str) {
        println!("\n{name}");
    }

    /// A figure without a promise.
    pub(crate) fn note(&mut self, text: &str) {
        println!("  {text}");
    }

    /// A figure with a promise.
    pub(crate) fn check(&mut self, what: &str, value: f64, unit: &str, target: Target) {
        let (met, text) = match target {
            Target::AtLeast(bound) => (value >= bound, format!(">= {bound}")),
            Target::AtMost(bound) => (value <= bound, format!("<= {bound}")),
        };
        let verdict = if met { "met" } else { "MISSED" };
        let row = format!("{verdict:6} {what}: {value:.2}{unit} (target {text}{unit})");
        println!("  {row}");
        self.rows.push(row);
        self.missed += usize::from(!met);
    }

    /// Prints the promises again; the exit status.
    pub(crate) fn finish(self) -> i32 {
        println!("\nsummary");
        for row in &self.rows {
            println!("  {row}");
        }
        println!("{} of {} targets met", self.rows.len() - self.missed, self.rows.len());
        i32::from(self.missed > 0)
    }
}

/// The middle value.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

pub(crate) fn us(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn machine() -> String {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{}, {cores} cores, Linux {}", model.unwrap_or("unknown processor"), kernel.trim())
}
