//! Commands and events, waited for with a deadline.

use std::net::TcpListener;
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

/// The longest that a test waits for an event.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Pause between two looks for an event.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Runs `command` to its end.
#[track_caller]
pub fn output(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Bytes as text, for comparisons and messages.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Asks until there is an answer, which has to come within [`DEADLINE`].
#[track_caller]
pub fn until<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    until_within(DEADLINE, what, ask)
}

/// The same with another limit.
#[track_caller]
pub fn until_within<T>(limit: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what} did not happen within {limit:?}");
        thread::sleep(POLL_INTERVAL);
    }
}

/// This many pairs of TCP ports, 1000 apart, that nobody has now.
pub fn free_ports(pairs: usize) -> Vec<u16> {
    // All are held until all are known, so that none comes twice.
    let mut held: Vec<TcpListener> = Vec::new();
    while held.len() < 2 * pairs {
        let low = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = low.local_addr().expect("it is bound").port().checked_add(1000);
        if let Some(Ok(high)) = port.map(|port| TcpListener::bind(("127.0.0.1", port))) {
            held.extend([low, high]);
        }
    }
    held.iter().map(|listener| listener.local_addr().expect("it is bound").port()).collect()
}

/// The program `name` of the package under test. Its path is not compiled in: cargo takes the tests of a
/// copied tree for fresh.
///
/// # Panics
/// If cargo does not run the test.
#[must_use]
pub fn program(name: &str) -> &'static str {
    let path = std::env::var(format!("CARGO_BIN_EXE_{name}"));
    // As long as the test.
    path.unwrap_or_else(|_| panic!("cargo test knows where {name} is")).leak()
}
