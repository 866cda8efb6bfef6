//! Copies of a tree, as directories or as manifests, side by side by the names of their files.

use crate::trees::claims::ClaimTable;
use crate::trees::found::{FileId, FoundTree};
use crate::trees::table::BytesTable;
use ipc_proto::Algorithm;

/// A copy has no file of this name.
const ABSENT: u32 = u32::MAX;

/// A copy of the tree.
#[derive(Debug)]
pub(super) enum TreeCopy {
    Directory(Box<FoundTree>),
    List(Box<ClaimTable>),
}

/// A file of a copy.
#[derive(Clone, Copy, Debug)]
pub(super) enum CopyFile<'a> {
    /// In a directory, with its index there.
    InDirectory(&'a FoundTree, u32),
    /// In a manifest: the entry that tells most.
    InList(&'a ClaimTable, u32),
    Absent,
    /// Nobody knows if it is there.
    Hidden,
}

/// One digest of one file that has to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CompareStep {
    /// Index of the name.
    pub(super) row: u32,
    /// Number of the copy.
    pub(super) copy: usize,
    pub(super) algorithm: Algorithm,
}

/// All names of all copies.
#[derive(Debug)]
pub(super) struct Copies {
    all: Vec<TreeCopy>,
    /// In the order of their bytes.
    pub(super) names: BytesTable,
    /// Per name and copy: the index of the file, or of the first entry.
    places: Vec<u32>,
}

impl TreeCopy {
    fn names(&self) -> &BytesTable {
        match self {
            Self::Directory(tree) => &tree.names,
            Self::List(claims) => &claims.names,
        }
    }
}

impl Copies {
    /// Brings the names of all copies together. Files in `left_out` are not part of a directory.
    pub(super) fn new(mut all: Vec<TreeCopy>, left_out: &[FileId]) -> Self {
        settle_lists(&mut all);
        let mut copies = Self { all, names: BytesTable::default(), places: Vec::new() };
        let mut groups: Vec<_> =
            copies.all.iter().map(|copy| copy.names().groups().peekable()).collect();
        let name_of = |copy: usize, group: &[u32]| copies.all[copy].names().get(group[0]);
        loop {
            let peeked = groups.iter_mut().enumerate();
            let next =
                peeked.filter_map(|(copy, groups)| Some(name_of(copy, groups.peek()?))).min();
            let Some(name) = next else { break };
            let places =
                copies.all.iter().zip(&mut groups).enumerate().map(|(number, (copy, groups))| {
                    let here = groups.next_if(|group| name_of(number, group) == name);
                    let index = here.map_or(ABSENT, |group| group[0]);
                    let is_left_out = match copy {
                        TreeCopy::Directory(tree) => {
                            index != ABSENT && left_out.contains(&tree.id(index))
                        }
                        TreeCopy::List(_) => false,
                    };
                    if is_left_out { ABSENT } else { index }
                });
            let places: Vec<u32> = places.collect();
            if places.iter().any(|&place| place != ABSENT) {
                copies.names.push(name);
                copies.places.extend(places);
            }
        }
        drop(groups);
        copies
    }

    /// Directories, each with its number.
    pub(super) fn directories(&self) -> impl Iterator<Item = (usize, &FoundTree)> {
        self.all.iter().enumerate().filter_map(|(number, copy)| match copy {
            TreeCopy::Directory(tree) => Some((number, &**tree)),
            TreeCopy::List(_) => None,
        })
    }

    /// The file of this name in each copy.
    pub(super) fn files(&self, row: u32) -> Vec<CopyFile<'_>> {
        let name = self.names.get(row);
        let start = row as usize * self.all.len();
        let places = &self.places[start..start + self.all.len()];
        let pairs = self.all.iter().zip(places);
        let files = pairs.map(|(copy, &place)| match copy {
            TreeCopy::Directory(tree) if place == ABSENT => {
                let is_hidden = tree.problem(name).is_some() || tree.special(name).is_some();
                if is_hidden { CopyFile::Hidden } else { CopyFile::Absent }
            }
            TreeCopy::List(_) if place == ABSENT => CopyFile::Absent,
            TreeCopy::Directory(tree) => CopyFile::InDirectory(tree, place),
            TreeCopy::List(claims) => {
                let strongest = claims.strongest(claims.find(name));
                CopyFile::InList(claims, strongest.unwrap_or(place))
            }
        });
        files.collect()
    }

    /// Digests of a name that are needed to compare its copies.
    pub(super) fn steps(&self, row: u32, usual: Algorithm) -> Vec<CompareStep> {
        let files = self.files(row);
        let mut listed: Vec<Algorithm> = Vec::new();
        let mut sizes: Vec<(usize, u64)> = Vec::new();
        for (copy, file) in files.into_iter().enumerate() {
            match file {
                CopyFile::InDirectory(tree, index) => {
                    sizes.push((copy, tree.metadata(index).size));
                }
                CopyFile::InList(claims, row) => listed.push(claims.algorithm(row)),
                CopyFile::Absent | CopyFile::Hidden => {}
            }
        }
        let has_equal = |size: u64| sizes.iter().filter(|(_, other)| *other == size).count() > 1;
        // A length that occurs once is another content, and empty files are equal.
        let is_read = |size: u64| !listed.is_empty() || (size > 0 && has_equal(size));
        let read: Vec<usize> =
            sizes.iter().filter(|(_, size)| is_read(*size)).map(|(copy, _)| *copy).collect();
        listed.sort_unstable();
        listed.dedup();
        let algorithms = if listed.is_empty() { vec![usual] } else { listed };
        read.into_iter()
            .flat_map(|copy| {
                algorithms.iter().map(move |&algorithm| CompareStep { row, copy, algorithm })
            })
            .collect()
    }
}

/// Makes the names of manifests relative: to what the directories have, or else to each other.
fn settle_lists(all: &mut [TreeCopy]) {
    let (directories, mut lists): (Vec<&mut TreeCopy>, Vec<&mut TreeCopy>) =
        all.iter_mut().partition(|copy| matches!(copy, TreeCopy::Directory(_)));
    let is_in_directory =
        |name: &[u8]| directories.iter().any(|tree| tree.names().first(name).is_some());
    if !directories.is_empty() {
        for list in lists {
            if let TreeCopy::List(claims) = list {
                claims.settle(b"", &[], is_in_directory);
            }
        }
        return;
    }
    let Some((TreeCopy::List(first), others)) = lists.split_first_mut() else { return };
    first.settle(b"", &[], |_| false);
    let is_in_first = |name: &[u8]| first.names.first(name).is_some();
    let mut is_apart = false;
    for list in others.iter_mut() {
        if let TreeCopy::List(claims) = list {
            claims.settle(b"", &[], is_in_first);
            is_apart |= claims.groups().all(|rows| !is_in_first(claims.name(rows[0])));
        }
    }
    if is_apart {
        // Each has the path of its own copy in front.
        for list in lists {
            if let TreeCopy::List(claims) = list {
                claims.strip_common();
            }
        }
    }
}
