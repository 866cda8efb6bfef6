//! Durable jobs of real processes that are killed.

use std::fmt::Write;
use std::fs;
use std::process::{Command, Output};
use test_kit::{Cluster, DEADLINE, FakeWorker, Options, Random, Running};

const JOBS: usize = 20;
const FILES: usize = 250;

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    output
}

/// `HASHCLUSTER_KILLS` sets how often a process is killed (12).
#[test]
fn manifests_are_those_of_sha256sum_however_often_controller_and_workers_are_killed() {
    let kills = std::env::var("HASHCLUSTER_KILLS").map_or(12, |text| text.parse().unwrap());
    let mut random = Random::from_entropy();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    let mut lists = Vec::new();
    for job in 0..JOBS {
        let mut names = String::new();
        for number in 0..FILES {
            let path = data.join(format!("{job}-{number}"));
            let len = random.index(20_000);
            fs::write(&path, random.bytes(len)).unwrap();
            writeln!(names, "{}", path.display()).unwrap();
        }
        let list = dir.path().join(format!("list{job}"));
        fs::write(&list, names).unwrap();
        lists.push(list);
    }
    let mut cluster = Cluster::start(Options {
        workers: 2,
        datasets: vec![("d", data)],
        controller_args: vec![format!("--state-dir={}", dir.path().join("state").display())],
        ..Options::default()
    });
    cluster.link_datasets();
    cluster.wait_ready(2);
    let mut submitted = 0;
    for kill in 1..=kills {
        while submitted < JOBS * kill / kills {
            let mut submit = cluster.hashctl();
            submit.args(["submit", "--id", &format!("job{submitted}"), "--files-from"]);
            run(submit.arg(&lists[submitted]));
            submitted += 1;
        }
        if random.chance(30) {
            cluster.replace_worker(random.index(2));
        } else {
            cluster.controller.kill().unwrap();
            cluster.controller.wait().unwrap();
            cluster.restart_controller();
        }
    }
    assert_eq!(submitted, JOBS);
    cluster.wait_ready(1);
    let keys: Vec<String> = (0..JOBS).map(|job| format!("job{job}")).collect();
    run(cluster.hashctl().args(["wait", "--timeout", "120"]).args(&keys));
    for (key, list) in keys.iter().zip(&lists) {
        let manifest = run(cluster.hashctl().args(["result", key])).stdout;
        let want = run(Command::new("xargs").args(["-a"]).arg(list).arg("sha256sum")).stdout;
        assert!(manifest == want, "the manifest of {key} is that of sha256sum");
    }
}

#[test]
fn a_durable_check_says_of_each_file_of_a_list_what_sha256sum_says() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    for name in ["a", "b", "c"] {
        fs::write(data.join(name), name).unwrap();
    }
    let mut cluster = Cluster::start(Options {
        workers: 1,
        datasets: vec![("d", data.clone())],
        controller_args: vec![format!("--state-dir={}", dir.path().join("state").display())],
        ..Options::default()
    });
    cluster.link_datasets();
    cluster.wait_ready(1);
    let list = run(Command::new("sha256sum").args(["a", "b", "c"]).current_dir(&data)).stdout;
    fs::write(data.join("SUMS"), &list).unwrap();
    let submit = |cluster: &Cluster, key: &str, args: &[&str]| {
        let mut submit = cluster.hashctl();
        submit.args(["submit", "--check", "--wait", "--id", key]).args(args);
        submit.current_dir(&data).output().unwrap()
    };
    let result = |cluster: &Cluster, key: &str| {
        let result = cluster.hashctl().args(["result", key]).output().unwrap();
        (result.status.code(), String::from_utf8(result.stdout).unwrap())
    };
    let good = submit(&cluster, "good", &["SUMS"]);
    assert_eq!(good.status.code(), Some(0), "{good:?}");
    assert_eq!(result(&cluster, "good"), (Some(0), "a: OK\nb: OK\nc: OK\n".to_owned()));

    fs::write(data.join("b"), "x").unwrap();
    let changed = submit(&cluster, "changed", &["SUMS"]);
    let said = String::from_utf8_lossy(&changed.stderr);
    assert!(changed.status.code() == Some(1) && said.contains("1 do not match"), "{changed:?}");
    let theirs = Command::new("sha256sum").args(["-c", "SUMS"]).current_dir(&data).output();
    let theirs = String::from_utf8(theirs.unwrap().stdout).unwrap();
    cluster.controller.kill().unwrap();
    cluster.controller.wait().unwrap();
    cluster.restart_controller();
    assert_eq!(result(&cluster, "changed"), (Some(1), theirs));
    let wait = cluster.hashctl().args(["wait", "changed"]).output().unwrap();
    assert_eq!(wait.status.code(), Some(1), "{wait:?}");

    // A file that is gone, a line of another algorithm and one of none are not in the job, and that is said.
    fs::remove_file(data.join("c")).unwrap();
    let md5 = run(Command::new("md5sum").arg("a").current_dir(&data)).stdout;
    fs::write(data.join("MIXED"), [&list[..], &md5[..], b"nonsense\n"].concat()).unwrap();
    let mixed = submit(&cluster, "mixed", &["MIXED"]);
    let said = String::from_utf8_lossy(&mixed.stderr);
    assert_eq!(mixed.status.code(), Some(1), "{mixed:?}");
    for want in [
        "c: No such file or directory",
        "MIXED: not in the job: 1 improperly formatted lines",
        "MIXED: not in the job: 1 digests of another algorithm than sha256",
    ] {
        assert!(said.contains(want), "{want}: {said}");
    }
    assert_eq!(result(&cluster, "mixed"), (Some(1), "a: OK\nb: FAILED\n".to_owned()));
    for (args, want) in [(&["-"][..], Some(2)), (&["a"], Some(1))] {
        let refused = submit(&cluster, "none", args);
        assert_eq!(refused.status.code(), want, "{refused:?}");
    }
}

#[test]
fn an_item_that_kills_three_workers_has_their_names_and_causes_for_clients_and_in_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    let deadly = data.join("deadly");
    fs::write(&deadly, "x").unwrap();
    let mut cluster = Cluster::start(Options {
        workers: 0,
        datasets: vec![("d", data)],
        controller_args: vec![format!("--state-dir={}", dir.path().join("state").display())],
        ..Options::default()
    });
    cluster.link_datasets();
    let kill_three = |cluster: &Cluster| {
        for name in ["k1", "k2", "k3"] {
            let mut worker = FakeWorker::join(cluster, name);
            worker.give_credit(1);
            worker.next_lease();
        }
    };
    let losses = "k1 (connection lost), k2 (connection lost), k3 (connection lost)";
    let sum =
        Running::start(cluster.hashctl().args(["--plane", "inline", "sum"]).arg(&deadly), DEADLINE);
    kill_three(&cluster);
    let ended = sum.end();
    let said = format!("deadly: lost 3 workers while they read it: {losses}\n");
    assert!(ended.status.code() == Some(1) && ended.stderr.ends_with(&said), "{}", ended.stderr);

    run(cluster.hashctl().args(["submit", "--inline", "--id", "j"]).arg(&deadly));
    kill_three(&cluster);
    let wait = cluster.hashctl().args(["wait", "--timeout", "60", "j"]).output().unwrap();
    assert_eq!(wait.status.code(), Some(1), "{wait:?}");
    cluster.controller.kill().unwrap();
    cluster.controller.wait().unwrap();
    cluster.restart_controller();
    let show = run(cluster.hashctl().args(["show", "j"])).stdout;
    let show = String::from_utf8(show).unwrap();
    assert!(show.ends_with(&format!("deadly: lost {losses}\n")), "{show}");
    let json = run(cluster.hashctl().args(["show", "--json", "j"])).stdout;
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let loss = &json["dead"][0]["losses"][2];
    assert_eq!((&loss["worker"], &loss["cause"]), (&"k3".into(), &"disconnected".into()));

    let worker = cluster.spawn_worker(0);
    cluster.workers.push(worker);
    run(cluster.hashctl().args(["retry", "j"]));
    run(cluster.hashctl().args(["wait", "--timeout", "60", "j"]));
    let show = String::from_utf8(run(cluster.hashctl().args(["show", "j"])).stdout).unwrap();
    assert!(!show.contains("dead "), "{show}");
}

#[test]
fn a_dataset_is_walked_by_workers_while_controllers_and_workers_are_killed() {
    let mut random = Random::from_entropy();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    for number in 0..3000 {
        let parent = data.join(format!("{}/{}", number % 7, number % 50));
        fs::create_dir_all(&parent).unwrap();
        fs::write(parent.join(format!("{number}")), format!("{number}")).unwrap();
    }
    // Links are left out, and so is what only looks like a directory.
    std::os::unix::fs::symlink("/etc", data.join("link")).unwrap();
    fs::create_dir(data.join("empty")).unwrap();
    let mut cluster = Cluster::start(Options {
        workers: 2,
        datasets: vec![("d", data.clone())],
        controller_args: vec![format!("--state-dir={}", dir.path().join("state").display())],
        ..Options::default()
    });
    cluster.link_datasets();
    cluster.wait_ready(2);
    run(cluster.hashctl().args(["submit", "--id", "all"]).arg(&data));
    for _ in 0..6 {
        if random.chance(30) {
            cluster.replace_worker(random.index(2));
        } else {
            cluster.controller.kill().unwrap();
            cluster.controller.wait().unwrap();
            cluster.restart_controller();
        }
    }
    run(cluster.hashctl().args(["wait", "--timeout", "120", "all"]));
    let manifest = run(cluster.hashctl().args(["result", "all"])).stdout;
    let want = run(cluster.hashctl().args(["--embedded", "sum", "-r"]).arg(&data)).stdout;
    assert_eq!(manifest.iter().filter(|&&byte| byte == b'\n').count(), 3000);
    assert!(manifest == want, "the manifest is that of hashctl sum -r");

    let elsewhere = dir.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    (0..9).for_each(|n| fs::write(elsewhere.join(format!("{n}")), "x").unwrap());
    let refused = cluster.hashctl().arg("submit").arg(&elsewhere).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(1) && said.contains("in no dataset"), "{refused:?}");
    assert_eq!(said.lines().count(), 1, "one line for a directory: {said}");

    let missing = data.join("later");
    fs::create_dir(&missing).unwrap();
    cluster.workers.iter_mut().for_each(|worker| worker.kill().unwrap());
    run(cluster.hashctl().args(["submit", "--id", "vanished"]).arg(&missing));
    fs::remove_dir(&missing).unwrap();
    cluster.replace_worker(0);
    cluster.replace_worker(1);
    let wait = cluster.hashctl().args(["wait", "--timeout", "60", "vanished"]).output().unwrap();
    assert_eq!(wait.status.code(), Some(1), "{wait:?}");
    let said = String::from_utf8_lossy(&wait.stderr);
    assert!(said.contains("dataset d cannot be listed: No such file or directory"), "{said}");
}
