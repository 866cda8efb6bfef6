//! `top` on a terminal, as text and as JSON, against a controller that the test plays.

use crate::program::{finish, hashctl, run, start};
use ipc_proto::message::{
    ClientReply, ClientRequest, QuarantineStatus, ReleaseOutcome, Status, WorkerStatus,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};
use serde_json::Value;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Mutex};
use std::thread;
use tempfile::{TempDir, tempdir};
use test_kit::{DESCRIPTORS, FakeController, until};

const ENTER: &str = "\u{1b}[?1049h";
const LEAVE: &str = "\u{1b}[0m\u{1b}[?7h\u{1b}[?25h\u{1b}[?1049l";

fn picture() -> Status {
    Status {
        software: "9.8.7".to_owned(),
        workers: vec![WorkerStatus { name: "w\u{1b}[2J0".to_owned(), ..WorkerStatus::default() }],
        quarantined: vec![QuarantineStatus {
            worker: "bad".to_owned(),
            reason: "it lied".to_owned(),
            ..QuarantineStatus::default()
        }],
        ..Status::default()
    }
}

/// Serves the next client until it leaves, or after `answers` statuses.
fn serve(controller: FakeController, mut answers: usize) {
    thread::spawn(move || {
        let mut peer = controller.accept();
        peer.welcome("", DESCRIPTORS);
        while answers > 0 {
            match peer.next_message() {
                Some((ClientRequest::Status, _)) => {
                    peer.send(&ClientReply::Status(Box::new(picture())), &[]);
                    answers -= 1;
                }
                Some((ClientRequest::Release { worker }, _)) => {
                    let outcome = ReleaseOutcome::Released;
                    peer.send(&ClientReply::Released { worker, outcome }, &[]);
                }
                Some((request, _)) => panic!("{request:?}"),
                None => return,
            }
        }
    });
}

/// A controller for one client.
fn controller(answers: usize) -> (TempDir, PathBuf) {
    let dir = tempdir().unwrap();
    let socket = dir.path().join("client.sock");
    serve(FakeController::listen(socket.clone()), answers);
    (dir, socket)
}

/// `top` on a terminal of 80 columns and 24 lines.
struct Top {
    child: Child,
    terminal: File,
    master: File,
    seen: Arc<Mutex<String>>,
    before: Termios,
}

impl Top {
    fn start(socket: &Path, variables: &[(&str, &str)]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let terminal =
            OpenOptions::new().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        let master = File::from(master);
        resize(&master, 24, 80);
        let before = tcgetattr(&terminal).unwrap();
        let mut command = hashctl(socket);
        command.args(["top", "--interval", "0.1"]).env("TERM", "xterm").envs(variables.to_vec());
        command.stdin(terminal.try_clone().unwrap()).stdout(terminal.try_clone().unwrap());
        let child = start(command.stderr(terminal.try_clone().unwrap()));
        let seen = Arc::new(Mutex::new(String::new()));
        let (sink, mut reader) = (Arc::clone(&seen), master.try_clone().unwrap());
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            let mut all = Vec::new();
            while let Ok(len @ 1..) = reader.read(&mut bytes) {
                all.extend_from_slice(&bytes[..len]);
                *sink.lock().unwrap() = String::from_utf8_lossy(&all).into_owned();
            }
        });
        Self { child, terminal, master, seen, before }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    fn seen(&self) -> String {
        self.seen.lock().unwrap().clone()
    }

    /// Waits until `text` was written this many times.
    #[track_caller]
    fn wait_for(&self, text: &str, times: usize) {
        let has = || (self.seen().matches(text).count() >= times).then_some(());
        until(&format!("{text:?} {times} times"), has);
    }

    #[track_caller]
    fn wait_until_stopped(&self) {
        let state = || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).ok()?;
            stat.rsplit_once(") ")?.1.starts_with('T').then_some(())
        };
        until("a stopped process", state);
    }

    fn is_restored(&self) -> bool {
        let now = tcgetattr(&self.terminal).unwrap();
        let modes = |t: &Termios| (t.input_modes, t.output_modes, t.control_modes, t.local_modes);
        modes(&now) == modes(&self.before)
    }

    #[track_caller]
    fn wait_for_end(&mut self) -> ExitStatus {
        let status = until("its end", || self.child.try_wait().unwrap());
        self.wait_for(LEAVE, 1);
        assert!(self.is_restored(), "the terminal is as it was");
        status
    }
}

impl Drop for Top {
    fn drop(&mut self) {
        // One that is stopped does not see that its terminal is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Does something to a running `top`.
type Act = fn(&mut Top);

fn resize(master: &File, rows: u16, columns: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(master, size).unwrap();
}

#[test]
fn the_terminal_is_given_back_however_top_ends() {
    let endings: [(&str, i32, Act); 5] = [
        ("q", 0, |top| top.press("q")),
        ("ctrl-c", 4, |top| top.press("\u{3}")),
        ("SIGTERM", 4, |top| top.signal(Signal::SIGTERM)),
        ("SIGINT", 4, |top| top.signal(Signal::SIGINT)),
        ("SIGHUP", 4, |top| top.signal(Signal::SIGHUP)),
    ];
    for (name, code, end) in endings {
        let (_dir, socket) = controller(usize::MAX);
        let mut top = Top::start(&socket, &[]);
        top.wait_for("1/1 workers ready", 1);
        assert!(!top.is_restored(), "raw while it is shown");
        end(&mut top);
        assert_eq!(top.wait_for_end().code(), Some(code), "{name}");
        assert!(!top.seen().contains("\u{1b}[2J0"), "the name of a worker clears no terminal");
    }
}

#[test]
fn a_suspended_top_leaves_the_terminal_and_comes_back() {
    let suspensions: [Act; 2] = [|top| top.press("\u{1a}"), |top| top.signal(Signal::SIGTSTP)];
    for suspend in suspensions {
        let (_dir, socket) = controller(usize::MAX);
        let mut top = Top::start(&socket, &[]);
        top.wait_for("1/1 workers ready", 1);
        suspend(&mut top);
        top.wait_until_stopped();
        top.wait_for(LEAVE, 1);
        assert!(top.is_restored());
        top.signal(Signal::SIGCONT);
        top.wait_for(ENTER, 2);
        top.wait_for("1/1 workers ready", 2);
        top.press("q");
        assert_eq!(top.wait_for_end().code(), Some(0));
    }
}

#[test]
fn a_lost_controller_leaves_a_stale_picture_until_there_is_one_again() {
    let (_dir, socket) = controller(2);
    let mut top = Top::start(&socket, &[]);
    top.wait_for("STALE", 1);
    top.wait_for("still trying", 1);
    serve(FakeController::listen(socket.clone()), usize::MAX);
    top.wait_for("answers again", 1);
    top.press("q");
    assert_eq!(top.wait_for_end().code(), Some(0));
}

#[test]
fn a_worker_is_released_by_keys() {
    let (_dir, socket) = controller(usize::MAX);
    let mut top = Top::start(&socket, &[]);
    top.wait_for("quarantined, away", 1);
    top.press("r");
    top.wait_for("y or n", 1);
    top.press("y");
    // Only what changes is drawn, and the prompt has letters of the notice in the same columns: all of it is drawn
    // where the terminal has another size.
    let mut rows = 24;
    until("the notice", || {
        rows = 49 - rows;
        resize(&top.master, rows, 80);
        top.signal(Signal::SIGWINCH);
        top.seen().contains("bad is released").then_some(())
    });
    // crossterm waits for edges, and drops that of a key which comes together with a change of size: the key is read
    // with the next one.
    until("its end", || {
        top.press("q");
        top.child.try_wait().unwrap()
    });
    top.wait_for_end();
}

#[test]
fn a_resized_terminal_is_drawn_again() {
    let (_dir, socket) = controller(usize::MAX);
    let mut top = Top::start(&socket, &[("LC_ALL", "C.UTF-8")]);
    top.wait_for("cancel", 1);
    resize(&top.master, 10, 40);
    top.signal(Signal::SIGWINCH);
    top.wait_for("sor…", 1);
    top.press("q");
    top.wait_for_end();
}

#[test]
fn no_colour_is_sent_where_none_is_wanted() {
    for (variables, has_colour) in
        [(&[][..], true), (&[("NO_COLOR", "1")], false), (&[("TERM", "vt100")], false)]
    {
        let (_dir, socket) = controller(usize::MAX);
        let mut top = Top::start(&socket, variables);
        top.wait_for("cancel", 1);
        top.press("q");
        top.wait_for_end();
        let seen = top.seen();
        let colours = [";31m", ";32m", ";33m", ";90m"];
        assert_eq!(colours.iter().any(|code| seen.contains(code)), has_colour, "{variables:?}");
    }
}

#[test]
fn once_prints_plain_text() {
    let (_dir, socket) = controller(1);
    let ours = run(hashctl(&socket).args(["top", "--once"]));
    assert_eq!((ours.code, &*ours.stderr), (0, ""));
    let out = ours.out();
    assert!(out.starts_with("1/1 workers ready, 0 jobs, 0 B/s; controller 9.8.7"), "{out}");
    assert!(out.contains("\nbad is in quarantine: it lied\n") && !out.contains('\u{1b}'), "{out}");
    let ours = run(hashctl(Path::new("/nowhere/s")).args(["top", "--once"]));
    assert_eq!((ours.code, &*ours.out()), (3, ""));
}

#[test]
fn json_is_one_status_per_line_until_the_controller_is_lost() {
    let (_dir, socket) = controller(3);
    let mut child = start(hashctl(&socket).args(["top", "--json", "--interval", "0.1"]));
    let lines: Vec<String> =
        BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap).collect();
    let want = overview::status_json(&picture());
    assert_eq!(lines.len(), 3);
    for line in &lines {
        assert_eq!(serde_json::from_str::<Value>(line).unwrap(), want);
    }
    let ours = finish(child);
    assert_eq!(ours.code, 3);
    assert!(ours.stderr.starts_with("hashctl: lost the controller at"), "{}", ours.stderr);
    let (_dir, socket) = controller(1);
    let ours = run(hashctl(&socket).args(["top", "--json", "--once"]));
    assert_eq!((ours.code, serde_json::from_slice::<Value>(&ours.stdout).unwrap()), (0, want));
}

#[test]
fn a_stream_ends_when_nobody_reads_it() {
    let (_dir, socket) = controller(usize::MAX);
    let mut child = start(hashctl(&socket).args(["top", "--json", "--interval", "0.1"]));
    drop(child.stdout.take());
    let status = until("its end", || child.try_wait().unwrap());
    let was_killed = status.signal() == Some(Signal::SIGPIPE as i32);
    assert!(was_killed || status.code() == Some(1), "{status}");
}

#[test]
fn what_is_no_terminal_gets_a_hint_and_odd_intervals_are_refused() {
    let (_dir, socket) = controller(1);
    let ours = run(hashctl(&socket).arg("top"));
    assert_eq!((ours.code, &*ours.out()), (2, ""));
    assert!(ours.stderr.contains("--once and --json"), "{}", ours.stderr);
    for interval in ["0", "0.09", "3601", "-1", "nan", "inf", "", "1s"] {
        let ours = run(hashctl(&socket).args(["top", "--once", "--interval", interval]));
        assert_eq!(ours.code, 2, "{interval}: {}", ours.stderr);
    }
}
