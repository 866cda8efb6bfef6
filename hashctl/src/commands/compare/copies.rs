//! Copies of a tree, as directories or as manifests, side by side by the names of their files.

use crate::engine::function::Function;
use crate::input::selection::Selection;
use crate::trees::claims::ClaimTable;
use crate::trees::found::{FileId, FoundTree};
use crate::trees::table::BytesTable;

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
    /// In a manifest, with its entries.
    InList(&'a ClaimTable, &'a [u32]),
    Absent,
    /// Nobody knows if it is there.
    Hidden,
}

/// One read of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CompareStep {
    /// Index of the name.
    pub(super) row: u32,
    /// Number of the copy.
    pub(super) copy: usize,
    pub(super) function: Function,
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
    /// Brings the names of all copies together that `selection` has. Files in `left_out` are not part of
    /// a directory.
    pub(super) fn new(mut all: Vec<TreeCopy>, left_out: &[FileId], selection: &Selection) -> Self {
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
            if places.iter().any(|&place| place != ABSENT) && selection.has_name(name) {
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
            TreeCopy::List(claims) => CopyFile::InList(claims, claims.find(name)),
        });
        files.collect()
    }

    /// Reads of a name that are needed to compare its copies.
    pub(super) fn steps(&self, row: u32, usual: Function) -> Vec<CompareStep> {
        let files = self.files(row);
        let mut listed: Vec<Function> = Vec::new();
        let mut sizes: Vec<(usize, u64)> = Vec::new();
        for (copy, file) in files.into_iter().enumerate() {
            match file {
                CopyFile::InDirectory(tree, index) => {
                    sizes.push((copy, tree.metadata(index).size));
                }
                CopyFile::InList(claims, rows) => {
                    let functions = claims.functions_of(rows);
                    let new = functions.into_iter().filter(|function| !listed.contains(function));
                    let new: Vec<Function> = new.collect();
                    listed.extend(new);
                }
                CopyFile::Absent | CopyFile::Hidden => {}
            }
        }
        let has_equal = |size: u64| sizes.iter().filter(|(_, other)| *other == size).count() > 1;
        // A length that occurs once is another content, and empty files are equal.
        let is_read = |size: u64| !listed.is_empty() || (size > 0 && has_equal(size));
        let read: Vec<usize> =
            sizes.iter().filter(|(_, size)| is_read(*size)).map(|(copy, _)| *copy).collect();
        let functions = if listed.is_empty() { vec![usual] } else { Function::reads(&listed) };
        let steps = read.into_iter().flat_map(|copy| {
            functions.iter().map(move |&function| CompareStep { row, copy, function })
        });
        steps.collect()
    }
}

/// Makes the names of manifests relative: to what the directories have, or else to each other.
fn settle_lists(all: &mut [TreeCopy]) {
    let (mut directories, mut lists) = (Vec::new(), Vec::new());
    for copy in all {
        match copy {
            TreeCopy::Directory(tree) => directories.push(&**tree),
            TreeCopy::List(claims) => lists.push(claims),
        }
    }
    let is_in_directory = |name: &[u8]| directories.iter().any(|tree| tree.has(name));
    if !directories.is_empty() {
        return lists.iter_mut().for_each(|list| list.settle(b"", &[], is_in_directory));
    }
    let Some((first, others)) = lists.split_first_mut() else { return };
    first.settle(b"", &[], |_| false);
    let is_in_first = |name: &[u8]| first.names.first(name).is_some();
    let mut is_apart = false;
    for list in others {
        list.settle(b"", &[], is_in_first);
        is_apart |= list.groups().all(|rows| !is_in_first(list.name(rows[0])));
    }
    if is_apart {
        // Each has the path of its own copy in front.
        lists.iter_mut().for_each(|list| list.strip_common());
    }
}
