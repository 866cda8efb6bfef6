//! Code that took over a controller's thread reaches its sockets, and nothing else.

use hashcluster_controller::driver::Settings;
use hashcluster_controller::driver::live::Live;
use hashcluster_controller::driver::policy::AccessPolicy;
use hashcluster_controller::driver::sandbox::{ControllerSandbox, Role, allowed_calls};
use ipc_proto::endpoint::Endpoint;
use nix::errno::Errno;
use sandbox::Enforcement;
use std::fs::{self, File};
use std::io;
use std::net::TcpStream;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::thread;
use test_kit::{alone, call, every_other_call_is_denied};

/// The sandbox of a controller with its sockets in `dir`.
fn enter(dir: &Path) -> ControllerSandbox {
    let socket = |name| Endpoint::unix(dir.join(name)).expect("a short path");
    let settings = Settings {
        http: None,
        state_dir: None,
        journal_max: None,
        has_status_page: false,
        client_socket: socket("client.sock"),
        worker_socket: socket("worker.sock"),
        policy: AccessPolicy::own(0),
        image: String::new(),
        live: Live::default(),
        cross_check: None,
        notify: notifier::Permissions::default(),
        sandbox: Enforcement::Enforce,
    };
    ControllerSandbox::enter(settings.sandbox, &settings).expect("this host has every layer")
}

#[test]
fn every_call_that_is_not_listed_is_denied_to_the_controller() {
    alone("denied::every_call_that_is_not_listed_is_denied_to_the_controller", |dir| {
        let sandbox = enter(&dir);
        let check = |role| {
            let own = allowed_calls().filter(|row| row.is_for(role)).map(|row| row.call.number);
            every_other_call_is_denied(&own.collect());
        };
        check(None);
        thread::scope(|scope| {
            for role in [Role::EventLoop, Role::Log, Role::Closer, Role::Journal] {
                scope.spawn(move || {
                    sandbox.narrow(role).unwrap();
                    check(Some(role));
                });
            }
        });
    });
}

#[test]
fn the_controller_opens_starts_and_connects_to_nothing_and_removes_its_sockets() {
    let test = "the_controller_opens_starts_and_connects_to_nothing_and_removes_its_sockets";
    alone(&format!("denied::{test}"), |dir| {
        let sockets = dir.join("data");
        let _listener = UnixListener::bind(sockets.join("worker.sock")).unwrap();
        enter(&sockets);
        let denied = |error: io::Error| assert_eq!(error.raw_os_error(), Some(libc::EPERM));
        denied(File::open("/etc/passwd").unwrap_err());
        denied(Command::new("/bin/true").status().unwrap_err());
        denied(TcpStream::connect("127.0.0.1:1").unwrap_err());
        let code = u64::try_from(libc::PROT_READ | libc::PROT_EXEC).unwrap();
        assert_eq!(call(libc::SYS_mmap, [0, 4096, code, 0x22, u64::MAX, 0]), Errno::EPERM);
        fs::remove_file(sockets.join("worker.sock")).unwrap();
        let error = fs::remove_file(dir.join("shown")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EACCES), "only beside its sockets");
    });
}
