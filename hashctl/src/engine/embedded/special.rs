//! Input that can be read only once, and without the quiet rule: standard input, FIFOs and devices.

use super::Shared;
use super::task::{outcome_changes, streams};
use crate::engine::function::Function;
use crate::engine::reorder::{Change, Tag, Verdict};
use crate::engine::stdin::{errno_of, stdin_file};
use crate::problem::Problem;
use engine::exec::local;
use engine::exec::order::Scratch;
use engine::hash::Stream;
use ipc_proto::message::Failure;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::read;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;

/// Bytes that are read at once.
const READ_LEN: usize = 128 << 10;

/// Bytes after which the progress shows more.
const SHOW_LEN: u64 = 4 << 20;

/// Interval at which a wait for bytes looks whether the run is over.
const STOP_INTERVAL_MS: u16 = 100;

/// An entry that is read in its turn.
pub(super) struct Once {
    pub(super) position: usize,
    /// Open without waiting; `None` for standard input.
    pub(super) file: Option<OwnedFd>,
}

/// Reads and hashes one.
pub(super) fn hash(
    shared: &Shared,
    tag: Tag,
    file: Option<OwnedFd>,
    function: Function,
    scratch: &mut Scratch,
) {
    let (state, output) = streams(&shared.options, function);
    let result = match file {
        Some(file) => {
            wait_for_writer(shared, &file).and_then(|()| read_all(shared, tag, &file, state))
        }
        None if !shared.options.has_stdin => Err(Errno::EBADF),
        None => match stdin_file(&io::stdin()) {
            Ok(Some((file, stamp))) => {
                let (strict, stopped) = (shared.options.strict_reads, &shared.is_stopped);
                let outcome = local::hash_stream(file, &state, strict, scratch, stopped);
                let mut changes = vec![(tag, Change::Size(stamp.size))];
                changes.extend(outcome_changes(tag, outcome, &output));
                if !shared.is_over() {
                    shared.reorder.change(&mut changes);
                }
                return;
            }
            // Not read through the standard library, which takes an unreadable one for empty.
            Ok(None) => match io::stdin().as_fd().try_clone_to_owned() {
                Ok(file) => read_all(shared, tag, &file, state),
                Err(error) => Err(errno_of(&error)),
            },
            Err(errno) => Err(errno),
        },
    };
    if shared.is_over() {
        return;
    }
    let mut changes = Vec::new();
    match result {
        Ok((size, digest)) => {
            changes.push((tag, Change::Size(size)));
            changes.extend(outcome_changes(tag, Ok::<_, Failure>(digest), &output));
        }
        Err(errno) => {
            changes.push((tag, Change::Verdict(Verdict::Problem(Problem::Io(errno as i32)))));
        }
    }
    shared.reorder.change(&mut changes);
}

/// Waits for the first writer of a FIFO, as one that is opened in the usual way does.
fn wait_for_writer(shared: &Shared, file: &OwnedFd) -> Result<(), Errno> {
    wait(shared, file)?;
    let flags = OFlag::from_bits_retain(fcntl(file, FcntlArg::F_GETFL)?);
    fcntl(file, FcntlArg::F_SETFL(flags & !OFlag::O_NONBLOCK)).map(drop)
}

fn wait(shared: &Shared, file: &impl AsFd) -> Result<(), Errno> {
    loop {
        let mut files = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
        match poll(&mut files, PollTimeout::from(STOP_INTERVAL_MS)) {
            Ok(0) | Err(Errno::EINTR) if !shared.is_over() => {}
            Ok(_) => return Ok(()),
            Err(errno) => return Err(errno),
        }
    }
}

fn read_all(
    shared: &Shared,
    tag: Tag,
    file: &OwnedFd,
    mut streams: Vec<Stream>,
) -> Result<(u64, Vec<u8>), Errno> {
    let mut buffer = vec![0; READ_LEN];
    let (mut size, mut shown) = (0, 0);
    while !shared.is_stopped.load(Ordering::Relaxed) {
        match read(file, &mut buffer) {
            Ok(0) => break,
            Ok(len) => {
                streams.iter_mut().for_each(|stream| stream.update(&buffer[..len]));
                size += len as u64;
                if size >= shown + SHOW_LEN {
                    shown = size;
                    shared.reorder.change(&mut vec![(tag, Change::Size(size))]);
                    shared.reorder.advance(tag, size);
                }
            }
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => wait(shared, file)?,
            Err(errno) => return Err(errno),
        }
    }
    let mut digest = Vec::new();
    streams.into_iter().for_each(|stream| stream.finish(&mut digest));
    Ok((size, digest))
}
