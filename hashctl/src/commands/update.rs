//! `hashctl update`: brings a manifest and its state up to date with a tree, reading only what may
//! have changed.
//!
//! The tree is walked, files that are new or do not look as the state says are hashed (`plan`), and
//! at the end manifest and state are written anew, each replaced as a whole (`rewrite`).
//!
//! Invariants: the entry of a file that rotted or cannot be read stays as it is; a digest that is
//! written belongs to the metadata that is written with it, or the next run reads the file again.

mod plan;
mod rewrite;

use crate::args::{JobArgs, SelectionArgs};
use crate::config::Config;
use crate::engine::function::Function;
use crate::engine::reorder::{Item, Label, Verdict};
use crate::engine::{Printer, run};
use crate::exit::Exit;
use crate::lists::quote::quote;
use crate::output::Out;
use crate::problem::{Problem, Special};
use crate::replace::{check_writable, write_error};
use crate::say::say;
use crate::state::Seen;
use crate::trees::claims::ClaimTable;
use crate::trees::finding::{Finding, FindingFormat, FindingLine};
use crate::trees::found::{FoundTree, Metadata, look_at, special_at};
use crate::trees::judge::{FileDigests, cause_of};
use crate::trees::manifests::{Manifests, say_left_out, state_path};
use crate::trees::report::{FindingReport, FindingSeverity};
use crate::trees::table::BytesTable;
use ipc_proto::Algorithm;
use plan::{UpdatePlan, UpdateTarget, Verify, age, percent};
use rewrite::{Fate, Rewrite};
use schedule::Cause;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::{Arc, OnceLock};

const EXAMPLES: &str = "\
Examples:
  hashctl update photos.sha256 photos              # make a manifest, or bring it up to date
  hashctl update --quiet --verify 1% m /data       # every night: prints what rotted, else nothing
  hashctl update --verify-older-than 90d m /data   # reads each file once per quarter
  hashctl update --dry-run m /data                 # show what would be written
  hashctl update --exclude .git/ m src             # entries of what is left out stay as they are

A file whose size, times and inode are as the state says is not read. Lines keep their order and
form; those of files that are gone are removed, new files are appended. The entry of a file that
rotted stays, so that a copy can be told from it, unless --accept-rotted is given.
The state is MANIFEST.state; hashctl audit and check use it to tell rot from change.

Exit status: 0 the manifest is up to date, 1 something rotted or cannot be read, 2 usage,
3 no controller, 4 interrupted (nothing is written).";

/// Arguments of `hashctl update`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct UpdateArgs {
    /// Algorithm of a new manifest, and of lines that do not name theirs [default: sha256, or by
    /// the digest's length]
    #[arg(short, long, value_name = "ALGO", help_heading = "Hashing")]
    algorithm: Option<Algorithm>,
    /// Read also N percent of the unchanged files, chosen at random
    #[arg(long, value_name = "N%", value_parser = percent, help_heading = "Hashing")]
    verify: Option<f64>,
    /// Read also unchanged files that were last read longer ago than this, such as 90d or 12h
    #[arg(long, value_name = "AGE", value_parser = age, help_heading = "Hashing")]
    verify_older_than: Option<i64>,
    /// Write the digests that rotted files have now
    #[arg(long)]
    accept_rotted: bool,
    /// Write nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// State of the manifest [default: MANIFEST.state]
    #[arg(long, value_name = "FILE")]
    state: Option<OsString>,
    #[command(flatten)]
    format: FindingFormat,
    #[command(flatten)]
    selection: SelectionArgs,
    #[command(flatten)]
    pub(crate) job: JobArgs,
    /// The manifest, which is made if it is not there
    manifest: OsString,
    /// The directory that it is about
    dir: OsString,
}

/// Brings the manifest up to date.
pub(crate) fn update(config: &Config, args: UpdateArgs) -> Exit {
    let UpdateArgs { algorithm, verify, verify_older_than, accept_rotted, dry_run, .. } = args;
    let UpdateArgs { state, format, selection, manifest, dir, .. } = args;
    if manifest == "-" {
        say(format_args!("standard input cannot be updated; name a file"));
        return Exit::Usage;
    }
    let state = state.unwrap_or_else(|| state_path(&manifest).into_os_string());
    // Before it is read: if it changes later, this tells.
    let before = look_at(manifest.as_bytes());
    let read = Manifests::read_or_new(&manifest, &state, algorithm);
    let Ok((mut manifests, mut claims)) = read else { return Exit::Failure };
    if !dry_run {
        // Not after hours of hashing.
        for path in [&manifest, &state] {
            if let Err(error) = check_writable(Path::new(path)) {
                say(format_args!("{}: {}", quote(path.as_bytes()), write_error(&error)));
                return Exit::Failure;
            }
        }
    }
    let rewrite =
        Rewrite { manifest, state, dir: dir.as_bytes().to_vec(), asked: algorithm, before };
    let verify = Verify { percent: verify, older_than_ns: verify_older_than };
    let shared = Arc::new(OnceLock::new());
    let is_quiet = format.tree.quiet;
    let mut printer = UpdatePrinter {
        update: Arc::clone(&shared),
        rewrite,
        report: FindingReport::new(format),
        accept_rotted,
        dry_run,
        next: 0,
        digests: FileDigests::default(),
        fates: Vec::new(),
        fresh: BytesTable::default(),
        seen: Vec::new(),
        appended: Vec::new(),
        unread: 0,
    };
    let dir = dir.into_vec();
    run(config, &mut printer, None, move |lister| {
        let settled = manifests.settle(&mut claims, &dir, &selection.into());
        let Ok((tree, is_sure)) = settled else { return Ok(()) };
        if claims.len() > 0 && claims.groups().all(|rows| !tree.has(claims.name(rows[0]))) {
            say(format_args!(
                "{}: none of its files is in {}, so it is left as it is: is the directory right, and \
                 mounted? To start again, remove the manifest",
                quote(manifests.paths[0].as_bytes()),
                quote(&dir)
            ));
            return Ok(());
        }
        let is_own = |file| manifests.are(&tree, file);
        let plan = UpdatePlan::new(&tree, &claims, is_own, verify, algorithm);
        if !is_quiet {
            say_left_out(&tree, &plan.left_out);
        }
        let update = shared.get_or_init(|| Update { tree, claims, plan, is_sure });
        update.plan.steps.iter().try_for_each(|&(target, function)| {
            let path = update.path(target);
            lister.long_path(Label { name: &path, function, want: b"" })
        })
    })
}

/// Everything that is known before the first file is hashed.
#[derive(Debug)]
struct Update {
    tree: FoundTree,
    claims: ClaimTable,
    plan: UpdatePlan,
    /// Every line of the manifest counts.
    is_sure: bool,
}

impl Update {
    fn name(&self, target: UpdateTarget) -> &[u8] {
        match target {
            UpdateTarget::Found(file) => self.tree.names.get(file),
            UpdateTarget::Linked(row, _) => self.claims.name(row),
        }
    }

    fn path(&self, target: UpdateTarget) -> Vec<u8> {
        self.tree.path(self.name(target))
    }

    fn metadata(&self, target: UpdateTarget) -> Metadata {
        match target {
            UpdateTarget::Found(file) => *self.tree.metadata(file),
            UpdateTarget::Linked(_, metadata) => metadata,
        }
    }
}

struct UpdatePrinter {
    update: Arc<OnceLock<Update>>,
    rewrite: Rewrite,
    report: FindingReport,
    accept_rotted: bool,
    dry_run: bool,
    /// Steps that are done.
    next: usize,
    digests: FileDigests,
    /// By entry.
    fates: Vec<Fate>,
    /// Digests that replace others, and those of new files.
    fresh: BytesTable,
    /// By entry: what the new state says, where it is another than that of the old one.
    seen: Vec<Option<Seen>>,
    /// New files with their digests in `fresh`.
    appended: Vec<(u32, Function, u32)>,
    /// Files that were not read.
    unread: u64,
}

impl Printer for UpdatePrinter {
    fn print(&mut self, item: &Item<'_>, out: &mut Out) -> io::Result<()> {
        let shared = Arc::clone(&self.update);
        let update = shared.get().expect("the lister planned the steps");
        if self.fates.is_empty() {
            self.start(update);
        }
        let (target, _) = update.plan.steps[self.next];
        self.next += 1;
        debug_assert!(!matches!(item.verdict, Verdict::Mark(_)));
        self.digests.take(item);
        let following = update.plan.steps.get(self.next);
        if following.is_none_or(|(following, _)| *following != target) {
            self.judge(update, target, out)?;
        }
        out.flush_if_full()
    }

    fn finish(&mut self, out: &mut Out) -> io::Result<()> {
        let shared = Arc::clone(&self.update);
        match shared.get() {
            Some(update) => self.conclude(update, out),
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

impl UpdatePrinter {
    fn start(&mut self, update: &Update) {
        self.fates = vec![Fate::Keep; update.claims.len()];
        self.seen = vec![None; update.claims.len()];
    }

    /// Judges a file of which all digests are there.
    fn judge(&mut self, update: &Update, target: UpdateTarget, out: &mut Out) -> io::Result<()> {
        let digests = std::mem::take(&mut self.digests);
        let (claims, name) = (&update.claims, update.name(target));
        let rows = claims.find(name);
        if let Some(problem) = digests.problem {
            // A new file that was there for a moment only.
            if rows.is_empty() && problem == Problem::Io(libc::ENOENT) {
                return Ok(());
            }
            return self.report.put_problem(name, problem, out);
        }
        let seen = Seen { metadata: update.metadata(target), seen_ns: update.plan.now_ns };
        let wrong = digests.wrong(claims, rows);
        let finding = match wrong {
            _ if rows.is_empty() => Finding::New,
            None => Finding::Matched,
            Some(_) => match cause_of(claims, rows, &update.path(target)) {
                Cause::Unknown if self.is_older_than_manifest(&update.path(target)) => {
                    Finding::Rotted
                }
                cause @ (Cause::Unknown | Cause::Modified | Cause::Older | Cause::Rotted) => {
                    cause.into()
                }
            },
        };
        if rows.is_empty() {
            let UpdateTarget::Found(file) = target else { return Ok(()) };
            for (function, digest) in digests.all() {
                self.appended.push((file, function, self.fresh.push(digest)));
            }
        }
        if finding != Finding::Rotted || self.accept_rotted {
            for &row in rows {
                self.seen[row as usize] = Some(seen);
                let digest = digests.get(claims.function(row)).unwrap_or_default();
                if digest != claims.digest(row) {
                    self.fates[row as usize] = Fate::Replace(self.fresh.push(digest));
                }
            }
        }
        let function = match (wrong.or(rows.first().copied()), digests.all().next()) {
            (Some(row), _) => claims.function(row),
            (None, Some((function, _))) => function,
            (None, None) => return Ok(()),
        };
        let line = FindingLine {
            size: Some(digests.size),
            digest: digests.get(function).map(|digest| (function, digest)),
            expected: wrong.map(|row| claims.digest(row)),
            ..FindingLine::new(finding, name)
        };
        self.put(line, out)
    }

    /// True if the file has surely not been written to since the manifest was: then another digest
    /// can only be rot, also without a state.
    fn is_older_than_manifest(&self, path: &[u8]) -> bool {
        let (Some(manifest), Some(file)) = (self.rewrite.before, look_at(path)) else {
            return false;
        };
        let seen = Seen { metadata: file, seen_ns: manifest.mtime_ns };
        file.mtime_ns < manifest.mtime_ns && seen.cause(&file) == Cause::Rotted
    }

    fn put(&mut self, line: FindingLine<'_>, out: &mut Out) -> io::Result<()> {
        // An earlier version is seldom what was meant.
        let is_notable = matches!(line.finding, Finding::Rotted | Finding::Older);
        let severity = match line.finding == Finding::Rotted && !self.accept_rotted {
            true => FindingSeverity::Failure,
            false if is_notable => FindingSeverity::Notable,
            false => FindingSeverity::Usual,
        };
        self.report.put(line, severity, out)
    }

    /// Finds entries whose files are gone, and writes.
    fn conclude(&mut self, update: &Update, out: &mut Out) -> io::Result<()> {
        let Update { tree, claims, plan, is_sure } = update;
        if self.fates.is_empty() {
            self.start(update);
        }
        self.report.is_ok &= is_sure;
        self.unread = plan.unchanged;
        for row in claims.names.indices() {
            let name = claims.name(row);
            let rows = claims.find(name);
            let is_other = claims.is_outside(row) || !tree.selects(name);
            if plan.is_planned(row) || rows[0] != row || is_other {
                continue;
            }
            let special = || match tree.special(name) {
                Some(Special::Symlink) => special_at(&tree.path(name)),
                special => special,
            };
            let problem = tree.problem(name).or_else(|| special().map(Problem::Special));
            if let Some(problem) = problem {
                self.report.put_problem(name, problem, out)?;
                continue;
            }
            rows.iter().for_each(|&row| self.fates[row as usize] = Fate::Remove);
            if !plan.is_own(row) {
                let line = FindingLine::new(Finding::Missing, name);
                self.put(FindingLine { expected: Some(claims.digest(row)), ..line }, out)?;
            }
        }
        self.report.put_unlisted_problems(tree, claims, out)?;
        if !self.dry_run
            && let Err(text) = self.rewrite.write(update, self)
        {
            self.report.is_ok = false;
            out.flush()?;
            say(format_args!("{text}"));
        }
        let dry = if self.dry_run { "; nothing was written" } else { "" };
        let unread = format!(", {} not read{dry}", self.unread);
        self.report.summary(&[("unread", self.unread)], &unread, out)
    }
}
