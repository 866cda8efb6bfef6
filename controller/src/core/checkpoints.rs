//! Checkpoints of a long SHA-2 file, from which another worker can resume.
//!
//! A checkpoint is trusted as much as the worker that sent it, and as those whose checkpoints that one
//! resumed from. So there is one per worker in a row: when a worker is quarantined, its checkpoint is
//! discarded, and those after it.
//!
//! Invariants: offsets ascend; all checkpoints are of the same stamp.

use ipc_proto::Blob;
use ipc_proto::message::Stamp;
use std::rc::Rc;

/// State of the hash at an offset.
#[derive(Clone, Debug)]
pub(super) struct ResumePoint {
    /// The file's stamp before it was read.
    pub(super) file: Stamp,
    /// Bytes that are absorbed.
    pub(super) offset: u64,
    /// The midstate after them.
    pub(super) state: Blob,
}

/// All of one file, with the workers that sent them.
#[derive(Clone, Debug, Default)]
pub(super) struct Checkpoints {
    points: Vec<(Rc<str>, ResumePoint)>,
    /// Where the lease of now, or the last one, started.
    started: u64,
}

impl Checkpoints {
    /// Where to resume.
    pub(super) fn last(&self) -> Option<&ResumePoint> {
        self.points.last().map(|(_, point)| point)
    }

    /// Bytes that need not be read again.
    pub(super) fn offset(&self) -> u64 {
        self.last().map_or(0, |point| point.offset)
    }

    /// Where the lease of now started.
    pub(super) fn started(&self) -> u64 {
        self.started
    }

    /// A lease starts at the last checkpoint.
    pub(super) fn start(&mut self) {
        self.started = self.offset();
    }

    /// Reports whether the lease has a checkpoint of its own.
    pub(super) fn has_advanced(&self) -> bool {
        self.offset() > self.started
    }

    /// Reports whether `point` can follow.
    pub(super) fn takes(&self, point: &ResumePoint) -> bool {
        point.offset > self.offset() && self.last().is_none_or(|last| last.file == point.file)
    }

    /// The worker called `name` came to `point`.
    pub(super) fn push(&mut self, name: &Rc<str>, point: ResumePoint) {
        match self.points.last_mut() {
            Some((by, last)) if by == name => *last = point,
            _ => self.points.push((Rc::clone(name), point)),
        }
    }

    /// The worker that sent the last checkpoint.
    pub(super) fn teller(&self) -> Option<&Rc<str>> {
        self.points.last().map(|(name, _)| name)
    }

    /// Reports whether the worker called `name` sent all of them.
    pub(super) fn is_of(&self, name: &Rc<str>) -> bool {
        self.points.iter().all(|(by, _)| by == name)
    }

    /// Discards all that depend on the worker called `name`; whether that is any.
    pub(super) fn distrust(&mut self, name: &Rc<str>) -> bool {
        let first = self.points.iter().position(|(by, _)| by == name);
        if let Some(first) = first {
            self.points.truncate(first);
        }
        first.is_some()
    }

    /// Discards all of them.
    pub(super) fn forget(&mut self) {
        self.points.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(offset: u64) -> ResumePoint {
        ResumePoint {
            file: Stamp { size: 1 << 40, ..Stamp::default() },
            offset,
            state: Blob(vec![1]),
        }
    }

    fn checkpoints(points: &[(&str, u64)]) -> Checkpoints {
        let mut checkpoints = Checkpoints::default();
        for &(name, offset) in points {
            assert!(checkpoints.takes(&point(offset)));
            checkpoints.push(&Rc::from(name), point(offset));
        }
        checkpoints
    }

    #[test]
    fn checkpoints_ascend_and_are_of_one_stamp() {
        let checkpoints = checkpoints(&[("a", 128), ("a", 256)]);
        assert_eq!(
            (checkpoints.offset(), checkpoints.points.len()),
            (256, 1),
            "one of each in a row"
        );
        for (offset, taken) in [(128, false), (256, false), (384, true)] {
            assert_eq!(checkpoints.takes(&point(offset)), taken, "{offset}");
        }
        let other = ResumePoint { file: Stamp { mtime_ns: 1, ..point(1).file }, ..point(384) };
        assert!(!checkpoints.takes(&other), "another stamp");
    }

    #[test]
    fn discards_what_depends_on_a_worker() {
        for (name, left) in [("a", 0), ("b", 128), ("c", 256), ("d", 512)] {
            let mut checkpoints = checkpoints(&[("a", 128), ("b", 256), ("c", 384), ("b", 512)]);
            assert_eq!(checkpoints.distrust(&Rc::from(name)), left < 512, "{name}");
            assert_eq!(checkpoints.offset(), left, "{name}");
        }
    }
}
