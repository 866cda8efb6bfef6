//! Tables for people.

use std::fmt::Write;

/// Lines with columns as wide as their longest cell.
pub(crate) fn columns<const N: usize>(
    head: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) -> String {
    let mut lines = vec![head.map(str::to_owned)];
    lines.extend(rows);
    aligned(&lines)
}

/// The same of lines that all have as many cells.
pub(crate) fn aligned(lines: &[impl AsRef<[String]>]) -> String {
    let mut widths = vec![0; lines.first().map_or(0, |line| line.as_ref().len())];
    for line in lines {
        for (width, cell) in widths.iter_mut().zip(line.as_ref()) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for line in lines {
        let mut row = String::new();
        for (&width, cell) in widths.iter().zip(line.as_ref()) {
            let _ = write!(row, "{cell:<width$}  ");
        }
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}
