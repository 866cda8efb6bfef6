//! Origins of files that a manifest does not name, by their content.
//!
//! A file with the content of a manifest's entry was **moved** if that entry's name is missing or has
//! another content now, and **copied** if not. Each entry is the origin of at most one moved file:
//! of several files with one content the first ones are moved and the others copied. A file and an
//! entry with the same last component of their names are paired first, then missing names, then
//! changed ones, each in the order of names.
//!
//! Everything is sorted and joined: no step depends on how many contents are equal.

use ipc_proto::Algorithm;
use std::cmp::Ordering;
use std::collections::HashSet;

/// A content: the algorithm and its digest.
pub type ContentKey<'a> = (Algorithm, &'a [u8]);

/// State of an entry's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Presence {
    /// The name is missing.
    Missing,
    /// The name has another content.
    Changed,
    /// The name has its content.
    Present,
}

/// An entry of the manifest.
#[derive(Clone, Copy, Debug)]
pub struct OldContent<'a> {
    /// Its content.
    pub key: ContentKey<'a>,
    /// Its name.
    pub name: &'a [u8],
    /// Chosen by the caller; no two entries have the same.
    pub index: u32,
    /// State of its name.
    pub presence: Presence,
}

/// A file that the manifest does not name, with one of its digests.
#[derive(Clone, Copy, Debug)]
pub struct NewContent<'a> {
    /// Its content.
    pub key: ContentKey<'a>,
    /// Its name.
    pub name: &'a [u8],
    /// Index of the file, which has an element per algorithm.
    pub file: u32,
}

/// Explanation of a new file; the index is that of the entry it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Its content was nowhere.
    New,
    /// That entry lost its content.
    Moved(u32),
    /// That entry has the same content, or another file came from it.
    Copied(u32),
}

/// Explains each of `files_len` new files. Empty ones have to be left out of `new`: every empty file
/// equals every other one, which says nothing about where it comes from.
#[must_use]
pub fn explain(
    mut old: Vec<OldContent<'_>>,
    mut new: Vec<NewContent<'_>>,
    files_len: usize,
) -> Vec<Arrival> {
    let mut arrivals = vec![Arrival::New; files_len];
    let mut used = HashSet::new();
    // First pairs that share the last component of their names.
    old.sort_unstable_by_key(|old| (old.key, base(old.name), old.presence, old.name, old.index));
    new.sort_unstable_by_key(|new| (new.key, base(new.name), new.name, new.file));
    let order = |old: &OldContent<'_>, new: &NewContent<'_>| {
        (old.key, base(old.name)).cmp(&(new.key, base(new.name)))
    };
    pair(&old, &new, order, &mut used, &mut arrivals);
    // Then whatever is left, missing names before changed ones.
    old.sort_unstable_by_key(|old| (old.key, old.presence, old.name, old.index));
    new.sort_unstable_by_key(|new| (new.key, new.name, new.file));
    pair(&old, &new, |old, new| old.key.cmp(&new.key), &mut used, &mut arrivals);
    for new in &new {
        let arrival = &mut arrivals[new.file as usize];
        if *arrival != Arrival::New {
            continue;
        }
        let equal = &old[old.partition_point(|old| old.key < new.key)..];
        let equal = &equal[..equal.partition_point(|old| old.key == new.key)];
        // Entries that have their content are last.
        if let Some(last) = equal.last() {
            let first = equal.partition_point(|old| old.presence < last.presence);
            *arrival = Arrival::Copied(equal[first].index);
        }
    }
    arrivals
}

/// Pairs entries that lost their content with new files, where `order` says that they are equal; both
/// are sorted by it.
fn pair(
    old: &[OldContent<'_>],
    new: &[NewContent<'_>],
    order: impl Fn(&OldContent<'_>, &NewContent<'_>) -> Ordering,
    used: &mut HashSet<u32>,
    arrivals: &mut [Arrival],
) {
    let (mut i, mut j) = (0, 0);
    while let (Some(from), Some(to)) = (old.get(i), new.get(j)) {
        let arrival = &mut arrivals[to.file as usize];
        if from.presence == Presence::Present || used.contains(&from.index) {
            i += 1;
        } else if *arrival != Arrival::New {
            j += 1;
        } else {
            match order(from, to) {
                Ordering::Less => i += 1,
                Ordering::Greater => j += 1,
                Ordering::Equal => {
                    *arrival = Arrival::Moved(from.index);
                    used.insert(from.index);
                    i += 1;
                    j += 1;
                }
            }
        }
    }
}

/// The last component of a name.
fn base(name: &[u8]) -> &[u8] {
    name.rsplit(|&byte| byte == b'/').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_kit::Random;

    /// Entries and files as `NAME=CONTENT`; entries with it in front: `?` missing, `!`
    /// changed, or nothing.
    #[track_caller]
    fn check(old: &str, new: &str, want: &str) {
        let old: Vec<&str> = old.split_whitespace().collect();
        let new: Vec<&str> = new.split_whitespace().collect();
        let olds = (0..).zip(&old).map(|(index, text)| {
            let presence = match text.as_bytes()[0] {
                b'?' => Presence::Missing,
                b'!' => Presence::Changed,
                _ => Presence::Present,
            };
            let (name, content) = text.trim_start_matches(['?', '!']).split_once('=').unwrap();
            let key = (Algorithm::Sha256, content.as_bytes());
            OldContent { key, name: name.as_bytes(), index, presence }
        });
        let news = (0..).zip(&new).map(|(file, text)| {
            let (name, content) = text.split_once('=').unwrap();
            NewContent { key: (Algorithm::Sha256, content.as_bytes()), name: name.as_bytes(), file }
        });
        let arrivals = explain(olds.collect(), news.collect(), new.len());
        let name = |index: u32| old[index as usize].trim_start_matches(['?', '!']);
        let got: Vec<String> = arrivals
            .into_iter()
            .map(|arrival| match arrival {
                Arrival::New => "new".to_owned(),
                Arrival::Moved(from) => format!("moved:{}", name(from)),
                Arrival::Copied(from) => format!("copied:{}", name(from)),
            })
            .collect();
        assert_eq!(got.join(" "), want);
    }

    #[test]
    fn a_file_is_moved_once_and_copied_after_that() {
        check("a=1", "b=1", "copied:a=1");
        check("?a=1", "b=1", "moved:a=1");
        check("?a=1", "b=1 c=1", "moved:a=1 copied:a=1");
        check("?a=1 b=1", "c=1 d=1", "moved:a=1 copied:b=1");
        check("?a=1 ?b=1", "c=1 d=1", "moved:a=1 moved:b=1");
        check("?a=1 ?b=2", "c=2 d=3", "moved:b=2 new");
    }

    #[test]
    fn a_log_that_was_rotated_is_moved_from_a_name_that_has_another_content() {
        check("!log=1 ?log.1=2", "log.2=2 log.3=1", "moved:log.1=2 moved:log=1");
        check("!a=1 ?z=1", "b=1 c=1", "moved:z=1 moved:a=1");
    }

    #[test]
    fn equal_contents_are_paired_by_the_last_component_of_their_names() {
        check("?a/x=1 ?a/y=1", "b/y=1 b/x=1", "moved:a/y=1 moved:a/x=1");
        check("?a/x=1 ?a/y=1", "b/q=1 b/x=1", "moved:a/y=1 moved:a/x=1");
    }

    #[test]
    fn a_file_with_several_digests_is_explained_once() {
        let key = |algorithm, digest: &'static [u8]| (algorithm, digest);
        let old = |index, key, name: &'static [u8]| OldContent {
            key,
            name,
            index,
            presence: Presence::Missing,
        };
        let olds = vec![
            old(0, key(Algorithm::Sha256, b"s"), b"a"),
            old(1, key(Algorithm::Md5, b"m"), b"b"),
        ];
        let new = |key| NewContent { key, name: b"c", file: 0 };
        let news = vec![new(key(Algorithm::Md5, b"m")), new(key(Algorithm::Sha256, b"s"))];
        assert_eq!(explain(olds, news, 1), [Arrival::Moved(0)]);
    }

    /// The same rules, by trying everything with everything.
    fn naive(old: &[OldContent<'_>], new: &[NewContent<'_>]) -> Vec<Arrival> {
        let mut arrivals = vec![Arrival::New; new.len()];
        let mut used = vec![false; old.len()];
        let mut files: Vec<usize> = (0..new.len()).collect();
        files.sort_by_key(|&file| new[file].name);
        for needs_base in [true, false] {
            for presence in [Presence::Missing, Presence::Changed] {
                // By its last component a changed name goes before a missing one of another.
                for &file in &files {
                    let new = &new[file];
                    let fits = |old: &&OldContent<'_>| {
                        old.key == new.key
                            && old.presence == presence
                            && !used[old.index as usize]
                            && (!needs_base || base(old.name) == base(new.name))
                    };
                    if arrivals[file] == Arrival::New
                        && let Some(from) = old.iter().filter(fits).min_by_key(|old| old.name)
                    {
                        arrivals[file] = Arrival::Moved(from.index);
                        used[from.index as usize] = true;
                    }
                }
            }
        }
        for &file in &files {
            let equal = old.iter().filter(|old| old.key == new[file].key);
            if arrivals[file] == Arrival::New
                && let Some(from) =
                    equal.min_by_key(|old| (std::cmp::Reverse(old.presence), old.name))
            {
                arrivals[file] = Arrival::Copied(from.index);
            }
        }
        arrivals
    }

    #[test]
    fn agrees_with_a_naive_model() {
        let seed = Random::from_entropy().next_u64();
        let mut random = Random::new(seed);
        for _ in 0..3000 {
            let name = |i: u64, random: &mut Random| {
                format!("{}{i}/{}", ["p", "q"][random.index(2)], ["x", "y", "z"][random.index(3)])
            };
            let old_names: Vec<String> =
                (0..random.below(9)).map(|i| name(i, &mut random)).collect();
            let new_names: Vec<String> =
                (0..random.below(9)).map(|i| name(i + 20, &mut random)).collect();
            let key =
                |random: &mut Random| (Algorithm::Sha256, [&b"1"[..], b"2", b"3"][random.index(3)]);
            let old: Vec<OldContent<'_>> = (0..)
                .zip(&old_names)
                .map(|(index, name)| {
                    let presences = [Presence::Missing, Presence::Changed, Presence::Present];
                    let (key, presence) = (key(&mut random), presences[random.index(3)]);
                    OldContent { key, name: name.as_bytes(), index, presence }
                })
                .collect();
            let new: Vec<NewContent<'_>> = (0..)
                .zip(&new_names)
                .map(|(file, name)| NewContent {
                    key: key(&mut random),
                    name: name.as_bytes(),
                    file,
                })
                .collect();
            let want = naive(&old, &new);
            let got = explain(old.clone(), new.clone(), new.len());
            assert_eq!(got, want, "seed {seed}: {old:?} {new:?}");
        }
    }

    #[test]
    fn a_hundred_thousand_equal_files_take_no_quadratic_time() {
        let names: Vec<String> = (0..100_000).map(|i| format!("d{}/f{i}", i % 7)).collect();
        let key = (Algorithm::Sha256, &b"1"[..]);
        let old = (0..).zip(&names).map(|(index, name)| OldContent {
            key,
            name: name.as_bytes(),
            index,
            presence: Presence::Missing,
        });
        let new_names: Vec<String> = (0..100_000).map(|i| format!("e/f{i}")).collect();
        let new = (0..).zip(&new_names).map(|(file, name)| NewContent {
            key,
            name: name.as_bytes(),
            file,
        });
        let arrivals = explain(old.collect(), new.collect(), 100_000);
        assert!((0..).zip(arrivals).all(|(i, arrival)| arrival == Arrival::Moved(i)));
    }
}
