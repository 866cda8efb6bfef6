//! Runs a test in a process of its own: open descriptors and resource limits belong to a process,
//! and the tests of one executable share theirs.

use std::env;
use std::fs;
use std::process::Command;

/// Environment variable with the name of the test that this process runs itself.
const INSIDE: &str = "IPC_SOCKET_TEST_ALONE";

/// Runs `body` in a new process that runs only the test `name`, which calls this.
#[track_caller]
pub(crate) fn alone(name: &str, body: impl FnOnce()) {
    if env::var(INSIDE).as_deref() == Ok(name) {
        return body();
    }
    let output = Command::new(env::current_exe().expect("this executable"))
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(INSIDE, name)
        .output()
        .expect("this executable runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {}\n{text}{errors}", output.status);
    assert!(text.contains("1 passed"), "no test is called {name}:\n{text}");
}

/// Number of descriptors that this process has open.
pub(crate) fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("/proc is mounted").count()
}
