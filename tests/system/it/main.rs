#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]
//! The real binaries against oracles, faults and hostile peers.

mod api;
mod audits;
mod calls;
mod cross_check;
mod datasets;
mod durable;
mod ends;
mod faults;
mod hosts;
mod hosts_script;
mod hung;
mod journal;
mod kept_sockets;
mod limits;
mod local_changes;
mod monitoring;
mod moved;
mod newcomer;
mod notices;
mod oracle;
mod out_of_service;
mod policy;
mod progress;
mod registers;
mod rsyslog;
mod run_sh;
mod schedules;
mod scripts;
mod secrets;
mod top;
mod vsock;
