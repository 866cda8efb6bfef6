//! Lengths, times and names as people read them.

use std::time::Duration;
use telemetry::is_harmful;

/// A size with three digits at least and a binary unit.
#[must_use]
pub fn bytes(len: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if len < 1024 {
        return format!("{len} B");
    }
    let unit = usize::try_from(len.ilog2() / 10 - 1).expect("at most five");
    let tenths = u128::from(len) * 10 / (1_u128 << (10 * (unit + 1)));
    match tenths {
        1000.. => format!("{} {}", tenths / 10, units[unit]),
        _ => format!("{}.{} {}", tenths / 10, tenths % 10, units[unit]),
    }
}

/// A time in its two largest units.
#[must_use]
pub fn age(time: Duration) -> String {
    let s = time.as_secs();
    match (s / 86_400, s / 3600 % 24, s / 60 % 60, s % 60) {
        (0, 0, 0, s) => format!("{s} s"),
        (0, 0, m, s) => format!("{m} min {s} s"),
        (0, h, m, _) => format!("{h} h {m} min"),
        (d, h, _, _) => format!("{d} d {h} h"),
    }
}

/// A peer's words without what would move a terminal.
#[must_use]
pub fn one_line(text: &str) -> String {
    text.chars().map(|c| if is_harmful(c) { ' ' } else { c }).collect()
}

/// Lines of text that a terminal takes as they are.
#[must_use]
pub fn plain_lines(text: &str) -> String {
    text.split_inclusive('\n')
        .map(|line| match line.strip_suffix('\n') {
            Some(line) => one_line(line) + "\n",
            None => one_line(line),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_ages_are_short() {
        for (len, want) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (150 << 20, "150 MiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(bytes(len), want);
        }
        for (ms, want) in
            [(999, "0 s"), (61_000, "1 min 1 s"), (7_200_000, "2 h 0 min"), (90_000_000, "1 d 1 h")]
        {
            assert_eq!(age(Duration::from_millis(ms)), want);
        }
    }
}
