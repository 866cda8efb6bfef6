//! The quiet rule against real writers: a digest is of content that was there whole, or there is none.

use engine::clock::StampClock;
use engine::exec::checkpointed::{self, Checkpoint, LeaseSource, Started, Task};
use engine::exec::order::{Order, Output, Scratch};
use engine::exec::run;
use engine::hash::Backend;
use engine::input::dataset::Datasets;
use ipc_proto::message::{Failure, FileItem, FileSource, LeaseId, Stamp, Work};
use ipc_proto::{Algorithm, Blob, Family};
use std::cell::RefCell;
use std::collections::HashSet;
use std::fs::{self, File, Permissions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use tempfile::TempDir;
use test_kit::{pattern, until};

static GOING: AtomicBool = AtomicBool::new(false);

fn stamp(file: &File) -> Stamp {
    let meta = file.metadata().expect("an open file");
    let ns = |seconds: i64, ns: i64| seconds * 1_000_000_000 + ns;
    let (mtime_ns, ctime_ns) =
        (ns(meta.mtime(), meta.mtime_nsec()), ns(meta.ctime(), meta.ctime_nsec()));
    Stamp { size: meta.size(), mtime_ns, ctime_ns }
}

fn order(algorithm: Algorithm, files: Vec<(Stamp, File)>) -> Order {
    let item = |(stamp, file)| (FileItem::from(stamp), OwnedFd::from(file));
    let (files, descriptors) = files.into_iter().map(|file: (Stamp, File)| item(file)).unzip();
    let work = Work::Files { source: FileSource::Descriptors, files };
    Order::new(algorithm.into(), work, descriptors)
}

fn hash(order: &Order) -> Output {
    run::run(order, &Datasets::default(), &mut Scratch::default(), &GOING)
}

fn opened(path: &Path) -> (Stamp, File) {
    let file = File::open(path).expect("a file to read");
    (stamp(&file), file)
}

fn digest(algorithm: Algorithm, bytes: &[u8]) -> Vec<u8> {
    Backend::PORTABLE.digests(algorithm, &[bytes])
}

fn good(algorithm: Algorithm, bytes: &[u8]) -> Output {
    Output { outputs: digest(algorithm, bytes), failures: vec![] }
}

fn changed() -> Output {
    Output { outputs: vec![], failures: vec![(0, Failure::Changed)] }
}

/// 40 files are rewritten without pause, each by one `pwrite`. `HASHCLUSTER_TORN_DIGESTS=20000` hashes
/// as many of them.
#[test]
fn no_digest_is_torn_while_another_program_rewrites_files() {
    const FILES: usize = 40;
    const CONTENTS: usize = 8;
    const LEN: usize = 60_000;
    const THREADS: usize = 4;
    let wanted = std::env::var("HASHCLUSTER_TORN_DIGESTS").ok();
    let wanted: usize = wanted.map_or(2000, |count| count.parse().expect("a number"));
    let dir = tempfile::tempdir().unwrap();
    let contents: Vec<Vec<u8>> =
        (0..CONTENTS).map(|i| vec![u8::try_from(i).unwrap(); LEN]).collect();
    let whole: HashSet<_> = contents.iter().map(|bytes| digest(Algorithm::Sha256, bytes)).collect();
    let paths: Vec<_> = (0..FILES).map(|i| dir.path().join(i.to_string())).collect();
    paths.iter().for_each(|path| fs::write(path, &contents[0]).unwrap());
    let writers: Vec<File> =
        paths.iter().map(|path| File::options().write(true).open(path).unwrap()).collect();
    let (done, rewritten, torn) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut scratch = Scratch::default();
                while done.load(Ordering::Relaxed) < wanted {
                    let files = paths.iter().map(|path| opened(path)).collect();
                    let order = order(Algorithm::Sha256, files);
                    let output = run::run(&order, &Datasets::default(), &mut scratch, &GOING);
                    let digests = output.outputs.chunks_exact(32);
                    torn.fetch_add(
                        digests.filter(|digest| !whole.contains(*digest)).count(),
                        Ordering::Relaxed,
                    );
                    assert!(
                        output.failures.iter().all(|(_, failure)| *failure == Failure::Changed)
                    );
                    done.fetch_add(FILES, Ordering::Relaxed);
                }
            });
        }
        while done.load(Ordering::Relaxed) < wanted {
            let next = rewritten.fetch_add(1, Ordering::Relaxed) + 1;
            for file in &writers {
                file.write_all_at(&contents[next % CONTENTS], 0).unwrap();
            }
        }
    });
    assert_eq!(torn.into_inner(), 0, "of {} digests", done.into_inner());
    assert!(rewritten.into_inner() > CONTENTS, "they were rewritten meanwhile");
}

/// Answers nothing and keeps everything, and does something at the first checkpoint.
struct Leases<'a> {
    at_checkpoint: RefCell<Option<Box<dyn FnOnce() + 'a>>>,
    output: RefCell<Option<Output>>,
}

impl LeaseSource for Leases<'_> {
    fn next(&self, _: Family) -> Option<Task> {
        None
    }

    fn advanced(&self, _: Checkpoint) {
        if let Some(act) = self.at_checkpoint.borrow_mut().take() {
            act();
        }
    }

    fn done(&self, _: LeaseId, _: u32, _: u64, output: Output) {
        *self.output.borrow_mut() = Some(output);
    }
}

/// The SHA-256 of a long file, in the middle of which something is done.
fn hash_long(order: Order, at_checkpoint: impl FnOnce()) -> Output {
    let leases = Leases {
        at_checkpoint: RefCell::new(Some(Box::new(at_checkpoint))),
        output: RefCell::default(),
    };
    let options = engine::exec::order::ReadOptions { report_len: 1 << 20, ..Default::default() };
    let mut scratch = Scratch::new(engine::input::reader::Reader::default(), options);
    let started = Started { attempt: 1, order, revoked: Arc::default() };
    let task = Task { lease: LeaseId { epoch: 1, number: 1 }, started };
    checkpointed::run(task, &Datasets::default(), &mut scratch, &leases);
    assert!(leases.at_checkpoint.take().is_none(), "it had a checkpoint");
    leases.output.take().expect("an answer")
}

#[test]
fn metadata_changes_during_a_long_read_do_not_fail_it() {
    let dir = tempfile::tempdir().unwrap();
    let (path, other) = (dir.path().join("f"), dir.path().join("g"));
    let bytes = pattern(10 << 20);
    let want = good(Algorithm::Sha256, &bytes);
    type Act = fn(&Path, &Path);
    let acts: [(&str, Act, bool); 6] = [
        ("ln", |path, other| fs::hard_link(path, other).unwrap(), true),
        (
            "chmod",
            |path, _| fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap(),
            true,
        ),
        ("mv", |path, other| fs::rename(path, other).unwrap(), true),
        (
            "touch -a",
            |path, _| {
                assert!(Command::new("touch").arg("-a").arg(path).status().unwrap().success())
            },
            true,
        ),
        ("rewritten", |path, _| fs::write(path, vec![7; 10 << 20]).unwrap(), false),
        ("cut", |path, _| fs::write(path, "short").unwrap(), false),
    ];
    for (what, act, is_metadata) in acts {
        let _ = fs::remove_file(&other);
        fs::write(&path, &bytes).unwrap();
        let order = order(Algorithm::Sha256, vec![opened(&path)]);
        let output = hash_long(order, || act(&path, &other));
        let after = [&path, &other].into_iter().find_map(|path| fs::read(path).ok()).unwrap();
        // What was written meanwhile, and holds still now, is hashed as it is now.
        assert_eq!(output, good(Algorithm::Sha256, &after), "{what}");
        assert_eq!(output == want, is_metadata, "{what}");
    }
}

#[test]
fn a_file_with_constantly_changing_metadata_has_its_digest() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    let bytes = pattern(6 << 20);
    fs::write(&path, &bytes).unwrap();
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for mode in [0o600, 0o640].into_iter().cycle() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            }
        });
        for algorithm in [Algorithm::Sha256, Algorithm::Blake3] {
            assert_eq!(hash(&order(algorithm, vec![opened(&path)])), good(algorithm, &bytes));
        }
        ended.store(true, Ordering::Relaxed);
    });
}

/// Young stamps, for which one read is enough only if there is no writer.
#[test]
fn a_file_that_is_open_for_writing_is_hashed_once_it_holds_still() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    for len in [0, 100, 700_000, 5 << 20] {
        let bytes = pattern(len);
        fs::write(&path, &bytes).unwrap();
        let want = good(Algorithm::Sha512, &bytes);
        let writer = File::options().read(true).write(true).open(&path).unwrap();
        assert_eq!(
            hash(&order(Algorithm::Sha512, vec![opened(&path)])),
            want,
            "{len}: concurrent open"
        );
        let itself = order(Algorithm::Sha512, vec![(stamp(&writer), writer)]);
        assert_eq!(hash(&itself), want, "{len}: by a descriptor that can write");
        let mut strict = order(Algorithm::Sha512, vec![opened(&path)]);
        strict.strict_reads = true;
        assert_eq!(hash(&strict), want, "{len}: strict");
    }
}

#[test]
fn a_file_replaced_or_rewritten_in_the_queue_is_hashed_as_it_is_now() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    let datasets = datasets(&dir);
    for len in [100, 300_000, 2 << 20] {
        fs::write(&path, pattern(len)).unwrap();
        let (seen, file) = opened(&path);
        let now = pattern(len + 1);
        until("another tick of the clock", || {
            fs::write(&path, &now).unwrap();
            (opened(&path).0.mtime_ns > seen.mtime_ns).then_some(())
        });
        let want = good(Algorithm::Sha256, &now);
        assert_eq!(hash(&order(Algorithm::Sha256, vec![(seen, file)])), want, "rewritten");
        let named = |stamp| named_order("f", stamp);
        let hash = |order| run::run(&order, &datasets, &mut Scratch::default(), &GOING);
        assert_eq!(hash(named(seen)), want, "rewritten, by name");
        let now = pattern(len + 2);
        fs::write(dir.path().join("new"), &now).unwrap();
        fs::rename(dir.path().join("new"), &path).unwrap();
        assert_eq!(hash(named(seen)), good(Algorithm::Sha256, &now), "replaced, by name");
        let older = Stamp { mtime_ns: i64::MAX, ..seen };
        assert_eq!(hash(named(older)), changed(), "older than what the client saw");
        let mut check = named(seen);
        check.check = true;
        assert_eq!(hash(check), changed(), "a check is of what was seen");
    }
}

fn datasets(dir: &TempDir) -> Datasets {
    let mount = format!("d={}", dir.path().display()).parse().expect("a dataset");
    Datasets::open(vec![mount]).expect("a directory")
}

fn named_order(name: &str, stamp: Stamp) -> Order {
    let paths = vec![Blob::from(name.as_bytes())];
    let source = FileSource::Dataset { name: "d".to_owned(), paths };
    let work = Work::Files { source, files: vec![stamp.into()] };
    Order::new(Algorithm::Sha256.into(), work, vec![])
}

#[test]
fn files_without_a_size_are_read_to_their_end() {
    for path in [
        "/proc/version",
        "/proc/cpuinfo",
        "/proc/filesystems",
        "/sys/kernel/notes",
        "/sys/kernel/mm/transparent_hugepage/enabled",
    ] {
        let path = Path::new(path);
        let Ok(want) = fs::read(path) else { panic!("{} cannot be read", path.display()) };
        for algorithm in [Algorithm::Sha256, Algorithm::Blake3] {
            let output = hash(&order(algorithm, vec![opened(path)]));
            assert_eq!(output, good(algorithm, &want), "{}", path.display());
        }
    }
}

#[test]
fn generated_files_that_would_block_fail() {
    // The kernel's log has no end: it is read to where it would wait.
    let Ok(file) = File::open("/proc/kmsg") else { panic!("tests need to read /proc/kmsg") };
    let output = hash(&order(Algorithm::Sha256, vec![(stamp(&file), file)]));
    assert_eq!(output.failures, vec![(0, Failure::Io { errno: libc::EAGAIN })]);
}

/// The clock is set back by an hour while a file is read: stamps of later writes look old.
#[test]
fn notices_a_clock_that_is_set_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    for len in [1000, 5 << 20] {
        fs::write(&path, pattern(len)).unwrap();
        let readings = |set_back_at: usize| {
            let readings = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&readings);
            // Long after the file was written.
            let clock = StampClock::new(move || {
                let is_set_back = counted.fetch_add(1, Ordering::SeqCst) >= set_back_at;
                (i64::MAX / 2 - if is_set_back { 3_600_000_000_000 } else { 0 }, 0)
            });
            let mut scratch = Scratch::default().with_clock(clock);
            let order = order(Algorithm::Sha256, vec![opened(&path)]);
            let output = run::run(&order, &Datasets::default(), &mut scratch, &GOING);
            assert_eq!(output, good(Algorithm::Sha256, &pattern(len)), "{len}");
            readings.load(Ordering::SeqCst)
        };
        let quiet = readings(usize::MAX);
        assert!(readings(quiet - 1) > quiet, "{len}: it is read again");
    }
}
