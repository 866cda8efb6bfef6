//! Hashing in `hashctl`'s own process, without a controller.

use crate::oracle::{digest, hex, line};
use crate::program::{Outcome, finish, hashctl_alone, run, run_with, start, tool};
use ipc_proto::Algorithm;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::tempdir;
use test_kit::{DEADLINE, Running, pattern, until};

fn embedded(dir: &Path) -> Command {
    let mut command = hashctl_alone();
    command.current_dir(dir).arg("--embedded");
    command
}

#[track_caller]
fn assert_prints(outcome: &Outcome, want: &str) {
    assert_eq!((outcome.code, &*outcome.stderr), (0, ""));
    assert!(outcome.out() == want, "{}\nand not\n{want}", outcome.out());
}

/// Small, whole buffers, those that are hashed while they are read, and BLAKE3 trees in parts.
const LENS: [usize; 22] = [
    0,
    1,
    4096,
    65_535,
    65_536,
    65_537,
    100_000,
    131_072,
    262_144,
    262_145,
    524_287,
    524_289,
    1 << 20,
    3_000_000,
    (4 << 20) - 1,
    4 << 20,
    (4 << 20) + 1,
    5_000_000,
    8 << 20,
    (8 << 20) + 1,
    11_534_337,
    7,
];

#[test]
fn files_of_every_length_have_the_digest_of_their_algorithm() {
    let dir = tempdir().unwrap();
    let contents = LENS.map(pattern);
    let (mut args, mut names) = (vec![], vec![]);
    for (i, bytes) in contents.iter().enumerate() {
        // Others in between, so that directories change.
        let name = format!("{}/{i:02}", ["a", "b", "."][i % 3]);
        fs::create_dir_all(dir.path().join(&name).parent().unwrap()).unwrap();
        fs::write(dir.path().join(&name), bytes).unwrap();
        args.push(name.clone());
        names.push(name);
    }
    for algorithm in Algorithm::ALL {
        // The parts of a BLAKE3 tree, and files that are interleaved, depend on them.
        let is_one = matches!(algorithm, Algorithm::Sha256 | Algorithm::Blake3);
        for threads in if is_one { &["1", "3"][..] } else { &["3"] } {
            let want =
                contents.iter().zip(&names).map(|(bytes, name)| line(algorithm, bytes, name));
            let mut command = embedded(dir.path());
            command.args(["--threads", threads, "sum", "-a", algorithm.name()]).args(&args);
            assert_prints(&run(&mut command), &want.collect::<String>());
        }
    }
}

#[test]
fn several_digests_of_one_read_make_a_list_that_verifies() {
    let dir = tempdir().unwrap();
    let asked = [Algorithm::Sha512, Algorithm::Blake3, Algorithm::Sha256, Algorithm::Md5];
    let names: Vec<String> = (0..LENS.len()).map(|i| format!("{i}")).collect();
    let mut want = String::new();
    for (name, len) in names.iter().zip(LENS) {
        let bytes = pattern(len);
        fs::write(dir.path().join(name), &bytes).unwrap();
        for algorithm in asked {
            let digest = hex(&digest(algorithm, &bytes));
            want += &format!("{} ({name}) = {digest}\n", algorithm.tag());
        }
    }
    let several = asked.map(Algorithm::name).join(",");
    let outcome = run(embedded(dir.path()).args(["sum", "-a", &several]).args(&names));
    assert_prints(&outcome, &want);
    let outcome = run_with(embedded(dir.path()).args(["check", "--quiet"]), outcome.stdout);
    assert_eq!((outcome.code, outcome.out()), (0, String::new()), "{}", outcome.stderr);
    let outcome = run_with(embedded(dir.path()).args(["sum", "-a", &several]), pattern(300_000));
    let want = asked.map(|a| format!("{} (-) = {}\n", a.tag(), hex(&digest(a, &pattern(300_000)))));
    assert_prints(&outcome, &want.concat());
    for (args, want) in [
        (&["-a", "md5,md5"][..], "--algorithm: "),
        (&["-a", "md5,sha1,sha224,sha256,sha384"], "--algorithm: "),
        (&["-a", "md5,sha1", "-c"], "--check is for one algorithm"),
        (&["-a", "md5,sha1", "-b"], "--binary is for one algorithm"),
    ] {
        let outcome = run(embedded(dir.path()).arg("sum").args(args).arg("0"));
        assert_eq!(outcome.code, 2, "{args:?}");
        assert!(outcome.stderr.starts_with(&format!("hashctl: {want}")), "{}", outcome.stderr);
    }
}

#[test]
fn a_tree_is_printed_in_the_order_of_names_also_with_few_descriptors() {
    let dir = tempdir().unwrap();
    let mut want = String::new();
    for folder in 100..130 {
        fs::create_dir(dir.path().join(format!("{folder}"))).unwrap();
        for file in 100..140 {
            let (name, bytes) = (format!("{folder}/{file}"), pattern(folder * file % 70_000));
            fs::write(dir.path().join(&name), &bytes).unwrap();
            want += &line(Algorithm::Sha256, &bytes, &format!("./{name}"));
        }
    }
    for limit in [40, 1024] {
        let script = format!("ulimit -n {limit}; exec \"$0\" --embedded --threads 4 sum -r .");
        let mut command = Command::new("sh");
        command.args(["-c", &script, test_kit::program("hashctl")]).current_dir(dir.path());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        assert_prints(&run(&mut command), &want);
    }
    let script = "ulimit -n 6; exec \"$0\" --embedded sum -r .";
    let mut command = Command::new("sh");
    command.args(["-c", script, test_kit::program("hashctl")]).current_dir(dir.path());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let ours = run(&mut command);
    let want =
        "hashctl: the limit of open files is 6, and hashctl needs 16; raise it with ulimit -n\n";
    assert_eq!((ours.code, &*ours.stderr, &*ours.out()), (1, want, ""));
}

#[test]
fn a_fifo_is_waited_for_and_read_once_in_its_turn() {
    let dir = tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    fs::write(dir.path().join("file"), "file").unwrap();
    let mut command = embedded(dir.path());
    let child = start(command.args(["sum", "file", "fifo", "file"]));
    // It opens when there is a reader.
    OpenOptions::new().write(true).open(&fifo).unwrap().write_all(b"from a fifo").unwrap();
    let want = [("file", "file"), ("from a fifo", "fifo"), ("file", "file")];
    let want = want.map(|(bytes, name)| line(Algorithm::Sha256, bytes.as_bytes(), name));
    assert_prints(&finish(child), &want.concat());
}

#[test]
fn special_files_in_a_tree_are_skipped_without_a_wait() {
    let dir = tempdir().unwrap();
    mkfifo(&dir.path().join("fifo"), Mode::S_IRWXU).unwrap();
    fs::write(dir.path().join("z"), "z").unwrap();
    let outcome = run(embedded(dir.path()).args(["sum", "-r", "."]));
    assert_eq!(outcome.stderr, "hashctl: ./fifo: skipped: a FIFO\nhashctl: left out: 1 FIFO\n");
    assert_eq!((outcome.code, outcome.out()), (0, line(Algorithm::Sha256, b"z", "./z")));
}

#[test]
fn standard_input_is_read_from_where_it_stands_and_only_once() {
    let dir = tempdir().unwrap();
    let bytes = pattern(300_000);
    fs::write(dir.path().join("file"), &bytes).unwrap();
    let want =
        |bytes: &[u8]| line(Algorithm::Blake3, bytes, "-") + &line(Algorithm::Blake3, b"", "-");
    let args = ["sum", "-a", "blake3", "-", "-"];
    assert_prints(&run_with(embedded(dir.path()).args(args), bytes.clone()), &want(&bytes));
    let mut file = File::open(dir.path().join("file")).unwrap();
    assert_prints(
        &run(embedded(dir.path()).args(args).stdin(file.try_clone().unwrap())),
        &want(&bytes),
    );
    let mut start = [0; 1000];
    file = File::open(dir.path().join("file")).unwrap();
    file.read_exact(&mut start).unwrap();
    let outcome = run(embedded(dir.path()).args(args).stdin(file));
    assert_prints(&outcome, &want(&bytes[1000..]));
}

#[test]
fn what_cannot_be_hashed_is_reported_in_its_place() {
    let dir = tempdir().unwrap();
    fs::create_dir(dir.path().join("dir")).unwrap();
    fs::write(dir.path().join("file"), "x").unwrap();
    let mut command = embedded(dir.path());
    let outcome = run(command.args(["sum", "missing", "dir", "file", "file/x", "/proc/self/mem"]));
    assert_eq!((outcome.code, outcome.out()), (1, line(Algorithm::Sha256, b"x", "file")));
    let want = "hashctl: missing: No such file or directory\nhashctl: dir: Is a directory\n\
                hashctl: file/x: Not a directory\nhashctl: /proc/self/mem: Input/output error\n";
    assert_eq!(outcome.stderr, want);
}

#[test]
fn a_cluster_that_is_named_or_demanded_is_never_replaced_by_this_process() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("file"), "x").unwrap();
    let missing = dir.path().join("none");
    let missing = missing.to_str().unwrap();
    for (args, variables) in [
        (&["--cluster"][..], &[][..]),
        (&["--isolated"], &[]),
        (&["--runtime-dir", missing], &[]),
        (&["--plane", "inline"], &[]),
        (&[], &[("HASHCLUSTER_RUNTIME_DIR", missing)]),
        (&[], &[("HASHCLUSTER_ISOLATED", "1")]),
    ] {
        let mut command = hashctl_alone();
        // Not where this machine may have one.
        command.env("XDG_RUNTIME_DIR", dir.path()).envs(variables.iter().copied());
        let outcome = run(command.args(args).args(["sum", "file"]).current_dir(dir.path()));
        assert_eq!((outcome.code, &*outcome.stdout), (3, &b""[..]), "{args:?} {}", outcome.stderr);
        assert!(outcome.stderr.starts_with("hashctl: no controller at "), "{}", outcome.stderr);
    }
    let mut command = embedded(dir.path());
    let outcome = run(command.env("HASHCLUSTER_ISOLATED", "1").args(["sum", "file"]));
    let want = "hashctl: --embedded: forbidden by HASHCLUSTER_ISOLATED in the environment\n";
    assert_eq!((outcome.code, &*outcome.stderr), (2, want));
    let outcome = run(embedded(dir.path()).args(["sum", "--cross-check", "1/1", "file"]));
    let want = "hashctl: --cross-check needs the workers of a cluster\n";
    assert_eq!((outcome.code, &*outcome.stderr), (2, want));
}

/// `hashctl ARGS… file` with `text` as the settings of the user.
fn with_settings(dir: &Path, text: &str, mode: u32, args: &[&str]) -> Outcome {
    let settings = dir.join("hashctl.toml");
    fs::write(&settings, text).unwrap();
    fs::set_permissions(&settings, fs::Permissions::from_mode(mode)).unwrap();
    fs::write(dir.join("file"), "x").unwrap();
    let mut command = hashctl_alone();
    command.env("XDG_CONFIG_HOME", dir).env("XDG_RUNTIME_DIR", dir).current_dir(dir);
    let mut outcome = run(command.args(args).arg("file"));
    outcome.stderr = outcome.stderr.replace(dir.to_str().unwrap(), "DIR");
    outcome
}

#[test]
fn a_line_in_the_settings_forbids_hashing_in_this_process() {
    let dir = tempdir().unwrap();
    let isolated = |args: &[&str]| with_settings(dir.path(), "isolated = true\n", 0o644, args);
    let outcome = isolated(&["sum"]);
    assert_eq!((outcome.code, outcome.out()), (3, String::new()), "{}", outcome.stderr);
    assert!(outcome.stderr.starts_with("hashctl: no controller at "), "{}", outcome.stderr);
    let outcome = isolated(&["--embedded", "sum"]);
    let want = "hashctl: --embedded: forbidden by DIR/hashctl.toml\n";
    assert_eq!((outcome.code, &*outcome.stderr), (2, want));
    for program in ["sha256sum", "b3sum"] {
        let outcome = isolated(&[program]);
        let want = format!(
            "{program}: hashing in this process is forbidden by DIR/hashctl.toml; use hashctl sum or check \
             with a cluster\n"
        );
        assert_eq!((outcome.code, outcome.out(), outcome.stderr), (1, String::new(), want));
    }
    let outcome = with_settings(dir.path(), "isolated = false\n", 0o644, &["sum"]);
    assert_eq!((outcome.code, outcome.out()), (0, line(Algorithm::Sha256, b"x", "file")));
}

#[test]
fn settings_in_a_home_that_is_closed_to_the_caller_are_not_the_callers() {
    let dir = tempdir().unwrap();
    let home = dir.path().join("home");
    fs::create_dir(&home).unwrap();
    fs::write(dir.path().join("file"), "x").unwrap();
    let mut command = tool("setpriv", dir.path());
    command.env("XDG_CONFIG_HOME", &home).env("XDG_RUNTIME_DIR", dir.path());
    if nix::unistd::Uid::effective().is_root() {
        // Without the rights that let root look everywhere.
        command.args(["--bounding-set=-all", "--inh-caps=-all"]);
    }
    command.arg(test_kit::program("hashctl")).args(["sum", "file"]);
    let permit = |mode| fs::set_permissions(&home, fs::Permissions::from_mode(mode)).unwrap();
    permit(0);
    let outcome = run(&mut command);
    permit(0o700);
    assert_prints(&outcome, &line(Algorithm::Sha256, b"x", "file"));
    fs::write(home.join("hashctl.toml"), "").unwrap();
    fs::set_permissions(home.join("hashctl.toml"), fs::Permissions::from_mode(0o000)).unwrap();
    let outcome = run(&mut command);
    assert_eq!(outcome.code, 2, "{}", outcome.stderr);
    assert!(outcome.stderr.ends_with("hashctl.toml: Permission denied\n"), "{}", outcome.stderr);
}

#[test]
fn settings_that_others_may_write_or_that_are_unknown_are_an_error() {
    let dir = tempdir().unwrap();
    for (text, mode, want) in [
        ("isolate = true\n", 0o644, "line 1: unknown field `isolate`, expected `isolated`"),
        ("isolated = 1\n", 0o644, "line 1: invalid type: integer `1`, expected a boolean"),
        (
            "isolated = false\n",
            0o664,
            "its mode 0664 lets others write to it; after a look inside: chmod go-w DIR/hashctl.toml",
        ),
    ] {
        for (args, name, code) in [(&["sum"][..], "hashctl", 2), (&["md5sum"], "md5sum", 1)] {
            let outcome = with_settings(dir.path(), text, mode, args);
            let want = format!("{name}: DIR/hashctl.toml: {want}\n");
            assert_eq!((outcome.code, outcome.stderr), (code, want));
        }
    }
}

#[test]
fn a_run_without_a_result_ends_after_its_timeout() {
    let dir = tempdir().unwrap();
    let mut command = embedded(dir.path());
    command.args(["sum", "--timeout", "1", "-"]).stdin(Stdio::piped());
    let mut child = start(&mut command);
    let stdin = child.stdin.take();
    let outcome = finish(child);
    assert_eq!((outcome.code, &*outcome.stderr), (3, "hashctl: no result for 1 s\n"));
    drop(stdin);
}

#[test]
fn one_long_blake3_file_is_hashed_by_all_threads() {
    let dir = tempdir().unwrap();
    File::create(dir.path().join("f")).unwrap().set_len(1 << 40).unwrap();
    let mut command = embedded(dir.path());
    command.args(["--threads", "4", "sum", "-a", "blake3", "f"]);
    let running = Running::start(&mut command, DEADLINE);
    let tasks = format!("/proc/{}/task", running.id());
    until("four threads that hash, one that prints and one for signals", || {
        (fs::read_dir(&tasks).unwrap().count() == 6).then_some(())
    });
}
