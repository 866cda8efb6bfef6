//! The digest tools of GNU coreutils 9.1: md5sum, sha1sum, sha2's four and b2sum.
//!
//! Options, messages, quoting and lists follow the original byte for byte; `tests/compliance` compares
//! them, and lists what differs with its reason. Files are hashed in this process, never by a cluster.
//!
//! As with the original, a failure to write does not end a run: it is reported at the end.

mod charset;
mod check;
mod errors;
mod getopt;
mod list;
mod options;
mod sum;
mod tool;

use super::Invocation;
use crate::config::Stdio;
use crate::engine::Printer;
use crate::engine::embedded::{self, EmbeddedError, EmbeddedOptions};
use crate::engine::function::{Blake3Mode, Function};
use crate::engine::lister::Lister;
use crate::engine::reorder::{Item, Stopped};
use crate::input::restore_sigpipe;
use crate::output::Out;
use crate::problem::Problem;
use crate::say::io_text;
use engine::hash::Stream;
use errors::Errors;
use options::{GnuOptions, ToolRequest};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStringExt;
pub(super) use tool::NAMES;
use tool::Tool;

/// Exit status when something failed.
const FAILURE: u8 = 1;

/// Does what `call` asks for; the exit status.
pub(super) fn run(call: Invocation) -> u8 {
    let tool = Tool::by_name(call.tool).expect("the call names a tool");
    let program = call.program.into_vec();
    let mut errors = Errors::new(program.clone(), call.stdio.has_stderr);
    let is_posix = std::env::var_os("POSIXLY_CORRECT").is_some();
    if !call.stdio.ignores_sigpipe {
        restore_sigpipe();
    }
    match options::parse(tool, &call.args, is_posix) {
        Ok(ToolRequest::Run(options, operands)) => {
            Run { tool, options, stdio: call.stdio }.all(operands, errors)
        }
        Ok(ToolRequest::Help) => {
            print(&[&b"Usage: "[..], &program, tool.help().as_bytes()].concat(), call.stdio, errors)
        }
        Ok(ToolRequest::Version) => print(tool.version().as_bytes(), call.stdio, errors),
        Err(refusal) => {
            errors.refuse(&refusal);
            FAILURE
        }
    }
}

/// Prints the answer to `--help` or `--version`.
fn print(text: &[u8], stdio: Stdio, errors: Errors) -> u8 {
    let mut out = Out::new(stdio.has_stdout);
    out.buffer().extend_from_slice(text);
    let written = out.flush().map_err(EmbeddedError::Stdout);
    Outcome { is_ok: true, reads_stdin: false, errors }.end(written, false, stdio)
}

/// One run over files or lists.
struct Run {
    tool: &'static Tool,
    options: GnuOptions,
    stdio: Stdio,
}

impl Run {
    fn all(self, mut operands: Vec<&OsStr>, errors: Errors) -> u8 {
        if operands.is_empty() {
            operands.push(OsStr::new("-"));
        }
        let operands = operands.into_iter().map(OsStr::to_owned).collect();
        let Self { tool, options, stdio } = self;
        let outcome = Outcome { is_ok: true, reads_stdin: false, errors };
        if options.is_check {
            let mut printer = check::Verdicts::new(tool, options, outcome);
            let list = check::lister(tool, operands, stdio.has_stdin);
            let written = self.hash(&mut printer, list);
            printer.outcome.end(written, options.is_zero, stdio)
        } else {
            let mut printer = sum::DigestLines { tool, options, outcome };
            let written = self.hash(&mut printer, sum::lister(tool, options, operands));
            printer.outcome.end(written, options.is_zero, stdio)
        }
    }

    /// Hashes what `list` lists; the first error of standard output.
    fn hash(
        &self,
        printer: &mut impl Printer,
        list: impl FnOnce(&mut Lister) -> Result<(), Stopped> + Send + 'static,
    ) -> Result<(), EmbeddedError> {
        let options = EmbeddedOptions {
            threads: None,
            reads_special: true,
            has_stdin: self.stdio.has_stdin,
            has_stdout: self.stdio.has_stdout,
            defers_write_errors: true,
            strict_reads: false,
            blake3: Blake3Mode::default(),
        };
        embedded::run(options, printer, list)
    }
}

/// The hash of an entry, before its first byte.
fn stream(item: &Item<'_>) -> Stream {
    match item.label.function {
        Function::Blake2b(len) => Stream::blake2b(len.into()).expect("1 to 64 bytes"),
        Function::Standard(algorithm) => Stream::new(algorithm),
        Function::Several(_) | Function::Blake3 => unreachable!("it is no tool of this family"),
    }
}

/// Result of a run so far.
#[derive(Debug)]
struct Outcome {
    is_ok: bool,
    /// Standard input was a file or a list.
    reads_stdin: bool,
    errors: Errors,
}

impl Outcome {
    /// Reports why `item` has no digest.
    fn report(&mut self, item: &Item<'_>, problem: Problem) {
        self.is_ok = false;
        let text = format!("{}: {problem}", errors::quote_name(item.label.name));
        self.errors.say(text.as_bytes());
    }

    /// Reports what the end of the process brings up; the exit status. `is_buffered` says that the
    /// original writes only at its end, and so knows why that fails.
    fn end(mut self, written: Result<(), EmbeddedError>, is_buffered: bool, stdio: Stdio) -> u8 {
        if self.reads_stdin && !stdio.has_stdin {
            self.is_ok = false;
            self.errors.say(b"standard input: Bad file descriptor");
        }
        if let Err(error) = written {
            self.is_ok = false;
            let text = match error {
                EmbeddedError::Stdout(error) if is_buffered || !stdio.has_stdout => {
                    format!("write error: {}", io_text(&error))
                }
                EmbeddedError::Stdout(_) => "write error".to_owned(),
                EmbeddedError::System(error) => format!("start of a thread: {}", io_text(&error)),
                EmbeddedError::Interrupted | EmbeddedError::Silence(_) => {
                    unreachable!("neither a flag nor a limit was set")
                }
            };
            self.errors.say(text.as_bytes());
        }
        if self.is_ok && !self.errors.is_failed { 0 } else { FAILURE }
    }
}
