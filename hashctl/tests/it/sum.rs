use crate::engine::Engine;
use crate::fake::INLINE;
use crate::oracle::{self, line};
use crate::program::{hashctl, run, tool};
use ipc_proto::Algorithm;
use ipc_proto::message::{Failure, Window};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use tempfile::{TempDir, tempdir};
use test_kit::{Random, hostile_names};

fn tree(names: &[impl AsRef<OsStr>]) -> TempDir {
    let dir = tempdir().unwrap();
    for (i, name) in names.iter().enumerate() {
        fs::write(dir.path().join(name.as_ref()), vec![b'x'; i * 37]).unwrap();
    }
    dir
}

fn names() -> Vec<OsString> {
    hostile_names().into_iter().map(OsString::from_vec).collect()
}

#[test]
fn lines_are_those_of_the_installed_coreutils_for_hostile_names() {
    let names = names();
    let dir = tree(&names);
    for algorithm in ["sha224", "sha256", "sha384", "sha512"] {
        for options in [&[][..], &["--tag"], &["-z"], &["--tag", "-z"]] {
            for engine in [Engine::default(), Engine { planes: INLINE, ..Engine::default() }] {
                let fake = engine.start();
                let mut ours = hashctl(fake.socket());
                ours.args(["sum", "-a", algorithm]).args(options).arg("--").args(&names);
                let ours = run(ours.current_dir(dir.path()));
                let mut theirs = tool(&format!("{algorithm}sum"), dir.path());
                let theirs = run(theirs.args(options).arg("--").args(&names));
                assert_eq!(ours.out(), theirs.out(), "{algorithm} {options:?}");
                assert_eq!(ours, theirs);
                fake.join();
            }
        }
    }
}

#[test]
fn missing_names_and_directories_are_reported_as_coreutils_does() {
    let dir = tree(&["good"]);
    fs::create_dir(dir.path().join("dir")).unwrap();
    let mut args = names();
    args.retain(|name| !name.as_bytes().starts_with(b"-"));
    args.extend(["dir", "", "good", "dir/x"].map(OsString::from));
    let fake = Engine::default().start();
    let ours = run(hashctl(fake.socket()).current_dir(dir.path()).arg("sum").args(&args));
    let theirs = run(tool("sha256sum", dir.path()).args(&args));
    assert_eq!(ours.stderr.replace("hashctl: ", "sha256sum: "), theirs.stderr);
    assert_eq!((ours.code, ours.stdout), (1, theirs.stdout));
    assert_eq!(fake.join().files, 1);
}

#[test]
fn shuffled_results_are_printed_in_input_order() {
    let random = Random::from_entropy();
    let dir = tempdir().unwrap();
    let names: Vec<String> = (0..700).map(|i| format!("f{:03}", i * 7 % 700)).collect();
    for name in &names {
        fs::write(dir.path().join(name), name).unwrap();
    }
    let want: String =
        names.iter().map(|name| line(Algorithm::Sha256, name.as_bytes(), name)).collect();
    for items in [20, 100, 4096] {
        let window = Window { items, bytes: 0 };
        let fake = Engine { shuffle: Some(random.clone()), window, ..Engine::default() }.start();
        let ours = run(hashctl(fake.socket()).current_dir(dir.path()).arg("sum").args(&names));
        assert_eq!((ours.out(), ours.code, &*ours.stderr), (want.clone(), 0, ""));
        let report = fake.join();
        assert_eq!((report.items, report.jobs), (700, 1));
        assert!(report.unresolved_max <= u64::from(items));
    }
}

#[test]
fn every_algorithm_has_its_digest_and_its_tag() {
    let dir = tree(&["empty", "f"]);
    for algorithm in Algorithm::ALL {
        let fake = Engine::default().start();
        let mut ours = hashctl(fake.socket());
        ours.args(["sum", "--tag", "-a", algorithm.name(), "f", "empty"]);
        let ours = run(ours.current_dir(dir.path()));
        let digest = |data| oracle::hex(&oracle::digest(algorithm, data));
        let (tag, full, empty) = (algorithm.tag(), digest(&[b'x'; 37]), digest(b""));
        assert_eq!(ours.out(), format!("{tag} (f) = {full}\n{tag} (empty) = {empty}\n"));
    }
}

#[test]
fn a_file_without_a_digest_has_a_reason_and_the_run_continues() {
    let dir = tempdir().unwrap();
    for (name, content) in [("a", "fine"), ("b", "moves"), ("c", "lost"), ("d", "io"), ("e", "ok")]
    {
        fs::write(dir.path().join(name), content).unwrap();
    }
    let fail = |data: &[u8]| match data {
        b"moves" => Some(Failure::Changed),
        b"lost" => Some(Failure::WorkersLost { attempts: 3 }),
        b"io" => Some(Failure::Io { errno: 5 }),
        _ => None,
    };
    let args = ["a", "b", "c", "d", "e"];
    let fake = Engine { fail, ..Engine::default() }.start();
    let ours = run(hashctl(fake.socket()).current_dir(dir.path()).arg("sum").args(args));
    let want = line(Algorithm::Sha256, b"fine", "a") + &line(Algorithm::Sha256, b"ok", "e");
    assert_eq!((ours.out(), ours.code), (want, 1));
    let stderr: Vec<&str> = ours.stderr.lines().collect();
    assert_eq!(
        stderr,
        [
            "hashctl: b: changed while it was read",
            "hashctl: c: lost 3 workers while they read it: w1 (deadline expired), w2 (deadline expired), \
             w3 (deadline expired)",
            "hashctl: d: Input/output error",
        ]
    );
    let fake = Engine { fail, ..Engine::default() }.start();
    let json =
        run(hashctl(fake.socket()).current_dir(dir.path()).args(["sum", "--json", "b", "e"]));
    let digest = oracle::hex(&oracle::digest(Algorithm::Sha256, b"ok"));
    let want = format!(
        "{{\"version\":1,\"name\":\"b\",\"algorithm\":\"sha256\",\"error\":\"changed while it was read\"}}\n\
         {{\"version\":1,\"name\":\"e\",\"algorithm\":\"sha256\",\"digest\":\"{digest}\",\"size\":2}}\n"
    );
    assert_eq!((json.out(), json.code), (want, 1));
}

#[test]
fn special_files_are_skipped_without_blocking() {
    let dir = tree(&["good"]);
    let at = |name: &str| dir.path().join(name);
    nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    let _socket = UnixListener::bind(at("socket")).unwrap();
    symlink("/dev/zero", at("zero")).unwrap();
    symlink("good", at("link")).unwrap();
    let args = ["fifo", "socket", "zero", "link", "/dev/null"];
    let fake = Engine::default().start();
    let named = run(hashctl(fake.socket()).current_dir(dir.path()).arg("sum").args(args));
    assert_eq!(named.out(), line(Algorithm::Sha256, b"", "link"), "a named link is followed");
    assert_eq!(named.code, 1);
    assert_eq!(
        named.stderr,
        "hashctl: fifo: skipped: a FIFO\nhashctl: socket: skipped: a socket\n\
         hashctl: zero: skipped: a character device\n\
         hashctl: /dev/null: skipped: a character device\n"
    );
    let fake = Engine::default().start();
    let walked = run(hashctl(fake.socket()).current_dir(dir.path()).args(["sum", "-r", "."]));
    assert_eq!((walked.out(), walked.code), (line(Algorithm::Sha256, b"", "./good"), 0));
    assert_eq!(
        walked.stderr,
        "hashctl: ./fifo: skipped: a FIFO\nhashctl: ./socket: skipped: a socket\n\
         hashctl: left out: 2 symbolic links, 1 FIFO, 1 socket\n"
    );
    let fake = Engine::default().start();
    let verbose =
        run(hashctl(fake.socket()).current_dir(dir.path()).args(["-v", "sum", "-r", "."]));
    assert!(verbose.stderr.contains("; files go as open descriptors\n"), "{}", verbose.stderr);
    assert!(verbose.stderr.contains("hashctl: ./link: skipped: a symbolic link\n"));
    assert_eq!((verbose.stdout, verbose.code), (walked.stdout, 0));
}

#[test]
fn a_tree_is_what_find_and_sort_give_to_sha256sum() {
    let dir = tempdir().unwrap();
    for (i, name) in ["b/y/1", "b/x/2", "a", "c/z", "b/w", "A/\u{e9}"].iter().enumerate() {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, vec![7; i]).unwrap();
    }
    fs::create_dir(dir.path().join("empty")).unwrap();
    for root in [".", "./", "b", "b/"] {
        let fake = Engine::default().start();
        let ours = run(hashctl(fake.socket()).current_dir(dir.path()).args(["sum", "-r", root]));
        let script = "find \"$0\" -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum";
        let theirs = run(tool("sh", dir.path()).args(["-c", script, root]));
        assert_eq!((ours.out(), ours.code), (theirs.out(), 0), "{root}");
    }
}

#[test]
fn an_unreadable_directory_is_an_error_and_the_run_continues() {
    let dir = tree(&["good"]);
    let deep = "d/".repeat(300);
    // One at a time: the whole path would be too long for some systems.
    fs::create_dir_all(dir.path().join(&deep)).unwrap();
    fs::write(dir.path().join("d/file"), "x").unwrap();
    let fake = Engine::default().start();
    let ours = run(hashctl(fake.socket()).current_dir(dir.path()).args(["sum", "-r", "."]));
    let want = line(Algorithm::Sha256, b"x", "./d/file") + &line(Algorithm::Sha256, b"", "./good");
    assert_eq!((ours.out(), ours.code), (want, 1));
    let want = format!(
        "hashctl: .{}: skipped: more than 256 directories above it; name it by itself\n",
        "/d".repeat(256)
    );
    assert_eq!(ours.stderr, want);
}

#[test]
fn inline_files_that_are_large_go_as_streams() {
    let dir = tempdir().unwrap();
    let large: Vec<u8> = (0..=250).cycle().take(300_000).collect();
    fs::write(dir.path().join("large"), &large).unwrap();
    fs::write(dir.path().join("small"), &large[..65_536]).unwrap();
    for algorithm in Algorithm::ALL {
        let window = Window { items: 3, bytes: 70_000 };
        let fake = Engine { planes: INLINE, window, ..Engine::default() }.start();
        let mut ours = hashctl(fake.socket());
        ours.args(["-v", "sum", "-a", algorithm.name(), "small", "large", "small"]);
        let ours = run(ours.current_dir(dir.path()));
        let small = line(algorithm, &large[..65_536], "small");
        let want = format!("{small}{}{small}", line(algorithm, &large, "large"));
        assert_eq!((ours.out(), ours.code), (want, 0), "{}", ours.stderr);
        assert!(ours.stderr.contains("files go inline, as bytes"));
        let report = fake.join();
        assert_eq!((report.files, report.messages), (0, 2));
        assert!(report.pieces >= 5);
    }
}

#[test]
fn json_of_a_stream_has_its_size() {
    let fake = Engine::default().start();
    let ours =
        crate::program::run_with(hashctl(fake.socket()).args(["sum", "--json"]), vec![7; 99]);
    let json: serde_json::Value = serde_json::from_slice(&ours.stdout).unwrap();
    assert_eq!((&json["name"], &json["size"]), (&"-".into(), &99.into()));
}

#[test]
fn a_file_that_is_named_twice_has_two_lines() {
    let dir = tree(&["f"]);
    File::create(dir.path().join("g")).unwrap();
    let fake = Engine::default().start();
    let ours = run(hashctl(fake.socket()).current_dir(dir.path()).args(["sum", "f", "g", "f"]));
    let [f, g] = ["f", "g"].map(|name| line(Algorithm::Sha256, b"", name));
    assert_eq!(ours.out(), format!("{f}{g}{f}"));
    assert!(Path::new(fake.socket()).exists());
}
