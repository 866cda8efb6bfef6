//! `hashctl audit`: a tree against manifests. Each file is matched, changed, moved, copied, new or
//! missing.
//!
//! All manifests are read, then the tree is walked, then every file is hashed and judged in the order
//! of the walk. Files that no manifest names are explained at the end, by their content.
//!
//! Invariant: the exit status is 0 only if each file is in a manifest, each entry is there, and every
//! digest is right.

use crate::args::{JobArgs, SelectionArgs};
use crate::config::Config;
use crate::engine::function::Function;
use crate::engine::lister::Lister;
use crate::engine::reorder::{Item, Label, Stopped, Verdict};
use crate::engine::{Printer, run};
use crate::exit::Exit;
use crate::lists::quote::quote;
use crate::output::Out;
use crate::problem::{Problem, Special};
use crate::say::say;
use crate::trees::claims::ClaimTable;
use crate::trees::finding::{Finding, FindingFormat, FindingLine};
use crate::trees::format::TreeFormat;
use crate::trees::found::{FoundTree, special_at};
use crate::trees::judge::{FileDigests, cause_of};
use crate::trees::manifests::{Manifests, say_left_out};
use crate::trees::report::{FindingReport, FindingSeverity};
use crate::trees::table::BytesTable;
use ipc_proto::Algorithm;
use schedule::moves::{Arrival, NewContent, OldContent, Presence, explain};
use std::collections::HashSet;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::sync::{Arc, OnceLock};

const EXAMPLES: &str = "\
Examples:
  hashctl sum -r photos > photos.sha256
  hashctl audit photos.sha256 photos            # what changed since
  hashctl audit photos.sha256 /mnt/copy/photos  # is the copy complete
  hashctl audit --only missing,new --json a.md5 b.md5 dir
  hashctl audit --exclude '*.tmp' --exclude cache/ m dir

Names in a manifest are relative to DIR, or begin with the path of DIR or of another copy of it.
A state beside a manifest (MANIFEST.state, which hashctl update writes) tells rot from change.

Exit status: 0 everything matched, 1 something did not, 2 usage, 3 no controller, 4 interrupted.";

/// Arguments of `hashctl audit`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct AuditArgs {
    /// Algorithm of lines that do not name theirs [default: by the digest's length]
    #[arg(short, long, value_name = "ALGO", help_heading = "Hashing")]
    algorithm: Option<Algorithm>,
    /// State of the manifest [default: MANIFEST.state, if it is there]
    #[arg(long, value_name = "FILE")]
    state: Option<OsString>,
    #[command(flatten)]
    format: FindingFormat,
    #[command(flatten)]
    selection: SelectionArgs,
    #[command(flatten)]
    pub(crate) job: JobArgs,
    /// Manifests (- is standard input), and the directory that they are about
    #[arg(value_names = ["MANIFEST", "DIR"], required = true, num_args = 2..)]
    pub(crate) paths: Vec<OsString>,
}

/// Compares the tree in the last path with the manifests before it.
pub(crate) fn audit(config: &Config, args: AuditArgs) -> Exit {
    let AuditArgs { algorithm, state, format, selection, mut paths, .. } = args;
    let dir = paths.pop().expect("clap wants two").into_vec();
    if state.is_some() && paths.len() != 1 {
        say(format_args!("--state is for one manifest"));
        return Exit::Usage;
    }
    let read = Manifests::read(paths, state, algorithm, config.stdio.has_stdin);
    let Ok((mut manifests, mut claims)) = read else { return Exit::Failure };
    let plan = Arc::new(OnceLock::new());
    let mut printer = AuditPrinter::new(Arc::clone(&plan), format, config.verbose);
    let is_quiet = printer.is_quiet();
    run(config, &mut printer, None, move |lister| {
        let settled = manifests.settle(&mut claims, &dir, &selection.into());
        let Ok((tree, is_sure)) = settled else { return Ok(()) };
        let planned = AuditPlan::new(&tree, &claims, |file| manifests.are(&tree, file));
        if !is_quiet {
            say_left_out(&tree, &planned.left_out);
        }
        let audit = Audit { tree, claims, plan: planned, is_sure };
        let audit = plan.get_or_init(|| audit);
        audit.list(lister)
    })
}

/// Where a file is that is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AuditTarget {
    /// In the tree, with entries in a manifest.
    Listed(u32),
    /// In the tree, without entry: its position among those.
    Unlisted(u32),
    /// Behind a symbolic link: the first entry of its name.
    Linked(u32),
}

/// Files that are hashed, and those that need not be.
#[derive(Debug)]
struct AuditPlan {
    /// Reads, those of one file together.
    steps: Vec<(AuditTarget, Function)>,
    /// Files without an entry, in the order of the walk.
    unlisted: Vec<u32>,
    left_out: Vec<u32>,
}

/// Everything that the lister knows before the first file is hashed.
#[derive(Debug)]
struct Audit {
    tree: FoundTree,
    claims: ClaimTable,
    plan: AuditPlan,
    /// Every line of the manifests counts.
    is_sure: bool,
}

impl AuditPlan {
    fn new(tree: &FoundTree, claims: &ClaimTable, is_manifest: impl Fn(u32) -> bool) -> Self {
        let mut plan = Self { steps: Vec::new(), unlisted: Vec::new(), left_out: Vec::new() };
        // Content is compared by one function per entry.
        let mut needed = Vec::new();
        let mut linked = Vec::new();
        for group in claims.groups() {
            let name = claims.name(group[0]);
            if !tree.selects(name) {
                continue;
            }
            let strongest = claims.strongest(group).map(|row| claims.function(row));
            needed.extend(strongest.filter(|function| !needed.contains(function)));
            let is_linked = || tree.special(name) == Some(Special::Symlink);
            if tree.names.first(name).is_none() && is_linked() {
                linked.push(group[0]);
            }
        }
        let needed = Function::reads(&needed);
        let reads = |rows| Function::reads(&claims.functions_of(rows)).into_iter();
        let mut unlisted = 0;
        for file in tree.names.indices() {
            let rows = claims.find(tree.names.get(file));
            if rows.is_empty() && is_manifest(file) {
                plan.left_out.push(file);
            } else if rows.is_empty() {
                let target = AuditTarget::Unlisted(unlisted);
                unlisted += 1;
                plan.unlisted.push(file);
                // Every empty file equals every other one: it comes from nowhere.
                if tree.metadata(file).size > 0 {
                    plan.steps.extend(needed.iter().map(|&function| (target, function)));
                }
            } else {
                let target = AuditTarget::Listed(file);
                plan.steps.extend(reads(rows).map(|function| (target, function)));
            }
        }
        for row in linked {
            let rows = claims.find(claims.name(row));
            let target = AuditTarget::Linked(row);
            plan.steps.extend(reads(rows).map(|function| (target, function)));
        }
        plan
    }
}

impl Audit {
    fn name(&self, target: AuditTarget) -> &[u8] {
        match target {
            AuditTarget::Listed(file) => self.tree.names.get(file),
            AuditTarget::Unlisted(at) => self.tree.names.get(self.plan.unlisted[at as usize]),
            AuditTarget::Linked(row) => self.claims.name(row),
        }
    }

    fn list(&self, lister: &mut Lister) -> Result<(), Stopped> {
        self.plan.steps.iter().try_for_each(|&(target, function)| {
            let path = self.tree.path(self.name(target));
            let label = Label { name: &path, function, want: b"" };
            let special = match target {
                AuditTarget::Linked(_) => special_at(&path),
                AuditTarget::Listed(_) | AuditTarget::Unlisted(_) => None,
            };
            match special {
                // It might be waited for without end.
                Some(special) => lister.known(label, Verdict::Problem(Problem::Special(special))),
                None => lister.long_path(label),
            }
        })
    }
}

struct AuditPrinter {
    audit: Arc<OnceLock<Audit>>,
    report: FindingReport,
    is_verbose: bool,
    /// Steps that are done.
    next: usize,
    /// Of the file that is being judged.
    digests: FileDigests,
    /// By entry; those of one file have the same.
    presences: Vec<Option<Presence>>,
    /// Digests of unlisted files.
    contents: BytesTable,
    content_keys: Vec<(Algorithm, u32)>,
    /// Unlisted files without digest.
    unreadable: Vec<(u32, Problem)>,
}

impl Printer for AuditPrinter {
    fn print(&mut self, item: &Item<'_>, out: &mut Out) -> io::Result<()> {
        let shared = Arc::clone(&self.audit);
        let audit = shared.get().expect("the lister planned the steps");
        let (target, _) = audit.plan.steps[self.next];
        self.next += 1;
        self.digests.take(item);
        let following = audit.plan.steps.get(self.next);
        if following.is_none_or(|(following, _)| *following != target) {
            self.judge(audit, target, out)?;
        }
        out.flush_if_full()
    }

    fn finish(&mut self, out: &mut Out) -> io::Result<()> {
        let shared = Arc::clone(&self.audit);
        match shared.get() {
            Some(audit) => self.explain(audit, out),
            // The lister said why.
            None => {
                self.report.is_ok = false;
                Ok(())
            }
        }
    }

    fn is_ok(&self) -> bool {
        self.report.is_ok
    }

    fn is_quiet(&self) -> bool {
        self.report.format.tree.quiet
    }
}

impl AuditPrinter {
    fn new(audit: Arc<OnceLock<Audit>>, format: FindingFormat, is_verbose: bool) -> Self {
        Self {
            audit,
            report: FindingReport::new(format),
            is_verbose,
            next: 0,
            digests: FileDigests::default(),
            presences: Vec::new(),
            contents: BytesTable::default(),
            content_keys: Vec::new(),
            unreadable: Vec::new(),
        }
    }

    /// Judges a file of which all digests are there.
    fn judge(&mut self, audit: &Audit, target: AuditTarget, out: &mut Out) -> io::Result<()> {
        let digests = std::mem::take(&mut self.digests);
        if let AuditTarget::Unlisted(at) = target {
            match digests.problem {
                Some(problem) => self.unreadable.push((at, problem)),
                None => digests.all().for_each(|(function, digest)| {
                    self.contents.push(digest);
                    self.content_keys.push((function.algorithm(), at));
                }),
            }
            return Ok(());
        }
        let (claims, name) = (&audit.claims, audit.name(target));
        let rows = claims.find(name);
        match digests.problem {
            // It was there a moment ago; what is missing is reported at the end.
            Some(Problem::Io(libc::ENOENT)) => return Ok(()),
            Some(problem) => {
                self.set_presence(claims, rows, Presence::Present);
                return self.report.put_problem(name, problem, out);
            }
            None => {}
        }
        let wrong = digests.wrong(claims, rows);
        let finding = match wrong {
            None => Finding::Matched,
            Some(_) => cause_of(claims, rows, &audit.tree.path(name)).into(),
        };
        let function = claims.function(wrong.unwrap_or(rows[0]));
        let digest = digests.get(function).map(|digest| (function, digest));
        let line = FindingLine {
            size: Some(digests.size),
            digest,
            expected: wrong.map(|row| claims.digest(row)),
            ..FindingLine::new(finding, name)
        };
        let presence = if wrong.is_none() { Presence::Present } else { Presence::Changed };
        self.set_presence(claims, rows, presence);
        self.put(line, out)
    }

    fn set_presence(&mut self, claims: &ClaimTable, rows: &[u32], presence: Presence) {
        self.presences.resize(claims.len(), None);
        rows.iter().for_each(|&row| self.presences[row as usize] = Some(presence));
    }

    fn put(&mut self, line: FindingLine<'_>, out: &mut Out) -> io::Result<()> {
        let is_usual = line.finding == Finding::Matched;
        self.report.put(
            line,
            if is_usual { FindingSeverity::Usual } else { FindingSeverity::Failure },
            out,
        )
    }

    /// Reports what is known only once everything is hashed.
    fn explain(&mut self, audit: &Audit, out: &mut Out) -> io::Result<()> {
        let Audit { tree, claims, plan, is_sure } = audit;
        self.report.is_ok &= is_sure;
        self.presences.resize(claims.len(), None);
        let arrivals = self.arrivals(audit);
        let mut sources: HashSet<u32> = HashSet::new();
        for (at, (&file, arrival)) in (0..).zip(plan.unlisted.iter().zip(arrivals)) {
            let name = tree.names.get(file);
            if let Ok(found) = self.unreadable.binary_search_by_key(&at, |(at, _)| *at) {
                let problem = self.unreadable[found].1;
                // It was there for a moment only.
                if problem != Problem::Io(libc::ENOENT) {
                    self.report.put_problem(name, problem, out)?;
                }
                continue;
            }
            let (finding, from) = match arrival {
                Arrival::New => (Finding::New, None),
                Arrival::Copied(row) => (Finding::Copied, Some(row)),
                Arrival::Moved(row) => {
                    sources.extend(claims.find(claims.name(row)).first());
                    (Finding::Moved, Some(row))
                }
            };
            let size = Some(tree.metadata(file).size);
            let from = from.map(|row| claims.name(row));
            self.put(FindingLine { from, size, ..FindingLine::new(finding, name) }, out)?;
        }
        let mut unselected = 0;
        for row in claims.names.indices() {
            let name = claims.name(row);
            if !tree.selects(name) {
                unselected += 1;
                continue;
            }
            if self.presences[row as usize].is_some() || claims.find(name)[0] != row {
                continue;
            }
            let special = || tree.special(name).filter(|special| *special != Special::Symlink);
            let problem = tree.problem(name).or_else(|| special().map(Problem::Special));
            if let Some(problem) = problem {
                self.report.put_problem(name, problem, out)?;
            } else if !sources.contains(&row) {
                let expected = Some(claims.digest(row));
                let line = FindingLine::new(Finding::Missing, name);
                self.put(FindingLine { expected, ..line }, out)?;
            }
        }
        self.report.put_unlisted_problems(tree, claims, out)?;
        self.summary(tree, unselected, out)
    }

    fn arrivals(&self, audit: &Audit) -> Vec<Arrival> {
        let claims = &audit.claims;
        if self.content_keys.is_empty() {
            return vec![Arrival::New; audit.plan.unlisted.len()];
        }
        let old = claims.groups().filter_map(|rows| {
            let index = claims.strongest(rows)?;
            // Nothing is known of what was left out.
            if !audit.tree.selects(claims.name(index)) {
                return None;
            }
            let key = (claims.function(index).algorithm(), claims.digest(index));
            let presence = self.presences[index as usize].unwrap_or(Presence::Missing);
            Some(OldContent { key, name: claims.name(index), index, presence })
        });
        let new = (0..).zip(&self.content_keys).map(|(content, &(algorithm, file))| NewContent {
            key: (algorithm, self.contents.get(content)),
            name: audit.name(AuditTarget::Unlisted(file)),
            file,
        });
        explain(old.collect(), new.collect(), audit.plan.unlisted.len())
    }

    fn summary(&mut self, tree: &FoundTree, unselected: u64, out: &mut Out) -> io::Result<()> {
        let mut left_out = String::new();
        for (count, what) in [
            (tree.specials.len() as u64, "links and special files left out"),
            (unselected, "entries of files that are not selected"),
        ] {
            if count > 0 {
                left_out += &format!("; {count} {what}");
            }
        }
        self.report.summary(&[], &left_out, out)?;
        let TreeFormat { quiet, json, .. } = self.report.format.tree;
        if self.is_verbose && !quiet && !json {
            for at in tree.specials.indices() {
                let name = tree.specials.get(at);
                if let Some(special) = tree.special(name) {
                    say(format_args!("{}: left out: {special}", quote(&tree.path(name))));
                }
            }
        }
        Ok(())
    }
}
