//! The live view of a real cluster.

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::thread;
use test_kit::{Cluster, Options, text, until, write_file};

const ROWS: usize = 24;
const COLUMNS: usize = 80;

/// A terminal that knows what `top` sends (ECMA-48): text, `CUP`, `ED`; attributes change nothing.
#[derive(Default)]
struct Screen {
    cells: BTreeMap<(usize, usize), char>,
    cursor: (usize, usize),
    /// A character that is begun, or a control sequence without its escape.
    pending: Vec<u8>,
}

impl Screen {
    fn take(&mut self, byte: u8) {
        self.pending.push(byte);
        let bytes = std::mem::take(&mut self.pending);
        match &bytes[..] {
            [0x1b] | [0x1b, b'['] => self.pending = bytes,
            [0x1b, b'[', parameters @ .., last] if last.is_ascii_alphabetic() => {
                self.control(&text(parameters), *last);
            }
            [0x1b, ..] => self.pending = bytes,
            _ => match std::str::from_utf8(&bytes) {
                Ok(text) => {
                    for c in text.chars() {
                        self.cells.insert(self.cursor, c);
                        self.cursor.1 += 1;
                    }
                }
                Err(_) => self.pending = bytes,
            },
        }
    }

    fn control(&mut self, parameters: &str, last: u8) {
        match last {
            b'H' => {
                let (row, column) = parameters.split_once(';').expect("two numbers");
                self.cursor = (row.parse().unwrap(), column.parse().unwrap());
            }
            b'J' => self.cells.clear(),
            _ => {}
        }
    }

    fn text(&self) -> String {
        let cell = |row, column| self.cells.get(&(row, column)).unwrap_or(&' ');
        let line = |row| (1..=COLUMNS).map(|column| cell(row, column)).collect::<String>() + "\n";
        (1..=ROWS).map(line).collect()
    }
}

#[test]
fn top_shows_a_job_that_waits_and_a_worker_that_dies_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    write_file(&dir.path().join("a"), 3 << 20, 1);
    write_file(&dir.path().join("b"), 3 << 20, 2);
    let mut cluster = Cluster::start(Options { workers: 1, ..Options::default() });
    let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(Some(&size), None).unwrap();
    let end = || Stdio::from(pty.slave.try_clone().unwrap());
    let mut top = cluster.hashctl();
    top.args(["top", "--interval", "0.1"]).env("TERM", "xterm").env("LC_ALL", "C.UTF-8");
    let mut top = top.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
    let screen = Arc::new(Mutex::new(Screen::default()));
    let (sink, mut reader) = (Arc::clone(&screen), File::from(pty.master.try_clone().unwrap()));
    thread::spawn(move || {
        let mut byte = [0];
        while matches!(reader.read(&mut byte), Ok(1)) {
            sink.lock().unwrap().take(byte[0]);
        }
    });
    let wait_for =
        |what: &str| until(what, || screen.lock().unwrap().text().contains(what).then_some(()));
    wait_for("1/1 workers ready");
    // While the worker is stopped, the job stands still.
    let worker = Pid::from_raw(i32::try_from(cluster.workers[0].id()).unwrap());
    kill(worker, Signal::SIGSTOP).unwrap();
    let mut run = cluster.hashctl();
    run.args(["sum", "a", "b"]).current_dir(&dir).stdout(Stdio::piped());
    let run = run.spawn().unwrap();
    wait_for("0/2");
    cluster.workers[0].kill().unwrap();
    cluster.workers[0].wait().unwrap();
    wait_for("worker w0 left");
    wait_for("0/0 workers ready");
    let again = cluster.spawn_worker(0);
    cluster.workers.push(again);
    wait_for("worker w0 connected");
    assert!(run.wait_with_output().unwrap().status.success());
    wait_for("ended");
    File::from(pty.master).write_all(b"q").unwrap();
    assert_eq!(top.wait().unwrap().code(), Some(0));
}
