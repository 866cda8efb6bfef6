//! How far the SHA-2 of a file is, as its workers said, and so where the next one goes on.
//!
//! A point is trusted as much as the worker that told it, and as those whose points that one started
//! from. So there is one of each worker in a row: when one of them is found out, its point goes, and
//! those after it.
//!
//! Invariants: offsets ascend; all points are of the same stamp.

use ipc_proto::Blob;
use ipc_proto::message::Stamp;
use std::rc::Rc;

/// What a worker said.
#[derive(Clone, Debug)]
pub(super) struct Point {
    /// What the file looked like before it was read.
    pub(super) file: Stamp,
    /// How many of its bytes are absorbed.
    pub(super) offset: u64,
    /// What they gave.
    pub(super) state: Blob,
}

/// The way so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Midway {
    points: Vec<(Rc<str>, Point)>,
    /// Where the lease of now, or the last one, started.
    started: u64,
}

impl Midway {
    /// Where to go on.
    pub(super) fn last(&self) -> Option<&Point> {
        self.points.last().map(|(_, point)| point)
    }

    /// How many bytes need not be read again.
    pub(super) fn offset(&self) -> u64 {
        self.last().map_or(0, |point| point.offset)
    }

    /// Where the lease of now started.
    pub(super) fn started(&self) -> u64 {
        self.started
    }

    /// A lease starts at the last point.
    pub(super) fn start(&mut self) {
        self.started = self.offset();
    }

    /// Whether the lease came forward.
    pub(super) fn has_advanced(&self) -> bool {
        self.offset() > self.started
    }

    /// Whether `point` can follow.
    pub(super) fn takes(&self, point: &Point) -> bool {
        point.offset > self.offset() && self.last().is_none_or(|last| last.file == point.file)
    }

    /// The worker called `name` came to `point`.
    pub(super) fn push(&mut self, name: &Rc<str>, point: Point) {
        match self.points.last_mut() {
            Some((by, last)) if by == name => *last = point,
            _ => self.points.push((Rc::clone(name), point)),
        }
    }

    /// Who told the last point.
    pub(super) fn teller(&self) -> Option<&Rc<str>> {
        self.points.last().map(|(name, _)| name)
    }

    /// Whether it is all by the worker called `name`.
    pub(super) fn is_of(&self, name: &Rc<str>) -> bool {
        self.points.iter().all(|(by, _)| by == name)
    }

    /// Forgets all that depends on the worker called `name`; whether that is anything.
    pub(super) fn distrust(&mut self, name: &Rc<str>) -> bool {
        let first = self.points.iter().position(|(by, _)| by == name);
        if let Some(first) = first {
            self.points.truncate(first);
        }
        first.is_some()
    }

    /// Starts over.
    pub(super) fn forget(&mut self) {
        self.points.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(offset: u64) -> Point {
        Point { file: Stamp { size: 1 << 40, ..Stamp::default() }, offset, state: Blob(vec![1]) }
    }

    fn midway(points: &[(&str, u64)]) -> Midway {
        let mut midway = Midway::default();
        for &(name, offset) in points {
            assert!(midway.takes(&point(offset)));
            midway.push(&Rc::from(name), point(offset));
        }
        midway
    }

    #[test]
    fn points_go_forward_and_are_of_one_stamp() {
        let midway = midway(&[("a", 128), ("a", 256)]);
        assert_eq!((midway.offset(), midway.points.len()), (256, 1), "one of each in a row");
        for (offset, taken) in [(128, false), (256, false), (384, true)] {
            assert_eq!(midway.takes(&point(offset)), taken, "{offset}");
        }
        let other = Point { file: Stamp { mtime_ns: 1, ..point(1).file }, ..point(384) };
        assert!(!midway.takes(&other), "another stamp");
    }

    #[test]
    fn what_depends_on_a_worker_goes_with_it() {
        for (name, left) in [("a", 0), ("b", 128), ("c", 256), ("d", 512)] {
            let mut midway = midway(&[("a", 128), ("b", 256), ("c", 384), ("b", 512)]);
            assert_eq!(midway.distrust(&Rc::from(name)), left < 512, "{name}");
            assert_eq!(midway.offset(), left, "{name}");
        }
    }
}
