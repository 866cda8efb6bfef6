//! The honest client: it hashes small files all the time, alternately by a connection of its own for
//! each and by one that stays open.

use crate::user::{HONEST, become_user};
use ipc_proto::endpoint::Endpoint;
use ipc_proto::message::{
    ClientIntro, ClientReply, ClientRequest, FileItem, FileSource, Items, JobId, Role, Run, Stamp,
    Window,
};
use ipc_proto::{Algorithm, Blob};
use ipc_socket::Connection;
use std::cell::RefCell;
use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use test_kit::{output, pattern, text};

/// Pause between two files.
const PAUSE: Duration = Duration::from_millis(2);

/// The longest that the honest client waits for the controller before that counts as harm.
const PATIENCE: Duration = Duration::from_secs(20);

/// Latencies of a stretch of time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Latency {
    /// Their 99th percentile.
    pub(crate) p99: Duration,
    /// The longest.
    pub(crate) longest: Duration,
    /// Their number.
    pub(crate) samples: usize,
}

impl Latency {
    fn of(mut samples: Vec<Duration>) -> Self {
        samples.sort_unstable();
        let at = samples.len().saturating_sub(1) * 99 / 100;
        let [p99, longest] =
            [samples.get(at), samples.last()].map(|sample| sample.copied().unwrap_or_default());
        Self { p99, longest, samples: samples.len() }
    }
}

#[derive(Debug, Default)]
struct Record {
    samples: Vec<Duration>,
    /// Since when the file of now has waited.
    waiting_since: Option<Instant>,
    harm: Vec<String>,
}

/// The honest client's thread.
#[derive(Debug)]
pub(crate) struct Bystander {
    record: Arc<Mutex<Record>>,
    /// Latencies of all stretches without an attack.
    calm: RefCell<Vec<Duration>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    _files: TempDir,
}

impl Bystander {
    pub(crate) fn start(endpoint: Endpoint) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let files: Vec<Honest> = [0, 1, 4096, 70_000]
            .map(|len| Honest::new(dir.path().join(len.to_string()), len))
            .into();
        let record = Arc::new(Mutex::new(Record::default()));
        let is_over = Arc::new(AtomicBool::new(false));
        let (shared, over) = (Arc::clone(&record), Arc::clone(&is_over));
        let thread = thread::spawn(move || {
            become_user(HONEST);
            work(&endpoint, &files, &shared, &over);
        });
        Self { record, calm: RefCell::default(), is_over, thread: Some(thread), _files: dir }
    }

    /// Latency without an attack: within the next `window`, or of all such windows so far, if that is
    /// more, as a busy machine has its moments.
    pub(crate) fn measure(&self, window: Duration) -> Latency {
        self.take();
        thread::sleep(window);
        let samples = self.samples();
        let mut calm = self.calm.borrow_mut();
        calm.extend(&samples);
        let [own, all] = [samples, calm.clone()].map(Latency::of);
        Latency { p99: own.p99.max(all.p99), ..own }
    }

    /// Latency since the last call, or [`Bystander::measure`].
    pub(crate) fn take(&self) -> Latency {
        Latency::of(self.samples())
    }

    /// Times of all files since the last call, and that of the present one so far: it may wait for long.
    fn samples(&self) -> Vec<Duration> {
        let mut record = self.record.lock().unwrap();
        let waited = record.waiting_since.map(|since| since.elapsed());
        let mut samples = std::mem::take(&mut record.samples);
        samples.extend(waited);
        samples
    }

    /// Everything that was wrong or did not come since the last call.
    pub(crate) fn harm(&self) -> Option<String> {
        let harm = std::mem::take(&mut self.record.lock().unwrap().harm);
        harm.first()
            .map(|first| format!("the honest client was harmed {} times: {first}", harm.len()))
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // Its panic, if it had one, was shown.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A file whose digest is known.
struct Honest {
    file: File,
    stamp: Stamp,
    digest: String,
}

impl Honest {
    fn new(path: PathBuf, len: usize) -> Self {
        fs::write(&path, pattern(len)).unwrap();
        let digest = text(&output(Command::new("sha256sum").arg(&path)).stdout)[..64].to_owned();
        let file = File::open(path).unwrap();
        let about = file.metadata().unwrap();
        let ns = |s: i64, ns: i64| s * 1_000_000_000 + ns;
        let stamp = Stamp {
            size: about.size(),
            mtime_ns: ns(about.mtime(), about.mtime_nsec()),
            ctime_ns: ns(about.ctime(), about.ctime_nsec()),
        };
        Self { file, stamp, digest }
    }
}

fn work(endpoint: &Endpoint, files: &[Honest], record: &Mutex<Record>, is_over: &AtomicBool) {
    let mut standing = None;
    for number in 0.. {
        if is_over.load(Ordering::Relaxed) {
            return;
        }
        let file = &files[number % files.len()];
        let start = Instant::now();
        record.lock().unwrap().waiting_since = Some(start);
        let hashed = if number % 2 == 0 {
            Session::open(endpoint).and_then(|mut session| session.hash(file))
        } else {
            hash_again(&mut standing, endpoint, file)
        };
        let took = start.elapsed();
        let mut record = record.lock().unwrap();
        record.samples.push(took);
        record.waiting_since = None;
        record.harm.extend(hashed.err());
        drop(record);
        thread::sleep(PAUSE);
    }
}

/// Hashes by the standing connection, which is made again only after it failed.
fn hash_again(
    standing: &mut Option<Session>,
    endpoint: &Endpoint,
    file: &Honest,
) -> Result<(), String> {
    let mut session = match standing.take() {
        Some(session) => session,
        None => Session::open(endpoint)?,
    };
    session.hash(file)?;
    *standing = Some(session);
    Ok(())
}

/// A connection with a job.
struct Session {
    connection: Connection,
    job: JobId,
    window: Window,
    sent: u64,
}

impl Session {
    fn open(endpoint: &Endpoint) -> Result<Self, String> {
        let intro = ClientIntro { software: "honest".to_owned(), token: Blob::default() };
        let connection = Connection::open(endpoint, Role::Client(intro));
        let connection = connection.map_err(|error| format!("connect: {error}"))?;
        connection.receiver.set_timeout(Some(PATIENCE)).map_err(|error| error.to_string())?;
        let (job, window, sent) = (JobId::default(), Window::default(), 0);
        let mut session = Self { connection, job, window, sent };
        let algorithms = Algorithm::Sha256.into();
        let open = ClientRequest::Open { tag: 1, algorithms, cross_check: 0, strict_reads: false };
        session.send(&open, &[])?;
        let reply = session.receive()?;
        let ClientReply::Opened { job, window, .. } = reply else {
            return Err(format!("{reply:?} instead of a job"));
        };
        Ok(Self { job, window, ..session })
    }

    fn hash(&mut self, Honest { file, stamp, digest }: &Honest) -> Result<(), String> {
        while self.window.items == 0 {
            self.await_window()?;
        }
        let files = vec![FileItem::from(*stamp)];
        let items = Items::Files { source: FileSource::Descriptors, files };
        let items = ClientRequest::Items { job: self.job, first: self.sent, items };
        self.send(&items, &[file.as_fd()])?;
        self.sent += 1;
        loop {
            match self.receive()? {
                ClientReply::Window { window, .. } => self.window = window,
                ClientReply::Results { runs, outputs, failures, .. } => {
                    let got: String = outputs.iter().map(|byte| format!("{byte:02x}")).collect();
                    let is_right = runs == [Run { first: self.sent - 1, len: 1 }] && got == *digest;
                    let wrong = || format!("{runs:?} {got} {failures:?} instead of {digest}");
                    return if is_right { Ok(()) } else { Err(wrong()) };
                }
                other => return Err(format!("{other:?} instead of a result")),
            }
        }
    }

    fn await_window(&mut self) -> Result<(), String> {
        match self.receive()? {
            ClientReply::Window { window, .. } => self.window = window,
            other => return Err(format!("{other:?} instead of a window")),
        }
        Ok(())
    }

    fn send(&mut self, request: &ClientRequest, files: &[BorrowedFd<'_>]) -> Result<(), String> {
        self.connection.sender.send(request, files).map_err(|error| format!("send: {error}"))
    }

    fn receive(&mut self) -> Result<ClientReply, String> {
        let received = self.connection.receiver.receive();
        received.map(|(reply, _)| reply).map_err(|error| format!("receive: {error}"))
    }
}
