//! Figures against their targets, and against another build.

use crate::contest::{median, median_bounds, ratios};
use crate::machine;

/// Less than this is not worth a row of its own: builds differ by it without a cause.
const NOISE: f64 = 0.02;

/// Results, printed as they come and once more at the end.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<String>,
    missed: usize,
}

/// The good side of a bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Target {
    AtLeast(f64),
    AtMost(f64),
}

impl Report {
    pub(crate) fn new() -> Self {
        let report = Self::default();
        println!("machine: {}", machine::describe());
        report
    }

    pub(crate) fn group(&mut self, name: &str) {
        println!("\n{name}");
    }

    /// A figure without a target.
    pub(crate) fn note(&mut self, text: &str) {
        println!("  {text}");
    }

    /// A figure with a target.
    pub(crate) fn check(&mut self, what: &str, value: f64, unit: &str, target: Target) {
        let (met, text) = match target {
            Target::AtLeast(bound) => (value >= bound, format!(">= {bound}")),
            Target::AtMost(bound) => (value <= bound, format!("<= {bound}")),
        };
        let verdict = if met { "met" } else { "MISSED" };
        self.row(met, format!("{verdict:6} {what}: {value:.2}{unit} (target {text}{unit})"));
    }

    /// The costs of another build over ours, round by round: worse is what lies below 1 by more than
    /// noise.
    pub(crate) fn compare(&mut self, what: &str, other: &[f64], ours: &[f64]) {
        let ratios = ratios(other, ours);
        let (low, high) = median_bounds(ratios.clone());
        let middle = median(ratios);
        let worse = high < 1.0 && middle < 1.0 - NOISE;
        let verdict = match () {
            () if worse => "WORSE",
            () if low > 1.0 && middle > 1.0 + NOISE => "better",
            () => "same",
        };
        let row = format!("{verdict:6} {what}: this build {middle:.2}x as good as the other one");
        self.row(!worse, format!("{row} ({low:.2}x to {high:.2}x)"));
    }

    fn row(&mut self, is_good: bool, row: String) {
        println!("  {row}");
        self.rows.push(row);
        self.missed += usize::from(!is_good);
    }

    /// Prints the rows again; the exit status.
    pub(crate) fn finish(self) -> i32 {
        println!("\nsummary");
        for row in &self.rows {
            println!("  {row}");
        }
        println!("{} of {} targets met", self.rows.len() - self.missed, self.rows.len());
        i32::from(self.missed > 0)
    }
}

/// The name, figure and target of a row that [`Report::check`] printed.
pub(crate) fn parse_check(row: &str) -> Option<(&str, f64, Target)> {
    let row = row.trim_start();
    let row = row.strip_prefix("met").or_else(|| row.strip_prefix("MISSED"))?.trim_start();
    let (row, target) = row.rsplit_once(" (target ")?;
    let (what, value) = row.rsplit_once(": ")?;
    let number = |text: &str| {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        text[..end].parse::<f64>().ok()
    };
    let (side, bound) = target.split_once(' ')?;
    let target = match side {
        ">=" => Target::AtLeast(number(bound)?),
        "<=" => Target::AtMost(number(bound)?),
        _ => return None,
    };
    Some((what, number(value)?, target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read_as_it_was_written() {
        let mut report = Report::default();
        report.check("p99 of a: b", 1.234, "x", Target::AtMost(2.0));
        report.check("memory", 9.5, " MiB", Target::AtMost(8.0));
        report.check("messages", 0.5, " million", Target::AtLeast(1.0));
        let read: Vec<_> = report.rows.iter().map(|row| parse_check(row)).collect();
        let want = [
            Some(("p99 of a: b", 1.23, Target::AtMost(2.0))),
            Some(("memory", 9.5, Target::AtMost(8.0))),
            Some(("messages", 0.5, Target::AtLeast(1.0))),
        ];
        assert_eq!((read.as_slice(), report.missed), (&want[..], 2));
        assert_eq!(parse_check("kernels, VM: x"), None);
    }

    #[test]
    fn another_build_is_worse_only_beyond_noise() {
        let ours = [10.0; 15];
        for (other, want) in [
            ([10.0; 15], "same"),
            ([9.9; 15], "same"),
            ([9.0; 15], "WORSE"),
            ([11.0; 15], "better"),
            (
                [8.0, 8.0, 8.0, 8.0, 8.0, 9.0, 9.0, 9.0, 9.0, 12.0, 12.0, 12.0, 12.0, 12.0, 12.0],
                "same",
            ),
        ] {
            let mut report = Report::default();
            report.compare("x", &other, &ours);
            assert!(report.rows[0].starts_with(want), "{}", report.rows[0]);
            assert_eq!(report.missed, usize::from(want == "WORSE"));
        }
    }
}
