//! `hashctl compare`: several copies of one tree, and which copy of which file is the odd one out.
//!
//! Copies are directories or manifests of them. Names are brought together (`copies`), files that can
//! be equal are hashed, and the copies of each name vote (`crate::trees::votes`).

mod copies;

use crate::args::{JobArgs, SelectionArgs};
use crate::config::Config;
use crate::engine::function::Function;
use crate::engine::reorder::{Item, Label, Verdict};
use crate::engine::{Printer, run};
use crate::exit::Exit;
use crate::input::selection::Selection;
use crate::json::{JsonName, put_line};
use crate::lists::quote::quote;
use crate::output::Out;
use crate::problem::Problem;
use crate::say::say;
use crate::trees::format::TreeFormat;
use crate::trees::found::FileId;
use crate::trees::manifests::{Manifests, Unusable, open_tree};
use crate::trees::votes::{Ballot, Tallies, count};
use copies::{CompareStep, Copies, CopyFile, TreeCopy};
use ipc_proto::Algorithm;
use serde::Serialize;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::{Arc, OnceLock};

const EXAMPLES: &str = "\
Examples:
  hashctl compare photos /mnt/a/photos /mnt/b/photos
  hashctl compare photos.sha256 /mnt/a/photos /mnt/b/photos
  hashctl compare A B C --restore-to A --restore-from B -0 > list &&
      rsync -a -0 --files-from=list B/ A/

If more than half of the copies of a file agree, they are good and the others are odd. Copies without
a majority differ, and nothing is said about which is right: of two, there is none. Only files that
can be equal are read. A manifest is a copy without files; symbolic links are not followed.

Exit status: 0 all copies are equal (or with --restore-to: the list restores everything), 1 they are
not, 2 usage, 3 no controller, 4 interrupted.";

/// Arguments of `hashctl compare`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CompareArgs {
    /// Algorithm by which files are compared, and of the lines of manifests that do not name theirs
    /// [default: blake3, or by the digest's length]
    #[arg(short, long, value_name = "ALGO", help_heading = "Hashing")]
    algorithm: Option<Algorithm>,
    #[command(flatten)]
    format: TreeFormat,
    /// Print only the names that this copy lacks or has wrong, and that --restore-from has right:
    /// a list for rsync --files-from
    #[arg(long, value_name = "COPY", requires = "restore_from", conflicts_with = "json")]
    restore_to: Option<OsString>,
    /// The copy that they are restored from
    #[arg(long, value_name = "COPY", requires = "restore_to")]
    restore_from: Option<OsString>,
    #[command(flatten)]
    selection: SelectionArgs,
    #[command(flatten)]
    pub(crate) job: JobArgs,
    /// Directories, and manifests of copies that are elsewhere
    #[arg(value_name = "COPY", required = true, num_args = 2..)]
    pub(crate) copies: Vec<OsString>,
}

/// Compares copies of a tree.
pub(crate) fn compare(config: &Config, args: CompareArgs) -> Exit {
    let CompareArgs { algorithm, format, selection, copies: paths, .. } = args;
    let CompareArgs { restore_to, restore_from, .. } = args;
    let selection = Selection::from(selection);
    let number = |path: &OsString| {
        let found = paths.iter().position(|copy| copy == path);
        found.filter(|&number| fs::metadata(&paths[number]).is_ok_and(|found| found.is_dir()))
    };
    let restore = match (restore_to, restore_from) {
        (Some(to), Some(from)) => {
            let (Some(to), Some(from)) = (number(&to), number(&from)) else {
                say(format_args!("--restore-to and --restore-from name two of the directories"));
                return Exit::Usage;
            };
            Some((to, from))
        }
        _ => None,
    };
    let Some((found, left_out)) = open(&paths, algorithm) else { return Exit::Failure };
    let names: Vec<Vec<u8>> = paths.into_iter().map(OsString::into_vec).collect();
    let shared = Arc::new(OnceLock::new());
    let mut printer = ComparePrinter {
        plan: Arc::clone(&shared),
        names: names.clone(),
        format,
        restore,
        next: 0,
        row: 0,
        digests: Vec::new(),
        counts: CompareCounts::default(),
        is_ok: true,
    };
    run(config, &mut printer, None, move |lister| {
        let mut copies = Vec::new();
        for (path, list) in names.iter().zip(found) {
            copies.push(match list {
                Some(list) => list,
                None => match open_tree(path, &selection) {
                    Ok(tree) => TreeCopy::Directory(Box::new(tree)),
                    Err(Unusable) => return Ok(()),
                },
            });
        }
        let copies = Copies::new(copies, &left_out, &selection);
        let usual = algorithm.unwrap_or(Algorithm::Blake3).into();
        let steps = copies.names.indices().flat_map(|row| copies.steps(row, usual)).collect();
        let plan = shared.get_or_init(|| ComparePlan { copies, steps });
        plan.steps.iter().try_for_each(|step| {
            let files = plan.copies.files(step.row);
            let CopyFile::InDirectory(tree, index) = files[step.copy] else { return Ok(()) };
            let path = tree.path(tree.names.get(index));
            lister.long_path(Label { name: &path, function: step.function, want: b"" })
        })
    })
}

/// Reads the manifests among `paths`, in whose place directories have `None`. What is wrong is said.
fn open(
    paths: &[OsString],
    asked: Option<Algorithm>,
) -> Option<(Vec<Option<TreeCopy>>, Vec<FileId>)> {
    let mut left_out = Vec::new();
    let mut copies = Vec::new();
    for path in paths {
        if fs::metadata(path).is_ok_and(|found| found.is_dir()) {
            copies.push(None);
            continue;
        }
        let (manifests, claims) = Manifests::read(vec![path.clone()], None, asked, true).ok()?;
        left_out.extend(manifests.ids);
        let part = &claims.manifests[0];
        if part.bad_lines > 0 {
            let (name, count) = (quote(path.as_bytes()), part.bad_lines);
            say(format_args!(
                "{name}: {count} improperly formatted lines, the first is {}",
                part.first_bad
            ));
            return None;
        }
        copies.push(Some(TreeCopy::List(Box::new(claims))));
    }
    Some((copies, left_out))
}

#[derive(Debug)]
struct ComparePlan {
    copies: Copies,
    /// In the order of names.
    steps: Vec<CompareStep>,
}

/// Names by the outcome for their copies; one may count in several.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct CompareCounts {
    names: u64,
    equal: u64,
    odd: u64,
    undecided: u64,
    missing: u64,
    unreadable: u64,
    /// Names in the list of those to restore.
    #[serde(skip)]
    listed: u64,
    /// Names that are wrong in the copy to restore, and not in that list.
    #[serde(skip)]
    unlisted: u64,
}

/// A digest of the file in a copy, by the copy's number.
type CopyDigest = (usize, Function, Result<Vec<u8>, Problem>);

struct ComparePrinter {
    plan: Arc<OnceLock<ComparePlan>>,
    /// Of the copies, as they were named.
    names: Vec<Vec<u8>>,
    format: TreeFormat,
    /// Numbers of the copy that is restored, and of that from which.
    restore: Option<(usize, usize)>,
    /// Steps that are done.
    next: usize,
    /// The next name to be judged.
    row: u32,
    /// Of that name.
    digests: Vec<CopyDigest>,
    counts: CompareCounts,
    is_ok: bool,
}

/// The line of JSON for a name; copies by their numbers, from 0.
#[derive(Serialize)]
struct CompareJson<'a> {
    #[serde(flatten)]
    name: JsonName<'a>,
    good: &'a [usize],
    odd: &'a [usize],
    undecided: &'a [usize],
    missing: &'a [usize],
    unreadable: &'a [usize],
}

impl Printer for ComparePrinter {
    fn print(&mut self, item: &Item<'_>, out: &mut Out) -> io::Result<()> {
        let shared = Arc::clone(&self.plan);
        let plan = shared.get().expect("the lister made it");
        let step = plan.steps[self.next];
        self.next += 1;
        while self.row < step.row {
            self.judge(&plan.copies, out)?;
        }
        match item.verdict {
            Verdict::Problem(problem) => {
                self.digests.push((step.copy, step.function, Err(problem)));
            }
            Verdict::Digest | Verdict::Waiting | Verdict::Skipped(_) | Verdict::Mark(_) => {
                let digest = |item: Item<'_>| Ok(item.digest.to_vec());
                let digests =
                    item.each().map(|item| (step.copy, item.label.function, digest(item)));
                self.digests.extend(digests);
            }
        }
        if plan.steps.get(self.next).is_none_or(|next| next.row != step.row) {
            self.judge(&plan.copies, out)?;
        }
        out.flush_if_full()
    }

    fn finish(&mut self, out: &mut Out) -> io::Result<()> {
        let shared = Arc::clone(&self.plan);
        let Some(ComparePlan { copies, .. }) = shared.get() else {
            // The lister said why.
            self.is_ok = false;
            return Ok(());
        };
        if self.format.json && self.row == 0 {
            self.put_copies(out);
        }
        while self.row < copies.names.indices().end {
            self.judge(copies, out)?;
        }
        for (number, tree) in copies.directories() {
            for at in tree.problem_names.indices() {
                self.is_ok = false;
                out.flush()?;
                let path = tree.path(tree.problem_names.get(at));
                say(format_args!("{}: {}", quote(&path), tree.problem_at(at)));
                // Whatever is missing below it may be there.
                self.counts.unlisted += u64::from(self.restore.is_some_and(|(to, _)| to == number));
            }
        }
        self.summary(out)
    }

    fn is_ok(&self) -> bool {
        self.is_ok
    }

    fn is_quiet(&self) -> bool {
        self.format.quiet
    }
}

impl ComparePrinter {
    /// Judges the next name.
    fn judge(&mut self, copies: &Copies, out: &mut Out) -> io::Result<()> {
        if self.format.json && self.row == 0 {
            self.put_copies(out);
        }
        let row = self.row;
        self.row += 1;
        let digests = std::mem::take(&mut self.digests);
        let files = copies.files(row);
        let ballots: Vec<Ballot<'_>> =
            files.iter().enumerate().map(|(copy, file)| ballot(copy, *file, &digests)).collect();
        for (copy, _, digest) in &digests {
            if let Err(problem) = digest {
                out.flush()?;
                let path = [&self.names[*copy][..], b"/", copies.names.get(row)].concat();
                say(format_args!("{}: {problem}", quote(&path)));
            }
        }
        let outcomes = count(&ballots);
        let counts = &mut self.counts;
        counts.names += 1;
        counts.equal += u64::from(outcomes.is_agreed());
        for (list, count) in [
            (&outcomes.odd, &mut counts.odd),
            (&outcomes.undecided, &mut counts.undecided),
            (&outcomes.missing, &mut counts.missing),
            (&outcomes.unreadable, &mut counts.unreadable),
        ] {
            *count += u64::from(!list.is_empty());
        }
        let name = copies.names.get(row);
        match self.restore {
            Some((to, from)) => self.put_restore(name, to, from, &outcomes, out)?,
            None if outcomes.is_agreed() => {}
            None => {
                self.is_ok = false;
                self.put(copies, name, &outcomes, out);
            }
        }
        out.flush_if_full()
    }

    fn put(&self, copies: &Copies, name: &[u8], outcomes: &Tallies, out: &mut Out) {
        let out = out.buffer();
        let Tallies { good, odd, undecided, missing, unreadable } = outcomes;
        if self.format.json {
            let name = JsonName::new(name);
            return put_line(&CompareJson { name, good, odd, undecided, missing, unreadable }, out);
        }
        let source = good.iter().find(|&&copy| copies.directories().any(|(dir, _)| dir == copy));
        let source = source.map(|&copy| format!("; restore from {}", quote(&self.names[copy])));
        for (list, what, source) in [
            (odd, "differs in", &source),
            (undecided, "differs, without a majority, between", &None),
            (missing, "missing in", &source),
            (unreadable, "unreadable in", &None),
        ] {
            if list.is_empty() {
                continue;
            }
            let names: Vec<String> = list.iter().map(|&copy| quote(&self.names[copy])).collect();
            let source = source.as_deref().unwrap_or_default();
            self.format.put_name(name, out);
            out.extend_from_slice(format!(": {what} {}{source}", names.join(", ")).as_bytes());
            self.format.end_line(out);
        }
    }

    /// Prints the name if the copy `to` needs it and `from` has it.
    fn put_restore(
        &mut self,
        name: &[u8],
        to: usize,
        from: usize,
        outcomes: &Tallies,
        out: &mut Out,
    ) -> io::Result<()> {
        let Tallies { good, odd, undecided, missing, unreadable } = outcomes;
        let is_wrong = [odd, missing].iter().any(|list| list.contains(&to));
        let is_unknown = [undecided, unreadable].iter().any(|list| list.contains(&to));
        // rsync ends names at either, and has no escape.
        let is_in_line = self.format.zero || !name.iter().any(|byte| matches!(byte, b'\n' | b'\r'));
        if is_wrong && good.contains(&from) && is_in_line {
            self.counts.listed += 1;
            // To rsync these begin a comment.
            if name.starts_with(b"#") || name.starts_with(b";") {
                out.buffer().extend_from_slice(b"./");
            }
            out.buffer().extend_from_slice(name);
            self.format.end_line(out.buffer());
        } else if is_wrong || is_unknown {
            self.is_ok = false;
            self.counts.unlisted += 1;
            let why = match is_in_line {
                false => "has a line break, and needs -0",
                true if is_unknown => "differs without a majority, or cannot be read",
                true => "is not right there either",
            };
            out.flush()?;
            say(format_args!("{}: not in the list: {why}", quote(name)));
        }
        Ok(())
    }

    /// The first line of JSON.
    fn put_copies(&self, out: &mut Out) {
        let copies = self.names.iter().map(|bytes| JsonName::new(bytes)).collect();
        put_line(&CopiesJson { copies }, out.buffer());
    }

    fn summary(&self, out: &mut Out) -> io::Result<()> {
        let counts = &self.counts;
        if self.format.json && !self.format.quiet {
            put_line(&serde_json::json!({ "counts": counts }), out.buffer());
        }
        if self.format.json || self.format.quiet {
            return Ok(());
        }
        out.flush()?;
        if self.restore.is_some() {
            let CompareCounts { listed, unlisted, .. } = counts;
            say(format_args!("{listed} names to restore, {unlisted} that the list cannot restore"));
            return Ok(());
        }
        let CompareCounts { names, equal, odd, undecided, missing, unreadable, .. } = counts;
        let parts = [
            (odd, "with odd copies"),
            (undecided, "without a majority"),
            (missing, "missing somewhere"),
            (unreadable, "unreadable somewhere"),
        ];
        let parts = parts.iter().filter(|(count, _)| **count > 0);
        let parts: String = parts.map(|(count, what)| format!(", {count} {what}")).collect();
        say(format_args!("{names} names, {equal} equal in all copies{parts}"));
        Ok(())
    }
}

#[derive(Serialize)]
struct CopiesJson<'a> {
    copies: Vec<JsonName<'a>>,
}

/// The vote of a copy, from the digests of its name.
fn ballot<'a>(copy: usize, file: CopyFile<'a>, digests: &'a [CopyDigest]) -> Ballot<'a> {
    match file {
        CopyFile::Absent => Ballot::Missing,
        CopyFile::Hidden => Ballot::Unreadable,
        CopyFile::InList(claims, rows) => {
            let digest = |row: &u32| (claims.function(*row), claims.digest(*row));
            Ballot::Digests(rows.iter().map(digest).collect())
        }
        CopyFile::InDirectory(tree, index) => {
            let mut known = Vec::new();
            for (_, function, digest) in digests.iter().filter(|(other, _, _)| *other == copy) {
                match digest {
                    Ok(digest) => known.push((*function, &**digest)),
                    Err(Problem::Io(libc::ENOENT)) => return Ballot::Missing,
                    Err(_) => return Ballot::Unreadable,
                }
            }
            match (known.is_empty(), tree.metadata(index).size) {
                // Not read: all empty files are equal.
                (true, 0) => Ballot::Digests(vec![(Algorithm::Blake3.into(), b"")]),
                (true, _) => Ballot::Unique,
                (false, _) => Ballot::Digests(known),
            }
        }
    }
}
