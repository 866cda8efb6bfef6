//! `config` as it is typed.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output};

struct Files(PathBuf);

impl Files {
    fn new(test: &str, ports: &str, config: Option<&str>) -> Self {
        let dir = std::env::temp_dir().join(format!("hcvm-{}-config-{test}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("ports.conf"), ports).unwrap();
        if let Some(config) = config {
            fs::write(dir.join("cluster.toml"), config).unwrap();
        }
        Self(dir)
    }

    fn config(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hashcluster-vm"));
        command.arg("config").args(args).current_dir(&self.0).output().unwrap()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[track_caller]
fn check(output: &Output, status: i32, stdout: &str, stderr: &str) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let found = (output.status.code(), text(&output.stdout), text(&output.stderr));
    assert_eq!(found, (Some(status), stdout.to_owned(), stderr.to_owned()));
}

#[test]
fn a_plan_is_shown_on_stdout() {
    let files = Files::new("shown", "2220\n2221 host=left\n", Some("[vm.left]\nmemory = \"1G\"\n"));
    let want = "\
NAME        ROLE        SSH   METRICS  MEMORY  CPUS  CPUSET  MEMLOCK  DATASETS  HEALTH
controller  controller  2220  3220     192M    1     -       -        -         protocol every 5 s, limit 2 s, 3 retries
left        worker      2221  3221     1G      1     -       -        u         protocol every 5 s, limit 2 s, 3 retries
dataset u: snapshot of /usr
start: the controller, then workers in parallel; healthy within 120 s
";
    check(&files.config(&["--dataset", "u=/usr", "--snapshot"]), 0, want, "");
}

#[test]
fn every_fault_is_a_line_that_begins_with_its_file() {
    let files = Files::new("refused", "80\nx\n2221\n", Some("[vm.nobody]\n"));
    let want = "ports.conf:1: port 80 is privileged; use 1024 to 65535\n\
                ports.conf:2: \"x\" is no port; begin the line with one, 1024 to 65535\n\
                cluster.toml:1: no VM is called \"nobody\"; there are controller, worker1, worker2\n\
                --dataset: \"u\" is no NAME=DIR\n";
    check(&files.config(&["--dataset", "u"]), 2, "", want);
    let want = "none.conf: there is no such file\nnone.toml: there is no such file\n";
    check(&files.config(&["--ports", "none.conf", "--config", "none.toml"]), 2, "", want);
}

#[test]
fn ports_in_use_are_refused_when_asked() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let files =
        Files::new("busy", "2220\n2221\n", Some(&format!("[vm.worker1]\nmetrics_port = {port}\n")));
    assert_eq!(files.config(&[]).status.code(), Some(0));
    let output = files.config(&["--check-ports"]);
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8(output.stderr).unwrap();
    let want = format!("ports.conf:2: port {port} is in use by ");
    assert!(stderr.lines().any(|line| line.starts_with(&want)), "{stderr}");
}
