//! The progress, on a terminal and for programs.

use crate::oracle::line;
use crate::program::{finish, hashctl_alone, start};
use ipc_proto::Algorithm;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Instant;
use tempfile::tempdir;
use test_kit::DEADLINE;

/// The end of a terminal that a person sees.
struct Screen {
    master: OwnedFd,
    output: Receiver<u8>,
    seen: String,
}

impl Screen {
    /// A terminal of so many columns, and the program's end of it.
    fn open(columns: u16) -> (Self, File) {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let slave = OpenOptions::new().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        let (sender, output) = channel();
        let mut reader = File::from(master.try_clone().unwrap());
        // It ends with the program, whose end is then closed.
        thread::spawn(move || {
            let mut byte = [0];
            while matches!(reader.read(&mut byte), Ok(1)) && sender.send(byte[0]).is_ok() {}
        });
        let screen = Self { master, output, seen: String::new() };
        screen.resize(columns);
        (screen, slave)
    }

    fn resize(&self, columns: u16) {
        let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.master, size).unwrap();
    }

    /// The next lines, each of which replaces the one before, until `is_wanted` accepts one.
    fn wait_for(&mut self, is_wanted: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + DEADLINE;
        let mut bytes = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            bytes.push(self.output.recv_timeout(left).expect("a line in time"));
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if let Some(line) = text.strip_suffix("\r\u{1b}[K") {
                self.seen += &text;
                if is_wanted(line) {
                    return line.to_owned();
                }
                bytes.clear();
            }
        }
    }
}

#[test]
fn the_line_fits_a_terminal_that_is_resized_and_leaves_nothing() {
    let dir = tempdir().unwrap();
    let name = "漢字".repeat(40);
    mkfifo(&dir.path().join(&name), Mode::S_IRWXU).unwrap();
    let (mut screen, slave) = Screen::open(100);
    let mut command = hashctl_alone();
    command.current_dir(dir.path()).args(["--embedded", "sum", &name]).stderr(slave);
    let child = start(command.stdout(Stdio::piped()));
    drop(command);
    let mut fifo = OpenOptions::new().write(true).open(dir.path().join(&name)).unwrap();
    fifo.write_all(&[7; 5000]).unwrap();
    let cells =
        |line: &str| line.chars().map(|c| if c.is_ascii() || c == '…' { 1 } else { 2 }).sum();
    let wide = screen.wait_for(|line| line.contains("1 files"));
    let width: usize = cells(&wide);
    assert!(wide.ends_with("漢字") && (90..100).contains(&width), "{wide}");
    screen.resize(40);
    let narrow = screen.wait_for(|line| {
        let width: usize = cells(line);
        !line.is_empty() && width < 40
    });
    assert!(narrow.starts_with("0 B of 0 B, 0 of 1 files"), "{narrow}");
    drop(fifo);
    let outcome = finish(child);
    assert_eq!((outcome.code, outcome.out()), (0, line(Algorithm::Sha256, &[7; 5000], &name)));
    screen.wait_for(|_| true);
    assert!(screen.output.recv().is_err(), "nothing comes after the line is cleared");
}

#[test]
fn programs_get_one_object_per_line_and_a_last_one() {
    let dir = tempdir().unwrap();
    mkfifo(&dir.path().join("fifo"), Mode::S_IRWXU).unwrap();
    let mut command = hashctl_alone();
    command.current_dir(dir.path()).args(["--embedded", "--progress", "json", "sum", "fifo"]);
    let mut child = start(&mut command);
    let mut fifo = OpenOptions::new().write(true).open(dir.path().join("fifo")).unwrap();
    fifo.write_all(b"some").unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"\n") {
        stderr.read_exact(&mut byte).unwrap();
        text.push(byte[0]);
    }
    drop(fifo);
    stderr.read_to_end(&mut text).unwrap();
    assert_eq!(finish(child).code, 0);
    let lines: Vec<serde_json::Value> = String::from_utf8(text)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (first, last) = (&lines[0], &lines[lines.len() - 1]);
    let facts = |line: &serde_json::Value| {
        let number = |key: &str| line[key].as_u64().unwrap();
        (number("version"), number("files"), number("files_done"), number("bytes_done"))
    };
    assert_eq!(
        (facts(first), &first["progress"], &first["name"]),
        ((1, 1, 0, 0), &"now".into(), &"fifo".into())
    );
    assert_eq!(
        (facts(last), &last["progress"], last.get("name")),
        ((1, 1, 1, 4), &"end".into(), None)
    );
}
