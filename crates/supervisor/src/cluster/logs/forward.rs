//! Lines of the members' logs on their way to a syslog collector, each with the name of its member as its host.
//!
//! The supervisor reads what guests and processes have written to its files, so a guest needs no network.
//! A guest is not trusted: it chooses the text of its lines and their program, not their host or time.

use super::lines::time_of;
use super::source::Source;
use super::{SUPERVISOR, SYSLOG, member_of};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::thread;
use telemetry::{ForeignLine, Forwarder, Level};

/// Starts a thread that forwards what is written to the logs in `dir` from now on. The supervisor's own
/// events go another way.
pub(crate) fn start(dir: PathBuf, forwarder: Forwarder) -> io::Result<()> {
    let mut forwarded = Forwarded { sources: BTreeMap::new(), dir };
    forwarded.find(true);
    thread::Builder::new().name("logs".to_owned()).spawn(move || {
        loop {
            thread::sleep(super::FOLLOW_PAUSE);
            forwarded.find(false);
            forwarded.pass_on(|line| forwarder.send(line));
        }
    })?;
    Ok(())
}

struct Forwarded {
    dir: PathBuf,
    /// By the name of the file.
    sources: BTreeMap<String, Source>,
}

impl Forwarded {
    /// Looks for logs of members; what is in those that are known from the start was written before.
    fn find(&mut self, is_start: bool) {
        let files = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        for file in files.filter_map(|entry| entry.file_name().into_string().ok()) {
            let is_new = !self.sources.contains_key(&file);
            if let Some(member) = member_of(&file).filter(|name| is_new && name != SUPERVISOR) {
                let mut source = Source::new(self.dir.join(&file), member);
                if is_start {
                    let _ = source.more();
                }
                self.sources.insert(file, source);
            }
        }
    }

    fn pass_on(&mut self, mut send: impl FnMut(&ForeignLine<'_>)) {
        for (file, source) in &mut self.sources {
            for line in source.more() {
                let host = &source.label;
                if !line.is_empty() {
                    send(&ForeignLine { host, ..parsed(file, &line) });
                }
            }
        }
    }
}

/// Program, process, severity and text of a line.
fn parsed<'a>(file: &str, line: &'a str) -> ForeignLine<'a> {
    let whole =
        ForeignLine { host: "", program: "console", pid: 0, level: Level::Info, text: line };
    if file.ends_with(SYSLOG) {
        of_syslogd(line).unwrap_or(ForeignLine { program: "syslogd", ..whole })
    } else if file.ends_with(".console.log") {
        // Behind the time at which it was read.
        let text = time_of(line).map_or(line, |time| line[time.len()..].trim_start());
        ForeignLine { text, ..whole }
    } else {
        tagged(line, Level::Info).unwrap_or(ForeignLine { program: "hashcluster", ..whole })
    }
}

/// A line of BusyBox syslogd: `Nov 27 11:00:00 HOST FACILITY.SEVERITY TAG: TEXT`.
fn of_syslogd(line: &str) -> Option<ForeignLine<'_>> {
    let (_, rest) = line.split_at_checked("Nov 27 11:00:00 ".len())?;
    let (_, rest) = rest.split_once(' ')?;
    let (priority, rest) = rest.split_once(' ')?;
    let level = match priority.split_once('.')?.1 {
        "emerg" | "alert" | "crit" | "err" => Level::Error,
        "warn" | "warning" => Level::Warning,
        _ => Level::Info,
    };
    tagged(rest, level)
}

/// `TAG[PID]: [LEVEL: ]TEXT`, where the number and the level of one of our events may be missing.
fn tagged(line: &str, level: Level) -> Option<ForeignLine<'_>> {
    let (tag, text) = line.split_once(": ")?;
    let (program, pid) = match tag.strip_suffix(']').and_then(|tag| tag.split_once('[')) {
        Some((program, pid)) => (program, pid.parse().unwrap_or(0)),
        None => (tag, 0),
    };
    if program.is_empty() || program.contains(' ') {
        return None;
    }
    let marked = [Level::Error, Level::Warning].into_iter().find_map(|level| {
        let text = text.strip_prefix(level.name())?.strip_prefix(": ")?;
        Some((level, text))
    });
    let (level, text) =
        marked.filter(|_| program.starts_with("hashcluster")).unwrap_or((level, text));
    Some(ForeignLine { host: "", program, pid, level, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_apart_and_those_of_another_form_stay_whole() {
        let line = |program, pid, level, text| ForeignLine { host: "", program, pid, level, text };
        for (file, given, want) in [
            (
                "worker1.syslog.log",
                "Nov 27 11:00:00 worker1 daemon.info hashcluster-worker: error: no: space",
                line("hashcluster-worker", 0, Level::Error, "no: space"),
            ),
            (
                "worker1.syslog.log",
                "Nov 27 11:00:00 worker1 authpriv.warn dropbear[71]: bad key",
                line("dropbear", 71, Level::Warning, "bad key"),
            ),
            ("worker1.syslog.log", "é", line("syslogd", 0, Level::Info, "é")),
            ("worker1.console.log", "a: b", line("console", 0, Level::Info, "a: b")),
            (
                "worker1.console.log",
                "2026-11-27T11:00:00Z a: b",
                line("console", 0, Level::Info, "a: b"),
            ),
            (
                "w1.log",
                "hashcluster-worker: warning: lost",
                line("hashcluster-worker", 0, Level::Warning, "lost"),
            ),
            (
                "w1.log",
                "thread 'x' panicked",
                line("hashcluster", 0, Level::Info, "thread 'x' panicked"),
            ),
        ] {
            assert_eq!(parsed(file, given), want, "{file}: {given}");
        }
    }

    #[test]
    fn lines_from_now_on_carry_the_name_of_their_member() {
        let dir = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| fs::write(dir.path().join(file), text).unwrap();
        write("w1.log", "hashcluster-worker: before\n");
        let mut forwarded = Forwarded { sources: BTreeMap::new(), dir: dir.path().to_owned() };
        forwarded.find(true);
        write("w1.log", "hashcluster-worker: before\nhashcluster-worker: after\n");
        write("worker2.console.log", "boots\n");
        write("supervisor.log", "own\n");
        write("mkfs.erofs.log", "a tool\n");
        forwarded.find(false);
        let mut sent = Vec::new();
        forwarded
            .pass_on(|line| sent.push(format!("{} {} {}", line.host, line.program, line.text)));
        assert_eq!(sent, ["w1 hashcluster-worker after", "worker2 console boots"]);
    }
}
