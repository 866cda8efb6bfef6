//! `hashctl submit`: a durable job of files in datasets, or of bytes; or a check of the files that lists of
//! digests name.

mod claims;

use super::session::{JobName, JobSession, nonsense};
use super::{is_good, key, label, rate, text};
use crate::args::JobArgs;
use crate::cli::print;
use crate::config::Config;
use crate::examples;
use crate::exit::Exit;
use crate::input::datasets::Datasets;
use crate::input::open::{Links, Opened, open_at};
use crate::input::selection::Selection;
use crate::input::walk::{Visitor, walk};
use crate::lists::lines::{Line, Lines};
use crate::lists::quote::quote;
use crate::problem::{Problem, Special};
use crate::say::{errno_text, io_text, say};
use claims::ClaimLists;
use clap::Args;
use ipc_proto::limits::{
    FRAME_NAMES_MAX, INLINE_LEN_MAX, JOB_PRIORITY_MAX, JOB_ROOTS_LEN_MAX, JOB_ROOTS_MAX,
    NAMES_LEN_MAX, PATH_LEN_MAX,
};
use ipc_proto::message::{
    AuditBaseline, FileItem, FileSource, Items, JobAct, JobId, JobKind, JobRoot, JobRow, JobSource,
    JobSpec, JobState, NameShare, ServiceReply, ServiceRequest, check_dataset,
};
use ipc_proto::{Algorithm, Algorithms, Blob};
use nix::fcntl::AT_FDCWD;
use std::ffi::{CString, OsString};
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

#[derive(Debug, Args)]
#[command(after_help = examples::SUBMIT)]
pub(crate) struct SubmitArgs {
    #[arg(
        short,
        long,
        value_name = "ALGO,…",
        value_delimiter = ',',
        help_heading = "Hashing",
        default_value = "sha256",
        hide_default_value = true
    )]
    /// Algorithms, as of hashctl sum [default: sha256]
    algorithm: Vec<Algorithm>,
    /// A key of your choice: submitting it again means the same job [default: a new job]
    #[arg(long, value_name = "KEY", value_parser = key)]
    id: Option<String>,
    /// A word to find the job by; may be given several times
    #[arg(long, value_name = "LABEL", value_parser = label)]
    label: Vec<String>,
    /// 0 to 9: jobs of a higher priority start first
    #[arg(long, value_name = "N", default_value = "5",
          value_parser = clap::value_parser!(u8).range(..=i64::from(JOB_PRIORITY_MAX)))]
    priority: u8,
    /// Remove the job this many days after its end [default: as the controller does, 30]
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u16).range(1..))]
    keep: Option<u16>,
    /// Bytes per second that are read at most, such as 200M; averaged over some seconds [default: no limit]
    #[arg(long, value_name = "RATE", value_parser = rate)]
    rate: Option<u64>,
    /// Store the bytes of the files in the job, at most 512 KiB of each, instead of their names
    #[arg(long, help_heading = "Input")]
    inline: bool,
    /// Submit also the files that FILE names, one per line; - is standard input
    #[arg(long, value_name = "FILE", help_heading = "Input")]
    files_from: Option<OsString>,
    /// Check the files that the lists of digests name, of one algorithm; PATHs are the lists
    #[arg(short, long, help_heading = "Input", group = "listed",
          conflicts_with_all = ["files_from", "algorithm"])]
    check: bool,
    /// PATH is a list in this dataset, or of an audit a directory, which workers read: its lines may be of several algorithms, and as many as
    /// the dataset has files
    #[arg(long, value_name = "DATASET", requires = "listed", help_heading = "Input",
          conflicts_with = "inline", value_parser = dataset)]
    dataset: Option<String>,
    /// Names in the list are relative to this directory of the dataset [default: the list's]
    #[arg(short = 'C', long, value_name = "DIR", requires = "dataset", help_heading = "Input")]
    directory: Option<OsString>,
    /// Compare all files below directories with a list or an earlier job: what differs, is new or missing
    #[arg(long, requires = "baseline", help_heading = "Input", group = "listed",
          conflicts_with_all = ["files_from", "inline", "algorithm"])]
    audit: bool,
    /// That list, in the dataset, which workers read; PATHs are directories there [default: that of its names]
    #[arg(long, value_name = "LIST", requires_all = ["audit", "dataset"], help_heading = "Input",
          group = "baseline")]
    against: Option<OsString>,
    /// That job, which is done: its id, or the key that it was submitted with; directories and algorithms are its own
    #[arg(long, value_name = "JOB", requires = "audit", help_heading = "Input", group = "baseline",
          conflicts_with_all = ["paths", "dataset"])]
    against_job: Option<JobName>,
    /// Names in FILE end with a zero byte, as those of find -print0
    #[arg(short = '0', long, requires = "files_from", help_heading = "Input")]
    null: bool,
    /// Wait for the end of the job; the status is that of hashctl wait
    #[arg(long)]
    wait: bool,
    /// Print the job as one JSON object, instead of its id; docs/jobs.md has the keys
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    job: JobArgs,
    /// Directories and files of datasets; with --inline files, with --check lists of digests
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<OsString>,
}

const IN_NO_DATASET: &str = "in no dataset that this host and the controller have in common, and an open file \
                             cannot be passed to a job that outlives this command; --inline stores its bytes";

/// Submits a job.
pub(crate) fn submit(config: &Config, args: &SubmitArgs) -> Exit {
    match submit_job(config, args) {
        Ok(exit) | Err(exit) => exit,
    }
}

fn submit_job(config: &Config, args: &SubmitArgs) -> Result<Exit, Exit> {
    if args.paths.is_empty() && args.files_from.is_none() && !args.audit {
        say(format_args!("name directories or files"));
        return Err(Exit::Usage);
    }
    let listed = args.dataset.as_deref().map(|name| match &args.against {
        Some(list) => audit_of_list(name, list, args),
        None => manifest(name, args),
    });
    let manifest = listed.transpose()?;
    let claims = match &manifest {
        None if args.check => Some(ClaimLists::open(&args.paths)?),
        None | Some(_) => None,
    };
    let algorithms = match &claims {
        Some(claims) => claims.algorithm().into(),
        None => Algorithms::new(&args.algorithm).map_err(|error| {
            say(format_args!("--algorithm: {error}"));
            Exit::Usage
        })?,
    };
    let mut session = JobSession::new(config);
    let base = args.against_job.as_ref().map(|job| session.find(job)).transpose()?;
    let known = session.client()?.welcome().planes.datasets.clone();
    let datasets = config.datasets.as_deref().filter(|_| !args.inline);
    let datasets = datasets.map_or_else(Datasets::default, |dir| Datasets::load(dir, &known));
    let (cross_check, strict_reads) = args.job.of_spec();
    let (kind, source) = match &base {
        Some(base) => (JobKind::Audit, Some(audit_of(base)?)),
        None if args.check => (JobKind::Check, manifest),
        None if args.audit => (JobKind::Audit, manifest),
        None => (JobKind::Sum, directories(args, &datasets)),
    };
    let spec = JobSpec {
        kind,
        algorithms: base.as_ref().map_or(algorithms, |base| base.spec.algorithms),
        source: source.unwrap_or(JobSource::Stored),
        cross_check,
        strict_reads,
        labels: args.label.clone(),
        priority: args.priority,
        keep_s: args.keep.map_or(0, |days| u32::from(days) * 86_400),
        rate: args.rate.unwrap_or(0),
        share: base.as_ref().map_or(NameShare::ALL, |base| base.spec.share),
    };
    // Without a key a request that is repeated would make a second job.
    let key =
        args.id.clone().unwrap_or_else(|| format!("auto-{:016x}", RandomState::new().hash_one(0)));
    let mut row = session.job(&ServiceRequest::Submit { key, spec: Box::new(spec) })?;
    let mut is_whole = true;
    if row.state == JobState::Filling {
        let mut store = Store {
            session: &mut session,
            job: row.id,
            datasets: &datasets,
            is_inline: args.inline,
            next: 0,
            stored: row.items,
            frame: StoreFrame::default(),
        };
        is_whole = match claims {
            Some(claims) => store.claims(&claims)?,
            None => store.all(args, config)?,
        };
        if store.next == 0 && !is_whole {
            for act in [JobAct::Cancel, JobAct::Remove] {
                session.job(&ServiceRequest::Act { job: row.id, act })?;
            }
            return Err(Exit::Failure);
        }
        row = session.job(&ServiceRequest::Seal { job: row.id })?;
    }
    let shown = if args.json { text::json(&row) } else { format!("{}\n", row.id) };
    let printed = print(config.stdio, &shown);
    if !args.wait || printed != Exit::Success {
        return Ok(if is_whole { printed } else { Exit::Failure });
    }
    let row = session.wait_for(row)?;
    if !is_good(&row) {
        say(format_args!("job {}: {}", row.id, text::outcome(&row)));
    }
    Ok(Exit::from_ok(is_whole && is_good(&row)))
}

fn dataset(name: &str) -> Result<String, String> {
    check_dataset(name).map(|()| name.to_owned()).map_err(|error| error.to_string())
}

/// The paths as directories in the dataset `name`, and the list with which they are compared.
fn audit_of_list(name: &str, list: &OsString, args: &SubmitArgs) -> Result<JobSource, Exit> {
    let base = args.directory.as_ref().map(|dir| dir.as_bytes());
    let paths: Vec<&[u8]> = args.paths.iter().map(|path| path.as_bytes()).collect();
    JobSource::audit_of_manifest(name, list.as_bytes(), base, &paths).ok_or_else(|| {
        say(format_args!(
            "--against: the list and the directories are paths in the dataset, which neither start with / \
             nor lead up"
        ));
        Exit::Usage
    })
}

/// The only path as a list in the dataset `name`.
fn manifest(name: &str, args: &SubmitArgs) -> Result<JobSource, Exit> {
    let [path] = &args.paths[..] else {
        say(format_args!("--dataset: name one list"));
        return Err(Exit::Usage);
    };
    let source = JobSource::manifest(
        name,
        path.as_bytes(),
        args.directory.as_ref().map(|dir| dir.as_bytes()),
    );
    source.ok_or_else(|| {
        say(format_args!(
            "{}: a path in a dataset neither starts with / nor leads up",
            quote(path.as_bytes())
        ));
        Exit::Usage
    })
}

/// The source of an audit that is compared with the results of `base`.
fn audit_of(base: &JobRow) -> Result<JobSource, Exit> {
    match &base.spec.source {
        JobSource::Dataset { name, roots } | JobSource::Audit { name, roots, .. } => {
            let baseline = AuditBaseline::Job(base.id);
            Ok(JobSource::Audit { name: name.clone(), roots: roots.clone(), baseline })
        }
        JobSource::Stored | JobSource::Manifest { .. } => {
            say(format_args!(
                "job {}: not one over directories of a dataset, which an audit walks again",
                base.id
            ));
            Err(Exit::Failure)
        }
    }
}

/// The arguments as directories of one dataset, which workers list, if they are all that.
fn directories(args: &SubmitArgs, datasets: &Datasets) -> Option<JobSource> {
    if args.files_from.is_some() || args.inline || args.check || args.paths.len() > JOB_ROOTS_MAX {
        return None;
    }
    let (mut name, mut roots, mut roots_len) = (None, Vec::new(), 0);
    for path in &args.paths {
        let shown = path.as_bytes();
        let Ok(Opened::Directory(dir)) =
            open_at(AT_FDCWD, &CString::new(shown).ok()?, Links::Follow)
        else {
            return None;
        };
        let folder = datasets.folder(dir.as_fd())?;
        if *name.get_or_insert_with(|| folder.dataset.clone()) != folder.dataset {
            return None;
        }
        let root = JobRoot { path: folder.path().into(), shown: shown.into() };
        roots_len += root.path.len() + root.shown.len();
        roots.push(root);
    }
    let name = name?.to_string();
    (roots_len <= JOB_ROOTS_LEN_MAX).then_some(JobSource::Dataset { name, roots })
}

/// Items that are stored by one request.
#[derive(Debug, Default)]
struct StoreFrame {
    /// Of named files; `None` for bytes.
    dataset: Option<String>,
    names: Vec<Blob>,
    /// Of each item of a check.
    expected: Vec<Blob>,
    files: Vec<FileItem>,
    contents: Vec<Blob>,
    names_len: usize,
    contents_len: usize,
}

impl StoreFrame {
    fn takes(&self, dataset: Option<&str>, name: &[u8], content: &[u8]) -> bool {
        let contents_max = if dataset.is_some() { NAMES_LEN_MAX } else { INLINE_LEN_MAX };
        self.names.is_empty()
            || (self.dataset.as_deref() == dataset
                && self.names.len() < FRAME_NAMES_MAX
                && self.names_len + name.len() <= NAMES_LEN_MAX / 2
                && self.contents_len + content.len() <= contents_max)
    }
}

/// Takes the files of a tree.
struct Found<'a, 'b, 'c> {
    store: &'a mut Store<'b, 'c>,
    is_whole: bool,
}

impl Visitor for Found<'_, '_, '_> {
    type Dir = OwnedFd;
    type Stop = Exit;

    fn enter(&mut self, dir: OwnedFd) -> OwnedFd {
        dir
    }

    fn file(&mut self, path: &[u8], _: &OwnedFd) -> Result<(), Exit> {
        self.is_whole &= self.store.path(path)?;
        Ok(())
    }

    fn problem(&mut self, path: &[u8], problem: Problem) -> Result<(), Exit> {
        say(format_args!("{}: {problem}", quote(path)));
        self.is_whole = false;
        Ok(())
    }

    fn skipped(&mut self, path: &[u8], special: Special) -> Result<(), Exit> {
        if special != Special::Symlink {
            say(format_args!("{}: skipped: {special}", quote(path)));
        }
        Ok(())
    }

    fn wait_for_descriptors(&mut self) -> Result<(), Exit> {
        Ok(())
    }
}

/// Stores the items of a job.
struct Store<'a, 'b> {
    session: &'a mut JobSession<'b>,
    job: JobId,
    datasets: &'a Datasets,
    is_inline: bool,
    /// Index of the next item.
    next: u64,
    /// Items that the controller has.
    stored: u64,
    frame: StoreFrame,
}

impl Store<'_, '_> {
    /// Stores every file that is named; false if some could not be read.
    fn all(&mut self, args: &SubmitArgs, config: &Config) -> Result<bool, Exit> {
        let mut is_whole = true;
        for path in &args.paths {
            is_whole &= self.tree(path.as_bytes())?;
        }
        if let Some(list) = &args.files_from {
            let failed = |error: &io::Error| {
                say(format_args!("{}: {}", quote(list.as_bytes()), io_text(error)));
                Exit::Failure
            };
            let file = match list.as_bytes() {
                b"-" if config.stdio.has_stdin => {
                    io::stdin().as_fd().try_clone_to_owned().map(File::from)
                }
                b"-" => Err(io::Error::from_raw_os_error(libc::EBADF)),
                _ => File::open(list),
            };
            let file = file.map_err(|error| failed(&error))?;
            let mut lines = Lines::with_end(&file, if args.null { 0 } else { b'\n' });
            while let Some(line) = lines.next_line().map_err(|error| failed(&error))? {
                match line {
                    Line::Whole(b"") => {}
                    Line::Whole(name) => {
                        let name = name.to_vec();
                        is_whole &= self.path(&name)?;
                    }
                    Line::TooLong => {
                        say(format_args!("{}: a name is too long", quote(list.as_bytes())));
                        is_whole = false;
                    }
                }
            }
        }
        self.send()?;
        Ok(is_whole)
    }

    /// Stores every file that the lists name, with its digest there; false if not all could be.
    fn claims(&mut self, lists: &ClaimLists<'_>) -> Result<bool, Exit> {
        let is_whole = lists.each(|name, digest| self.file(name, digest))?;
        self.send()?;
        Ok(is_whole)
    }

    /// Stores one file, or every file below a directory in the order of `hashctl sum -r`; false if some
    /// could not be read.
    fn tree(&mut self, path: &[u8]) -> Result<bool, Exit> {
        let opened = CString::new(path).map(|name| open_at(AT_FDCWD, &name, Links::Follow));
        let Ok(Ok(Opened::Directory(dir))) = opened else { return self.path(path) };
        if self.is_inline {
            say(format_args!("{}: Is a directory; --inline takes files", quote(path)));
            return Ok(false);
        }
        if !self.datasets.may_hold(dir.as_fd()) {
            say(format_args!("{}: {IN_NO_DATASET}", quote(path)));
            return Ok(false);
        }
        let mut found = Found { store: self, is_whole: true };
        walk(dir, path, &mut found, &Selection::default())?;
        Ok(found.is_whole)
    }

    /// Stores one file; false if it cannot be read.
    fn path(&mut self, path: &[u8]) -> Result<bool, Exit> {
        self.file(path, &[])
    }

    /// Stores one file with its expected digest, if it is to be checked; false if it cannot be read.
    fn file(&mut self, path: &[u8], expected: &[u8]) -> Result<bool, Exit> {
        match self.item(path) {
            Ok((dataset, file, content)) => {
                self.push(dataset, (path, expected), file, content)?;
                Ok(true)
            }
            Err(text) => {
                say(format_args!("{}: {text}", quote(path)));
                Ok(false)
            }
        }
    }

    fn item(&self, path: &[u8]) -> Result<(Option<String>, FileItem, Blob), String> {
        let name = CString::new(path).map_err(|_| "not a path".to_owned())?;
        if path.len() > PATH_LEN_MAX {
            return Err(errno_text(libc::ENAMETOOLONG));
        }
        let opened =
            open_at(AT_FDCWD, &name, Links::Follow).map_err(|errno| errno_text(errno as i32))?;
        let (file, stamp) = match opened {
            Opened::File(file, stamp) => (file, stamp),
            Opened::Directory(_) => return Err("Is a directory; name it as an argument".to_owned()),
            Opened::Special(special) => return Err(format!("skipped: {special}")),
        };
        if self.is_inline {
            let mut bytes = Vec::new();
            let max = INLINE_LEN_MAX as u64 + 1;
            File::from(file).take(max).read_to_end(&mut bytes).map_err(|error| io_text(&error))?;
            if bytes.len() > INLINE_LEN_MAX {
                return Err(format!("too long for --inline: more than {INLINE_LEN_MAX} bytes"));
            }
            return Ok((None, FileItem::default(), Blob(bytes)));
        }
        let Some(name) = self.datasets.find(&file) else {
            return Err(IN_NO_DATASET.to_owned());
        };
        Ok((Some(name.dataset.to_string()), stamp.into(), Blob(name.path)))
    }

    fn push(
        &mut self,
        dataset: Option<String>,
        (name, expected): (&[u8], &[u8]),
        file: FileItem,
        content: Blob,
    ) -> Result<(), Exit> {
        // It was stored before, under the same key.
        if self.next < self.stored {
            self.next += 1;
            return Ok(());
        }
        if !self.frame.takes(dataset.as_deref(), name, &content) {
            self.send()?;
        }
        let frame = &mut self.frame;
        frame.dataset = dataset;
        frame.names_len += name.len();
        frame.contents_len += content.len();
        frame.names.push(name.into());
        frame.expected.extend((!expected.is_empty()).then(|| expected.into()));
        frame.files.push(file);
        frame.contents.push(content);
        Ok(())
    }

    fn send(&mut self) -> Result<(), Exit> {
        let frame = std::mem::take(&mut self.frame);
        if frame.names.is_empty() {
            return Ok(());
        }
        let len = frame.names.len() as u64;
        let items = match frame.dataset {
            Some(name) => {
                let source = FileSource::Dataset { name, paths: frame.contents };
                Items::Files { source, files: frame.files }
            }
            None => Items::Inline {
                lens: frame
                    .contents
                    .iter()
                    .map(|bytes| u32::try_from(bytes.len()).unwrap_or(u32::MAX))
                    .collect(),
                data: Blob(
                    frame.contents.iter().flat_map(|bytes| bytes.0.iter().copied()).collect(),
                ),
            },
        };
        let request = ServiceRequest::Store {
            job: self.job,
            first: self.next,
            names: frame.names,
            expected: frame.expected,
            items,
        };
        let ServiceReply::Job(_) = self.session.ask(&request)? else { return Err(nonsense()) };
        self.next += len;
        Ok(())
    }
}
