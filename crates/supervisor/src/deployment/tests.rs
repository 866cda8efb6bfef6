//! Files in, a deployment or every fault out.

mod document;
mod flags;

use super::*;
use crate::args::DeploymentOptions;
use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::net::TcpListener;
use tempfile::TempDir;

const PORTS: &str = "2220\n2221\n2222\n";

/// A directory with the files of one test.
struct Files(TempDir);

impl Files {
    fn new(ports: &[u8], config: Option<&[u8]>) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        fs::write(files.path("ports.conf"), ports).unwrap();
        if let Some(config) = config {
            fs::write(files.path("cluster.toml"), config).unwrap();
        }
        fs::create_dir(files.path("data")).unwrap();
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A message of ours without the place of the files.
    fn plain(&self, text: &impl ToString) -> String {
        text.to_string().replace(&format!("{}/", self.0.path().display()), "")
    }

    fn options(&self, datasets: &[&str]) -> DeploymentOptions {
        DeploymentOptions {
            ports: Some(self.path("ports.conf")),
            datasets: datasets.iter().map(OsString::from).collect(),
            ..DeploymentOptions::default()
        }
    }

    fn load(&self, datasets: &[&str]) -> Result<Deployment, String> {
        load_as(&self.options(datasets)).map_err(|errors| self.plain(&errors))
    }
}

fn load_as(options: &DeploymentOptions) -> Result<Deployment, LoadErrors> {
    Deployment::load(options, &CpuSet::parse("0-1").unwrap())
}

fn load(ports: &str, config: &str) -> Result<Deployment, String> {
    Files::new(ports.as_bytes(), Some(config.as_bytes())).load(&[])
}

/// The deployment of both files.
#[track_caller]
pub(crate) fn good(ports: &str, config: &str) -> Deployment {
    load(ports, config).unwrap_or_else(|errors| panic!("{errors}"))
}

/// `config` beside three VMs gives these faults.
#[track_caller]
fn check(config: &str, want: &[&str]) {
    let errors = load(PORTS, config).map_or_else(|errors| errors, |_| String::new());
    let found: Vec<&str> = errors
        .lines()
        .map(|line| line.strip_prefix("cluster.toml:").expect("the file comes first"))
        .collect();
    assert_eq!(found, want, "{config}");
}

#[test]
fn without_cluster_toml_everything_has_its_default() {
    let want = "\
NAME        ROLE        SSH   METRICS  MEMORY  CPUS  CPUSET  MEMLOCK  DATASETS  HEALTH
controller  controller  2220  3220     192M    1     -       -        -         protocol every 5 s, limit 2 s, 3 retries
worker1     worker      2221  3221     192M    1     -       -        -         protocol every 5 s, limit 2 s, 3 retries
worker2     worker      2222  3222     192M    1     -       -        -         protocol every 5 s, limit 2 s, 3 retries
start: the controller, then workers in parallel; healthy within 120 s
";
    let deployment = Files::new(PORTS.as_bytes(), None).load(&[]).unwrap();
    assert_eq!(deployment.to_string(), want);
    assert_eq!(good(PORTS, ""), deployment);
}

#[test]
fn the_ports_file_of_the_repository_is_a_controller_and_two_workers() {
    let text = include_str!("../../../../ports.conf");
    let [mut found, want] = [text, PORTS].map(|text| good(text, ""));
    for (found, want) in found.vms.iter_mut().zip(&want.vms) {
        found.line = want.line;
    }
    assert_eq!(found, want);
}

#[test]
fn the_most_specific_setting_wins() {
    let deployment = good(
        PORTS,
        "[defaults]\nmemory = '200M'\ncpus = 2\nthreads = 4\nsched = 'batch'\n\
         health = { command = 'true', interval_s = 7 }\n\
         [vm.worker2]\nmemory = '400M'\nthreads = 1\n\
         [vm.worker2.health]\ncheck = 'protocol'\nretries = 0\n",
    );
    let seen: Vec<_> = deployment.vms.iter().map(|vm| (vm.memory_mib, vm.cpus)).collect();
    assert_eq!(seen, [(200, 2), (200, 2), (400, 2)]);
    let seen: Vec<_> = deployment.vms.iter().map(|vm| vm.args.join(" ")).collect();
    assert_eq!(seen, ["", "--threads 4 --sched batch", "--threads 1 --sched batch"]);
    let health = |vm: usize| {
        let Health { check, interval, timeout, retries } = deployment.vms[vm].health.clone();
        (check, interval.as_secs(), timeout.as_secs(), retries)
    };
    assert_eq!(health(1), (Check::Command("true".into()), 7, 2, 3));
    assert_eq!(health(2), (Check::Protocol, 7, 2, 0));
}

#[test]
fn every_bad_value_of_cluster_toml_has_its_line_and_its_limits() {
    for (line, want) in [
        ("memory = 192", "memory: bad value 192; write in quotes 96M to 64G"),
        ("memory = '192'", "memory: bad value \"192\"; write 96M to 64G"),
        ("memory = '65G'", "memory: bad value \"65G\"; write 96M to 64G"),
        ("cpus = 0", "cpus: bad value 0; write 1 to 64"),
        ("cpus = 65", "cpus: bad value 65; write 1 to 64"),
        ("cpus = -1", "cpus: bad value -1; write 1 to 64"),
        ("cpus = '2'", "cpus: bad value \"2\"; write 1 to 64, without quotes"),
        ("cpus = 1.5", "cpus: bad value 1.5; write 1 to 64"),
        ("cpus = [1]", "cpus: bad value (an array); write 1 to 64"),
        ("cpus = 2024-01-01", "cpus: bad value (a date or time); write 1 to 64"),
        ("cpuset = '0-2,9'", "cpuset: no CPU 2,9 to run on; this host gives 0-1"),
        ("cpuset = 'a'", "cpuset: bad value \"a\"; write CPU numbers such as 0,2-3"),
        ("threads = 4097", "threads: bad value 4097; write 1 to 4096"),
        (
            "sched = 'fifo:100'",
            "sched: bad value \"fifo:100\"; write other, batch or fifo:PRIO with 1 to 99",
        ),
        (
            "sched = 'fifo'",
            "sched: bad value \"fifo\"; write other, batch or fifo:PRIO with 1 to 99",
        ),
        ("memlock = '1K'", "memlock: bad value \"1K\"; write 64K to 64G"),
        ("reading = 'mmap'", "reading: bad value \"mmap\"; write auto or uring or plain"),
        ("drop_behind = 'yes'", "drop_behind: bad value \"yes\"; write true or false"),
        ("report_every = '5G'", "report_every: bad value \"5G\"; write 1K to 4G"),
        ("report_every = 4096", "report_every: bad value 4096; write in quotes 1K to 4G"),
        (
            "cross_check = '1/0'",
            "cross_check: bad value \"1/0\"; write 1/N with N from 1 to 4294967295",
        ),
        (
            "cross_check = 100",
            "cross_check: bad value 100; write in quotes 1/N with N from 1 to 4294967295",
        ),
        ("health = 'protocol'", "health: bad value \"protocol\"; write a table"),
        ("health.check = 'ssh'", "check: bad value \"ssh\"; write protocol"),
        (
            "health.command = \"a\\nb\"",
            "command: bad value \"a\\nb\"; write 1 to 1024 bytes without control characters",
        ),
        ("health.interval_s = 0", "interval_s: bad value 0; write 1 to 3600"),
        ("health.timeout_s = 301", "timeout_s: bad value 301; write 1 to 300"),
        ("health.retries = 101", "retries: bad value 101; write 0 to 100"),
        (
            "health = { check = 'protocol', command = 'true' }",
            "health has check or command, not both",
        ),
        (
            "health.port = 1",
            "unknown key \"port\"; keys are check, command, interval_s, timeout_s, retries",
        ),
        (
            "mem = '1G'",
            "unknown key \"mem\"; keys are memory, cpus, cpuset, memlock, threads, sched, backend, \
             reading, sandbox, report_every, drop_behind, cross_check, journal_max, health",
        ),
    ] {
        let want = format!("3: {want}");
        check(&format!("# at line 3\n[defaults]\n{line}\n"), &[&want]);
        let of_vm =
            want.replace("journal_max, health", "journal_max, metrics_port, datasets, health");
        check(&format!("\n[vm.worker2]\n{line}\n"), &[&of_vm]);
    }
}

#[test]
fn numbers_of_other_bases_and_with_underscores_are_numbers() {
    let config = "[defaults]\ncpus = 0x1F\n[start]\nstartup_timeout_s = 1_000";
    let deployment = good(PORTS, config);
    assert_eq!(deployment.vms[0].cpus, 31);
    assert_eq!(deployment.startup_timeout.as_secs(), 1_000);
}

#[test]
fn every_fault_of_cluster_toml_is_told_at_once() {
    check(
        "color = 1\n\
         [start]\nstrategy = 'both'\nwait_for_healthy = 1\nstartup_timeout_s = 0\n\
         [vm.worker9]\ncpus = 99\n\
         [vm.controller]\nthreads = 1\ndatasets = ['empty']\n\
         [vm]\nworker1 = 3\n\
         [datasets.Bad]\nsnapshot = 'no'\n\
         [datasets.gone]\ndir = 'ports.conf'\n\
         [datasets.empty]\ndir = ''\nio_threads = 0\n",
        &[
            "1: unknown key \"color\"; keys are defaults, start, logs, vm, datasets",
            "3: strategy: bad value \"both\"; write sequential or parallel",
            "4: wait_for_healthy: bad value 1; write true or false",
            "5: startup_timeout_s: bad value 0; write 1 to 3600",
            "6: no VM is called \"worker9\"; there are controller, worker1, worker2",
            "7: cpus: bad value 99; write 1 to 64",
            "9: threads is for workers; the controller hashes nothing",
            "10: datasets is for workers; the controller hashes nothing",
            "12: vm.\"worker1\": bad value 3; write a table: [vm.NAME], with its keys below it",
            "13: \"Bad\" is no name of a dataset; use 1 to 32 of a-z, 0-9, _ and -",
            "13: dataset \"Bad\" has no dir",
            "14: snapshot: bad value \"no\"; write true or false",
            "15: cannot use ports.conf as a dataset: Not a directory (os error 20)",
            "18: dir: bad value \"\"; write the path of a directory",
            "19: io_threads: bad value 0; write 1 to 4096",
        ],
    );
}

#[test]
fn a_number_in_quotes_is_told_to_lose_them() {
    let check = |config: &str, want: &str| {
        assert_eq!(load(PORTS, config).unwrap_err(), format!("cluster.toml:{want}"));
    };
    check("[defaults]\ncpus = '2'\n", "2: cpus: bad value \"2\"; write 1 to 64, without quotes");
    check("[defaults]\ncpus = '65'\n", "2: cpus: bad value \"65\"; write 1 to 64");
    check(
        "[vm.worker1]\nthreads = '2'\n",
        "2: threads: bad value \"2\"; write 1 to 4096, without quotes",
    );
    check(
        "[start]\nwait_for_healthy = 'true'\n",
        "2: wait_for_healthy: bad value \"true\"; write true or false, without quotes",
    );
}

#[test]
fn a_directory_that_is_missing_takes_only_its_dataset_down_unless_it_is_typed() {
    let config = "[datasets.gone]\ndir = 'nowhere'\n[datasets.here]\ndir = 'data'\n";
    let files = Files::new(PORTS.as_bytes(), Some(config.as_bytes()));
    let deployment = files.load(&[]).unwrap();
    let missing: Vec<bool> = deployment.datasets.iter().map(|set| set.is_missing).collect();
    assert_eq!(missing, [true, false]);
    assert_eq!(deployment.datasets[0].dir, files.path("nowhere"));
    let said = deployment.datasets[0].fault().unwrap();
    assert!(said.starts_with("dataset gone: ") && said.contains("nowhere is missing"), "{said}");
    assert_eq!(deployment.datasets[1].fault(), None);
    assert!(deployment.to_string().contains("nowhere, missing\n"), "{deployment}");
    let typed = format!("d={}", files.path("nowhere").display());
    let error = files.load(&[&typed]).unwrap_err();
    assert_eq!(
        error,
        "--dataset: cannot use nowhere as a dataset: No such file or directory (os error 2)"
    );
    let again = DeploymentOptions { may_be_missing: true, ..files.options(&[&typed]) };
    assert!(load_as(&again).is_ok(), "it was there when it was typed");
}

#[test]
fn both_files_and_the_command_line_are_judged_together() {
    let files = Files::new(
        b"80\n2221\n2222\n",
        Some(
            b"[vm.worker3]\n[datasets.b]\ndir='data'\n[datasets.c]\ndir='data'\n\
              [vm.worker1]\ndatasets=['a']\n[vm.worker2]\ndatasets=['b']\n",
        ),
    );
    let want = "ports.conf:1: port 80 is privileged; use 1024 to 65535\n\
                cluster.toml:1: no VM is called \"worker3\"; there are controller, worker1, worker2\n\
                cluster.toml:4: no worker has dataset c; add it to the datasets of a [vm.NAME]\n\
                cluster.toml:7: there is no dataset a; there are b, c, d\n\
                --dataset: \"x\" is no NAME=DIR\n\
                --dataset: no worker has dataset d; add it to the datasets of a [vm.NAME]\n\
                --dataset: cannot use ports.conf as a dataset: Not a directory (os error 20)";
    let dir = format!("d={}", files.path("ports.conf").display());
    assert_eq!(files.load(&["x", &dir]).unwrap_err(), want);
}

#[test]
fn what_is_no_toml_is_told_by_its_line() {
    for (text, line) in [
        (&b"[defaults]\nmemory = 192M\n"[..], 2),
        (b"[defaults]\n\n[defaults\n", 3),
        (b"[vm.worker1]\n[vm.worker1]\n", 2),
        (b"[defaults]\ncpus = 1\ncpus = 2\n", 3),
        (b"# \n# caf\xe9\n", 2),
        (b"\na = 'x\n", 2),
    ] {
        let errors = Files::new(PORTS.as_bytes(), Some(text)).load(&[]).unwrap_err();
        let first = errors.lines().next().unwrap();
        assert!(first.starts_with(&format!("cluster.toml:{line}: ")), "{errors}");
        assert!(errors.lines().all(|line| line.starts_with("cluster.toml:")), "{errors}");
    }
}

#[test]
fn workers_have_the_datasets_that_they_name_or_all() {
    let files = Files::new(
        PORTS.as_bytes(),
        Some(
            b"[datasets.here]\ndir = 'data'\nsnapshot = true\nio_threads = 2\n\
              [datasets.usr]\ndir = 'nowhere'\n[vm.worker2]\ndatasets = ['usr']\n",
        ),
    );
    let deployment = files.load(&["usr=/usr/."]).unwrap();
    let datasets = |vm: usize| deployment.vms[vm].datasets.join(" ");
    assert_eq!([datasets(0), datasets(1), datasets(2)], ["", "here usr", "usr"]);
    let data = files.path("data").canonicalize().unwrap();
    let want = [
        Dataset {
            name: "here".into(),
            dir: data,
            snapshot: true,
            io_threads: Some(2),
            is_missing: false,
        },
        Dataset {
            name: "usr".into(),
            dir: "/usr".into(),
            snapshot: false,
            io_threads: None,
            is_missing: false,
        },
    ];
    assert_eq!(deployment.datasets, want);
}

#[test]
fn a_dataset_that_nothing_gives_is_named_with_what_to_do() {
    let want = "2: there is no dataset a; give one in cluster.toml or with --dataset NAME=DIR";
    check("[vm.worker1]\ndatasets = ['a']\n", &[want]);
}

#[test]
fn a_port_is_used_once_whichever_file_gives_it() {
    let metrics = |ports: &[(&str, &str)]| {
        let text = ports.iter().map(|(name, port)| format!("[vm.{name}]\nmetrics_port = {port}\n"));
        text.collect::<String>()
    };
    let or_set = "use another, or set metrics_port in cluster.toml";
    for (ports, config, want) in [
        (
            "2220\n2221\n2220\n",
            metrics(&[("worker2", "9000")]),
            "ports.conf:3: port 2220, the SSH port of worker2, is already the SSH port of \
             controller; use another"
                .to_owned(),
        ),
        (
            "3220\n2220\n",
            String::new(),
            format!(
                "ports.conf:2: port 3220, the metrics port (its SSH port + 1000) of worker1, is \
                 already the SSH port of controller; {or_set}"
            ),
        ),
        (
            "2220\n2221\n",
            metrics(&[("controller", "9000"), ("worker1", "9000")]),
            "cluster.toml:4: port 9000, the metrics port of worker1, is already the metrics port of \
             controller; use another"
                .to_owned(),
        ),
        (
            "2220\n64536\n",
            String::new(),
            "ports.conf:2: no port for metrics, as SSH port + 1000 is too large; write in \
             cluster.toml: [vm.worker1] metrics_port = PORT"
                .to_owned(),
        ),
    ] {
        assert_eq!(load(ports, &config).unwrap_err(), want);
    }
    let deployment =
        good("2220\n3220\n65535\n", &metrics(&[("controller", "9000"), ("worker2", "1024")]));
    let seen: Vec<u16> = deployment.vms.iter().map(|vm| vm.metrics_port).collect();
    assert_eq!(seen, [9000, 4220, 1024]);
}

#[test]
fn a_file_that_is_missing_too_long_or_no_file_is_refused() {
    let files = Files::new(PORTS.as_bytes(), None);
    let mut options = files.options(&[]);
    let mut refused = |ports: &str, config: Option<&str>| {
        options.ports = Some(files.path(ports));
        options.config = config.map(|config| files.path(config));
        files.plain(&load_as(&options).unwrap_err())
    };
    assert_eq!(
        refused("none\n.conf", Some("none.toml")),
        "none\\n.conf: there is no such file\nnone.toml: there is no such file"
    );
    assert_eq!(refused("data", None), "data: cannot be read: Is a directory (os error 21)");
    let len = |len: usize| {
        let mut text = format!("{PORTS}#").into_bytes();
        text.resize(len, b'x');
        fs::write(files.path("long"), text).unwrap();
    };
    len((64 << 10) + 1);
    assert_eq!(refused("long", None), "long: is longer than 64 KiB");
    assert_eq!(refused("ports.conf", Some("long")), "long: is longer than 64 KiB");
    len(64 << 10);
    options.ports = Some(files.path("long"));
    options.config = None;
    assert!(load_as(&options).is_ok());
}

#[test]
fn a_port_in_use_is_told_with_its_line_and_its_holder() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let config = format!("[vm.worker1]\nmetrics_port = {port}\n");
    let files = Files::new(b"# x\n2220\n2221\n", Some(config.as_bytes()));
    let mut vms = files.load(&[]).unwrap().vms;
    let check = |vms: &[Vm]| check_ports_free(&files.path("ports.conf"), vms, &[]);
    // The other ports may be anybody's while the test runs.
    vms.retain(|vm| vm.metrics_port == port);
    vms[0].ssh_port = port;
    let errors = check(&vms).unwrap_err().to_string();
    let first = errors.lines().next().unwrap();
    let pid = std::process::id();
    assert!(first.contains(&format!("ports.conf:3: port {port} is in use by ")), "{errors}");
    assert!(first.ends_with(&format!("(pid {pid}); stop it, or use another port")), "{errors}");
    drop(listener);
    assert!(check(&vms).is_ok());
}

#[test]
fn a_connection_that_has_ended_keeps_no_port() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut client = std::net::TcpStream::connect(address).unwrap();
    // Whoever closes first is in TIME_WAIT: the side with our port.
    drop(listener.accept().unwrap());
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    drop((client, listener));
    let files = Files::new(PORTS.as_bytes(), None);
    let mut vms = files.load(&[]).unwrap().vms;
    vms.truncate(1);
    (vms[0].ssh_port, vms[0].metrics_port) = (address.port(), address.port());
    let checked = check_ports_free(&files.path("ports.conf"), &vms, &[]);
    assert!(checked.is_ok(), "{checked:?}");
}

#[test]
fn a_deployment_is_shown_as_a_table() {
    let deployment = good(
        "2220\n2221\n",
        "[vm.worker1]\nmemory = '1G'\ncpuset = '0-1'\nsched = 'fifo:9'\nmemlock = '8M'\nthreads = 2\n\
         health.command = 'a b'\n[datasets.u]\ndir = '/usr'\n[start]\nstrategy = 'sequential'\n",
    );
    let want = "\
NAME        ROLE        SSH   METRICS  MEMORY  CPUS  CPUSET  MEMLOCK  DATASETS  HEALTH
controller  controller  2220  3220     192M    1     -       -        -         protocol every 5 s, limit 2 s, 3 retries
worker1     worker      2221  3221     1G      1     0-1     8M       u         `a b` every 5 s, limit 2 s, 3 retries
flags of worker1: --threads 2 --sched fifo:9
dataset u: live /usr
start: the controller, then workers one after the other; healthy within 120 s
";
    assert_eq!(deployment.to_string(), want);
}

#[test]
fn deep_nesting_is_refused_and_does_no_harm() {
    for text in ["[", "{a=", "a.", "[["] {
        let config = format!("x = {}", text.repeat(16_000));
        assert!(load(PORTS, &config).is_err(), "{text}");
        assert!(load(PORTS, &text.repeat(16_000)).is_err(), "{text}");
    }
}
