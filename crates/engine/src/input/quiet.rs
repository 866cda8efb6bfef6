//! The quiet rule: a digest is returned only for content that held still while it was read.
//!
//! Every write sets `mtime` and `ctime` when it begins, and `ctime` cannot be set by a program. So
//! content held still if
//! - **quiet**: after reading, both are older by a margin, for a write in progress, than the clock was
//!   before the first byte. One look, behind the read;
//! - **free**: nobody had the file open for writing before the first byte (a lease probe), and the
//!   stamps after the last byte are those from before the probe;
//! - **twice**: two reads have the same digest, no write began since the first of them, and a write
//!   that was in progress before it was waited for.
//!
//! Where another clock sets the stamps, equal stamps before and after must suffice. A step of the
//! clock is noticed, and then only equal stamps and digests count. Metadata (links, mode, name,
//! `atime`) moves `ctime` alone; a file whose `ctime` alone moved is read twice.
//!
//! What stays invisible: a store through a mapping to a file whose stamps are old, as the kernel sets
//! them when it cleans the page, and a single write call that takes longer than the margin.
//! [`Rule::strict`] probes every file, which sees both.

use crate::clock::{MARGIN_NS, Moment, StampClock};
use crate::input::open_file::{OpenFile, Validation};
use crate::input::sys::Probe;
use ipc_proto::limits::LONG_LEN;
use ipc_proto::message::{Failure, Stamp};

/// Maximum number of reads of a file before it is reported as changed.
pub(crate) const READS_MAX: u8 = 3;

/// Some file systems stamp by whole seconds. In nanoseconds.
const COARSE_NS: i64 = 1_000_000_000;

/// The quiet rule of one thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule<'a> {
    pub(crate) clock: &'a StampClock,
    /// Every file is probed for writers, however old its stamps are.
    pub(crate) strict: bool,
}

/// The content that an item is to be of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// Whatever is in the file when it is read.
    Any,
    /// The same, if it is not much longer than its client saw.
    NotMuchLonger(Stamp),
    /// Content that a client saw under a name, or a later one that is not much longer; a copy on an image
    /// never is later.
    SameOrLater(Stamp),
    /// The same as others read: parts of a file.
    SameContent(Stamp),
    /// Exactly what the client saw, metadata included.
    SameFile(Stamp),
}

impl Expected {
    /// The content of a whole file that a client saw as `stamp`, open or under a name; `is_check` if
    /// a digest of it is to be compared.
    pub(crate) fn of_item(is_named: bool, is_check: bool, stamp: Stamp) -> Self {
        match (is_named, is_check) {
            // It may have changed while it waited: it has to hold still from now on.
            (false, false) => Self::NotMuchLonger(stamp),
            (false, true) => Self::SameFile(stamp),
            (true, false) => Self::SameOrLater(stamp),
            // A copy on an image has another status change.
            (true, true) => Self::SameContent(stamp),
        }
    }

    /// Returns true if another file may be opened by the same name.
    pub(crate) fn is_of_a_name(&self) -> bool {
        matches!(self, Self::SameOrLater(_) | Self::SameContent(_))
    }

    /// Returns true if a file whose stamp is `found` matches.
    pub(crate) fn admits(&self, found: Stamp, validation: Validation) -> bool {
        match self {
            Self::Any => true,
            Self::NotMuchLonger(seen) => {
                validation == Validation::Sizeless || !is_much_longer(*seen, found)
            }
            Self::SameOrLater(seen) => {
                let is_later = found.mtime_ns > seen.mtime_ns && found.ctime_ns > seen.ctime_ns;
                let is_later = is_later && !is_much_longer(*seen, found);
                is_same_content(*seen, found) || (is_later && validation != Validation::ReadOnly)
            }
            Self::SameContent(seen) => is_same_content(*seen, found),
            Self::SameFile(seen) => *seen == found,
        }
    }
}

/// One read of a file, from its first byte to its last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trial {
    start: Moment,
    /// The stamp before the first byte, and the answer of a probe right after it.
    before: Option<(Stamp, Option<Probe>)>,
}

impl Trial {
    /// A read of a file that nobody has looked at yet: for files whose stamps are expected to be old.
    pub(crate) fn without_look(start: Moment) -> Self {
        Self { start, before: None }
    }

    /// A read of `file`, whose stamp was `stamp` a moment ago.
    pub(crate) fn of(rule: Rule<'_>, file: &OpenFile<'_>, stamp: Stamp) -> Self {
        let start = rule.clock.now();
        let is_probed =
            file.validation() == Validation::LocalClock && rule.wants_probe(stamp, start);
        let probe = is_probed.then(|| file.probe_writers());
        if is_probed && probe != Some(Probe::Free) {
            file.wait_for_writes();
        }
        Self { start, before: Some((stamp, probe)) }
    }

    /// Starts to read `file`.
    pub(crate) fn start(rule: Rule<'_>, file: &OpenFile<'_>) -> Result<Self, Failure> {
        Ok(Self::of(rule, file, file.stamp()?))
    }

    /// The stamp before the first byte.
    pub(crate) fn before(&self) -> Option<Stamp> {
        self.before.map(|(stamp, _)| stamp)
    }

    /// Returns true if equal stamps after reading prove that the content held still.
    pub(crate) fn is_trusted(&self, rule: Rule<'_>, validation: Validation) -> bool {
        let Some((stamp, probe)) = self.before else { return false };
        let is_old = !rule.strict && is_old(stamp, self.start);
        match validation {
            Validation::ReadOnly | Validation::Sizeless => true,
            Validation::ForeignClock => !rule.strict,
            // A write in the same tick of the clock would leave an equal stamp.
            Validation::LocalClock => {
                is_old || (probe == Some(Probe::Free) && is_before(stamp.ctime_ns, self.start))
            }
        }
    }

    /// Returns true if the content held still for the whole read; `after` is the stamp behind it.
    pub(crate) fn is_good(&self, rule: Rule<'_>, validation: Validation, after: Stamp) -> bool {
        match validation {
            Validation::ReadOnly | Validation::Sizeless => return true,
            Validation::LocalClock if !rule.strict && is_old(after, self.start) => {}
            Validation::LocalClock | Validation::ForeignClock => {
                if self.before() != Some(after) || !self.is_trusted(rule, validation) {
                    return false;
                }
            }
        }
        !rule.clock.was_set_since(self.start)
    }

    /// Returns true if no write began from the first byte of this read to the look that saw
    /// `after`.
    pub(crate) fn is_unwritten(
        &self,
        rule: Rule<'_>,
        validation: Validation,
        after: Stamp,
    ) -> bool {
        let is_same = self.before().is_some_and(|before| is_same_content(before, after));
        // `mtime` alone can be set, `ctime` alone moves with metadata.
        let has_tick_passed = validation == Validation::ForeignClock
            || rule.clock.was_set_since(self.start)
            || is_before(after.ctime_ns, self.start)
            || is_before(after.mtime_ns, self.start);
        is_same && has_tick_passed
    }
}

impl Rule<'_> {
    /// Returns true if a file with this stamp must be probed for writers.
    pub(crate) fn wants_probe(&self, stamp: Stamp, now: Moment) -> bool {
        self.strict || !is_old(stamp, now)
    }

    /// Waits until a write would set another stamp than `stamp`, where that takes less than the margin.
    pub(crate) fn wait_for_next_tick(&self, stamp: Stamp, validation: Validation) {
        let end_ns = last_ns(stamp.ctime_ns);
        let is_near = end_ns <= self.clock.now().real_ns.saturating_add(MARGIN_NS);
        if validation == Validation::LocalClock && is_near {
            self.clock.wait_until_after(end_ns);
        }
    }
}

/// Returns true if a file is longer than leases of its length as `seen` allow for: who hands out work
/// relies on that.
fn is_much_longer(seen: Stamp, found: Stamp) -> bool {
    found.size > seen.size.saturating_add(LONG_LEN)
}

/// Returns true if both have the same length and `mtime`: only metadata may differ.
pub(crate) fn is_same_content(one: Stamp, other: Stamp) -> bool {
    (one.size, one.mtime_ns) == (other.size, other.mtime_ns)
}

/// Returns true if no write that left `stamp` can be in progress at `start`. A stamp in the future
/// is young.
pub(crate) fn is_old(stamp: Stamp, start: Moment) -> bool {
    let limit_ns = start.real_ns.saturating_sub(MARGIN_NS);
    !start.is_unsettled && stamp.ctime_ns < limit_ns && stamp.mtime_ns < limit_ns
}

/// Returns true if the tick of a stamp was over at `start`.
fn is_before(stamp_ns: i64, start: Moment) -> bool {
    last_ns(stamp_ns) < start.real_ns
}

/// The end of the tick of a stamp.
fn last_ns(stamp_ns: i64) -> i64 {
    let is_coarse = stamp_ns % COARSE_NS == 0;
    if is_coarse { stamp_ns.saturating_add(COARSE_NS - 1) } else { stamp_ns }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::tests::Hands;

    const NOW: i64 = 1_000 * COARSE_NS + 500;

    /// A stamp with both times this long ago.
    fn ago(ns: i64) -> Stamp {
        Stamp { size: 10, mtime_ns: NOW - ns, ctime_ns: NOW - ns }
    }

    #[test]
    fn accepts_content_where_no_write_can_have_been_in_progress() {
        use Probe::{Busy, Free, Unknown};
        use Validation::{ForeignClock, LocalClock, ReadOnly, Sizeless};
        let (old, young) = (ago(MARGIN_NS + 1), ago(1));
        let metadata = Stamp { ctime_ns: NOW - 1, ..old };
        let future = Stamp { mtime_ns: NOW + COARSE_NS, ..old };
        let looked = |stamp, probe| Some((stamp, probe));
        for (validation, strict, before, after, want) in [
            // One look is enough for old stamps of this kernel's clock.
            (LocalClock, false, None, old, true),
            (LocalClock, false, None, young, false),
            (LocalClock, false, None, ago(MARGIN_NS), false),
            (LocalClock, false, None, metadata, false),
            (LocalClock, false, None, future, false),
            (LocalClock, true, None, old, false),
            // Young ones need the probe before, and to be the same after.
            (LocalClock, false, looked(young, Some(Free)), young, true),
            (LocalClock, false, looked(young, Some(Free)), ago(0), false),
            (LocalClock, false, looked(young, Some(Busy)), young, false),
            (LocalClock, false, looked(young, Some(Unknown)), young, false),
            (LocalClock, false, looked(future, Some(Free)), future, true),
            // A write in the same tick leaves the same stamp.
            (LocalClock, false, looked(ago(0), Some(Free)), ago(0), false),
            (LocalClock, false, looked(ago(500), Some(Free)), ago(500), false),
            (LocalClock, true, looked(old, Some(Free)), old, true),
            (LocalClock, true, looked(old, Some(Busy)), old, false),
            (ForeignClock, false, None, old, false),
            (ForeignClock, false, looked(old, None), old, true),
            (ForeignClock, false, looked(old, None), young, false),
            (ForeignClock, true, looked(old, None), old, false),
            (ReadOnly, true, None, young, true),
            (Sizeless, true, None, young, true),
        ] {
            let hands = Hands::default();
            hands.pass(NOW);
            let clock = hands.clock();
            let rule = Rule { clock: &clock, strict };
            let trial = Trial { start: clock.now(), before };
            let what = format!("{validation:?} {strict} {trial:?} {after:?}");
            assert_eq!(trial.is_good(rule, validation, after), want, "{what}");
            hands.set(-3_600 * COARSE_NS);
            let is_fixed = matches!(validation, ReadOnly | Sizeless);
            assert_eq!(trial.is_good(rule, validation, after), is_fixed, "set back: {what}");
        }
    }

    #[test]
    fn accepts_two_equal_digests_where_no_write_began_since_the_first_read() {
        use Validation::{ForeignClock, LocalClock};
        let young = ago(COARSE_NS / 2);
        for (validation, before, after, want) in [
            (LocalClock, young, young, true),
            (LocalClock, young, Stamp { ctime_ns: NOW + 7, ..young }, true),
            (LocalClock, young, Stamp { mtime_ns: NOW + 7, ..young }, false),
            (LocalClock, young, Stamp { size: 11, ..young }, false),
            (LocalClock, ago(0), ago(0), false),
            (ForeignClock, ago(0), ago(0), true),
            (ForeignClock, ago(0), ago(-1), false),
        ] {
            let hands = Hands::default();
            hands.pass(NOW);
            let clock = hands.clock();
            let rule = Rule { clock: &clock, strict: false };
            let before = Some((before, Some(Probe::Busy)));
            let trial = Trial { start: clock.now(), before };
            let got = trial.is_unwritten(rule, validation, after);
            assert_eq!(got, want, "{validation:?} {before:?} {after:?}");
        }
    }

    #[test]
    fn a_name_refers_to_the_seen_content_or_to_later_content() {
        let seen = ago(MARGIN_NS);
        let later = ago(1);
        let metadata = Stamp { ctime_ns: 1, ..seen };
        let longer = Stamp { size: 11, ..seen };
        let grown = Stamp { size: seen.size + LONG_LEN, ..later };
        let endless = Stamp { size: grown.size + 1, ..later };
        let (local, image) = (Validation::LocalClock, Validation::ReadOnly);
        for (expected, found, validation, want) in [
            (Expected::Any, endless, local, true),
            (Expected::NotMuchLonger(seen), later, local, true),
            (Expected::NotMuchLonger(seen), grown, local, true),
            (Expected::NotMuchLonger(seen), endless, local, false),
            (Expected::NotMuchLonger(seen), endless, Validation::Sizeless, true),
            (Expected::SameOrLater(seen), endless, local, false),
            (Expected::SameOrLater(seen), seen, local, true),
            (Expected::SameOrLater(seen), metadata, image, true),
            (Expected::SameOrLater(seen), later, local, true),
            (Expected::SameOrLater(seen), later, image, false),
            (Expected::SameOrLater(later), seen, local, false),
            (Expected::SameOrLater(seen), longer, local, false),
            (Expected::SameContent(seen), metadata, local, true),
            (Expected::SameContent(seen), later, local, false),
            (Expected::SameFile(seen), seen, local, true),
            (Expected::SameFile(seen), metadata, local, false),
        ] {
            assert_eq!(expected.admits(found, validation), want, "{expected:?} {found:?}");
        }
    }
}
