//! The inside of a VM, and who can reach it.

use crate::site::{Site, until};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};
use test_kit::write_secret;

/// `ssh` with our options only, to a VM.
fn ssh(site: &Site, port: u16, known_hosts: &Path, options: &[&str]) -> test_kit::Ended {
    let mut command = site.command(Path::new("ssh"));
    command.args(["-F", "/dev/null", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"]);
    command.arg("-o").arg(format!("UserKnownHostsFile={}", known_hosts.display()));
    command.args(["-o", "HostKeyAlias=hashcluster-worker1"]).args(options);
    command.args(["-p", &port.to_string(), "root@127.0.0.1", "true"]);
    site.finish(command)
}

#[test]
fn a_vm_is_what_its_settings_say_and_lets_in_nobody_else() {
    let site = Site::up(2);
    only_the_pinned_key_and_no_password_opens_a_vm(&site);
    nothing_but_ssh_and_metrics_is_reachable(&site);
    a_first_boot_has_read_everything(&site);
    the_root_is_in_memory_and_has_room(&site);
    a_restart_keeps_the_address_and_the_key(&site);
}

#[test]
fn what_cluster_toml_says_reaches_its_vm() {
    let site = Site::new(3);
    let ports = [0, 2, 4].map(|i| site.ports[i].to_string()).join("\n");
    site.write("ports.conf", &format!("{ports} host=archive\n"));
    fs::create_dir(site.path("some")).unwrap();
    fs::write(site.path("some/file"), "abc").unwrap();
    fs::create_dir(site.path("other")).unwrap();
    site.write(
        "cluster.toml",
        r#"
        [vm.worker1]
        memory = "256M"
        cpuset = "0"
        threads = 2
        sched = "batch"
        health = { command = "sv status /run/service/hashcluster-worker", interval_s = 1 }
        backend = "portable"
        reading = "plain"
        report_every = "64M"
        drop_behind = true
        [vm.archive]
        memory = "96M"
        datasets = ["some"]
        [vm.controller]
        memory = "96M"
        cross_check = "1/1"
        memlock = "32M"
        [start]
        strategy = "sequential"
        [datasets.some]
        dir = "some"
        [datasets.other]
        dir = "other"
        snapshot = true
        "#,
    );
    let up = site.succeed(site.run_sh(&[]));
    let place =
        |what: &str| up.stderr.find(what).unwrap_or_else(|| panic!("{what}: {}", up.stderr));
    assert!(place("worker1: healthy") < place("archive: booting"));
    assert_eq!(site.worker("worker1", "threads"), Some(2));
    assert_eq!(site.worker("archive", "threads"), Some(1));
    let facts = "pid=$(pidof hashcluster-worker); awk '/^MemTotal/ { print $2 }' /proc/meminfo; \
                 awk '/^Max locked/ { print $4 }' /proc/$pid/limits; \
                 cut -d ' ' -f 41 /proc/$pid/task/*/stat | sort -u; ls /data";
    let facts = |name| site.ssh(name, facts).lines().map(str::to_owned).collect::<Vec<_>>();
    let (ours, theirs) = (facts("worker1"), facts("archive"));
    assert_eq!(ours[1], "0", "a worker in its sandbox locks no memory: {ours:?}");
    let limit = "awk '/^Max locked/ { print $4 }' /proc/$(pidof hashcluster-controller | tr ' ' '\\n' | sort -n | sed q)/limits";
    assert_eq!(site.ssh("controller", limit), format!("{}\n", 32 << 20));
    // The threads that hash have the policy (3 is SCHED_BATCH), the others keep theirs.
    assert!(ours.contains(&"3".to_owned()) && !theirs.contains(&"3".to_owned()), "{ours:?}");
    assert!(ours.ends_with(&["other".to_owned(), "some".to_owned()]), "{ours:?}");
    assert!(theirs.ends_with(&["some".to_owned()]) && !theirs.contains(&"other".to_owned()));
    let memory = [&ours, &theirs].map(|facts| facts[0].parse::<u64>().unwrap() >> 10);
    // The least memory that is permitted is enough for either role.
    assert!(memory[0] > 200 && memory[0] < 256 && memory[1] < 96, "{memory:?}");
    let allowed = |name| {
        let path = format!("/proc/{}/status", site.qemu_pid(name).unwrap());
        let text = fs::read_to_string(path).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        line.unwrap().trim().to_owned()
    };
    assert_eq!(allowed("worker1"), "0");
    // A snapshot that one worker lacks, a live directory that both have.
    let sum = site.finish(site.hashctl(&["sum", "-v", "--plane", "dataset", "some/file"]));
    assert!(sum.stdout.starts_with("ba7816bf"), "{}", sum.stderr);
    assert!(sum.stderr.contains("by name in dataset some"), "{}", sum.stderr);
    // Settings of the programs are on their command lines, and were taken.
    let line = |name, program| {
        let line = format!(
            "tr '\\0' ' ' </proc/$(pidof {program} | tr ' ' '\\n' | sort -n | sed q)/cmdline"
        );
        site.ssh(name, &line)
    };
    let ours = line("worker1", "hashcluster-worker");
    let want = "--backend portable --reading plain --report-every 67108864 --drop-behind";
    assert!(ours.contains(want), "{ours}");
    assert!(!line("archive", "hashcluster-worker").contains("--reading"));
    assert!(line("controller", "hashcluster-controller").contains("--cross-check 1/1"));
    let status = site.finish(site.hashctl(&["status", "--json"]));
    let status: Value = serde_json::from_str(&status.stdout).unwrap();
    let worker = status["workers"].as_array().unwrap().iter().find(|w| w["name"] == "worker1");
    let worker = worker.unwrap();
    assert_eq!(
        (&worker["reading"], &worker["backends"]["sha256"]),
        (&"plain".into(), &"portable".into())
    );
    assert_eq!(status["counters"]["items_checked"], 1);
    let mounts = site.ssh("worker1", "grep ' /data/' /proc/mounts");
    for kind in ["virtiofs ro,nosuid,nodev,noexec", "erofs ro,nosuid,nodev,noexec"] {
        assert!(mounts.contains(kind), "{mounts}");
    }
}

fn only_the_pinned_key_and_no_password_opens_a_vm(site: &Site) {
    let (port, known) = (site.ports[2], site.run("known_hosts"));
    let key = format!("IdentityFile={}", site.run("state/ssh/id_ed25519").display());
    let with_key = ["-o", &key, "-o", "IdentitiesOnly=yes"];
    assert!(ssh(site, port, &known, &with_key).status.success());
    let no_key = ["-o", "PubkeyAuthentication=no"];
    let password = ["-o", "PubkeyAuthentication=no", "-o", "PreferredAuthentications=password"];
    for options in [&no_key[..], &password] {
        let ended = ssh(site, port, &known, options);
        assert!(ended.stderr.contains("Permission denied (publickey)"), "{}", ended.stderr);
    }
    // The controller's key is not the worker's.
    let ended = ssh(site, site.ports[0], &known, &with_key);
    assert!(ended.stderr.contains("Host key verification failed"), "{}", ended.stderr);
    for line in site.ssh("worker1", "cat /etc/shadow").lines() {
        assert_eq!(line.split(':').nth(1), Some("*"), "{line}");
    }
}

/// Ports of TCP and UDP on which processes of the cluster listen, with their addresses in hex.
fn listening(site: &Site) -> BTreeSet<(String, u16)> {
    let mut inodes = BTreeSet::new();
    for (pid, _) in site.processes("") {
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
            if let Ok(target) = fs::read_link(entry.path()) {
                inodes.insert(target.to_string_lossy().into_owned());
            }
        }
    }
    let mut found = BTreeSet::new();
    for table in ["tcp", "tcp6", "udp", "udp6"] {
        let text = fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default();
        for words in text.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>()) {
            let listens = words[3] == "0A" || table.starts_with("udp");
            if listens && inodes.contains(&format!("socket:[{}]", words[9])) {
                let (address, port) = words[1].split_once(':').unwrap();
                found.insert((address.to_owned(), u16::from_str_radix(port, 16).unwrap()));
            }
        }
    }
    found
}

fn nothing_but_ssh_and_metrics_is_reachable(site: &Site) {
    let loopback = "0100007F".to_owned();
    let want = site.ports.iter().map(|&port| (loopback.clone(), port)).collect();
    assert_eq!(listening(site), want);
    for name in ["controller", "worker1"] {
        let tables = site.ssh(name, "netstat -ltun | sed 1,2d");
        let sockets: BTreeSet<&str> =
            tables.lines().filter_map(|line| line.split_whitespace().nth(3)).collect();
        assert_eq!(sockets, BTreeSet::from(["10.0.2.15:22", "10.0.2.15:9464"]), "{name}");
    }
    metrics_of_guests_are_served(site);
    // Nor does a VM reach its host, where others listen.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = site.ssh("worker1", &format!("nc -w 2 10.0.2.2 {port} </dev/null; echo $?"));
    assert_eq!(answer, "1\n", "the host's port answered");
    // And the controller has nothing to say to who has no token.
    let endpoint = format!("vsock-unix:{}:5001", site.run("controller.vsock").display());
    let mut command = site.hashctl(&["status", "--connect", &endpoint]);
    command.env("HASHCLUSTER_RUNTIME_DIR", site.path("tmp"));
    let ended = site.finish(command);
    assert_eq!(ended.status.code(), Some(3), "{}", ended.stdout);
    assert!((ended.stdout + &ended.stderr).contains("token"), "{}", ended.stderr);
    a_worker_needs_the_token_of_its_name(site);
}

/// Each VM answers at its metrics port of the host, and the supervisor knows it.
fn metrics_of_guests_are_served(site: &Site) {
    let metric = [
        ("controller", "hashcluster_controller_workers"),
        ("worker1", "hashcluster_worker_connected 1"),
    ];
    for ((name, metric), ports) in metric.into_iter().zip(site.ports.chunks(2)) {
        let mut stream = TcpStream::connect(("127.0.0.1", ports[1])).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        assert!(page.starts_with("HTTP/1.1 200 OK"), "{name}: {page}");
        assert!(page.contains(metric), "{name}: {page}");
    }
}

fn a_worker_needs_the_token_of_its_name(site: &Site) {
    let endpoint = format!("vsock-unix:{}:5000", site.run("controller.vsock").display());
    write_secret(&site.path("other.token"), "0".repeat(48));
    let tokens = fs::read_to_string(site.run("worker.tokens")).unwrap();
    let own = tokens.lines().find_map(|line| line.strip_prefix("worker1 ")).unwrap();
    write_secret(&site.path("own.token"), own);
    for (name, token) in
        [("worker1", None), ("worker1", Some("other.token")), ("intruder", Some("own.token"))]
    {
        let mut worker = site.command(&test_kit::bin("hashcluster-worker"));
        worker.args(["--name", name, "--connect", &endpoint]);
        worker.args(token.into_iter().flat_map(|token| ["--token-file", token]));
        let mut worker = site.start(worker);
        worker.wait_for("token");
        assert_eq!(site.worker("intruder", "threads"), None);
    }
}

fn a_first_boot_has_read_everything(site: &Site) {
    for name in ["controller", "worker1"] {
        let line = "hostname; ip -o -4 addr show eth0; cat /sys/class/net/eth0/operstate; \
                    cat /proc/cmdline; date +%s";
        let answer = site.ssh(name, line);
        let lines: Vec<&str> = answer.lines().collect();
        assert_eq!(lines[0], name);
        assert!(lines[1].contains("inet 10.0.2.15/24"), "{answer}");
        assert_eq!(lines[2], "up");
        // Everybody can read it: the same words for every VM.
        let words = "console=ttyS0 quiet panic=1 no_timer_check cryptomgr.notests \
                     lsm=landlock,yama ipv6.disable=1";
        let without_kvm = "noreplace-smp initcall_blacklist=init_kprobe_trace,crypto_kdf108_init";
        let all = [words.to_owned(), format!("{words} {without_kvm}")];
        assert!(all.iter().any(|line| line == lines[3]), "{answer}");
        let clock: u64 = lines[4].parse().unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        assert!(now.abs_diff(clock) <= 3, "{name} is at {clock}, we are at {now}");
        // Names that the VM needs are known without a name server.
        site.ssh(name, &format!("ping -c 1 -w 5 {name} && ping -c 1 -w 5 localhost"));
        let services = site.ssh(name, "sv status /run/service/*");
        // The controller has one more, which looks after its disk.
        let services_len = if name == "controller" { 6 } else { 5 };
        assert_eq!(services.lines().count(), services_len, "{services}");
        assert!(services.lines().all(|line| line.starts_with("run: ")), "{services}");
        // Nothing has yet said why it waits for random numbers.
        assert_eq!(site.ssh(name, "cat /sys/class/misc/hw_random/rng_current"), "virtio_rng.0\n");
    }
    arguments_reach_a_service_as_they_are(site);
    let digest =
        fs::read_to_string(crate::site::set_up_value("--image").join("image.txt")).unwrap();
    let digest = digest.lines().find_map(|line| line.strip_prefix("digest ")).unwrap();
    let version = site.finish(site.hashctl(&["version"]));
    assert!(version.stdout.contains(digest), "{}", version.stdout);
}

/// Whatever a line of the settings holds, it is one argument, and nobody evaluates it.
fn arguments_reach_a_service_as_they_are(site: &Site) {
    let lines =
        ["a b", "$(touch /tmp/evaluated)", "`id`", "'\"", "*", "  two  spaces ", "\\n;&|#", ""];
    let mut script = "mkdir -p /tmp/c/args; cat >/tmp/c/args/raw <<'END'\n".to_owned();
    script += &lines.map(|line| format!("{line}\n")).concat();
    script += "END\n. /usr/lib/hashcluster/functions; config=/tmp/c\n";
    script += "(start test printf '<%s>\\n') 2>&1; rm -r /tmp/c; ls /tmp/evaluated 2>&1; true";
    let said = site.ssh("worker1", &script);
    let want = lines.map(|line| format!("<{line}>\n")).concat();
    assert!(said.starts_with(&want), "{said}");
    assert!(said.contains("No such file"), "{said}");
}

fn the_root_is_in_memory_and_has_room(site: &Site) {
    for name in ["controller", "worker1"] {
        let root = site.ssh(name, "awk '$2 == \"/\" { print $1, $3, $4 }' /proc/mounts");
        let last = root.lines().last().unwrap();
        assert!(
            last.starts_with("rootfs rootfs ro") || last.starts_with("none rootfs ro"),
            "{root}"
        );
        assert!(!site.ssh(name, "touch /x 2>&1; true").is_empty(), "the root can be written to");
        let free = site.ssh(name, "awk '/^MemAvailable/ { print $2 }' /proc/meminfo");
        let free: u64 = free.trim().parse().unwrap();
        assert!(free > 64 << 10, "{name} has {free} KiB left");
        // What fills a file system in memory does not take the VM with it.
        let full = "dd if=/dev/zero of=/tmp/fill bs=1M 2>&1; rm /tmp/fill; echo alive";
        let full = site.ssh(name, full);
        assert!(full.contains("No space left") && full.ends_with("alive\n"), "{full}");
    }
    let disks = |name| site.ssh(name, "ls /sys/block | grep -c ^vd; true");
    assert_eq!((disks("controller"), disks("worker1")), ("1\n".to_owned(), "0\n".to_owned()));
}

fn a_restart_keeps_the_address_and_the_key(site: &Site) {
    let before = site.qemu_pid("worker1");
    site.succeed(site.script("restart.sh", &["worker1"]));
    assert_ne!(before, site.qemu_pid("worker1"));
    // The same configuration and pinned key as before.
    assert_eq!(site.ssh("worker1", "hostname"), "worker1\n");
    until("a ready worker", || site.worker("worker1", "uptime_ms"));
}
