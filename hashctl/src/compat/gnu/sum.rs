//! DigestLines of files.

use super::options::GnuOptions;
use super::tool::Tool;
use super::{Outcome, stream};
use crate::compat::reread::reread;
use crate::engine::Printer;
use crate::engine::lister::Lister;
use crate::engine::reorder::{Item, Label, Stopped, Verdict};
use crate::lists::hex;
use crate::output::{Out, escape, needs_escape};
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;

/// Lists `operands`.
pub(super) fn lister(
    tool: &'static Tool,
    options: GnuOptions,
    operands: Vec<OsString>,
) -> impl FnOnce(&mut Lister) -> Result<(), Stopped> + Send + 'static {
    let len = options.digest_len.map_or(tool.algorithm.digest_len(), usize::from);
    let function = tool.function(len);
    move |lister| {
        let label = |name| Label { name, function, want: b"" };
        operands.iter().try_for_each(|operand| lister.path(label(operand.as_bytes())))
    }
}

/// Prints digests.
pub(super) struct DigestLines {
    pub(super) tool: &'static Tool,
    pub(super) options: GnuOptions,
    pub(super) outcome: Outcome,
}

impl Printer for DigestLines {
    fn print(&mut self, item: &Item<'_>, out: &mut Out) -> io::Result<()> {
        self.outcome.reads_stdin |= item.label.name == b"-";
        match item.verdict {
            Verdict::Digest => self.line(item.label.name, item.digest, out.buffer()),
            Verdict::Problem(problem) => match reread(item, problem, || stream(item)) {
                Ok(digest) => self.line(item.label.name, &digest, out.buffer()),
                Err(problem) => {
                    out.flush()?;
                    self.outcome.report(item, problem);
                }
            },
            Verdict::Waiting | Verdict::Skipped(_) | Verdict::Mark(_) => {}
        }
        out.flush_if_full()
    }

    fn is_ok(&self) -> bool {
        self.outcome.is_ok
    }
}

impl DigestLines {
    fn line(&self, name: &[u8], digest: &[u8], out: &mut Vec<u8>) {
        let GnuOptions { is_tagged, is_binary, is_zero, .. } = self.options;
        let is_escaped = !is_zero && needs_escape(name);
        if is_escaped {
            out.push(b'\\');
        }
        if is_tagged {
            out.extend_from_slice(self.tool.tag.as_bytes());
            if digest.len() < self.tool.algorithm.digest_len() {
                out.extend_from_slice(format!("-{}", 8 * digest.len()).as_bytes());
            }
            out.extend_from_slice(b" (");
        } else {
            hex::encode(digest, out);
            out.extend_from_slice(if is_binary { b" *" } else { b"  " });
        }
        match is_escaped {
            true => escape(name, out),
            false => out.extend_from_slice(name),
        }
        if is_tagged {
            out.extend_from_slice(b") = ");
            hex::encode(digest, out);
        }
        out.push(if is_zero { 0 } else { b'\n' });
    }
}
