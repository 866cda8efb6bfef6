//! Workers that die while they hash.

use std::fs;
use std::process::{Command, Stdio};
use tempfile::NamedTempFile;
use test_kit::{
    Cluster, DEADLINE, FakeWorker, Options, Random, Running, output, text, until, write_file,
    write_tree,
};

const KILLS: usize = 100;

fn b3sum(path: &std::path::Path) -> String {
    text(&output(Command::new("b3sum").arg(path)).stdout)
}

#[test]
fn a_large_file_is_split_over_all_workers_and_its_root_is_the_plain_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large");
    write_file(&path, (300 << 20) + 12_345, 7);
    let datasets = vec![("d", dir.path().to_owned())];
    for plane in ["descriptors", "dataset"] {
        let datasets = datasets.clone();
        let cluster = Cluster::start(Options { workers: 3, datasets, ..Options::default() });
        cluster.link_datasets();
        let args = ["--plane", plane, "sum", "-a", "blake3"];
        let sum = output(cluster.hashctl().args(args).arg(&path));
        assert_eq!(
            (text(&sum.stdout), text(&sum.stderr)),
            (b3sum(&path), String::new()),
            "{plane}"
        );
        let workers = cluster.status().workers;
        assert!(workers.iter().all(|worker| worker.bytes > 16 << 20), "{plane}: {workers:?}");
    }
}

#[test]
fn a_worker_killed_in_the_middle_of_a_large_file_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large");
    write_file(&path, (1 << 30) + 1, 7);
    let mut cluster = Cluster::start(Options::default());
    for _ in 0..3 {
        let before = cluster.status().counters;
        let run = cluster
            .hashctl()
            .args(["sum", "-a", "blake3"])
            .arg(&path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        until("work", || (cluster.status().counters.leases > before.leases + 2).then_some(()));
        cluster.replace_worker(0);
        let run = run.wait_with_output().unwrap();
        assert_eq!((run.status.code(), text(&run.stdout)), (Some(0), b3sum(&path)));
    }
    assert!(cluster.status().counters.leases_lost > 0, "no lease was lost in three runs");
}

#[test]
fn a_long_sha2_file_goes_on_where_its_killed_worker_stood() {
    const LEN: u64 = (1 << 30) + 12_345;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("long");
    // Mostly holes, so that it needs no room; its end is not like its start.
    write_file(&path, 5 << 20, 7);
    fs::File::options().write(true).open(&path).unwrap().set_len(LEN).unwrap();
    let want = text(&output(Command::new("sha256sum").arg(&path)).stdout);
    let datasets = vec![("d", dir.path().to_owned())];
    let worker_args = vec!["--report-every", "16777216"];
    let options = Options { workers: 1, datasets, worker_args, ..Options::default() };
    for plane in ["descriptors", "dataset"] {
        let mut cluster = Cluster::start(options.clone());
        cluster.link_datasets();
        let mut run = cluster.hashctl();
        run.args(["--plane", plane, "sum", "-a", "sha256"]).arg(&path);
        let run = run.stdout(Stdio::piped()).spawn().unwrap();
        until("a third", || (cluster.status().counters.bytes > LEN / 3).then_some(()));
        cluster.replace_worker(0);
        let run = run.wait_with_output().unwrap();
        assert_eq!((run.status.code(), text(&run.stdout)), (Some(0), want.clone()), "{plane}");
        let status = cluster.status();
        // Bytes that one of them told are counted once; those that the second read are its own.
        assert_eq!(status.counters.bytes, LEN, "{plane}: nothing was read again that was told");
        assert!(status.workers[0].bytes < LEN * 2 / 3, "{plane}: {:?}", status.workers);
        assert_eq!((status.counters.leases, status.counters.leases_lost), (2, 1), "{plane}");
    }
}

#[test]
fn a_run_goes_on_with_a_controller_that_restarts_and_prints_one_correct_manifest() {
    const FILES: usize = 5000;
    let mut random = Random::from_entropy();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    let names: Vec<_> = (0..FILES).map(|number| data.join(format!("f{number:04}"))).collect();
    for name in &names {
        let len = random.index(2000);
        fs::write(name, random.bytes(len)).unwrap();
    }
    let want = text(&output(Command::new("sha256sum").args(&names)).stdout);
    for plane in ["descriptors", "dataset", "inline"] {
        let datasets = vec![("d", data.clone())];
        let mut cluster = Cluster::start(Options { workers: 1, datasets, ..Options::default() });
        cluster.link_datasets();
        cluster.wait_ready(1);
        let mut sum = cluster.hashctl();
        let sum = sum.args(["--plane", plane, "-v", "sum"]).args(&names);
        let sum = sum.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        for _ in 0..2 {
            // It keeps what it gets, so that the run cannot end.
            let mut holder = FakeWorker::join_with(&cluster, "holder", &["d"]);
            holder.give_credit(1);
            holder.next_lease();
            let before = cluster.status().counters.items;
            until("results", || {
                holder.beat();
                (cluster.status().counters.items > before + 100).then_some(())
            });
            cluster.controller.kill().unwrap();
            cluster.controller.wait().unwrap();
            cluster.restart_controller();
        }
        let sum = sum.wait_with_output().unwrap();
        let said = text(&sum.stderr);
        assert!(text(&sum.stdout) == want, "{plane}: the manifest is that of sha256sum: {said}");
        assert_eq!(sum.status.code(), Some(0), "{plane}: {said}");
        assert_eq!(said.matches("files are sent again").count(), 2, "{plane}: {said}");
    }
}

#[test]
fn a_hundred_kills_while_a_tree_is_hashed_lose_nothing_and_falsify_nothing() {
    let mut random = Random::new(20_261_121);
    let dir = tempfile::tempdir().unwrap();
    let mut paths = write_tree(dir.path(), 6000, 3000);
    for i in 0..6 {
        let path = dir.path().join(format!("large{i}"));
        write_file(&path, 16 << 20, i);
        paths.push(path);
    }
    let want = output(Command::new("sha256sum").args(&paths)).stdout;
    let want = text(&want);
    let mut cluster = Cluster::start(Options::default());
    let mut kills = 0;
    while kills < KILLS {
        let out = fs::File::create(dir.path().join("out")).unwrap();
        let mut run = cluster.hashctl().arg("sum").args(&paths).stdout(out).spawn().unwrap();
        while run.try_wait().unwrap().is_none() {
            let before = cluster.status().counters.leases;
            until("progress", || {
                let moved = cluster.status().counters.leases > before + random.below(4);
                (moved || run.try_wait().unwrap().is_some()).then_some(())
            });
            let victim = random.index(2);
            cluster.replace_worker(victim);
            kills += 1;
        }
        assert_eq!(run.wait().unwrap().code(), Some(0), "after {kills} kills");
        let got = fs::read_to_string(dir.path().join("out")).unwrap();
        assert!(got == want, "wrong or lost lines after {kills} kills");
    }
    assert!(cluster.status().counters.leases_lost > 0);
}

#[test]
fn a_run_without_workers_says_so_and_goes_on_with_the_next_one() {
    let file = NamedTempFile::new().unwrap();
    fs::write(&file, "content").unwrap();
    let start = |cluster: &Cluster, has_left: bool, args: &[&str]| {
        let mut fake = has_left.then(|| FakeWorker::join(cluster, "fake"));
        if let Some(fake) = &mut fake {
            fake.give_credit(1);
            cluster.wait_ready(1);
        }
        let run =
            Running::start(cluster.hashctl().arg("sum").args(args).arg(file.path()), DEADLINE);
        if let Some(mut fake) = fake {
            fake.next_lease();
        }
        run
    };
    for has_left in [false, true] {
        let mut cluster = Cluster::start(Options { workers: 0, ..Options::default() });
        let mut run = start(&cluster, has_left, &[]);
        run.wait_for("no worker is ready; waiting for one");
        let worker = cluster.spawn_worker(0);
        cluster.workers.push(worker);
        let ended = run.end();
        assert!(ended.status.success() && ended.stdout.contains(file.path().to_str().unwrap()));
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    }
    let cluster = Cluster::start(Options { workers: 0, ..Options::default() });
    let ended = start(&cluster, true, &["--timeout", "1"]).end();
    assert_eq!(ended.status.code(), Some(3), "{}", ended.stderr);
    assert!(ended.stderr.contains("no result for 1 s"), "{}", ended.stderr);
    assert!(ended.stderr.contains("1 of 1 files have no digest"), "{}", ended.stderr);
}
