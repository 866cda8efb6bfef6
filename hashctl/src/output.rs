//! Standard output: lines as coreutils' sha*sum and b3sum print them, or JSON, through one buffer.

use crate::engine::reorder::Item;
use crate::json::Record;
use crate::lists::hex;
use crate::problem::Problem;
use ipc_proto::Algorithm;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{SFlag, fstat};
use std::io;
use std::os::fd::AsFd;

pub(crate) use overview::{escape, needs_escape};

/// Bytes after which the buffer is written.
const BUFFER_LEN: usize = 64 << 10;

/// Format of printed digests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::Args)]
pub(crate) struct Format {
    /// Print lines of the form ALGO (NAME) = DIGEST
    #[arg(long, help_heading = "Output")]
    pub(crate) tag: bool,
    /// Put an asterisk before names, as sha256sum --binary does
    #[arg(short, long, conflicts_with = "tag", overrides_with = "text", help_heading = "Output")]
    pub(crate) binary: bool,
    /// Put a blank before names [default]
    #[arg(short, long, overrides_with = "binary", help_heading = "Output")]
    pub(crate) text: bool,
    /// End lines with a zero byte, and escape no names
    #[arg(short, long, help_heading = "Output")]
    pub(crate) zero: bool,
    /// Print one JSON object per line: name (or name_b64), algorithm, digest, size or error
    #[arg(long, conflicts_with_all = ["tag", "zero"], help_heading = "Output")]
    pub(crate) json: bool,
}

impl Format {
    /// Appends the line of a file with its digest.
    pub(crate) fn digest(self, item: &Item<'_>, out: &mut Vec<u8>) {
        if self.json {
            return record(item, None, out);
        }
        let is_escaped = !self.zero && needs_escape(item.label.name);
        if is_escaped {
            out.push(b'\\');
        }
        let put_name = |out: &mut Vec<u8>| match is_escaped {
            true => escape(item.label.name, out),
            false => out.extend_from_slice(item.label.name),
        };
        if self.tag {
            out.extend_from_slice(item.label.function.tag().as_bytes());
            out.extend_from_slice(b" (");
            put_name(out);
            out.extend_from_slice(b") = ");
            hex::encode(item.digest, out);
        } else {
            hex::encode(item.digest, out);
            out.extend_from_slice(if self.binary { b" *" } else { b"  " });
            put_name(out);
        }
        out.push(if self.zero { 0 } else { b'\n' });
    }

    /// Appends what stands for a file without digest: nothing, except in JSON.
    pub(crate) fn problem(self, item: &Item<'_>, problem: Problem, out: &mut Vec<u8>) {
        if self.json {
            record(item, Some(problem), out);
        }
    }
}

/// The line of JSON for one file.
fn record(item: &Item<'_>, problem: Option<Problem>, out: &mut Vec<u8>) {
    let error = problem.map(|problem| item.problem_text(problem));
    let has_digest = error.is_none();
    Record {
        digest: has_digest.then(|| hex::text(item.digest)),
        size: has_digest.then_some(item.size),
        error: error.as_deref(),
        ..Record::of(item.label)
    }
    .put(out);
}

/// Appends `name` alone: as it is, or where that is not asked for and it would break its line, with
/// a backslash in front and escaped.
pub(crate) fn put_name(name: &[u8], is_plain: bool, out: &mut Vec<u8>) {
    if is_plain || !needs_escape(name) {
        return out.extend_from_slice(name);
    }
    out.push(b'\\');
    escape(name, out);
}

/// Name of an algorithm in a message about a manifest.
#[must_use]
pub(crate) fn checksum_name(algorithm: Option<Algorithm>) -> &'static str {
    algorithm.unwrap_or(Algorithm::Sha256).tag()
}

/// Bytes that go into a pipe in one piece (`PIPE_BUF` of pipe(7)).
const PIPE_LEN: usize = 4096;

/// Length of the lines at the start of `text` that go into a pipe together, so that the lines of processes
/// that share one do not mix.
fn whole_lines_len(text: &[u8]) -> usize {
    let Some(piece) = text.get(..PIPE_LEN) else { return text.len() };
    let end = piece.iter().rposition(|byte| matches!(byte, b'\n' | 0));
    end.map_or(text.len(), |end| end + 1)
}

/// Treatment of errors of standard output.
#[derive(Debug)]
enum OnError {
    /// They are returned at once.
    Return,
    /// Output is dropped from the first one on, which is kept.
    Defer(Option<io::Error>),
}

/// Standard output behind a buffer.
#[derive(Debug)]
pub(crate) struct Out {
    buffer: Vec<u8>,
    is_open: bool,
    on_error: OnError,
}

impl Out {
    /// `is_open` says whether standard output was open when the program started: the standard
    /// library puts `/dev/null` in the place of one that was not.
    #[must_use]
    pub(crate) fn new(is_open: bool) -> Self {
        Self { buffer: Vec::with_capacity(2 * BUFFER_LEN), is_open, on_error: OnError::Return }
    }

    /// From now on errors are returned by [`Self::finish`] only.
    pub(crate) fn defer_errors(&mut self) {
        self.on_error = OnError::Defer(None);
    }

    /// The error that was deferred.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        match &mut self.on_error {
            OnError::Return => Ok(()),
            OnError::Defer(error) => error.take().map_or(Ok(()), Err),
        }
    }

    /// Where to append.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Writes the buffer once it is full.
    pub(crate) fn flush_if_full(&mut self) -> io::Result<()> {
        if self.buffer.len() >= BUFFER_LEN { self.flush() } else { Ok(()) }
    }

    /// Writes the buffer.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let written = self.write();
        self.buffer.clear();
        match (&mut self.on_error, written) {
            (OnError::Defer(first), Err(error)) => {
                first.get_or_insert(error);
                Ok(())
            }
            (_, written) => written,
        }
    }

    fn write(&self) -> io::Result<()> {
        if matches!(self.on_error, OnError::Defer(Some(_))) {
            return Ok(());
        }
        if !self.is_open {
            return Err(Errno::EBADF.into());
        }
        let stdout = io::stdout();
        let is_pipe = fstat(&stdout).is_ok_and(|stat| {
            SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFIFO
        });
        let mut start = 0;
        while start < self.buffer.len() {
            let rest = &self.buffer[start..];
            let rest = if is_pipe { &rest[..whole_lines_len(rest)] } else { rest };
            match nix::unistd::write(&stdout, rest) {
                Ok(len) => start += len,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    let mut wait = [PollFd::new(stdout.as_fd(), PollFlags::POLLOUT)];
                    poll(&mut wait, PollTimeout::NONE)?;
                }
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::reorder::{Label, Verdict};

    #[track_caller]
    fn check(algorithm: Algorithm, name: &[u8], want: &str) {
        let digest = [0xab; 32];
        let label = Label { name, function: algorithm.into(), want: b"" };
        let item = Item {
            label,
            size: 12,
            verdict: Verdict::Digest,
            digest: &digest,
            output: None,
            detail: None,
        };
        let mut out = Vec::new();
        Format { json: true, ..Format::default() }.digest(&item, &mut out);
        assert_eq!(String::from_utf8_lossy(&out), want.replace("HEX", &"ab".repeat(32)));
    }

    #[test]
    fn a_pipe_gets_whole_lines_in_pieces_that_it_takes_at_once() {
        let line = [b'x'; 99];
        let mut text = Vec::new();
        for _ in 0..50 {
            text.extend([&line[..], b"\n"].concat());
        }
        assert_eq!(whole_lines_len(&text), 4000);
        assert_eq!(whole_lines_len(&text[4000..]), 1000);
        assert_eq!(whole_lines_len(&text[..4096]), 4000);
        assert_eq!(whole_lines_len(&text[..4095]), 4095);
        assert_eq!(whole_lines_len(&[b'x'; 5000]), 5000, "a line that is too long for any piece");
    }

    #[test]
    fn json_keeps_every_byte_of_a_name() {
        let line = "{\"version\":1,\"name\":\"a\\n\\\"b\",\"algorithm\":\"blake3\",\
                    \"digest\":\"HEX\",\"size\":12}\n";
        check(Algorithm::Blake3, b"a\n\"b", line);
        let line = "{\"version\":1,\"name_b64\":\"Yf8=\",\"algorithm\":\"sha256\",\
                    \"digest\":\"HEX\",\"size\":12}\n";
        check(Algorithm::Sha256, b"a\xff", line);
    }
}
