//! Durable jobs of real processes that are killed.

use std::fmt::Write;
use std::fs;
use std::process::{Command, Output};
use test_kit::{Cluster, DEADLINE, FakeWorker, Options, Random, Running, output, text, until};

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
    let lines = |args: &[&str]| -> Vec<serde_json::Value> {
        let out = cluster.hashctl().args(args).output().unwrap().stdout;
        let lines = out.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
    };
    let [result] = &lines(&["result", "--json", "j"])[..] else { panic!("one item") };
    assert_eq!(result["losses"], json["dead"][0]["losses"]);
    assert_eq!(result["error"], format!("lost 3 workers while they read it: {losses}"));
    for args in [&["dead"][..], &["dead", "j"], &["dead", "k2"]] {
        let [dead] = &lines(&[&["get", "--json"], args].concat())[..] else { panic!("{args:?}") };
        assert_eq!((&dead["key"], &dead["index"]), (&"j".into(), &0.into()));
        assert_eq!(dead["losses"], json["dead"][0]["losses"]);
    }
    let none = cluster.hashctl().args(["get", "dead", "k9"]).output().unwrap();
    assert!(none.stderr.ends_with(b"there is no dead item k9\n"), "{none:?}");

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

/// The worker lists the manifest, and the controller dies while it does and while its files are read.
#[test]
fn a_check_of_a_list_in_a_dataset_prints_what_sha256sum_prints_however_often_the_controller_is_killed()
 {
    const LISTED: usize = 3_000;
    let mut random = Random::from_entropy();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    fs::create_dir_all(data.join("in/sub")).unwrap();
    // Neither sorted nor without bytes that a line has to escape.
    let name = |i: usize| match i % 500 {
        0 => format!("sub/new\nline {i}"),
        1 => format!("back\\slash {i}"),
        2 => format!("-dash {i}"),
        _ => format!("sub/{}", (i * 7919) % LISTED),
    };
    for i in 0..LISTED {
        let len = random.index(2_000);
        fs::write(data.join("in").join(name(i)), random.bytes(len)).unwrap();
    }
    let mut sum = Command::new("sha256sum");
    let list = run(sum.arg("--").args((0..LISTED).map(name)).current_dir(data.join("in"))).stdout;
    fs::write(data.join("in/SUMS"), &list).unwrap();
    for i in (0..LISTED).step_by(97) {
        fs::write(data.join("in").join(name(i)), "something else").unwrap();
    }
    for i in (5..LISTED).step_by(101) {
        fs::remove_file(data.join("in").join(name(i))).unwrap();
    }
    let mut cluster = Cluster::start(Options {
        workers: 2,
        datasets: vec![("d", data.clone())],
        controller_args: vec![format!("--state-dir={}", dir.path().join("state").display())],
        ..Options::default()
    });
    cluster.wait_ready(2);
    let mut submit = cluster.hashctl();
    submit.args([
        "submit",
        "--check",
        "--dataset",
        "d",
        "in/SUMS",
        "--id",
        "all",
        "--rate",
        "600K",
    ]);
    run(&mut submit);
    let shown = |cluster: &Cluster| -> serde_json::Value {
        let shown = run(cluster.hashctl().args(["show", "all", "--json"])).stdout;
        serde_json::from_slice(&shown).unwrap()
    };
    for part in 0..4 {
        until("some more results", || {
            (shown(&cluster)["done"].as_u64().unwrap() >= LISTED as u64 * part / 4).then_some(())
        });
        cluster.controller.kill().unwrap();
        cluster.controller.wait().unwrap();
        cluster.restart_controller();
    }
    let wait = cluster.hashctl().args(["wait", "all", "--timeout", "120"]).output().unwrap();
    assert_eq!(wait.status.code(), Some(1), "{wait:?}");
    let theirs =
        Command::new("sha256sum").args(["-c", "SUMS"]).current_dir(data.join("in")).output();
    let ours = cluster.hashctl().args(["result", "all"]).output().unwrap();
    assert_eq!(ours.status.code(), Some(1));
    let (ours, theirs) = (text(&ours.stdout), text(&theirs.unwrap().stdout));
    assert!(ours == theirs, "{ours}\ninstead of\n{theirs}");
    let shown = shown(&cluster);
    assert_eq!((&shown["kind"], &shown["items"]), (&"check".into(), &LISTED.into()), "{shown}");
    assert_eq!(shown["manifest"]["path"], "in/SUMS", "{shown}");
}

#[test]
fn lines_of_a_list_in_a_dataset_have_algorithms_of_their_own_and_none_leaves_the_dataset() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    for name in ["a", "b", "c"] {
        fs::write(data.join(name), name).unwrap();
    }
    fs::write(dir.path().join("outside"), "outside").unwrap();
    std::os::unix::fs::symlink("../outside", data.join("link")).unwrap();
    let cluster = Cluster::start(Options {
        datasets: vec![("d", data.clone())],
        controller_args: vec![format!("--state-dir={}", dir.path().join("state").display())],
        ..Options::default()
    });
    cluster.wait_ready(1);
    let line = |tool: &str, args: &[&str]| {
        text(&run(Command::new(tool).args(args).current_dir(&data)).stdout)
    };
    let outside = line("sha256sum", &["../outside", "link"]);
    let absolute = line("sha256sum", &[data.join("a").to_str().unwrap()]);
    let lines: Vec<String> = vec![
        line("sha256sum", &["a"]),
        line("md5sum", &["--tag", "b"]),
        line("b2sum", &["--tag", "c"]),
        line("sha1sum", &["./a"]),
        line("sha512sum", &["--tag", "a", "b"]),
        line("sha224sum", &["c"]),
        outside,
        absolute.clone(),
        "MD5 (a) = 00000000000000000000000000000000\nnonsense\nCRC32 (a) = 00000000\n".to_owned(),
    ];
    let list = lines.concat();
    fs::write(data.join("MIXED"), &list).unwrap();
    let submit = |cluster: &Cluster, list: &str, more: &[&str]| {
        let mut submit = cluster.hashctl();
        submit.args(["submit", "--check", "--wait", "--id", list, "--dataset", "d", list]);
        submit.args(more).output().unwrap()
    };
    let submitted = submit(&cluster, "MIXED", &[]);
    assert_eq!(submitted.status.code(), Some(1), "{submitted:?}");
    let result = cluster.hashctl().args(["result", "MIXED"]).output().unwrap();
    let absolute = data.join("a").display().to_string();
    let want = format!(
        "a: OK\nb: OK\nc: OK\n./a: OK\na: OK\nb: OK\nc: OK\n../outside: FAILED open or read\n\
         link: FAILED open or read\n{absolute}: FAILED open or read\na: FAILED\n"
    );
    assert_eq!((text(&result.stdout), result.status.code()), (want, Some(1)));
    let said = text(&result.stderr);
    for want in [
        "../outside: refused: its path leads out of the directory that the list is about",
        "link: Too many levels of symbolic links",
        "MIXED: 2 lines are improperly formatted, or of an unsupported algorithm",
    ] {
        assert!(said.contains(want), "{want}: {said}");
    }
    let json = text(&output(cluster.hashctl().args(["result", "--json", "MIXED"])).stdout);
    let lines: Vec<serde_json::Value> =
        json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let status: Vec<&str> = lines.iter().map(|line| line["status"].as_str().unwrap()).collect();
    assert_eq!(
        status[6..],
        ["ok", "unreadable", "unreadable", "unreadable", "mismatch", "unreadable"]
    );
    // Names may be relative to another directory than the list's.
    fs::create_dir(data.join("lists")).unwrap();
    fs::write(data.join("lists/SUMS"), line("sha256sum", &["a", "b"])).unwrap();
    assert_eq!(submit(&cluster, "lists/SUMS", &["-C", "."]).status.code(), Some(0));
    for (list, content, want) in [
        ("none", None, "No such file or directory"),
        ("binary", Some(&[0_u8; 4096][..]), "not a list of digests"),
        ("empty", Some(b"# nothing\n"), "no properly formatted checksum lines found"),
        ("rubbish", Some(b"rubbish\n"), "no properly formatted checksum lines found"),
    ] {
        content.into_iter().for_each(|content| fs::write(data.join(list), content).unwrap());
        let refused = submit(&cluster, list, &[]);
        let said = text(&refused.stderr);
        assert!(refused.status.code() == Some(1) && said.contains(want), "{list}: {refused:?}");
    }
    for (list, want) in [("../outside", 2), ("/etc/passwd", 2)] {
        assert_eq!(submit(&cluster, list, &[]).status.code(), Some(want), "{list}");
    }
}
