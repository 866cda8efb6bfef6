//! Which copy of a file is the odd one out.
//!
//! Copies with equal contents vote together. If more than half of the copies that can be compared
//! agree, they are **good** and the others **odd**; else all of them are **undecided**. A copy that is
//! missing or cannot be read has no vote.

use crate::engine::function::Function;
use std::cmp::Reverse;

/// Vote of one copy of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ballot<'a> {
    Missing,
    Unreadable,
    /// Its length alone shows that it equals no other one.
    Unique,
    /// Its digests: of all functions for a file, of those in the list for an entry of a manifest.
    Digests(Vec<(Function, &'a [u8])>),
}

/// Copies by their fate; each is in one list, by its number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tallies {
    pub(crate) good: Vec<usize>,
    pub(crate) odd: Vec<usize>,
    pub(crate) undecided: Vec<usize>,
    pub(crate) missing: Vec<usize>,
    pub(crate) unreadable: Vec<usize>,
}

impl Tallies {
    /// True if every copy is there and all of them are equal.
    pub(crate) fn is_agreed(&self) -> bool {
        let Self { good: _, odd, undecided, missing, unreadable } = self;
        [odd, undecided, missing, unreadable].into_iter().all(Vec::is_empty)
    }
}

/// Counts the votes of all copies.
pub(crate) fn count(ballots: &[Ballot<'_>]) -> Tallies {
    let mut outcomes = Tallies::default();
    let mut parties: Vec<Vec<usize>> = Vec::new();
    // Files first: they have digests of every function that the lists have.
    let digests_len = |copy: usize| match &ballots[copy] {
        Ballot::Digests(digests) => digests.len(),
        Ballot::Missing | Ballot::Unreadable | Ballot::Unique => 0,
    };
    let mut order: Vec<usize> = (0..ballots.len()).collect();
    order.sort_by_key(|&copy| Reverse(digests_len(copy)));
    for copy in order {
        match &ballots[copy] {
            Ballot::Missing => outcomes.missing.push(copy),
            Ballot::Unreadable => outcomes.unreadable.push(copy),
            Ballot::Unique => parties.push(vec![copy]),
            Ballot::Digests(digests) => {
                let agrees = |party: &&mut Vec<usize>| {
                    party.iter().any(|&other| equal(digests, &ballots[other]))
                };
                match parties.iter_mut().find(agrees) {
                    Some(party) => party.push(copy),
                    None => parties.push(vec![copy]),
                }
            }
        }
    }
    let votes: usize = parties.iter().map(Vec::len).sum();
    let winner = parties.iter().position(|party| 2 * party.len() > votes);
    for (number, party) in parties.into_iter().enumerate() {
        let outcome = match winner {
            Some(winner) if winner == number => &mut outcomes.good,
            Some(_) => &mut outcomes.odd,
            None => &mut outcomes.undecided,
        };
        outcome.extend(party);
    }
    let Tallies { good, odd, undecided, missing, unreadable } = &mut outcomes;
    [good, odd, undecided, missing, unreadable].into_iter().for_each(|list| list.sort_unstable());
    outcomes
}

/// True if there is a function that both have, and no digest contradicts.
fn equal(digests: &[(Function, &[u8])], other: &Ballot<'_>) -> bool {
    let Ballot::Digests(others) = other else { return false };
    let common = digests.iter().flat_map(|(function, digest)| {
        let same = others.iter().filter(move |(other, _)| other == function);
        same.map(move |(_, other)| other == digest)
    });
    let (mut is_comparable, mut is_equal) = (false, true);
    for same in common {
        is_comparable = true;
        is_equal &= same;
    }
    is_comparable && is_equal
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipc_proto::Algorithm;
    use test_kit::Random;

    /// Copies as letters: `-` missing, `!` unreadable, `?` unique, a letter for each content; want as
    /// letters: `g` good, `o` odd, `u` undecided.
    #[track_caller]
    fn check(copies: &str, want: &str) {
        let ballots: Vec<Ballot<'_>> = copies
            .as_bytes()
            .iter()
            .map(|byte| match byte {
                b'-' => Ballot::Missing,
                b'!' => Ballot::Unreadable,
                b'?' => Ballot::Unique,
                _ => Ballot::Digests(vec![(Algorithm::Sha256.into(), std::slice::from_ref(byte))]),
            })
            .collect();
        let Tallies { good, odd, undecided, missing, unreadable } = count(&ballots);
        let got: String = (0..ballots.len())
            .map(|copy| {
                let lists = [(&good, 'g'), (&odd, 'o'), (&undecided, 'u'), (&missing, '-')];
                let lists = lists.into_iter().chain([(&unreadable, '!')]);
                let mut found = lists.filter(|(list, _)| list.contains(&copy));
                let (_, letter) = found.next().unwrap();
                assert!(found.next().is_none(), "{copies}: in two lists");
                letter
            })
            .collect();
        assert_eq!(got, want, "{copies}");
    }

    #[test]
    fn the_majority_of_the_copies_that_are_there_is_good() {
        check("aa", "gg");
        check("ab", "uu");
        check("aba", "gog");
        check("abc", "uuu");
        check("a-", "g-");
        check("-a-", "-g-");
        check("aab-", "ggo-");
        check("ab-", "uu-");
        check("aabb", "uuuu");
        check("aabc", "uuuu");
        check("aaabc", "gggoo");
        check("a!", "g!");
        check("?aa", "ogg");
        check("??", "uu");
        check("?-", "g-");
    }

    #[test]
    fn manifests_of_different_algorithms_agree_through_a_file() {
        let [sha256, md5] = [Algorithm::Sha256, Algorithm::Md5].map(Function::from);
        let list = |function, digest: &'static [u8]| Ballot::Digests(vec![(function, digest)]);
        let file =
            |a: &'static [u8], b: &'static [u8]| Ballot::Digests(vec![(sha256, a), (md5, b)]);
        let good = |ballots: &[Ballot<'_>]| count(ballots).good;
        assert_eq!(good(&[list(sha256, b"1"), list(md5, b"x"), file(b"1", b"x")]), [0, 1, 2]);
        assert_eq!(good(&[file(b"1", b"x"), list(sha256, b"2"), list(md5, b"x")]), [0, 2]);
        // Alone they cannot be compared.
        assert_eq!(count(&[list(sha256, b"1"), list(md5, b"x")]).undecided, [0, 1]);
    }

    #[test]
    fn agrees_with_counting_each_content() {
        let seed = Random::from_entropy().next_u64();
        let mut random = Random::new(seed);
        for _ in 0..5000 {
            let copies: Vec<u8> =
                (0..1 + random.below(6)).map(|_| b"abc-"[random.index(4)]).collect();
            let votes = |content: u8| copies.iter().filter(|&&copy| copy == content).count();
            let all = copies.len() - votes(b'-');
            let best = b"abc".iter().copied().find(|&content| 2 * votes(content) > all);
            let want: String = copies
                .iter()
                .map(|&copy| match best {
                    _ if copy == b'-' => '-',
                    Some(best) if best == copy => 'g',
                    Some(_) => 'o',
                    None => 'u',
                })
                .collect();
            check(std::str::from_utf8(&copies).unwrap(), &want);
        }
    }
}
