//! `hashctl sum`: digests of files, trees and standard input.

use crate::args::SumOptions;
use crate::config::Config;
use crate::engine::reorder::{Item, Label, Verdict};
use crate::engine::{Printer, run};
use crate::exit::Exit;
use crate::lists::quote::quote;
use crate::output::{Format, Out};
use crate::problem::Special;
use crate::say::say;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;

/// Prints the digests of `paths`; of standard input if there are none.
pub(crate) fn sum(config: &Config, options: SumOptions, mut paths: Vec<OsString>) -> Exit {
    let mut printer = Sums { format: options.format, verbose: config.verbose, is_ok: true };
    if paths.is_empty() {
        paths.push("-".into());
    }
    let SumOptions { algorithm, recursive, .. } = options;
    run(config, &mut printer, Some(algorithm), move |lister| {
        paths.into_iter().try_for_each(|path| {
            let label = Label { name: &path.into_vec(), function: algorithm.into(), want: b"" };
            if recursive { lister.tree(label) } else { lister.path(label) }
        })
    })
}

struct Sums {
    format: Format,
    verbose: bool,
    is_ok: bool,
}

impl Printer for Sums {
    fn print(&mut self, item: &Item<'_>, out: &mut Out) -> io::Result<()> {
        match item.verdict {
            Verdict::Digest => self.format.digest(item, out.buffer()),
            Verdict::Problem(problem) => {
                self.is_ok = false;
                self.format.problem(item, problem, out.buffer());
                // What goes to one terminal or file stays in order.
                out.flush()?;
                say(format_args!("{}: {problem}", quote(item.label.name)));
            }
            Verdict::Skipped(Special::Symlink) if !self.verbose => {}
            Verdict::Skipped(special) => {
                out.flush()?;
                say(format_args!("{}: skipped: {special}", quote(item.label.name)));
            }
            Verdict::Waiting | Verdict::Mark(_) => {}
        }
        out.flush_if_full()
    }

    fn is_ok(&self) -> bool {
        self.is_ok
    }
}
