//! Pages of the supervisor over HTTP, served by a thread that asks the event loop as `ps` does: an answer
//! shows that the loop works.

use super::control;
use super::log::{LOG, MemberEvent};
use super::metrics::SupervisorMetrics;
use super::ps::{ClusterReport, ClusterState};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::rc::Rc;
use std::thread;
use std::time::Duration;
use telemetry::http::{HttpAddress, HttpListener, Page, ReadyReport};
use telemetry::metrics::CONTENT_TYPE;
use tokio::runtime::Builder;
use tokio::task::LocalSet;

/// Time limit for the event loop to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// Time limit for each step of asking a member's own page.
const MEMBER_LIMIT: Duration = Duration::from_millis(500);

/// Serves the pages of the cluster in `run_dir` at `address`, if that can be had. Signals have to be blocked
/// before, so that they are so in the thread.
pub(super) fn start(run_dir: PathBuf, address: &HttpAddress) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let entered = runtime.enter();
    let listener = match HttpListener::bind(address) {
        Ok(listener) => listener,
        Err(error) => {
            LOG.log(&MemberEvent::NoHttp { address, error: &error });
            return Ok(());
        }
    };
    drop(entered);
    thread::Builder::new().name("pages".to_owned()).spawn(move || {
        let metrics = SupervisorMetrics::new();
        let pages = move |path: &str| answer(path, &run_dir, &metrics);
        LocalSet::new().block_on(&runtime, listener.serve(Rc::new(pages)));
    })?;
    Ok(())
}

fn answer(path: &str, run_dir: &std::path::Path, metrics: &SupervisorMetrics) -> Option<Page> {
    if !["/metrics", "/healthz", "/readyz", "/status.json"].contains(&path) {
        return None;
    }
    let lines = control::ask_within(run_dir, control::PS, ANSWER_LIMIT);
    let line = lines.ok().and_then(|mut lines| lines.pop()).unwrap_or_default();
    let Ok(report) = serde_json::from_str::<ClusterReport>(&line) else {
        return Some(Page::text(503, "the supervisor's event loop does not answer\n"));
    };
    Some(match path {
        "/metrics" => {
            let body = metrics.render(&report, &up(&report));
            Page { status: 200, content_type: CONTENT_TYPE, body }
        }
        "/healthz" => Page::text(200, "ok\n"),
        "/readyz" => readiness(&report).page(),
        _ => Page::json(200, line + "\n"),
    })
}

/// Ready is a cluster whose members are all healthy.
fn readiness(report: &ClusterReport) -> ReadyReport {
    let mut readiness = ReadyReport::default();
    report.reasons.iter().for_each(|reason| readiness.require(false, reason.as_str()));
    readiness.require(report.state != ClusterState::Starting, "the cluster starts");
    readiness
}

/// Says of each member if its own page answers.
fn up(report: &ClusterReport) -> Vec<(String, bool)> {
    thread::scope(|scope| {
        let asked: Vec<_> = report
            .members
            .iter()
            .map(|member| {
                let address = member.http.as_deref().and_then(|text| text.parse().ok());
                (member.name.clone(), scope.spawn(move || address.is_some_and(|a| answers(&a))))
            })
            .collect();
        asked.into_iter().map(|(name, asked)| (name, asked.join().unwrap_or(false))).collect()
    })
}

/// True if a member's pages are served at `address`.
pub(crate) fn answers(address: &HttpAddress) -> bool {
    let asked = match address {
        HttpAddress::Tcp(address) => {
            TcpStream::connect_timeout(address, MEMBER_LIMIT).and_then(|stream| {
                stream.set_read_timeout(Some(MEMBER_LIMIT))?;
                ask(stream)
            })
        }
        HttpAddress::Unix(path) => UnixStream::connect(path).and_then(|stream| {
            stream.set_read_timeout(Some(MEMBER_LIMIT))?;
            ask(stream)
        }),
    };
    asked.is_ok_and(|answer| answer.ends_with(b"\r\n\r\nok\n"))
}

fn ask(mut stream: impl Read + Write) -> io::Result<Vec<u8>> {
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(4096).read_to_end(&mut answer)?;
    Ok(answer)
}

/// The address of a port of this host.
pub(super) fn local(port: u16) -> HttpAddress {
    HttpAddress::Tcp((Ipv4Addr::LOCALHOST, port).into())
}
