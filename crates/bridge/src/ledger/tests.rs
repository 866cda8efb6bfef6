use super::*;
use crate::shard::{Base64Bytes, SHARD_LEN_MIN, ShardDigest, ShardKey, ShardOutcome};
use ipc_proto::Algorithm;
use tempfile::TempDir;

/// A small file, one that fills a shard, and another small one.
fn files() -> Vec<ShardFile> {
    let file =
        |path: &[u8], size| ShardFile { path: Base64Bytes(path.to_vec()), size, mtime_ns: 4 };
    vec![file(b"a", 3), file(b"\xff\n", SHARD_LEN_MIN - 3), file(b"c", 3)]
}

fn plan() -> JobPlan {
    JobPlan {
        job: JobKey(1 << 100),
        dataset: DatasetKey::new("photos", "id").unwrap(),
        starts: vec![Base64Bytes(b"a".to_vec()), Base64Bytes(b"sub/\xff".to_vec())],
        algorithm: Algorithm::Blake3,
        shards: vec![ShardSize::of(&files()[..2]), ShardSize::of(&files()[2..])],
    }
}

/// Writes the ledger of a job with those files.
fn create(path: &Path, job: JobKey) -> Result<OpenedLedger, LedgerError> {
    let mut ledger = NewLedger::begin(path, JobPlan { job, shards: vec![], ..plan() })?;
    for file in files() {
        ledger.push(file)?;
    }
    ledger.finish()
}

fn records() -> Vec<LedgerRecord> {
    let key = ShardKey { job: plan().job, shard: 1, attempt: 1 };
    let outcome = ShardOutcome::Hashed { digests: vec![7; 32], failures: vec![] };
    let answer = ShardAnswer { key, of: ShardDigest([5; 32]), host: "h".to_owned(), outcome };
    let distrust = LedgerRecord::Distrust("x".to_owned());
    vec![
        LedgerRecord::Attempt(key),
        LedgerRecord::Answer(answer),
        LedgerRecord::Audited(0),
        distrust,
        LedgerRecord::Finished,
    ]
}

/// Opens a ledger that nobody has but, for a moment, a program that another test starts: it has our descriptors
/// until its execve(2).
fn open(path: &Path) -> OpenedLedger {
    test_kit::until("the lock is free", || match ShardLedger::open(path) {
        Err(LedgerError::Busy(_)) => None,
        opened => Some(opened.unwrap()),
    })
}

fn written() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("job");
    let mut opened = create(&path, plan().job).unwrap();
    assert_eq!((&opened.plan, &opened.record), (&plan(), &LedgerState::default()));
    opened.ledger.append(&records()).unwrap();
    (dir, path)
}

#[test]
fn what_was_written_is_read_again() {
    let (_dir, path) = written();
    let opened = open(&path);
    assert_eq!((opened.plan, opened.record), (plan(), LedgerState::of(&records())));
    assert_eq!(opened.ledger.files(0).unwrap(), files()[..2]);
    assert_eq!(opened.ledger.files(1).unwrap(), files()[2..]);
    let answer = opened.ledger.answer(1).unwrap();
    assert_eq!(LedgerRecord::Answer(answer), records()[1]);
    assert!(opened.ledger.answer(0).is_err(), "it has none");
}

#[test]
fn the_last_answer_to_a_shard_is_read_again_before_and_after_a_restart() {
    let (_dir, path) = written();
    let mut opened = open(&path);
    let LedgerRecord::Answer(first) = &records()[1] else { panic!("the second is an answer") };
    let second = ShardAnswer { host: "another".to_owned(), ..first.clone() };
    let attempt = LedgerRecord::Attempt(first.key);
    opened.ledger.append(&[attempt, LedgerRecord::Answer(second.clone())]).unwrap();
    assert_eq!(opened.ledger.answer(1).unwrap(), second);
    drop(opened);
    assert_eq!(open(&path).ledger.answer(1).unwrap(), second);
}

#[test]
fn whoever_writes_to_a_ledger_that_is_in_use_is_noticed() {
    let (_dir, path) = written();
    let opened = open(&path);
    let text = fs::read_to_string(&path).unwrap().replace("\"size\":3", "\"sise\":3");
    fs::write(&path, text).unwrap();
    let error = opened.ledger.files(1).unwrap_err().to_string();
    assert!(error.ends_with("job, shard 1: damaged"), "{error}");
}

#[test]
fn a_list_that_is_not_finished_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("job");
    let mut ledger = NewLedger::begin(&path, JobPlan { shards: vec![], ..plan() }).unwrap();
    ledger.push(files().remove(0)).unwrap();
    drop(ledger);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_crash_at_any_byte_of_the_records_leaves_whole_lines_to_go_on_from() {
    let (_dir, path) = written();
    let bytes = fs::read(&path).unwrap();
    let plan_len =
        bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(2).unwrap().0 + 1;
    for len in plan_len..=bytes.len() {
        fs::write(&path, &bytes[..len]).unwrap();
        let lines = bytes[plan_len..len].iter().filter(|byte| **byte == b'\n').count();
        let mut opened = open(&path);
        assert_eq!(opened.record, LedgerState::of(&records()[..lines]), "{len} bytes");
        opened.ledger.append(&records()[lines..]).unwrap();
        drop(opened);
        assert_eq!(fs::read(&path).unwrap(), bytes, "{len} bytes");
    }
}

#[test]
fn damage_is_an_error_that_names_the_line() {
    let (_dir, path) = written();
    let bytes = fs::read(&path).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let with = |text: String| {
        fs::write(&path, text).unwrap();
        let error = test_kit::until("the lock is free", || match ShardLedger::open(&path) {
            Err(LedgerError::Busy(_)) => None,
            opened => Some(opened.unwrap_err().to_string()),
        });
        error.replace(&path.display().to_string(), "P")
    };
    assert_eq!(with(text.replace("attempt", "attemqt")), "P, line 4: damaged");
    assert_eq!(with(text.replace("photos", "Photos")), "P, line 1: damaged");
    assert_eq!(with(text.replace("\"format\":1", "\"format\":2")), "P, line 1: damaged");
    assert_eq!(with(text.lines().take(2).collect::<Vec<_>>().join("\n")), "P, line 2: damaged");
    assert_eq!(with(String::new()), "P, line 1: damaged");
    // Records of another job, of no shard of this one, or without an outcome for each file.
    let other = JobKey(5).to_string();
    let (plan_lines, records) = text.split_at(text.find("{\"attempt\"").unwrap());
    let job = plan().job.to_string();
    let with_records = |records: String| with(format!("{plan_lines}{records}"));
    assert_eq!(with_records(records.replace(&job, &other)), "P, line 4: damaged");
    assert_eq!(with_records(records.replacen(".1.1", ".2.1", 1)), "P, line 4: damaged");
    assert_eq!(
        with_records(records.replacen("digests\":\"Bw", "digests\":\"", 1)),
        "P, line 5: damaged"
    );
    let of_two_files = records.lines().nth(1).unwrap().replace(".1.1", ".0.1");
    assert_eq!(with_records(format!("{of_two_files}\n")), "P, line 4: damaged");
    let audited = records.replace("{\"audited\":0}", "{\"audited\":2}");
    assert_eq!(with_records(audited), "P, line 6: damaged");
}

#[test]
fn what_is_no_ledger_is_refused_and_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("job");
    fs::write(&path, vec![b'x'; 5 << 20]).unwrap();
    let error = ShardLedger::open(&path).unwrap_err().to_string();
    assert!(error.ends_with("job: a line of 4 MiB or more"), "{error}");
    assert_eq!(fs::metadata(&path).unwrap().len(), 5 << 20);
    fs::write(&path, "root:x:0:0::/root:/bin/sh").unwrap();
    assert!(ShardLedger::open(&path).unwrap_err().to_string().ends_with("line 1: damaged"));
    assert_eq!(fs::read_to_string(&path).unwrap(), "root:x:0:0::/root:/bin/sh");
    let error = ShardLedger::open(Path::new("/dev/zero")).unwrap_err().to_string();
    assert_eq!(error, "/dev/zero: not a regular file");
}

#[test]
fn of_many_who_begin_one_ledger_one_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("job");
    for round in 0..50 {
        let path = &path;
        let opened: Vec<OpenedLedger> = std::thread::scope(|scope| {
            let tries: Vec<_> =
                (0..4).map(|n| scope.spawn(move || create(path, JobKey(n)))).collect();
            let ended = tries.into_iter().map(|one| one.join().unwrap());
            ended
                .filter_map(|one| match one {
                    Err(LedgerError::Busy(_)) => None,
                    opened => Some(opened.unwrap()),
                })
                .collect()
        });
        assert!(opened.len() <= 1, "round {round}: {} have it", opened.len());
        let jobs: Vec<JobKey> = opened.iter().map(|one| one.plan.job).collect();
        drop(opened);
        if let Some(&job) = jobs.first() {
            assert_eq!(open(path).plan.job, job, "round {round}");
            fs::remove_file(path).unwrap();
        }
    }
}

#[test]
fn a_ledger_has_one_process_at_a_time() {
    let (_dir, path) = written();
    let opened = open(&path);
    assert!(matches!(ShardLedger::open(&path), Err(LedgerError::Busy(_))));
    drop(opened);
    open(&path);
}
