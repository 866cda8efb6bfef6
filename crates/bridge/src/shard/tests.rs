use super::*;

const OF: ShardDigest = ShardDigest([5; 32]);

fn file(path: &[u8], size: u64) -> ShardFile {
    ShardFile { path: Base64Bytes(path.to_vec()), size, mtime_ns: -7 }
}

fn key() -> ShardKey {
    ShardKey { job: JobKey(0xab), shard: 3, attempt: 2 }
}

fn shard(files: Vec<ShardFile>) -> Shard {
    let dataset = DatasetKey::new("photos", "b5-1").unwrap();
    Shard { key: key(), dataset, algorithm: Algorithm::Sha256, files }
}

#[test]
fn a_shard_travels_as_json_with_any_name() {
    let shard = shard(vec![file(b"a/\xff\n", 5)]);
    let text = String::from_utf8(shard.encode()).unwrap();
    let want = r#"{"key":"000000000000000000000000000000ab.3.2","dataset":"photos","identity":"b5-1","algorithm":"sha256","files":[{"path":"YS//Cg==","size":5,"mtime_ns":-7}]}"#;
    assert_eq!(text, want);
    assert_eq!(Shard::decode(want.as_bytes()).unwrap(), shard);
}

#[test]
fn an_answer_travels_as_json() {
    let failures = vec![(1, Failure::Io { errno: 5 })];
    let outcome = ShardOutcome::Hashed { digests: vec![0, 1], failures };
    let answer = ShardAnswer { key: key(), of: OF, host: "h1".to_owned(), outcome };
    let want = r#"{"key":"000000000000000000000000000000ab.3.2","of":"BQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQU=","host":"h1","digests":"AAE=","failures":[[1,{"Io":{"errno":5}}]]}"#;
    assert_eq!(String::from_utf8(answer.encode()).unwrap(), want);
    assert_eq!(ShardAnswer::decode(want.as_bytes()).unwrap(), answer);
    let dead = ShardAnswer { outcome: ShardOutcome::Dead, ..answer };
    assert_eq!(ShardAnswer::decode(&dead.encode()).unwrap(), dead);
}

#[test]
fn paths_that_lead_out_of_a_dataset_are_refused() {
    for path in
        [&b""[..], b"/etc/passwd", b"a/../b", b"..", b"a//b", b"./a", b"a/", b"a\0b", &[b'a'; 4096]]
    {
        let body = shard(vec![file(path, 1)]).encode();
        assert!(matches!(Shard::decode(&body), Err(WrongMessage::Limit("path"))), "{path:?}");
    }
}

#[test]
fn messages_beyond_their_limits_are_refused() {
    let good = shard(vec![file(b"a", 1)]).encode();
    let good = String::from_utf8(good).unwrap();
    let changed = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        Shard::decode(good.replace(from, to).as_bytes()).unwrap_err().to_string()
    };
    assert_eq!(changed("photos", "Photos"), "dataset: beyond its limit, or not of its form");
    assert_eq!(changed("b5-1", "b5.1"), "identity: beyond its limit, or not of its form");
    assert_eq!(changed("b5-1", &"b".repeat(65)), "identity: beyond its limit, or not of its form");
    assert_eq!(changed("sha256", "sha-3"), "algorithm: beyond its limit, or not of its form");
    assert_eq!(changed(".3.2", ".3.2.1"), "key: beyond its limit, or not of its form");
    assert_eq!(changed(".3.2", ".3.-2"), "key: beyond its limit, or not of its form");
    assert_eq!(changed("0ab.", "ab."), "job: beyond its limit, or not of its form");
    assert_eq!(changed("\"size\":1", "\"size\":-1"), "not the expected JSON");
    let too_many = shard(vec![file(b"a", 1); SHARD_FILES_MAX + 1]).encode();
    assert!(matches!(Shard::decode(&too_many), Err(WrongMessage::Limit("files"))));
    assert!(matches!(Shard::decode(&shard(vec![]).encode()), Err(WrongMessage::Limit("files"))));
}

#[test]
fn an_answer_fits_only_with_one_outcome_for_each_file() {
    let fits = |digests_len, failed: &[u32]| {
        let failures = failed.iter().map(|&at| (at, Failure::Changed)).collect();
        let outcome = ShardOutcome::Hashed { digests: vec![1; digests_len], failures };
        ShardAnswer { key: key(), of: OF, host: "h".to_owned(), outcome }.fits(3, Algorithm::Sha256)
    };
    assert!(fits(96, &[]));
    assert!(fits(32, &[0, 2]));
    assert!(!fits(64, &[]), "one digest too few");
    assert!(!fits(96, &[1]), "one too many");
    assert!(!fits(64, &[3]), "of no file");
    assert!(!fits(32, &[1, 1]), "twice");
    assert!(!fits(32, &[2, 1]), "not in order");
}

#[test]
fn outcomes_come_in_the_order_of_the_files() {
    let digests = [[1; 32], [2; 32]].concat();
    let outcome = ShardOutcome::Hashed { digests, failures: vec![(1, Failure::Changed)] };
    let answer = ShardAnswer { key: key(), of: OF, host: "h".to_owned(), outcome };
    let want: Vec<Result<&[u8], Failure>> = vec![Ok(&[1; 32]), Err(Failure::Changed), Ok(&[2; 32])];
    assert_eq!(answer.outcomes(3, Algorithm::Sha256), want);
}

fn pack(files: Vec<ShardFile>) -> Vec<Vec<ShardFile>> {
    let mut packer = ShardPacker::default();
    let mut shards: Vec<_> = files.into_iter().filter_map(|file| packer.push(file)).collect();
    shards.extend(packer.finish());
    shards
}

#[test]
fn small_files_are_packed_in_order_and_a_long_one_is_alone() {
    let target = SHARD_LEN_MIN;
    let sizes = [1, 2, target - 3, 1, 5 * target, 1, target];
    let shards = pack(sizes.iter().map(|&size| file(b"f", size)).collect());
    let packed: Vec<Vec<u64>> =
        shards.iter().map(|files| files.iter().map(|file| file.size).collect()).collect();
    assert_eq!(packed, [vec![1, 2, target - 3], vec![1], vec![5 * target], vec![1], vec![target]]);
    assert_eq!(pack(vec![]), Vec::<Vec<ShardFile>>::new());
}

#[test]
fn the_fullest_shard_fits_a_message_of_the_broker_and_so_does_its_answer() {
    let long = vec![b'x'; SHARD_PATHS_LEN_MAX / SHARD_FILES_MAX];
    let worst = ShardFile { path: Base64Bytes(long), size: u64::MAX, mtime_ns: i64::MIN };
    let files = vec![ShardFile { size: 0, ..worst.clone() }; 2 * SHARD_FILES_MAX];
    let packed = pack(files);
    assert_eq!(packed.iter().map(Vec::len).collect::<Vec<_>>(), [SHARD_FILES_MAX; 2]);
    let body = shard(vec![worst; SHARD_FILES_MAX]).encode();
    assert!(body.len() <= crate::transport::BODY_LEN_MAX, "{}", body.len());
    let failures = (0..2048).map(|at| (at, Failure::WorkersLost { attempts: u32::MAX })).collect();
    let outcome = ShardOutcome::Hashed { digests: vec![0; 64 * SHARD_FILES_MAX], failures };
    let answer = ShardAnswer { key: key(), of: OF, host: "h".repeat(64), outcome };
    assert!(answer.encode().len() <= crate::transport::BODY_LEN_MAX);
    let paths = vec![file(&[b'x'; PATH_LEN_MAX], 0); 200];
    let packed = pack(paths);
    assert_eq!(packed.iter().map(Vec::len).collect::<Vec<_>>(), [96, 96, 8]);
}

#[test]
fn shards_are_between_64_and_256_mib_and_powers_of_two() {
    let mib = |total: u64| shard_len(total) >> 20;
    assert_eq!([mib(0), mib(64 << 30), mib((64 << 30) + 1024), mib(1 << 40)], [64, 64, 128, 256]);
    assert_eq!(mib(u64::MAX), 256);
}

#[test]
fn shards_grow_with_the_job() {
    const GIB: u64 = 1 << 30;
    let files = (0..200 * 32).map(|_| file(b"f", GIB / 32)).collect();
    let lens: Vec<u64> = pack(files).iter().map(|files| files_len(files) >> 20).collect();
    assert_eq!(lens.iter().sum::<u64>(), 200 << 10);
    let of = |len: u64| lens.iter().filter(|&&found| found == len).count();
    assert_eq!((of(64), of(128), of(256)), (1024, 512, 288));
    assert!(lens.is_sorted());
}

#[test]
fn a_reason_travels_and_neither_garbles_a_terminal_nor_fills_memory() {
    let note =
        |reason: &str| ReturnNote { key: key(), host: "h".to_owned(), reason: reason.into() };
    let travelled = |reason: &str| ReturnNote::decode(&note(reason).encode()).unwrap().reason;
    assert_eq!(travelled("controller: broken pipe"), "controller: broken pipe");
    assert_eq!(travelled("\u{1b}[2J\n"), " [2J ");
    assert_eq!(travelled(&"ä".repeat(1000)), "ä".repeat(REASON_LEN_MAX / 2));
    let text = String::from_utf8(note("why").encode()).unwrap();
    let changed = |from: &str, to: &str| {
        assert!(text.contains(from), "{text}");
        ReturnNote::decode(text.replace(from, to).as_bytes()).unwrap_err().to_string()
    };
    let limit = |field: &str| format!("{field}: beyond its limit, or not of its form");
    assert_eq!(changed("why", &"x".repeat(REASON_LEN_MAX + 1)), limit("reason"));
    assert_eq!(changed("why", "\\u001b[2J"), limit("reason"));
    assert_eq!(changed("\"h\"", "\"\""), limit("host"));
    assert_eq!(changed(".3.2", ".3"), limit("key"));
}
