//! The choice between backends: the fastest on this machine, by measurement and not by name.
//!
//! A processor can have instructions that are slower than plain ones: those of an emulator are. And a
//! backend can be the fastest for some messages and the slowest for others. So the backends that serve
//! an algorithm are timed against each other (`measure`), and a [`Choice`] keeps the fastest for each
//! class of lengths and number of messages.
//!
//! Invariant: a choice changes how long hashing takes, never a digest.
//!
//! Not here: the choices of this process (`process`), and what an operator wants instead (`forced`).

mod forced;
mod measure;
mod process;

pub use forced::{ForceError, Forced};
pub use process::choose;

use super::Backend;
use ipc_proto::Algorithm;
use measure::{Case, fastest, least_times};
use std::array;
use std::fmt;

/// Longest messages of each class of lengths, for which the same backend is taken.
const LENS_MAX: [usize; CLASSES] = [64, 1 << 10, 16 << 10, usize::MAX];
const CLASSES: usize = 4;

/// Lengths of the messages that stand for the first class and for all others, where a hash absorbs block
/// after block: each block takes the same time.
const BLOCKS_SAMPLES: [usize; 2] = [40, 768];

/// Messages of a tree that stand for each class but the last: enough to be worth a kernel's lanes.
const TREES_SAMPLES: [Case; CLASSES - 1] =
    [Case { count: 8, len: 40 }, Case { count: 8, len: 768 }, Case { count: 4, len: 4 << 10 }];

/// Number of messages for which as many or more have the same choice: the most lanes of a kernel.
const COUNT_MAX: usize = 16;

/// Fewer messages of one class are hashed together with the others.
const APART_MIN: usize = 8;

/// Cost of the start and end of a message, in bytes hashed.
const MESSAGE_COST_LEN: usize = 64;

/// The backends for one family of algorithms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice<B = Backend> {
    /// By class, then by the number of messages, less one.
    best: [[B; COUNT_MAX]; CLASSES],
}

impl<B: Copy + PartialEq> Choice<B> {
    const fn only(backend: B) -> Self {
        Self { best: [[backend; COUNT_MAX]; CLASSES] }
    }

    /// The fastest of `candidates` for a hash that absorbs block after block. `time` measures the time
    /// per message of a case, `width` is how many messages a candidate absorbs interleaved; the last
    /// one absorbs them one by one.
    fn of_blocks(
        candidates: &[B],
        width: impl Fn(B) -> usize,
        mut time: impl FnMut(B, Case) -> u64,
    ) -> Self {
        let mut by_count = |len| {
            let times = least_times(candidates, |b| time(b, Case { count: width(b), len }));
            let single = times[times.len() - 1];
            array::from_fn(|i| {
                let costs = candidates.iter().zip(&times).map(|(&b, &time)| {
                    // One message alone has the choice of two.
                    (b, cost((i + 1).max(2), width(b), time, single))
                });
                fastest(costs)
            })
        };
        let [short, long] = BLOCKS_SAMPLES.map(&mut by_count);
        Self { best: [short, long, long, long] }
    }

    /// The fastest of `candidates` for a tree: its kernels leave what does not fill their lanes to the
    /// portable backend, the last, so that the number of messages does not matter. A message of the last
    /// class fills the lanes of that one.
    fn of_trees(candidates: &[B], mut time: impl FnMut(B, Case) -> u64) -> Self {
        let mut best = [[candidates[candidates.len() - 1]; COUNT_MAX]; CLASSES];
        for (best, sample) in best.iter_mut().zip(TREES_SAMPLES) {
            let times = least_times(candidates, |backend| time(backend, sample));
            *best = [fastest(candidates.iter().copied().zip(times)); COUNT_MAX];
        }
        Self { best }
    }

    /// The backends by class, where there are `count` messages.
    fn for_count(&self, count: usize) -> [B; CLASSES] {
        self.best.map(|by_count| by_count[count.clamp(1, COUNT_MAX) - 1])
    }

    /// The backends for messages of these lengths, by class: a backend gets the messages that it is
    /// the fastest for if they are many. The rest go with what takes the longest.
    fn for_messages(&self, lens: impl ExactSizeIterator<Item = usize>) -> [B; CLASSES] {
        let by_class = self.for_count(lens.len());
        if is_one(&by_class) {
            return by_class;
        }
        let (mut counts, mut costs) = ([0; CLASSES], [0; CLASSES]);
        for len in lens {
            counts[class(len)] += 1;
            costs[class(len)] += len + MESSAGE_COST_LEN;
        }
        let sum = |of: [usize; CLASSES], backend| -> usize {
            of.iter().zip(&by_class).filter(|&(_, &b)| b == backend).map(|(value, _)| value).sum()
        };
        let most = by_class.iter().copied().max_by_key(|&backend| sum(costs, backend));
        let most = most.expect("there are classes");
        by_class.map(|backend| if sum(counts, backend) < APART_MIN { most } else { backend })
    }
}

/// Time for `count` messages of equal length in a kernel that absorbs `width` of them at once, each in
/// `time` where its lanes are full. Idle lanes take as long as others, but a message that is left alone
/// takes `single`.
const fn cost(count: usize, width: usize, time: u64, single: u64) -> u64 {
    let (full, rest) = (count - count % width, count % width);
    let lanes = if rest > 1 { full + width } else { full };
    let alone = if rest == 1 { single } else { 0 };
    time.saturating_mul(lanes as u64).saturating_add(alone)
}

fn class(len: usize) -> usize {
    LENS_MAX.iter().position(|&len_max| len <= len_max).expect("the last has no end")
}

fn is_one<B: PartialEq>(backends: &[B]) -> bool {
    backends.iter().all(|backend| *backend == backends[0])
}

impl Choice {
    /// For each class another backend than this one's, the plainest, where more than one serves
    /// `algorithm`.
    pub(super) fn other(&self, algorithm: Algorithm) -> Self {
        let plainest_first = || Backend::available().iter().rev().copied();
        let other = |usual: Backend| {
            let mut others = plainest_first().filter(|b| b.serves(algorithm) && *b != usual);
            others.next().unwrap_or(usual)
        };
        Self { best: self.best.map(|by_count| by_count.map(other)) }
    }

    /// Backend that absorbs the blocks of `count` long messages, interleaved.
    pub(super) fn for_interleaving(&self, count: usize) -> Backend {
        self.for_count(count)[CLASSES - 1]
    }

    /// Best number of long messages to interleave; 1 where interleaving gains nothing.
    pub(super) fn interleave_max(&self) -> usize {
        // All lanes of every kernel are busy with this many.
        self.for_interleaving(COUNT_MAX).width()
    }

    /// Preferred number of messages per call of `Choice::hash_many`.
    #[must_use]
    pub fn preferred_batch(&self) -> usize {
        let many = self.for_count(COUNT_MAX);
        many.iter().map(|backend| backend.preferred_batch()).max().expect("there are classes")
    }

    /// The backends with the lengths that they are for, as a log has them.
    #[must_use]
    pub fn describe(&self) -> String {
        let many = self.for_count(COUNT_MAX);
        let mut text = String::new();
        for (pair, len_max) in many.windows(2).zip(LENS_MAX) {
            if pair[0] != pair[1] {
                text += &format!("{} up to {len_max} bytes, ", pair[0].name());
            }
        }
        text += many[CLASSES - 1].name();
        if !is_one(&many) {
            text += " above";
        }
        text
    }

    /// Appends the digest of each input to `out`, in order, by the backends that are the fastest for
    /// messages like these.
    pub(super) fn hash_many(&self, algorithm: Algorithm, inputs: &[&[u8]], out: &mut Vec<u8>) {
        let backends = self.for_messages(inputs.iter().map(|input| input.len()));
        if is_one(&backends) {
            backends[0].hash_many(algorithm, inputs, out);
        } else {
            hash_apart(backends, algorithm, inputs, out);
        }
    }
}

/// The backends for messages, each once, from short messages to long ones, with slashes between them.
impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let many = self.for_count(COUNT_MAX);
        f.write_str(many[0].name())?;
        for (i, backend) in many.iter().enumerate() {
            if !many[..i.max(1)].contains(backend) {
                write!(f, "/{}", backend.name())?;
            }
        }
        Ok(())
    }
}

/// Hashes each class of messages by its backend, and puts the digests in the order of the messages.
fn hash_apart(
    backends: [Backend; CLASSES],
    algorithm: Algorithm,
    inputs: &[&[u8]],
    out: &mut Vec<u8>,
) {
    let digest_len = algorithm.digest_len();
    let before_len = out.len();
    out.resize(before_len + inputs.len() * digest_len, 0);
    let mut digests = Vec::new();
    for (i, &backend) in backends.iter().enumerate() {
        if backends[..i].contains(&backend) {
            continue;
        }
        let is_its = |index: &usize| backends[class(inputs[*index].len())] == backend;
        let indexes: Vec<usize> = (0..inputs.len()).filter(is_its).collect();
        let messages: Vec<&[u8]> = indexes.iter().map(|&index| inputs[index]).collect();
        digests.clear();
        backend.hash_many(algorithm, &messages, &mut digests);
        for (index, digest) in indexes.into_iter().zip(digests.chunks_exact(digest_len)) {
            out[before_len + index * digest_len..][..digest_len].copy_from_slice(digest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::process::serving;
    use super::*;
    use ipc_proto::Family;
    use ipc_proto::limits::NAME_LEN_MAX;

    fn width(name: &str) -> usize {
        match name {
            "pairs" => 2,
            "narrow" => 4,
            "wide" | "emulated" => 16,
            _ => 1,
        }
    }

    /// The backends for 1 to 16 messages, where each candidate takes this long per message in full lanes.
    #[track_caller]
    fn check(times: &[(&'static str, u64)], want: [&str; COUNT_MAX]) {
        let candidates: Vec<_> = times.iter().map(|&(name, _)| name).collect();
        let choice = Choice::of_blocks(&candidates, width, |name, case| {
            assert_eq!(case.count, width(name), "its lanes are full");
            times.iter().find(|(candidate, _)| *candidate == name).unwrap().1
        });
        assert_eq!(choice.best, [want; CLASSES]);
    }

    #[test]
    fn a_cross_check_uses_another_backend_where_there_is_one() {
        for algorithm in Algorithm::ALL {
            for usual in serving(algorithm.family()) {
                let other = Choice::only(usual).other(algorithm);
                let are_two = serving(algorithm.family()).count() > 1;
                for backend in other.best.into_iter().flatten() {
                    assert_eq!(backend != usual, are_two, "{algorithm}: {}", usual.name());
                    assert!(backend.serves(algorithm));
                }
            }
        }
    }

    #[test]
    fn the_fastest_is_chosen_for_each_class() {
        let times = |name, case: Case| match (name, case.len) {
            ("a", 40 | 4096) => 50,
            ("b", 768) => 70,
            _ => 100,
        };
        let choice = Choice::of_trees(&["a", "b", "c"], times);
        assert_eq!(choice.best, ["a", "b", "a", "c"].map(|name| [name; COUNT_MAX]));
        let choice = Choice::of_blocks(&["a", "b", "c"], |_| 1, times);
        assert_eq!(choice.best, ["a", "b", "b", "b"].map(|name| [name; COUNT_MAX]));
    }

    #[test]
    fn a_wide_backend_is_chosen_only_where_its_lanes_are_full() {
        // As Zen 4: 16 lanes gain next to nothing.
        check(&[("pairs", 50), ("wide", 48), ("plain", 90)], ["pairs"; COUNT_MAX]);
        // As Zen 5: twice as fast.
        let [p, w] = ["pairs", "wide"];
        let want = [p, p, p, p, p, p, p, p, w, w, w, w, w, w, w, w];
        check(&[("pairs", 50), ("wide", 25), ("plain", 90)], want);
        // Three idle lanes of four take longer than a message alone, two do not take longer than two.
        let [p, n] = ["plain", "narrow"];
        let want = [p, p, n, n, n, n, n, n, n, n, n, n, n, n, n, n];
        check(&[("narrow", 60), ("plain", 100)], want);
    }

    #[test]
    fn messages_take_as_long_as_their_lanes() {
        for (count, width, want) in
            [(1, 4, 9), (2, 4, 40), (4, 4, 40), (5, 4, 49), (6, 4, 80), (8, 4, 80), (3, 1, 30)]
        {
            assert_eq!(cost(count, width, 10, 9), want, "{count} in {width} lanes");
        }
        assert_eq!(cost(16, 1, u64::MAX, u64::MAX), u64::MAX);
    }

    #[test]
    fn an_emulated_backend_is_not_chosen_over_faster_portable_code() {
        check(&[("emulated", 300), ("plain", 100)], ["plain"; COUNT_MAX]);
    }

    /// Up to seven messages go to "f" and "g".
    fn mixed() -> Choice<&'static str> {
        let by_count = |few, many| array::from_fn(|i| if i < 7 { few } else { many });
        let [f, g] = ["f", "g"];
        let best = [(f, "wide"), (f, "narrow"), (f, "narrow"), (g, "plain")];
        Choice { best: best.map(|(few, many)| by_count(few, many)) }
    }

    #[track_caller]
    fn check_messages(lens: &[(usize, usize)], want: [&str; 4]) {
        let lens: Vec<_> = lens.iter().flat_map(|&(n, len)| vec![len; n]).collect();
        assert_eq!(mixed().for_messages(lens.iter().copied()), want, "{lens:?}");
    }

    #[test]
    fn messages_of_one_class_go_to_its_backend() {
        check_messages(&[(16, 0)], ["wide"; 4]);
        check_messages(&[(16, 64)], ["wide"; 4]);
        check_messages(&[(16, 65)], ["narrow"; 4]);
        check_messages(&[(16, 16 << 10)], ["narrow"; 4]);
        check_messages(&[(16, (16 << 10) + 1)], ["plain"; 4]);
        check_messages(&[(8, usize::MAX >> 8)], ["plain"; 4]);
    }

    #[test]
    fn few_messages_use_the_backend_of_the_costliest_class() {
        check_messages(&[], ["g"; 4]);
        check_messages(&[(7, 10)], ["f"; 4]);
        check_messages(&[(6, 10), (1, 20_000)], ["g"; 4]);
        check_messages(&[(6, 16_000), (1, 20_000)], ["f"; 4]);
    }

    #[test]
    fn mixed_messages_are_split_only_where_a_class_has_many() {
        check_messages(&[(8, 10), (8, 100)], ["wide", "narrow", "narrow", "narrow"]);
        check_messages(&[(7, 10), (8, 100)], ["narrow"; 4]);
        check_messages(&[(4, 100), (4, 5000), (8, 10)], ["wide", "narrow", "narrow", "narrow"]);
        check_messages(&[(15, 10), (1, 100_000)], ["wide", "plain", "plain", "plain"]);
        check_messages(&[(8, 10), (8, 100), (8, 20_000)], ["wide", "narrow", "narrow", "plain"]);
    }

    #[test]
    fn digests_of_split_messages_keep_their_order() {
        let data: Vec<u8> = (0..=250).cycle().take(30_000).collect();
        let lens = [10, 100, 5000, 20_000, 0, 64, 65, 1024, 1025, 16_384, 16_385].into_iter();
        let inputs: Vec<&[u8]> = lens.cycle().take(100).map(|len| &data[..len]).collect();
        for algorithm in Algorithm::ALL {
            let mut want = b"before".to_vec();
            Backend::PORTABLE.hash_many(algorithm, &inputs, &mut want);
            for &backend in Backend::available() {
                let mut got = b"before".to_vec();
                let other = Backend::PORTABLE;
                hash_apart([backend, other, backend, other], algorithm, &inputs, &mut got);
                assert_eq!(got, want, "{algorithm} by {}", backend.name());
                let best = [other, backend, other, backend].map(|backend| [backend; COUNT_MAX]);
                let choice = Choice { best };
                got.truncate(b"before".len());
                choice.hash_many(algorithm, &inputs, &mut got);
                assert_eq!(got, want, "{algorithm} by {choice}");
            }
        }
    }

    #[test]
    fn a_choice_is_displayed_from_short_to_long() {
        let portable = Choice::only(Backend::PORTABLE);
        assert_eq!(
            (portable.to_string(), portable.describe()),
            ("portable".into(), "portable".into())
        );
        for &backend in &Backend::available()[..Backend::available().len() - 1] {
            let (name, other) = (backend.name(), Backend::PORTABLE);
            assert_eq!(Choice::only(backend).describe(), name);
            let many = |best: [Backend; 4]| Choice { best: best.map(|best| [best; COUNT_MAX]) };
            let short = many([backend, backend, other, other]);
            assert_eq!(short.to_string(), format!("{name}/portable"));
            assert_eq!(short.describe(), format!("{name} up to 1024 bytes, portable above"));
            let turns = many([backend, other, backend, other]);
            assert_eq!(turns.to_string(), format!("{name}/portable"));
        }
        for family in Family::ALL {
            let mut lens: Vec<_> = serving(family).map(|b| b.name().len() + "/".len()).collect();
            lens.sort_unstable();
            let longest: usize = lens.iter().rev().take(CLASSES).sum();
            assert!(longest <= NAME_LEN_MAX, "some choice for {family:?} cannot be sent");
        }
    }
}
