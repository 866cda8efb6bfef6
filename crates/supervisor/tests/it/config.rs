//! `config` as it is typed: the plan on stdout, or every fault on stderr.

use std::fs;
use std::process::Command;

#[test]
fn a_plan_is_shown_on_stdout_and_faults_are_lines_on_stderr() {
    let dir = tempfile::tempdir().unwrap();
    let config = |ports: &str, settings: &str, args: &[&str]| {
        fs::write(dir.path().join("ports.conf"), ports).unwrap();
        fs::write(dir.path().join("cluster.toml"), settings).unwrap();
        let mut command = Command::new(test_kit::program("hashcluster-vm"));
        let output = command.arg("config").args(args).current_dir(&dir).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let args = ["--dataset", "u=/usr", "--snapshot"];
    let (status, plan, faults) = config("2220\n2221 host=left\n", "", &args);
    assert!(plan.contains("\nleft        worker      2221  3221     192M "), "{plan}");
    assert!(plan.contains("\ndataset u: snapshot of /usr\nstart: "), "{plan}");
    assert_eq!((status, &*faults), (Some(0), ""));
    let found = config("2220\nx\n", "[vm.nobody]\n", &["--dataset", "u"]);
    let faults = "ports.conf:2: \"x\" is no port; begin the line with one, 1024 to 65535\n\
                  cluster.toml:1: no VM is called \"nobody\"; there are controller, worker1\n\
                  --dataset: \"u\" is no NAME=DIR\n";
    assert_eq!(found, (Some(2), String::new(), faults.to_owned()));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let settings = format!("[vm.worker1]\nmetrics_port = {port}\n");
    assert_eq!(config("2220\n2221\n", &settings, &[]).0, Some(0));
    let (status, _, faults) = config("2220\n2221\n", &settings, &["--check-ports"]);
    let want = format!("ports.conf:2: port {port} is in use by ");
    assert!(status == Some(2) && faults.lines().any(|line| line.starts_with(&want)), "{faults}");
}
