//! Commands to a supervisor that runs: one line to its socket, lines of text back, the last of
//! which is `ok` or `error …`. Only the user whose cluster it is can reach the socket, as the run
//! directory is closed to others.

use super::error::Error;
use super::fleet::Fleet;
use super::image::Image;
use super::table::table;
use crate::say::say;
use std::io::{self, BufRead, BufReader, PipeWriter, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// Longest command: a word and a path.
const LINE_LEN_MAX: u64 = 4200;

/// How long the sender of a command may take over its line.
const LINE_LIMIT: Duration = Duration::from_secs(2);

/// How long any command may take: a deployment boots every VM twice at worst.
const ANSWER_LIMIT: Duration = Duration::from_secs(3600);

/// Commands that wait at most.
const QUEUE_MAX: usize = 16;

/// A command, and who waits for its answer.
pub(super) struct Request {
    line: String,
    stream: UnixStream,
}

/// Listens at `path` in a thread that wakes the supervisor for each command.
pub(super) fn listen(path: &Path, mut waker: PipeWriter) -> io::Result<mpsc::Receiver<Request>> {
    let listener = UnixListener::bind(path)?;
    let (sender, receiver) = mpsc::sync_channel(QUEUE_MAX);
    thread::Builder::new().name("control".to_owned()).spawn(move || {
        for stream in listener.incoming().flatten() {
            let Ok(line) = read_line(&stream) else { continue };
            if sender.send(Request { line, stream }).is_err() || waker.write_all(b"c").is_err() {
                return;
            }
        }
    })?;
    Ok(receiver)
}

fn read_line(stream: &UnixStream) -> io::Result<String> {
    stream.set_read_timeout(Some(LINE_LIMIT))?;
    stream.set_write_timeout(Some(LINE_LIMIT))?;
    let mut line = String::new();
    BufReader::new(stream.take(LINE_LEN_MAX)).read_line(&mut line)?;
    Ok(line.trim_end_matches('\n').to_owned())
}

impl Request {
    /// Does what is asked and answers.
    pub(super) fn serve(mut self, fleet: &mut Fleet) {
        let line = std::mem::take(&mut self.line);
        let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
        let result = match word {
            "status" => {
                self.tell(table(fleet).trim_end());
                Ok(())
            }
            "stop" => each(fleet, rest, |fleet, i| fleet.stop(&[i])),
            "start" => each(fleet, rest, start),
            "restart" => each(fleet, rest, |fleet, i| {
                fleet.stop(&[i])?;
                start(fleet, i)
            }),
            "deploy" => self.deploy(fleet, Path::new(rest)),
            _ => Err(Error::Refused(format!("unknown command {word:?}"))),
        };
        match result {
            Ok(()) => self.tell("ok"),
            Err(error) => self.tell(&format!("error {}", error.to_string().replace('\n', "\n  "))),
        }
    }

    /// Whoever asked may have gone; the work is done all the same.
    fn tell(&mut self, text: &str) {
        let _ = self.stream.write_all(format!("{text}\n").as_bytes());
    }

    /// Puts the image in `dir` into one VM after the other, the controller last. A VM that does
    /// not become healthy with it takes the fleet back to what it ran before.
    fn deploy(&mut self, fleet: &mut Fleet, dir: &Path) -> Result<(), Error> {
        let fresh = Image::open(dir)?;
        let fresh = fresh.copy_to(&fleet.frame.layout.image(&fresh.digest))?;
        let order: Vec<usize> = (1..fleet.machines.len()).chain([0]).collect();
        let mut done: Vec<(usize, Image)> = Vec::new();
        for i in order {
            let name = fleet.machines[i].vm.name.clone();
            let old = fleet.machines[i].image.clone();
            if old.digest == fresh.digest {
                self.tell(&format!("{name}: has {} already", fresh.digest));
                continue;
            }
            done.push((i, old));
            match renew(fleet, i, &fresh) {
                Ok(()) => self.tell(&format!("{name}: runs {}", fresh.digest)),
                Err(error) => {
                    self.tell(&format!("{name}: {error}"));
                    while let Some((i, old)) = done.pop() {
                        renew(fleet, i, &old)?;
                        let name = &fleet.machines[i].vm.name;
                        self.tell(&format!("{name}: back to {}", old.digest));
                    }
                    return Err(Error::Refused(format!("{name} did not take the new image")));
                }
            }
        }
        Ok(())
    }
}

fn renew(fleet: &mut Fleet, i: usize, image: &Image) -> Result<(), Error> {
    fleet.stop(&[i])?;
    fleet.set_image(i, image)?;
    start(fleet, i)
}

fn start(fleet: &mut Fleet, i: usize) -> Result<(), Error> {
    let deadline = Instant::now() + fleet.deployment.startup_timeout;
    fleet.machines[i].deaths = 0;
    if fleet.machines[i].phase == super::machine::Phase::Down {
        fleet.begin(i);
    }
    fleet.await_healthy(&[i], deadline)
}

fn each(
    fleet: &mut Fleet,
    names: &str,
    act: impl Fn(&mut Fleet, usize) -> Result<(), Error>,
) -> Result<(), Error> {
    let found: Vec<usize> =
        names.split(' ').map(|name| fleet.find(name)).collect::<Result<_, _>>()?;
    for i in found {
        act(fleet, i)?;
    }
    Ok(())
}

/// Sends a command to the supervisor whose socket is at `path`, and prints what it answers.
pub(super) fn send(path: &Path, run_dir: &Path, command: &str) -> Result<(), Error> {
    let absent = |_| Error::NotRunning { run_dir: run_dir.to_owned() };
    let mut stream = UnixStream::connect(path).map_err(absent)?;
    let asked = stream
        .set_read_timeout(Some(ANSWER_LIMIT))
        .and_then(|()| stream.write_all(format!("{command}\n").as_bytes()));
    asked.map_err(Error::step("ask the supervisor"))?;
    let mut lines = BufReader::new(stream).lines();
    while let Some(line) = lines.next() {
        let line = line.map_err(Error::step("read the supervisor's answer"))?;
        if line == "ok" {
            return Ok(());
        }
        if let Some(first) = line.strip_prefix("error ") {
            let rest = lines.map_while(Result::ok).map(|line| format!("\n{line}"));
            return Err(Error::Refused(rest.fold(first.to_owned(), |text, line| text + &line)));
        }
        print(&line)?;
    }
    say("the supervisor ended before it had answered");
    Err(Error::NotRunning { run_dir: run_dir.to_owned() })
}

fn print(line: &str) -> Result<(), Error> {
    writeln!(io::stdout().lock(), "{line}").map_err(Error::step("write to stdout"))
}
