//! A cluster that is changed while it runs, and a client that hashes all the while.

use crate::site::{Site, kill, until};
use std::fs;
use std::path::Path;
use test_kit::write_file;

/// Larger than what goes as bytes.
const LEN: u64 = 40_000;

fn write_tree(dir: &Path, seed: u64) {
    fs::create_dir_all(dir).unwrap();
    for i in 0..100 {
        write_file(&dir.join(format!("f{i}")), LEN, seed + i);
    }
}

fn ports(site: &Site, vms: usize) {
    let lines = site.ports.chunks(2).take(vms).map(|pair| format!("{}\n", pair[0]));
    site.write("ports.conf", &lines.collect::<String>());
}

fn supervisor(site: &Site) -> i32 {
    let text = fs::read_to_string(site.run("supervisor.pid")).unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn a_running_cluster_takes_and_loses_workers_and_datasets_while_a_client_hashes() {
    let site = Site::new(3);
    ports(&site, 2);
    write_tree(&site.path("data"), 1);
    write_tree(&site.path("more"), 1_000);
    site.succeed(site.run_sh(&["--dataset", "one=data"]));
    let pids = || ["controller", "worker1", "worker2"].map(|name| site.qemu_pid(name));
    let before = pids();

    // A mistake changes nothing, and nothing is ignored.
    for (args, want) in [
        (&["--dataset", "one=data", "--dataset", "two=nowhere"][..], "nowhere"),
        (&["--state-dir", "elsewhere"], "--state-dir"),
        (&["--config", "none.toml"], "none.toml"),
    ] {
        let refused = site.finish(site.run_sh(args));
        assert!(!refused.status.success(), "{args:?}: {}", refused.stdout);
        assert!(refused.stderr.contains(want), "{args:?}: {}", refused.stderr);
    }
    assert_eq!(pids(), before);

    let client = site.hash_again_and_again("data", "done");
    let client = site.start(client);

    ports(&site, 3);
    let wanted = ["--dataset", "one=data", "--dataset", "two=more"];
    let shown = site.succeed(site.run_sh(&[&wanted[..], &["--dry-run"]].concat())).stdout;
    for line in
        ["+ dataset two: live /", "+ worker2: SSH ", "~ worker1: dataset two added; restarts"]
    {
        assert!(shown.lines().any(|shown| shown.starts_with(line)), "no {line:?} in {shown}");
    }
    assert_eq!((shown.lines().count(), pids()), (3, before), "{shown}");
    let changed = site.succeed(site.run_sh(&wanted));
    assert!(changed.stdout.starts_with(&shown), "{}", changed.stdout);
    let after = pids();
    assert_eq!(after[0], before[0], "the controller runs on");
    assert!(after[1] != before[1] && after[1].is_some() && after[2].is_some(), "{after:?}");
    for reason in ["expired", "disconnected"] {
        let requeues = site.metric(0, &format!("requeues_total{{reason=\"{reason}\"}}"));
        assert_eq!(requeues, Some(0.0), "leases that are put back: {reason}");
    }
    let sum = site.succeed(site.hashctl(&["sum", "-v", "-r", "more"]));
    assert!(sum.stderr.contains("100 files by name in dataset two"), "{}", sum.stderr);
    let again = site.succeed(site.run_sh(&[]));
    assert!(again.stdout.starts_with("nothing to change\n"), "{}", again.stdout);

    // A directory in the place of another one is seen without a command.
    write_tree(&site.path("fresh"), 2_000);
    fs::rename(site.path("more"), site.path("old")).unwrap();
    fs::rename(site.path("fresh"), site.path("more")).unwrap();
    until("workers that see it", || {
        let now = pids();
        let are_new = now[1] != after[1] && now[2] != after[2];
        let status = site.finish(site.script("vm.sh", &["ps"]));
        (are_new && status.status.success()).then_some(())
    });
    let sum = site.succeed(site.hashctl(&["sum", "-v", "-r", "more"]));
    assert!(sum.stderr.contains("100 files by name in dataset two"), "{}", sum.stderr);

    // The files alone, with the datasets of before: the options are remembered.
    let shared = pids();
    ports(&site, 2);
    kill(supervisor(&site), "HUP");
    until("no worker2", || site.qemu_pid("worker2").is_none().then_some(()));
    until("its end", || {
        let status = site.finish(site.script("vm.sh", &["ps", "--json"]));
        status.stdout.contains("\"command\":null").then_some(())
    });
    assert_eq!(pids(), [shared[0], shared[1], None]);

    fs::write(site.path("done"), "").unwrap();
    let client = client.end();
    assert!(client.status.success(), "{}", client.stderr);
    assert!(client.stdout.trim().parse::<u32>().unwrap() > 1, "{}", client.stdout);
    assert_eq!(client.stderr, "");
    site.succeed(site.script("stop.sh", &[]));
    site.assert_clean();
}
