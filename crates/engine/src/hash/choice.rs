//! The choice between backends: the fastest on this machine, by measurement and not by name.
//!
//! A processor can have instructions that are slower than plain ones: those of an emulator are. And a
//! backend can be the fastest for some lengths and the slowest for others. So the backends that serve
//! an algorithm are timed against each other (`measure`), and each [`Choice`] keeps the fastest by
//! class: the length of the messages, and whether they are many.
//!
//! Invariant: a choice changes how long hashing takes, never a digest.
//!
//! Not here: when a process measures (`process`), and what an operator wants instead (`forced`).

mod forced;
mod measure;
mod process;

pub use forced::{ForceError, Forced};
pub(super) use process::count;
pub use process::{choose, hash_many};

use super::Backend;
use ipc_proto::Algorithm;
use measure::{Case, fastest};
use std::fmt;

/// Lengths for which the same backend is taken.
struct Class {
    len_max: usize,
    /// Length of the sample that stands for all of them.
    sample_len: usize,
    /// Only for algorithms that hash parts of one message in several lanes; for others these lengths
    /// belong to the class before.
    is_for_trees: bool,
}

const CLASSES: [Class; 4] = [
    Class { len_max: 64, sample_len: 40, is_for_trees: false },
    Class { len_max: 1 << 10, sample_len: 768, is_for_trees: false },
    Class { len_max: 16 << 10, sample_len: 4 << 10, is_for_trees: false },
    Class { len_max: usize::MAX, sample_len: 20 << 10, is_for_trees: true },
];

/// Fewer messages leave lanes of a wide backend idle.
const MANY_MIN: usize = 8;

/// Number of sampled messages that stands for fewer than [`MANY_MIN`], and for as many or more.
const SAMPLE_FEW: usize = 4;
const SAMPLE_MANY: usize = 16;

/// Cost of the start and end of a message, in bytes hashed.
const MESSAGE_COST_LEN: usize = 64;

/// The backends for one family of algorithms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice<B = Backend> {
    /// For fewer than [`MANY_MIN`] messages, by class.
    few: [B; CLASSES.len()],
    /// For more, by class.
    many: [B; CLASSES.len()],
}

impl<B: Copy + PartialEq> Choice<B> {
    const fn only(backend: B) -> Self {
        Self { few: [backend; CLASSES.len()], many: [backend; CLASSES.len()] }
    }

    /// The fastest of `candidates`, whose times for a case `time` measures; the first where two are
    /// about as fast. `is_tree` is whether the algorithm is one.
    fn measured(is_tree: bool, candidates: &[B], mut time: impl FnMut(B, Case) -> u64) -> Self {
        let mut best = |case| fastest(candidates, |backend| time(backend, case));
        // A tree of such a length fills the lanes by itself: few of them stand for many.
        let [.., longest] = &CLASSES;
        let longest = is_tree.then(|| best(Case { count: SAMPLE_FEW, len: longest.sample_len }));
        let mut messages = |count| {
            let mut last = candidates[0];
            CLASSES.each_ref().map(|class| {
                last = match longest {
                    Some(backend) if class.is_for_trees => backend,
                    None if class.is_for_trees => last,
                    _ => best(Case { count, len: class.sample_len }),
                };
                last
            })
        };
        Self { few: messages(SAMPLE_FEW), many: messages(SAMPLE_MANY) }
    }

    /// The backends for messages of these lengths, by class: a backend gets the messages that it is
    /// the fastest for if they are many. The rest go with what takes the longest.
    fn for_messages(&self, lens: impl ExactSizeIterator<Item = usize>) -> [B; CLASSES.len()] {
        let by_class = if lens.len() < MANY_MIN { &self.few } else { &self.many };
        if is_one(by_class) {
            return *by_class;
        }
        let (mut counts, mut costs) = ([0; CLASSES.len()], [0; CLASSES.len()]);
        for len in lens {
            counts[class(len)] += 1;
            costs[class(len)] += len + MESSAGE_COST_LEN;
        }
        let sum = |of: [usize; CLASSES.len()], backend| -> usize {
            of.iter().zip(by_class).filter(|&(_, &b)| b == backend).map(|(value, _)| value).sum()
        };
        let most = by_class.iter().copied().max_by_key(|&backend| sum(costs, backend));
        let most = most.expect("there are classes");
        by_class.map(|backend| if sum(counts, backend) < MANY_MIN { most } else { backend })
    }
}

fn class(len: usize) -> usize {
    CLASSES.iter().position(|class| len <= class.len_max).expect("the last has no end")
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
        Self { few: self.few.map(other), many: self.many.map(other) }
    }

    /// Backend that absorbs the blocks of `count` long messages, interleaved.
    pub(super) fn for_interleaving(&self, count: usize) -> Backend {
        let by_class = if count < MANY_MIN { &self.few } else { &self.many };
        by_class[CLASSES.len() - 1]
    }

    /// Best number of long messages to interleave; 1 where interleaving gains nothing.
    pub(super) fn interleave_max(&self) -> usize {
        self.for_interleaving(1).width().max(self.for_interleaving(MANY_MIN).width())
    }

    /// Preferred number of messages per call of [`hash_many`].
    #[must_use]
    pub fn preferred_batch(&self) -> usize {
        self.many.iter().map(|backend| backend.preferred_batch()).max().expect("there are classes")
    }

    /// The backends with the lengths that they are for, as a log has them.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut text = String::new();
        for (pair, Class { len_max, .. }) in self.many.windows(2).zip(&CLASSES) {
            if pair[0] != pair[1] {
                text += &format!("{} up to {len_max} bytes, ", pair[0].name());
            }
        }
        let longest = self.many[CLASSES.len() - 1];
        text += longest.name();
        if !is_one(&self.many) {
            text += " above";
        }
        text
    }

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
        f.write_str(self.many[0].name())?;
        for (i, backend) in self.many.iter().enumerate() {
            if !self.many[..i.max(1)].contains(backend) {
                write!(f, "/{}", backend.name())?;
            }
        }
        Ok(())
    }
}

/// Hashes each class of messages by its backend, and puts the digests in the order of the messages.
fn hash_apart(
    backends: [Backend; CLASSES.len()],
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

    /// Nanoseconds for a message of `len` bytes among `count`, where `name` has a kernel of as many
    /// lanes as said and each takes as long as said for a byte.
    fn model(name: &str, case: Case) -> u64 {
        let Case { count, len } = case;
        let (lanes, byte_ns, start_ns) = match name {
            "narrow" => (2, 10, 400),
            "wide" => (16, 50, 1000),
            "plain" => (1, 8, 10),
            "emulated" => (16, 400, 1000),
            _ => panic!("{name}"),
        };
        (count.div_ceil(lanes) * (len * byte_ns + start_ns)) as u64
    }

    #[track_caller]
    fn check(candidates: &[&'static str], few: [&str; 4], many: [&str; 4]) {
        let choice = Choice::measured(false, candidates, model);
        assert_eq!((choice.few, choice.many), (few, many));
    }

    #[test]
    fn a_cross_check_uses_another_backend_where_there_is_one() {
        for algorithm in Algorithm::ALL {
            for usual in serving(algorithm.family()) {
                let other = Choice::only(usual).other(algorithm);
                let are_two = serving(algorithm.family()).count() > 1;
                for backend in other.few.into_iter().chain(other.many) {
                    assert_eq!(backend != usual, are_two, "{algorithm}: {}", usual.name());
                    assert!(backend.serves(algorithm));
                }
            }
        }
    }

    #[test]
    fn the_fastest_is_chosen_for_each_class() {
        let times = |name, case| match (name, case) {
            ("a", Case { len: 40 | 4096, count: SAMPLE_MANY }) => 50,
            ("c", Case { len: 40, count: SAMPLE_FEW }) => 60,
            ("b", _) => 70,
            _ => 100,
        };
        let choice = Choice::measured(true, &["a", "b", "c"], times);
        assert_eq!(choice.many, ["a", "b", "a", "b"]);
        assert_eq!(choice.few, ["c", "b", "b", "b"]);
        let choice = Choice::measured(false, &["a", "b", "c"], times);
        assert_eq!(choice.many, ["a", "b", "a", "a"], "long messages are as those before");
    }

    #[test]
    fn a_wide_backend_is_chosen_only_where_its_lanes_are_full() {
        let few = ["plain", "narrow", "narrow", "narrow"];
        check(&["wide", "narrow", "plain"], few, ["wide"; 4]);
    }

    #[test]
    fn an_emulated_backend_is_not_chosen_over_faster_portable_code() {
        check(&["emulated", "plain"], ["plain"; 4], ["plain"; 4]);
        check(&["emulated", "wide", "plain"], ["plain"; 4], ["wide"; 4]);
    }

    const MIXED: Choice<&str> =
        Choice { few: ["f", "f", "f", "g"], many: ["wide", "narrow", "narrow", "plain"] };

    #[track_caller]
    fn check_messages(lens: &[(usize, usize)], want: [&str; 4]) {
        let lens: Vec<_> = lens.iter().flat_map(|&(n, len)| vec![len; n]).collect();
        assert_eq!(MIXED.for_messages(lens.iter().copied()), want, "{lens:?}");
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
                let choice =
                    Choice { many: [other, backend, other, backend], ..Choice::only(other) };
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
            let only = Choice::only(backend);
            assert_eq!(only.describe(), name);
            let short = Choice { many: [backend, backend, other, other], ..only };
            assert_eq!(short.to_string(), format!("{name}/portable"));
            assert_eq!(short.describe(), format!("{name} up to 1024 bytes, portable above"));
            let turns = Choice { many: [backend, other, backend, other], ..only };
            assert_eq!(turns.to_string(), format!("{name}/portable"));
        }
        for family in Family::ALL {
            let mut lens: Vec<_> = serving(family).map(|b| b.name().len() + "/".len()).collect();
            lens.sort_unstable();
            let longest: usize = lens.iter().rev().take(CLASSES.len()).sum();
            assert!(longest <= NAME_LEN_MAX, "some choice for {family:?} cannot be sent");
        }
    }
}
