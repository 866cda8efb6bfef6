//! Form of what the commands that work on trees print.

use crate::output::put_name;
use clap::Args;

/// Options of all these commands.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct TreeFormat {
    /// Print no summary; of audit and update, problems only
    #[arg(short, long, help_heading = "Output")]
    pub(crate) quiet: bool,
    /// End lines with a zero byte, and escape no names
    #[arg(
        short,
        long,
        visible_short_alias = '0',
        conflicts_with = "json",
        help_heading = "Output"
    )]
    pub(crate) zero: bool,
    /// Print one JSON object per line, described in docs/json.md
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
}

impl TreeFormat {
    /// Appends a name.
    pub(crate) fn put_name(self, name: &[u8], out: &mut Vec<u8>) {
        put_name(name, self.zero, out);
    }

    /// Appends the end of a line.
    pub(crate) fn end_line(self, out: &mut Vec<u8>) {
        out.push(if self.zero { 0 } else { b'\n' });
    }
}
