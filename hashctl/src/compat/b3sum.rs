//! The personality `b3sum`: options, output and exit status of b3sum 1.8.
//!
//! Files are always hashed in this process: a key or a context never leaves it. Names and messages
//! are printed byte for byte as the original prints them, that is, not quoted.
//!
//! Where the original panics (write errors) or waits for itself (a list on standard input that names
//! it) an error is reported: `docs/compat.md` lists what differs.

mod check;
mod line;
mod options;
mod print;

use super::Invocation;
use crate::cli::print as print_text;
use crate::config::Stdio;
use crate::engine::Printer;
use crate::engine::embedded::{self, EmbeddedError};
use crate::engine::function::{Blake3Mode, Function};
use crate::engine::reorder::{Label, Verdict};
use crate::exit::Exit;
use crate::input::restore_sigpipe;
use crate::say::set_program;
use clap::Parser;
use ipc_proto::Algorithm;
use line::DIGEST_LEN;
use options::{B3sumOptions, KEY_LEN};
use print::{B3sumDigests, STDIN_IS_THE_KEY, complain, fail};
use std::env;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// Number of threads where no option gives one.
const THREADS_VARIABLE: &str = "RAYON_NUM_THREADS";

/// The only name of the original.
pub(super) const NAMES: [&str; 1] = ["b3sum"];

/// Does what `invocation` asks for, and returns the exit status.
pub(super) fn run(invocation: Invocation) -> u8 {
    set_program(invocation.tool);
    if !invocation.stdio.ignores_sigpipe {
        restore_sigpipe();
    }
    let args = [invocation.program].into_iter().chain(invocation.args);
    match B3sumOptions::try_parse_from(args) {
        Ok(options) => hash(options).code(),
        Err(error) => explain(&error, invocation.stdio).code(),
    }
}

/// Prints help where it was asked for, else what is wrong with the arguments. As the original's
/// parser, it leaves out control characters of arguments unless they are white space.
fn explain(error: &clap::Error, stdio: Stdio) -> Exit {
    let text = error.render().to_string();
    if !error.use_stderr() {
        return print_text(stdio, &text);
    }
    let text = text.replace(|c: char| c.is_ascii_control() && !c.is_ascii_whitespace(), "");
    // Nobody is left to tell when standard error is gone.
    let _ = io::stderr().write_all(text.as_bytes());
    Exit::Usage
}

fn hash(mut options: B3sumOptions) -> Exit {
    let mut files = std::mem::take(&mut options.files);
    if files.is_empty() {
        files.push("-".into());
    }
    if options.raw && files.len() > 1 {
        fail(format_args!("Only one filename can be provided when using --raw"));
        return Exit::Failure;
    }
    let mode = match mode(&options) {
        Ok(mode) => mode,
        Err(text) => {
            fail(format_args!("{text}"));
            return Exit::Failure;
        }
    };
    let engine = embedded::EmbeddedOptions {
        threads: threads(&options),
        reads_special: true,
        // What is closed is `/dev/null`, as for the original.
        has_stdin: true,
        has_stdout: true,
        defers_write_errors: false,
        strict_reads: false,
        blake3: mode,
    };
    match options.check {
        true => check::check(engine, &options, files),
        false => sum(engine, options, files),
    }
}

fn mode(options: &B3sumOptions) -> Result<Blake3Mode, String> {
    match &options.derive_key {
        _ if options.keyed => Ok(Blake3Mode::Keyed(Box::new(read_key()?))),
        Some(context) => Ok(Blake3Mode::DeriveKey(context.clone())),
        None => Ok(Blake3Mode::Hash),
    }
}

/// The key: all that comes by standard input.
fn read_key() -> Result<[u8; KEY_LEN], String> {
    let mut bytes = [0; KEY_LEN + 1];
    let mut len = 0;
    let mut stdin = io::stdin().lock();
    while len < bytes.len() {
        match stdin.read(&mut bytes[len..]) {
            Ok(0) => break,
            Ok(more) => len += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    match bytes.first_chunk() {
        Some(key) if len == KEY_LEN => Ok(*key),
        Some(_) if len > KEY_LEN => Err(format!("read more than {KEY_LEN} key bytes from stdin")),
        _ => Err(format!("expected {KEY_LEN} key bytes from stdin, found {len}")),
    }
}

/// Hashing threads; `None` for one per processor.
fn threads(options: &B3sumOptions) -> Option<u16> {
    if options.no_mmap {
        return Some(1);
    }
    let variable = || env::var(THREADS_VARIABLE).ok()?.parse().ok();
    let threads = options.num_threads.filter(|&threads| threads > 0).or_else(variable)?;
    Some(u16::try_from(threads).unwrap_or(u16::MAX)).filter(|&threads| threads > 0)
}

/// The function of all files: the standard one where that is asked for, as it is the fastest.
fn function(options: &B3sumOptions) -> Function {
    let is_usual = !options.keyed && options.derive_key.is_none();
    match is_usual && options.seek == 0 && options.length <= DIGEST_LEN as u64 {
        true => Function::Standard(Algorithm::Blake3),
        false => Function::Blake3,
    }
}

fn sum(engine: embedded::EmbeddedOptions, options: B3sumOptions, files: Vec<PathBuf>) -> Exit {
    let function = function(&options);
    let is_keyed = options.keyed;
    let mut printer = B3sumDigests::new(options);
    let result = embedded::run(engine, &mut printer, move |lister| {
        files.into_iter().try_for_each(|file| {
            let name = file.into_os_string().into_vec();
            let label = Label { name: &name, function, want: b"" };
            match is_keyed && name == b"-" {
                true => lister.known(label, Verdict::Problem(STDIN_IS_THE_KEY)),
                false => lister.path(label),
            }
        })
    });
    finish(result, &printer)
}

/// The exit status of a run.
fn finish(result: Result<(), EmbeddedError>, printer: &impl Printer) -> Exit {
    match result {
        Ok(()) => Exit::from_ok(printer.is_ok()),
        Err(EmbeddedError::Stdout(error)) => {
            complain(format_args!("standard output: {error}"));
            Exit::Failure
        }
        Err(error) => {
            complain(format_args!("{error}"));
            Exit::Failure
        }
    }
}
