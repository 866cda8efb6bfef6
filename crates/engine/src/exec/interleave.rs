//! The one loop that hashes files while they are read: several at a time where a kernel takes several
//! messages in little more time than one.
//!
//! Each file has a window of memory. Once every window has bytes, as many whole blocks of each are
//! hashed at once as the one with the fewest has; a file that ends makes room for the next. So files
//! of any lengths fill a kernel, and take no more memory than their windows.
//!
//! Not here: which files, and what becomes of their digests: a [`FileQueue`] has the leases of long files
//! (`checkpointed`) or the files of one batch (`small_files`).

use crate::clock::{StampClock, Stopwatch};
use crate::exec::long_file::{LongFile, absorb};
use ipc_proto::limits::SEGMENT_ALIGN;
use ipc_proto::message::Failure;
use std::sync::atomic::AtomicBool;

/// Most bytes of a file that are read before they are hashed, where files are interleaved.
const WINDOW_LEN_MAX: usize = 64 << 10;

/// Length of all windows together, so that they stay in the second cache.
const WINDOWS_LEN: usize = 512 << 10;

/// Supplies files and takes their outcomes.
pub(crate) trait FileQueue<'a> {
    /// Names a file.
    type Ticket;

    /// The next file to hash now, if there is one.
    fn next(&mut self) -> Option<(Self::Ticket, Result<LongFile<'a>, Failure>)>;

    /// Set when the lease is revoked and no outcome is expected.
    fn revoked<'t>(&'t self, ticket: &'t Self::Ticket) -> &'t AtomicBool;

    /// More of the file is hashed.
    fn advanced(&mut self, ticket: &mut Self::Ticket, file: &LongFile<'a>);

    /// The file is done, and closed, after this much of the thread's time.
    fn done(&mut self, ticket: Self::Ticket, outcome: Result<Vec<u8>, Failure>, busy_ns: u64);
}

struct Lane<'w, 'a, T> {
    ticket: T,
    file: LongFile<'a>,
    window: &'w mut [u8],
    outcome: Option<Result<Vec<u8>, Failure>>,
    busy_ns: u64,
}

impl<'a, T> Lane<'_, 'a, T> {
    /// Its file, and the bytes of it that are to be hashed, unless it is done.
    fn ready(&mut self) -> Option<(&mut LongFile<'a>, &[u8])> {
        self.outcome.is_none().then_some((&mut self.file, &*self.window))
    }
}

/// Hashes the files of `queue`, as many at once as there are windows.
pub(crate) fn run<'a, Q: FileQueue<'a>>(
    queue: &mut Q,
    mut windows: Vec<&mut [u8]>,
    clock: &StampClock,
) {
    let mut lanes = Vec::with_capacity(windows.len());
    loop {
        let stopwatch = Stopwatch::start();
        while let Some(window) = windows.pop() {
            match queue.next() {
                Some((ticket, Ok(file))) => {
                    lanes.push(Lane { ticket, file, window, outcome: None, busy_ns: 0 });
                    continue;
                }
                Some((ticket, Err(failure))) => queue.done(ticket, Err(failure), 0),
                None => {
                    windows.push(window);
                    break;
                }
            }
            windows.push(window);
        }
        if lanes.is_empty() {
            return;
        }
        for lane in &mut lanes {
            let revoked = queue.revoked(&lane.ticket);
            lane.outcome = lane.file.read(lane.window, clock, revoked).err().map(Err);
        }
        absorb(lanes.iter_mut().filter_map(Lane::ready));
        let busy_ns = stopwatch.elapsed_ns() / lanes.len() as u64;
        for lane in &mut lanes {
            lane.busy_ns += busy_ns;
            if lane.outcome.is_none() {
                lane.outcome = lane.file.finish(lane.window, clock);
            }
            if lane.outcome.is_none() {
                queue.advanced(&mut lane.ticket, &lane.file);
            }
        }
        for lane in lanes.extract_if(.., |lane| lane.outcome.is_some()) {
            windows.push(lane.window);
            // Closed before the answer grants credit for another.
            drop(lane.file);
            if let Some(outcome) = lane.outcome {
                queue.done(lane.ticket, outcome, lane.busy_ns);
            }
        }
    }
}

/// Windows of `buffer` for this many files that are interleaved.
pub(crate) fn windows(buffer: &mut [u8], files_max: usize) -> Vec<&mut [u8]> {
    let len = (WINDOWS_LEN / files_max).min(WINDOW_LEN_MAX) / SEGMENT_ALIGN * SEGMENT_ALIGN;
    buffer.chunks_exact_mut(len).take(files_max).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_whole_blocks_and_stay_within_the_cache() {
        let mut buffer = vec![0; 1 << 20];
        for files_max in 1..=16 {
            let windows = windows(&mut buffer, files_max);
            assert_eq!(windows.len(), files_max);
            let len = windows[0].len();
            assert!(windows.iter().all(|window| window.len() == len));
            assert!(len.is_multiple_of(SEGMENT_ALIGN) && len >= 32 << 10, "{len}");
            assert!(len * files_max <= WINDOWS_LEN);
        }
    }
}
