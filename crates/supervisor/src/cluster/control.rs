//! Commands to a supervisor that runs: one line to its socket, lines of text back, the last of
//! which is `ok` or `error …`. Only the user whose cluster it is can reach the socket, as the run
//! directory is closed to others.

use super::apply;
use super::deploy;
use super::error::Error;
use super::fleet::Fleet;
use super::log::{LOG, MemberEvent};
use super::operation::{Operation, OperationStep};
use super::ps::{ClusterReport, RestartCause};
use super::show;
use super::targets;
use crate::pidfile;
use crate::run_dir::{self, RunDir, RunDirError};
use crate::running::{self, Running};
use crate::say::{indented, say};
use crate::supervise::{log, sys};
use crate::vm::{self, CONTROL_SOCKET, Layout};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use std::fs;
use std::io::{self, BufRead, BufReader, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// Command that asks for the state of the cluster.
pub(super) const PS: &str = "ps";

/// Last line of an answer.
const OK: &str = "ok";

/// Longest command: options with a path for each dataset, every byte of them encoded.
const LINE_LEN_MAX: u64 = 256 << 10;

/// Time limit for the line of a command.
const LINE_LIMIT: Duration = Duration::from_secs(2);

/// Time limit for any command: a deployment boots every VM twice at worst.
const ANSWER_LIMIT: Duration = Duration::from_secs(3600);

/// Commands that wait at most.
const QUEUE_MAX: usize = 16;

/// Time limit for a stop: more than the default limits of its steps add up to.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// Time limit for a supervisor that has just started until it listens.
const LISTEN_LIMIT: Duration = Duration::from_secs(5);

const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Commands as they arrive.
pub(super) struct Requests {
    receiver: mpsc::Receiver<Request>,
    served: Arc<AtomicBool>,
}

impl Requests {
    pub(super) fn receive(&self) -> Option<Request> {
        self.receiver.try_recv().ok()
    }

    /// Somebody receives from now on.
    pub(super) fn are_served(&self) {
        self.served.store(true, Ordering::Release);
    }
}

/// A command, and who waits for its answer.
pub(super) struct Request {
    line: String,
    /// None if it is the supervisor itself, whose log gets the answer.
    stream: Option<UnixStream>,
}

/// Listens at `path` in a thread that wakes the supervisor for each command. Until that serves them,
/// `ps` is answered with `preparing`.
pub(super) fn listen(
    path: &Path,
    mut waker: PipeWriter,
    preparing: &ClusterReport,
) -> io::Result<Requests> {
    let listener = UnixListener::bind(path)?;
    let (sender, receiver) = mpsc::sync_channel(QUEUE_MAX);
    let served = Arc::new(AtomicBool::new(false));
    let (is_served, preparing) = (Arc::clone(&served), preparing.to_line());
    thread::Builder::new().name("control".to_owned()).spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else {
                // Too few descriptors, for example: others may give some back.
                thread::sleep(RETRY_PAUSE);
                continue;
            };
            let Ok(line) = read_line(&stream) else { continue };
            let mut request = Request { line, stream: Some(stream) };
            if request.line == PS && !is_served.load(Ordering::Acquire) {
                request.tell(&preparing);
                request.tell(OK);
                continue;
            }
            if sender.send(request).is_err() || waker.write_all(b"c").is_err() {
                return;
            }
        }
    })?;
    Ok(Requests { receiver, served })
}

fn read_line(stream: &UnixStream) -> io::Result<String> {
    stream.set_read_timeout(Some(LINE_LIMIT))?;
    stream.set_write_timeout(Some(LINE_LIMIT))?;
    let mut line = String::new();
    BufReader::new(stream.take(LINE_LEN_MAX)).read_line(&mut line)?;
    // One that is cut means something else.
    line.pop().filter(|&end| end == '\n').ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(line)
}

impl Request {
    /// Answers, if that takes no time; else gives the request back.
    pub(super) fn answer_at_once(mut self, fleet: &Fleet) -> Option<Self> {
        match self.line.as_str() {
            PS => self.tell(&ClusterReport::of(fleet).to_line()),
            "ready" if fleet.is_ready => {}
            _ => return Some(self),
        }
        self.tell(OK);
        None
    }

    /// A command that the supervisor gives itself.
    pub(super) fn internal(line: &str) -> Self {
        Self { line: line.to_owned(), stream: None }
    }

    /// True for what `SIGHUP` asks for.
    pub(super) fn is_reload(&self) -> bool {
        self.stream.is_none() && self.line == "apply"
    }

    pub(super) fn line(&self) -> &str {
        &self.line
    }

    /// Process and user at the other end, for a person.
    fn asked_by(&self) -> String {
        let Some(stream) = &self.stream else { return "the supervisor".to_owned() };
        match getsockopt(stream, PeerCredentials) {
            Ok(found) => format!("pid {}, uid {}", found.pid(), found.uid()),
            Err(error) => error.to_string(),
        }
    }

    /// Does what is asked and answers, or begins to. A cluster that is still starting serves nobody.
    pub(super) fn serve(self, fleet: &mut Fleet) {
        let line = self.line.clone();
        let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
        let by = self.asked_by();
        if word != "ready" {
            // The options of others are long, and encoded.
            let shown = if word == "apply" { word } else { &*line };
            LOG.log(&MemberEvent::Asked { command: shown, by: &by });
        }
        let result = match word {
            "ready" => Ok(()),
            "stop" | "start" | "restart" => match steps(fleet, word, rest, &by) {
                Ok(steps) => return fleet.operate(Operation::new(self, steps)),
                Err(error) => Err(error),
            },
            "apply" => return apply::serve(self, fleet, rest),
            "deploy" => return deploy::serve(self, fleet, Path::new(rest)),
            _ => Err(Error::Refused(format!("unknown command {word:?}"))),
        };
        self.finish(result);
    }

    /// True if it is served beside others, however long it takes.
    pub(super) fn is_served_beside(&self) -> bool {
        let mut words = self.line.split(' ');
        match words.next() {
            Some("stop" | "start" | "restart") => true,
            // It only looks.
            Some("apply") => words.any(|word| word == "--dry-run"),
            _ => false,
        }
    }

    /// True if it is refused, and does not wait, while another change of the whole cluster is under way: by
    /// then it may mean something else.
    pub(super) fn is_impatient(&self) -> bool {
        self.word() == "deploy"
    }

    /// True for a change of the whole cluster.
    pub(super) fn is_exclusive(&self) -> bool {
        matches!(self.word(), "apply" | "deploy") && !self.is_served_beside()
    }

    pub(super) fn word(&self) -> &str {
        self.line.split(' ').next().unwrap_or_default()
    }

    /// The last word about it. Whoever asked may have gone; the work is done all the same.
    pub(super) fn finish(mut self, result: Result<(), Error>) {
        match (result, &self.stream) {
            (Ok(()), Some(_)) => self.tell(OK),
            (Ok(()), None) => {}
            (Err(error), Some(_)) => {
                self.tell(&format!("error {}", error.to_string().replace('\n', "\n  ")));
            }
            (Err(error), None) => {
                for line in error.to_string().lines() {
                    LOG.log(&MemberEvent::NotDone { command: &self.line, line });
                }
            }
        }
    }

    /// A line of the answer.
    pub(super) fn tell(&mut self, text: &str) {
        match &mut self.stream {
            Some(stream) => drop(stream.write_all(format!("{text}\n").as_bytes())),
            None => LOG.log(&MemberEvent::Told { command: &self.line, line: text }),
        }
    }
}

/// The steps of a command about members, all of which exist; the controller is the first to start, as no
/// worker is healthy without it.
fn steps(fleet: &Fleet, word: &str, names: &str, by: &str) -> Result<Vec<OperationStep>, Error> {
    let mut names: Vec<String> = names.split(' ').map(str::to_owned).collect();
    for name in &names {
        fleet.find(name)?;
    }
    if word == "start" {
        names.sort_by_key(|name| *name != fleet.machines[0].member.name);
    }
    let mut steps = Vec::new();
    for name in names {
        match word {
            "stop" => steps.push(OperationStep::Stop(vec![name.clone()])),
            "start" => steps.push(OperationStep::Start(vec![name.clone()])),
            _ => {
                let (own, asked) = (name.clone(), format!("restart, asked by {by}"));
                let record = Box::new(move |fleet: &mut Fleet| {
                    let i = fleet.find(&own)?;
                    fleet.machines[i].restarts.record(RestartCause::Requested, &asked);
                    Ok(())
                });
                steps.extend(OperationStep::renew(&name, record));
            }
        }
        steps.push(OperationStep::Tell(name));
    }
    Ok(steps)
}

/// Sends a command about members to the supervisor.
pub(crate) fn command(
    asked: Option<&Path>,
    word: &str,
    names: &[String],
) -> Result<ExitCode, Error> {
    let line = [&[word.to_owned()], names].concat().join(" ");
    send(&run_dir::or_default(asked), &line).map(|()| ExitCode::SUCCESS)
}

/// Sends a command about members, all of which exist.
pub(crate) fn of_members(
    asked: Option<&Path>,
    word: &str,
    names: &[String],
) -> Result<ExitCode, Error> {
    if names.is_empty() {
        return Err(Error::Usage(format!("{word} needs a NAME; `ps` lists them")));
    }
    let run_dir = run_dir::or_default(asked);
    let report = show::report_of(&run_dir)?;
    if report.pid.is_none() {
        return Err(Error::NotRunning { run_dir });
    }
    // While a start is prepared, the supervisor will know.
    let unknown = names.iter().find(|name| report.member(name).is_none());
    if let Some(name) = unknown.filter(|_| !report.members.is_empty()) {
        return Err(report.no_such_member(name));
    }
    command(asked, word, names)
}

/// Asks the supervisor to stop everything and waits until it has; removes what one left that had no
/// time for it.
pub(crate) fn stop(asked: Option<&Path>) -> Result<ExitCode, Error> {
    let path = run_dir::or_default(asked);
    let found = pidfile::find(&run_dir::pidfile_of(&path));
    let found = found.map_err(Error::step("look for the supervisor"))?;
    let lost = || {
        let Running { pid, pidfd, .. } = running::lost(&path)?;
        Some(pidfile::Supervisor { pid, pidfd })
    };
    match found.or_else(lost) {
        Some(supervisor) => stop_supervisor(&path, &supervisor),
        None => {
            say(format_args!("nothing runs in {}", path.display()));
            sweep(&path)
        }
    }
    .map(|()| ExitCode::SUCCESS)
}

/// Stops every cluster of this user on this host, one after the other.
pub(crate) fn stop_all() -> Result<ExitCode, Error> {
    let all = running::all();
    if all.is_empty() {
        say("no cluster of this user runs on this host");
    }
    for Running { pid, pidfd, run_dir, .. } in all {
        stop_supervisor(&run_dir, &pidfile::Supervisor { pid, pidfd })?;
    }
    Ok(ExitCode::SUCCESS)
}

fn stop_supervisor(path: &Path, supervisor: &pidfile::Supervisor) -> Result<(), Error> {
    let log = Layout::new(path, None).log("supervisor");
    let log_start = fs::metadata(&log).map_or(0, |metadata| metadata.len());
    match sys::pidfd_signal(supervisor.pidfd.as_fd(), Signal::SIGTERM) {
        // It ended since we looked.
        Err(error) if error.raw_os_error() != Some(Errno::ESRCH as i32) => {
            return Err(Error::step("signal the supervisor")(error));
        }
        _ => {}
    }
    let pid = supervisor.pid;
    if !has_ended_by(supervisor, Instant::now() + STOP_LIMIT)? {
        return Err(Error::NotStopped { pid, limit: STOP_LIMIT });
    }
    // What had to be killed, for example, if it is not said elsewhere.
    let said = log::tail(&log, log_start);
    if !said.is_empty() {
        indented(said);
    }
    say(format_args!("stopped workers and controller in {} (pid {pid})", path.display()));
    sweep(path)
}

fn has_ended_by(supervisor: &pidfile::Supervisor, deadline: Instant) -> Result<bool, Error> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut polled = [PollFd::new(supervisor.pidfd.as_fd(), PollFlags::POLLIN)];
        match poll(&mut polled, timeout) {
            Ok(ended) => return Ok(ended > 0),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(Error::step("wait for the supervisor")(error.into())),
        }
    }
}

/// Removes what a supervisor that had no time for it left in its run directory.
fn sweep(path: &Path) -> Result<(), Error> {
    // Whoever goes in good order removes the pidfile last.
    if !run_dir::pidfile_of(path).exists() {
        return Ok(());
    }
    let run_dir = match RunDir::claim(path) {
        // The next cluster has it already.
        Err(RunDirError::Busy) => return Ok(()),
        claimed => claimed?,
    };
    targets::remove(run_dir.path());
    let cleaned = vm::clean(&Layout::new(run_dir.path(), None));
    run_dir.release()?;
    cleaned.map_err(Error::step("remove the cluster's files"))
}

/// Sends a command to the supervisor of `run_dir`, and prints what it answers.
pub(super) fn send(run_dir: &Path, command: &str) -> Result<(), Error> {
    exchange(run_dir, command, ANSWER_LIMIT, print)
}

/// Sends a command to the supervisor of `run_dir`, and gives what it answers.
pub(super) fn ask(run_dir: &Path, command: &str) -> Result<Vec<String>, Error> {
    ask_within(run_dir, command, ANSWER_LIMIT)
}

/// As [`ask`], where each line takes at most `limit`.
pub(super) fn ask_within(
    run_dir: &Path,
    command: &str,
    limit: Duration,
) -> Result<Vec<String>, Error> {
    let mut lines = Vec::new();
    exchange(run_dir, command, limit, |line| {
        lines.push(line.to_owned());
        Ok(())
    })?;
    Ok(lines)
}

fn exchange(
    run_dir: &Path,
    command: &str,
    limit: Duration,
    mut take: impl FnMut(&str) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut stream = connect(&Layout::new(run_dir, None).file(CONTROL_SOCKET), run_dir)?;
    let asked = stream
        .set_read_timeout(Some(limit))
        .and_then(|()| stream.write_all(format!("{command}\n").as_bytes()));
    asked.map_err(Error::step("ask the supervisor"))?;
    let mut lines = BufReader::new(stream).lines();
    while let Some(line) = lines.next() {
        let line = line.map_err(Error::step("read the supervisor's answer"))?;
        if line == OK {
            return Ok(());
        }
        if let Some(first) = line.strip_prefix("error ") {
            let rest = lines.map_while(Result::ok).map(|line| format!("\n{line}"));
            return Err(Error::Refused(rest.fold(first.to_owned(), |text, line| text + &line)));
        }
        take(&line)?;
    }
    say("its supervisor ended before it had answered");
    Err(Error::NotRunning { run_dir: run_dir.to_owned() })
}

fn connect(path: &Path, run_dir: &Path) -> Result<UnixStream, Error> {
    let deadline = Instant::now() + LISTEN_LIMIT;
    loop {
        if let Ok(stream) = UnixStream::connect(path) {
            return Ok(stream);
        }
        if supervisor_of(run_dir).is_none() || Instant::now() >= deadline {
            return Err(Error::NotRunning { run_dir: run_dir.to_owned() });
        }
        thread::sleep(RETRY_PAUSE);
    }
}

/// The process that starts, runs or stops a cluster in `run_dir`, if there is one.
pub(super) fn supervisor_of(run_dir: &Path) -> Option<u32> {
    let found = pidfile::find(&run_dir::pidfile_of(run_dir));
    found.ok().flatten().map(|supervisor| supervisor.pid)
}

fn print(line: &str) -> Result<(), Error> {
    writeln!(io::stdout().lock(), "{line}").map_err(Error::step("write to stdout"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::ps::ClusterKind;

    #[test]
    fn a_start_that_is_being_prepared_answers_ps_and_keeps_other_commands() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path(), None);
        let path = layout.file(CONTROL_SOCKET);
        let (_wake, waker) = io::pipe().unwrap();
        let preparing = ClusterReport::preparing(ClusterKind::Vms, &layout);
        let requests = listen(&path, waker, &preparing).unwrap();
        let send = |line: &str| {
            let mut stream = UnixStream::connect(&path).unwrap();
            writeln!(stream, "{line}").unwrap();
            stream
        };
        let _waits = send("ready");
        let mut answer = String::new();
        send(PS).read_to_string(&mut answer).unwrap();
        assert_eq!(answer, format!("{}\nok\n", preparing.to_line()));
        assert_eq!(requests.receive().map(|request| request.line).as_deref(), Some("ready"));
        assert!(requests.receive().is_none());
        requests.are_served();
        let _waits = send(PS);
        let request = requests.receiver.recv().unwrap();
        assert_eq!(request.line, PS);
    }
}
