//! Files of a batch that are too long to be read whole: they come last, and are hashed beside each
//! other as they are read, the longest first.

use super::Batch;
use crate::exec::interleave::{self as beside, File, Source};
use crate::hash::{Kernels, Midway};
use crate::input::dataset::Visit;
use ipc_proto::message::{Failure, Named, Stamp};
use std::cmp::Reverse;
use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering;

/// A file that is hashed while it is read.
pub(super) struct Later<'a> {
    pub(super) position: u32,
    /// What it is expected to look like.
    pub(super) stamp: Stamp,
    pub(super) place: Place<'a>,
}

pub(super) enum Place<'a> {
    Passed(BorrowedFd<'a>),
    Named(&'a Named),
}

impl<'a> Batch<'a> {
    /// Whether a file of this length comes last.
    pub(super) fn is_later(&self, stamp: Stamp) -> bool {
        self.beside_max > 1 && stamp.size > self.small_len_max
    }

    /// Hashes the files that come last; those with names are found by `visit`.
    pub(super) fn hash_later(&mut self, mut visit: Option<&mut Visit<'a>>) {
        let mut later = std::mem::take(&mut self.later);
        later.sort_by_key(|file| (file.stamp.size, Reverse(file.position)));
        let (kernels, strict, revoked) = (self.kernels, self.strict, self.revoked);
        let mut windows = beside::windows(self.buffer, self.beside_max);
        let mut lanes: Vec<Lane<'_, 'a>> = Vec::with_capacity(windows.len());
        loop {
            while !windows.is_empty()
                && let Some(file) = later.pop()
            {
                match file.open(kernels, strict, visit.as_deref_mut()) {
                    Ok(open) => lanes.extend(windows.pop().map(|window| Lane {
                        position: file.position,
                        file: open,
                        window,
                        outcome: None,
                    })),
                    Err(failure) => self.output.failures.push((file.position, failure)),
                }
            }
            if lanes.is_empty() || revoked.load(Ordering::Relaxed) {
                return;
            }
            if let Some(visit) = &mut visit {
                visit.take_turn();
            }
            for lane in &mut lanes {
                lane.outcome = lane.file.read(lane.window, revoked).err().map(Err);
            }
            if let Some(visit) = &mut visit {
                visit.pause();
            }
            let ready = lanes.iter_mut().filter(|lane| lane.outcome.is_none());
            beside::absorb(ready.map(|lane| (&mut lane.file, &*lane.window)));
            for lane in lanes.iter_mut().filter(|lane| lane.outcome.is_none()) {
                lane.outcome = lane.file.finish(lane.window);
            }
            for lane in lanes.extract_if(.., |lane| lane.outcome.is_some()) {
                match lane.outcome {
                    Some(Ok(digest)) => {
                        self.output.outputs.extend_from_slice(&digest);
                        self.positions.push(lane.position);
                    }
                    Some(Err(failure)) => self.output.failures.push((lane.position, failure)),
                    None => {}
                }
                windows.push(lane.window);
            }
        }
    }
}

/// A file that is hashed beside others.
struct Lane<'w, 'a> {
    position: u32,
    file: File<'a>,
    window: &'w mut [u8],
    /// Once it is done.
    outcome: Option<Result<Vec<u8>, Failure>>,
}

impl<'a> Later<'a> {
    /// Opens it, as far as it is not open.
    fn open(
        &self,
        kernels: Kernels,
        strict: bool,
        visit: Option<&mut Visit<'a>>,
    ) -> Result<File<'a>, Failure> {
        let source = match (&self.place, visit) {
            (Place::Passed(file), _) => Source::Passed(*file),
            (Place::Named(named), Some(visit)) => Source::Found(visit.find(named)?),
            (Place::Named(_), None) => return Err(Failure::Invalid),
        };
        let before = source.look()?;
        // An open file may have changed while it waited: what counts is that it holds still now.
        if strict && before != self.stamp {
            return Err(Failure::Changed);
        }
        let midway = Midway::new(kernels.algorithm()).ok_or(Failure::Invalid)?;
        Ok(File::new(source, before, midway, false))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{GOING, digests, file, pattern};
    use super::*;
    use crate::exec::run::{Output, Scratch};
    use crate::input::dataset::Datasets;
    use crate::input::descriptor as source;
    use ipc_proto::{Algorithm, Blob};
    use nix::errno::Errno;
    use std::os::fd::AsFd;

    /// Between them are some that fail, and small ones.
    #[test]
    fn files_that_are_hashed_while_they_are_read_keep_their_order() {
        let contents = [600_000, 9, 1_500_001, 524_289, 700_000].map(pattern);
        for lanes in [2, 4] {
            let dir = tempfile::tempdir().unwrap();
            let mut names = Vec::new();
            for (name, bytes) in ["a", "b", "c", "d", "e"].into_iter().zip(&contents) {
                std::fs::write(dir.path().join(name), bytes).unwrap();
                let file = std::fs::File::open(dir.path().join(name)).unwrap();
                let stamp = source::stamp_of(file.as_fd()).unwrap();
                names.push(Named { path: Blob::from(name.as_bytes()), stamp });
            }
            let missing = Named { path: Blob::from(&b"missing"[..]), ..names[2].clone() };
            let other = Stamp { mtime_ns: 1, ..names[3].stamp };
            names.insert(1, missing);
            names.insert(3, Named { stamp: other, ..names[4].clone() });
            let mount = format!("d={}", dir.path().display()).parse().unwrap();
            let datasets = Datasets::open(vec![mount]).unwrap();
            let (mut output, mut scratch) = (Output::default(), Scratch::default());
            let kernels = Kernels::usual(Algorithm::Sha512);
            let mut batch = Batch::new(kernels, scratch.for_files(), &GOING, &mut output);
            batch.put_beside(lanes);
            batch.run_named(&datasets, "d", &names);
            let failures = vec![(1, source::failure(Errno::ENOENT)), (3, Failure::Changed)];
            assert_eq!(output.failures, failures);
            let want = digests(Algorithm::Sha512, contents.iter().map(Vec::as_slice));
            assert!(output.outputs == want, "{lanes} lanes");
        }
    }

    /// As small ones: what counts is that they hold still from the first look on, or, where that is
    /// to be checked, from the client's.
    #[test]
    fn an_open_file_that_changed_while_it_waited_is_hashed_as_it_is_unless_checked() {
        let (stamp, before) = file(&pattern(600_000));
        let (other_stamp, other) = file(&pattern(800_000));
        before.set_len(550_000).unwrap();
        let files = [before.into(), other.into()];
        let bytes = [&pattern(600_000)[..550_000], &pattern(800_000)[..]];
        for strict in [false, true] {
            let (mut output, mut scratch) = (Output::default(), Scratch::default());
            let kernels = Kernels::usual(Algorithm::Sha256);
            let mut batch = Batch::new(kernels, scratch.for_files(), &GOING, &mut output);
            batch.put_beside(2);
            batch.strict = strict;
            batch.run(&[stamp, other_stamp], &files);
            let good = if strict { &bytes[1..] } else { &bytes[..] };
            assert_eq!(output.outputs, digests(Algorithm::Sha256, good.iter().copied()));
            let failures = if strict { vec![(0, Failure::Changed)] } else { vec![] };
            assert_eq!(output.failures, failures);
        }
    }
}
