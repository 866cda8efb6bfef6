//! `logs`: the logs of a cluster's members side by side, each line behind the name of its log.
//!
//! Logs come from guests: control characters are replaced.

mod forward;
mod lines;
mod source;

use super::error::Error;
use super::ps::{ClusterKind, MemberPhase};
use super::show;
use crate::args::LogsOptions;
use crate::exit;
use crate::run_dir;
use crate::say::say;
pub(crate) use forward::start as forward;
use lines::Wanted;
use source::Source;
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, SystemTime};

/// The supervisor's log.
const SUPERVISOR: &str = "supervisor";

/// Ends of the names of a member's logs, in the order in which they are shown.
const KINDS: [&str; 3] = [".console.log", ".log", SYSLOG];
const SYSLOG: &str = ".syslog.log";

/// Lines of each log that are shown unless others are asked for.
const LINES: usize = 200;

/// Lines that wait for a slow terminal.
const QUEUE_LEN: usize = 1024;

/// Shows the logs that `options` ask for.
pub(crate) fn logs(options: &LogsOptions) -> Result<ExitCode, Error> {
    let run_dir = run_dir::or_default(options.runtime.dir.as_deref());
    let sources = sources(&run_dir, &options.names, options.follow)?;
    if sources.is_empty() {
        say(format_args!("there are no logs in {}; ./run.sh starts a cluster", run_dir.display()));
        return Ok(ExitCode::from(exit::NOT_RUNNING));
    }
    let since = options.since.map(|age| SystemTime::now().checked_sub(age));
    let selection = Wanted {
        since: since.flatten(),
        boot: options.boot,
        last: match (options.lines, options.since.is_some() || options.boot.is_some()) {
            (Some(lines), _) => lines,
            (None, true) => usize::MAX,
            (None, false) => LINES,
        },
    };
    let width = sources.iter().map(|source| source.label.chars().count()).max().unwrap_or(0);
    let (sender, receiver) = mpsc::sync_channel::<(String, String)>(QUEUE_LEN);
    let is_followed = options.follow;
    let reader = thread::spawn(move || {
        let mut sources = sources;
        for source in &mut sources {
            if !is_followed {
                source.complete();
            }
            let mut lines = source.first(&selection);
            if !is_followed {
                lines.extend(source.end());
            }
            for line in lines {
                if sender.send((source.label.clone(), line)).is_err() {
                    return;
                }
            }
        }
        loop {
            if !is_followed {
                return;
            }
            thread::sleep(FOLLOW_PAUSE);
            for source in &mut sources {
                for line in source.more() {
                    if sender.send((source.label.clone(), line)).is_err() {
                        return;
                    }
                }
            }
        }
    });
    let mut stdout = io::stdout().lock();
    for (label, line) in receiver {
        match writeln!(stdout, "{label:width$} | {line}") {
            Ok(()) => {}
            // Whoever reads has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return Ok(ExitCode::SUCCESS);
            }
            Err(error) => return Err(Error::step("write to stdout")(error)),
        }
    }
    reader.join().expect("the reader does not panic");
    Ok(ExitCode::SUCCESS)
}

/// Interval between looks for new lines.
const FOLLOW_PAUSE: Duration = Duration::from_millis(200);

/// The logs of the members that are named, or all.
fn sources(run_dir: &Path, names: &[String], follow: bool) -> Result<Vec<Source>, Error> {
    let dir = run_dir.join("log");
    let files = fs::read_dir(&dir).into_iter().flatten().flatten();
    let files = files.filter_map(|entry| entry.file_name().into_string().ok());
    let mut known: BTreeSet<String> = files.filter_map(|file| member_of(&file)).collect();
    let report = show::report_of(run_dir)?;
    known.extend(report.members.iter().map(|member| member.name.clone()));
    if let Some(name) = names.iter().find(|name| !known.contains(*name)) {
        if known.is_empty() {
            return Ok(Vec::new());
        }
        let names = known.into_iter().collect::<Vec<_>>().join(", ");
        return Err(Error::NoSuchMember { name: name.clone(), names });
    }
    let wanted = known.iter().filter(|name| names.is_empty() || names.contains(name));
    // Where the host has no syslog of a VM, the VM is asked for it.
    let is_asked = |name: &&String| {
        let member = report.member(name).filter(|_| report.kind == Some(ClusterKind::Vms));
        member.is_some_and(|member| member.phase == MemberPhase::Running)
            && !dir.join(format!("{name}{SYSLOG}")).exists()
    };
    let asked = wanted.clone().filter(is_asked).map(|name| {
        let said = Source::in_guest(run_dir, name, label(name, SYSLOG), follow);
        said.map_err(Error::step(format!("ask {name} for its syslog")))
    });
    let asked = asked.collect::<Result<Vec<_>, _>>()?;
    let of = |name: &String| KINDS.map(|kind| (format!("{name}{kind}"), name.clone(), kind));
    let found = wanted.flat_map(of).filter(|(file, ..)| dir.join(file).exists());
    let files = found.map(|(file, name, kind)| Source::new(dir.join(file), label(&name, kind)));
    Ok(files.chain(asked).collect())
}

/// The member whose log is called `file`; programs that prepare a start have logs, too, but no member.
fn member_of(file: &str) -> Option<String> {
    let kind = KINDS.iter().find(|kind| **kind != ".log" && file.ends_with(**kind));
    let name = file.strip_suffix(kind.unwrap_or(&".log"))?;
    let is_process = kind.is_some()
        || name == SUPERVISOR
        || name == "controller"
        || name.strip_prefix('w').is_some_and(|n| n.bytes().all(|byte| byte.is_ascii_digit()));
    is_process.then(|| name.to_owned())
}

fn label(name: &str, kind: &str) -> String {
    match kind {
        ".console.log" => format!("{name} console"),
        SYSLOG => format!("{name} syslog"),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_belongs_to_the_member_of_its_name() {
        for (file, want) in [
            ("supervisor.log", Some("supervisor")),
            ("worker1.console.log", Some("worker1")),
            ("worker1.syslog.log", Some("worker1")),
            ("w12.log", Some("w12")),
            ("mkfs.erofs.log", None),
            ("worker1.console.log.old", None),
            ("lock", None),
        ] {
            assert_eq!(member_of(file).as_deref(), want, "{file}");
        }
    }
}
