//! Asks how the members are, in threads of their own: the controller through the protocol, and each VM
//! that has a command of its own through SSH. Whatever is learnt wakes the supervisor.

use crate::deployment::{Check, Health, Member, Role};
use crate::vm::{Layout, SSH_CONFIG};
use client::{Address, Client};
use ipc_proto::message::{Status, WorkerHealth, WorkerStatus};
use std::collections::HashMap;
use std::error::Error;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Longest interval between two questions to the controller while workers are missing.
const INTERVAL: Duration = Duration::from_millis(250);

/// The same interval while it boots, as a start takes longer by as much as the last question is late.
const BOOT_INTERVAL: Duration = Duration::from_millis(50);

/// Questions in a row without an answer after which it is not booting, but down.
const BOOT_QUESTIONS_MAX: u32 = 600;

/// The same interval otherwise.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);

/// Last answers about the cluster.
#[derive(Debug, Default)]
struct Seen {
    status: Option<Status>,
    /// Why there is no status.
    error: String,
    /// Results of commands, by member.
    commands: HashMap<String, Result<(), String>>,
}

/// The supervisor's end.
#[derive(Debug)]
pub(super) struct Watch {
    seen: Arc<Mutex<Seen>>,
    wake: PipeReader,
    waker: PipeWriter,
    /// Wakes the thread that asks the controller; it ends when this is dropped.
    asker: mpsc::Sender<()>,
    workers_len: Arc<AtomicUsize>,
    /// By member: how its health is checked, and the sender whose thread ends when it is dropped.
    checks: HashMap<String, (Health, mpsc::Sender<()>)>,
    layout: Layout,
}

impl Watch {
    /// Starts the threads; the first of `members` is the controller. Signals have to be blocked before,
    /// so that they are so in the threads.
    pub(super) fn start(layout: &Layout, members: &[Member]) -> io::Result<Self> {
        let (wake, waker) = io::pipe()?;
        let seen = Arc::new(Mutex::new(Seen::default()));
        let workers_len = Arc::new(AtomicUsize::new(0));
        let asker = Asker {
            dir: layout.run().to_owned(),
            limit: members[0].health.timeout,
            workers_len: Arc::clone(&workers_len),
            client: None,
            unanswered: 0,
        };
        let asker = spawn(&seen, &waker, BOOT_INTERVAL, asker.into_step())?;
        let (checks, layout) = (HashMap::new(), layout.clone());
        let mut watch = Self { seen, wake, waker, asker, workers_len, checks, layout };
        watch.follow(members)?;
        Ok(watch)
    }

    /// Watches these members from now on, and no others.
    pub(super) fn follow(&mut self, members: &[Member]) -> io::Result<()> {
        self.workers_len.store(members.len() - 1, Ordering::Relaxed);
        self.checks.retain(|name, (health, _)| {
            members.iter().any(|member| member.name == *name && member.health == *health)
        });
        for Member { name, health, .. } in members {
            if let Check::Command(command) = &health.check
                && !self.checks.contains_key(name)
            {
                let step = ssh_step(&self.layout, name, command, health);
                let end = spawn(&self.seen, &self.waker, health.interval, step)?;
                self.checks.insert(name.clone(), (health.clone(), end));
            }
        }
        Ok(())
    }

    /// Asks the controller at once, as something has happened to it.
    pub(super) fn ask_now(&self) {
        // The thread ends only with us.
        let _ = self.asker.send(());
    }

    /// Another end that wakes the supervisor.
    pub(super) fn waker(&self) -> io::Result<PipeWriter> {
        self.waker.try_clone()
    }

    /// Takes what woke us.
    pub(super) fn drain(&mut self) {
        // There is something, or we would not have been woken; how much does not matter.
        let _ = self.wake.read(&mut [0; 64]);
    }

    /// The member's health; `None` while nobody knows.
    pub(super) fn judge(&self, member: &Member) -> Option<Result<(), String>> {
        let seen = self.seen.lock().expect("no holder panics");
        if let Check::Command(_) = member.health.check {
            return seen.commands.get(&member.name).cloned();
        }
        match (&seen.status, member.role) {
            (None, Role::Controller) => Some(Err(seen.error.clone())),
            (None, Role::Worker) => None,
            (Some(_), Role::Controller) => Some(Ok(())),
            (Some(status), Role::Worker) => Some(worker(status, &member.name)),
        }
    }

    /// Time since a worker connected to the controller, as far as that is known.
    pub(super) fn age(&self, member: &Member) -> Option<Duration> {
        let seen = self.seen.lock().expect("no holder panics");
        let workers = &seen.status.as_ref()?.workers;
        let worker = workers.iter().find(|worker| worker.name == member.name)?;
        Some(Duration::from_millis(worker.uptime_ms))
    }

    /// True for a worker that the controller knows and that nobody has drained.
    pub(super) fn is_in_service(&self, member: &Member) -> bool {
        let seen = self.seen.lock().expect("no holder panics");
        let workers = seen.status.iter().flat_map(|status| &status.workers);
        let mut found = workers.filter(|worker| worker.name == member.name);
        found.any(|worker| worker.health != WorkerHealth::Draining)
    }

    /// Forgets a member that starts again.
    pub(super) fn forget(&self, member: &Member) {
        let mut seen = self.seen.lock().expect("no holder panics");
        seen.commands.remove(&member.name);
        if member.role == Role::Controller {
            seen.status = None;
            seen.error = "it has not answered yet".to_owned();
        } else if let Some(status) = &mut seen.status {
            status.workers.retain(|worker| worker.name != member.name);
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

fn worker(status: &Status, name: &str) -> Result<(), String> {
    match status.workers.iter().find(|worker| worker.name == name) {
        None => Err("the controller does not know it".to_owned()),
        Some(worker) => match worker.health {
            // Somebody wants it to be given no work.
            WorkerHealth::Ready | WorkerHealth::Draining => Ok(()),
            // It was so before it connected: another boot would not help either.
            WorkerHealth::Quarantined if was_quarantined(status, worker) => Ok(()),
            WorkerHealth::Suspended | WorkerHealth::Quarantined => {
                Err("the controller gives it no more work".to_owned())
            }
        },
    }
}

/// True if a worker was in quarantine already when it connected.
fn was_quarantined(status: &Status, worker: &WorkerStatus) -> bool {
    let row = status.quarantined.iter().find(|row| row.worker == worker.name);
    row.is_some_and(|row| row.age_ms >= worker.uptime_ms)
}

/// Asks once and gives the pause until the next time.
type Step = Box<dyn FnMut(&Mutex<Seen>) -> Duration + Send>;

/// Takes steps until the sender is dropped; a message to it cuts the pause short.
fn spawn(
    seen: &Arc<Mutex<Seen>>,
    waker: &PipeWriter,
    mut pause: Duration,
    mut step: Step,
) -> io::Result<mpsc::Sender<()>> {
    let (sender, receiver) = mpsc::channel::<()>();
    let (seen, mut waker) = (Arc::clone(seen), waker.try_clone()?);
    thread::Builder::new().name("watch".to_owned()).spawn(move || {
        while receiver.recv_timeout(pause) != Err(RecvTimeoutError::Disconnected) {
            pause = step(&seen);
            if waker.write_all(b"w").is_err() {
                return;
            }
        }
    })?;
    Ok(sender)
}

/// Keeps a connection to the controller, as one that has just booted may need several.
struct Asker {
    /// The cluster's runtime directory, which says where its controller is.
    dir: PathBuf,
    /// Time limit for an answer of the controller.
    limit: Duration,
    /// Number of workers of a complete cluster.
    workers_len: Arc<AtomicUsize>,
    client: Option<Client>,
    /// Questions without an answer since the last answer.
    unanswered: u32,
}

impl Asker {
    fn into_step(mut self) -> Step {
        Box::new(move |seen| {
            let known = seen.lock().expect("no holder panics").status.as_ref().map(ready_len);
            let workers_len = self.workers_len.load(Ordering::Relaxed);
            let asked = self.ask(known.filter(|&ready| ready < workers_len));
            let mut seen = seen.lock().expect("no holder panics");
            match asked {
                Ok((came, status)) => {
                    self.unanswered = 0;
                    let ready = ready_len(&status);
                    seen.status = Some(status);
                    match ready {
                        ready if ready >= workers_len => IDLE_INTERVAL,
                        // One that came and has gone again is no reason to ask without pause.
                        ready if came && Some(ready) <= known => INTERVAL,
                        _ => Duration::ZERO,
                    }
                }
                Err(error) => {
                    seen.status = None;
                    seen.error = error.to_string();
                    self.unanswered = self.unanswered.saturating_add(1);
                    if self.unanswered < BOOT_QUESTIONS_MAX { BOOT_INTERVAL } else { INTERVAL }
                }
            }
        })
    }

    /// The controller's status. Where some workers are missing and this many are ready, it waits a
    /// while at the controller for one more, and says whether that came.
    fn ask(&mut self, ready: Option<usize>) -> Result<(bool, Status), Box<dyn Error>> {
        // After an error the connection is of no more use.
        let mut client = match self.client.take() {
            Some(client) => client,
            None => Client::connect(&Address::in_dir(&self.dir)?)?,
        };
        let mut came = false;
        if let Some(ready) = ready {
            let wanted = u32::try_from(ready + 1).unwrap_or(u32::MAX);
            came = client.wait_ready(wanted, INTERVAL)?.enough;
        }
        client.set_timeout(Some(self.limit))?;
        let status = client.status()?;
        self.client = Some(client);
        Ok((came, status))
    }
}

/// Number of workers that are ready for work.
fn ready_len(status: &Status) -> usize {
    status.workers.iter().filter(|worker| worker.health == WorkerHealth::Ready).count()
}

fn ssh_step(layout: &Layout, name: &str, command: &str, health: &Health) -> Step {
    let (config, name, command) = (layout.file(SSH_CONFIG), name.to_owned(), command.to_owned());
    let (limit_s, interval) = (health.timeout.as_secs_f64().to_string(), health.interval);
    Box::new(move |seen| {
        let result = Command::new("timeout")
            .args(["-k", "1", &limit_s, "ssh", "-F"])
            .arg(&config)
            .args([&name, &command])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        let result = match result {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("its check {}", crate::supervise::describe(status))),
            Err(error) => Err(error.to_string()),
        };
        seen.lock().expect("no holder panics").commands.insert(name.clone(), result);
        interval
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipc_proto::message::QuarantineStatus;

    #[test]
    fn a_worker_that_comes_back_into_quarantine_is_not_booted_again_for_it() {
        let judge = |health, age_ms: Option<u64>| {
            let row =
                |age_ms| QuarantineStatus { worker: "w1".into(), age_ms, ..Default::default() };
            let (name, uptime_ms) = ("w1".to_owned(), 5000);
            let status = Status {
                workers: vec![WorkerStatus { name, health, uptime_ms, ..WorkerStatus::default() }],
                quarantined: age_ms.into_iter().map(row).collect(),
                ..Status::default()
            };
            worker(&status, "w1").is_ok()
        };
        assert!(judge(WorkerHealth::Ready, None));
        assert!(!judge(WorkerHealth::Quarantined, Some(4999)), "it has just lied");
        assert!(judge(WorkerHealth::Quarantined, Some(5000)));
        assert!(judge(WorkerHealth::Quarantined, Some(60_000)));
        assert!(!judge(WorkerHealth::Quarantined, None));
        assert!(worker(&Status::default(), "w1").is_err());
    }
}
