//! Lists of other tools, odd lists, and where their files are, through the program.

use crate::oracle::{digest, hex, line};
use crate::program::{Outcome, finish, hashctl_alone, run, run_with, start, tool};
use ipc_proto::Algorithm;
use nix::fcntl::{OFlag, openat};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{Pid, mkfifo};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Stdio;
use tempfile::{TempDir, tempdir};

/// A directory with the file `a`, which holds "x", and others with the same content.
fn dir_with(names: &[&str]) -> TempDir {
    let dir = tempdir().unwrap();
    for name in ["a"].iter().chain(names) {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }
    dir
}

fn check(dir: &Path, args: &[&str]) -> Outcome {
    run(hashctl_alone().current_dir(dir).arg("check").args(args))
}

fn sha256() -> String {
    hex(&digest(Algorithm::Sha256, b"x"))
}

#[test]
fn lists_of_many_tools_are_checked() {
    let dir = dir_with(&["b c", "data/p%q", "sub/d"]);
    let [sha1, sha512, md5, blake2b, blake3] =
        [Algorithm::Sha1, Algorithm::Sha512, Algorithm::Md5, Algorithm::Blake2b, Algorithm::Blake3]
            .map(|algorithm| hex(&digest(algorithm, b"x")));
    let sha256 = sha256();
    let spaced: Vec<&str> = (0..32).map(|i| &sha256[2 * i..2 * i + 2]).collect();
    let spaced = spaced.join(" ");
    let upper = sha256.to_uppercase();
    let base64 = "LXEWQrcmsEQBYnyp+6wy9chTD7GQPMTbAiWHF5IaSIE=";
    for (list, text, want) in [
        ("SHA256SUMS", format!("{sha256}  a\n{sha256} *b c\n"), "a: OK\nb c: OK\n"),
        ("one", format!("{sha256} a\n"), "a: OK\n"),
        (
            "SHASUMS256.txt.asc",
            format!(
                "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n{sha256}  a\n\
                     -----BEGIN PGP SIGNATURE-----\n\nx\n-----END PGP SIGNATURE-----\n"
            ),
            "a: OK\n",
        ),
        (
            "openssl3",
            format!("SHA2-256(a)= {sha256}\nSHA2-512(b c)= {sha512}\n"),
            "a: OK\nb c: OK\n",
        ),
        ("bsd", format!("MD5 (a) = {md5}\nSHA1 (a) = {sha1}\n"), "a: OK\na: OK\n"),
        ("base64", format!("{base64}  a\nsha256-{base64}  a\n"), "a: OK\na: OK\n"),
        ("B2SUMS", format!("{blake2b}  a\n"), "a: OK\n"),
        ("x.b3", format!("{blake3}  a\n"), "a: OK\n"),
        ("manifest-sha256.txt", format!("{sha256} data/p%25q\n"), "data/p%q: OK\n"),
        (
            "hashdeep",
            format!(
                "%%%% HASHDEEP-1.0\n%%%% size,md5,sha256,filename\n## $ x\n1,{md5},{sha256},sub/d\n"
            ),
            "sub/d: OK\n",
        ),
        (
            "a.dsc",
            format!(
                "Format: 3.0\nChecksums-Sha1:\n {sha1} 1 a\nChecksums-Sha256:\n {sha256} 1 a\nFiles:\n {md5} 1 a\n"
            ),
            "a: OK\na: OK\na: OK\n",
        ),
        ("distinfo", format!("TIMESTAMP = 1\nSHA256 (a) = {sha256}\nSIZE (a) = 1\n"), "a: OK\n"),
        ("certutil", format!("SHA256 hash of a:\n{sha256}\nCertUtil: completed\n"), "a: OK\n"),
        (
            "certutil7",
            format!("SHA256 hash of file a:\n{spaced}\nCertUtil: completed\n"),
            "a: OK\n",
        ),
        (
            "table",
            format!(
                "\u{feff}\r\nAlgorithm  Hash  Path\r\n---------  ----  ----\r\nSHA256     {upper}  b c\r\n"
            ),
            "b c: OK\n",
        ),
    ] {
        fs::write(dir.path().join(list), &text).unwrap();
        let ours = check(dir.path(), &["--strict", list]);
        assert_eq!((&*ours.out(), ours.code), (want, 0), "{list}: {}", ours.stderr);
        // The same with another content of the file.
        let other = text.replace(&sha256[..8], "00000000").replace(&upper[..8], "00000000");
        if other != text {
            fs::write(dir.path().join(list), other).unwrap();
            assert_eq!(check(dir.path(), &["--status", list]).code, 1, "{list}");
        }
    }
}

#[test]
fn a_signature_is_not_verified_and_that_is_said_once() {
    let dir = dir_with(&[]);
    let text = format!(
        "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n{0}  a\n\
         -----BEGIN PGP SIGNATURE-----\n\nx\n-----END PGP SIGNATURE-----\n",
        sha256()
    );
    fs::write(dir.path().join("m"), text.repeat(2)).unwrap();
    let ours = check(dir.path(), &["m"]);
    let want = "hashctl: m: the signature is not verified\nhashctl: 2 files: 2 OK\n";
    assert_eq!((ours.code, &*ours.stderr), (0, want));
    assert_eq!(check(dir.path(), &["--quiet", "m"]).stderr, "");
}

#[test]
fn a_line_without_a_digest_decides_nothing_about_the_list() {
    let dir = dir_with(&[]);
    let text = format!("Added 2 files\n{}  a\n", sha256());
    fs::write(dir.path().join("m"), text).unwrap();
    for args in [&["m"][..], &["-a", "sha256", "m"]] {
        let ours = check(dir.path(), args);
        assert_eq!((ours.out(), ours.code), ("a: OK\n".to_owned(), 0), "{}", ours.stderr);
    }
}

#[test]
fn without_a_list_standard_input_is_one() {
    let dir = dir_with(&[]);
    let list = line(Algorithm::Sha256, b"x", "a");
    let ours = run_with(hashctl_alone().current_dir(dir.path()).arg("check"), list.into_bytes());
    assert_eq!((ours.out(), ours.code), ("a: OK\n".to_owned(), 0), "{}", ours.stderr);
}

#[test]
fn what_is_no_list_is_refused_in_one_line() {
    let dir = dir_with(&[]);
    let utf16: Vec<u8> =
        line(Algorithm::Sha256, b"x", "a").encode_utf16().flat_map(u16::to_le_bytes).collect();
    fs::write(dir.path().join("utf16"), utf16).unwrap();
    fs::write(dir.path().join("binary"), vec![0; 4 << 20]).unwrap();
    let long = "x".repeat(1 << 19) + "\n";
    fs::write(dir.path().join("long"), long.repeat(8)).unwrap();
    for (list, want) in [
        ("utf16", "hashctl: utf16: the list is UTF-16; convert it with iconv -f UTF-16 -t UTF-8\n"),
        ("binary", "hashctl: binary: not a list of digests but a binary file\n"),
        ("/dev/zero", "hashctl: /dev/zero: not a list of digests but a binary file\n"),
        ("long", "hashctl: long: 8 lines are longer than 262144 bytes, first line 1\n"),
    ] {
        let ours = check(dir.path(), &[list]);
        assert_eq!((&*ours.stderr, ours.code), (want, 1), "{list}");
    }
    assert_eq!(check(dir.path(), &["--status", "long"]).stderr, "");
}

#[test]
fn a_name_of_many_escaped_bytes_is_no_line_that_is_too_long() {
    let dir = dir_with(&[]);
    let name = "\\\\".repeat(60_000);
    fs::write(dir.path().join("m"), format!("\\{}  {name}\n", sha256())).unwrap();
    let ours = check(dir.path(), &["m"]);
    assert!(ours.stderr.contains("File name too long"), "{}", ours.stderr.len());
    assert_eq!(ours.code, 1);
}

#[test]
fn files_below_paths_that_no_system_call_takes_are_hashed_and_checked() {
    let dir = dir_with(&[]);
    let mut at = File::open(dir.path()).unwrap();
    for _ in 0..64 {
        let name = "d".repeat(200);
        mkdirat(&at, name.as_str(), Mode::S_IRWXU).unwrap();
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        at = openat(&at, name.as_str(), flags, Mode::empty()).unwrap().into();
    }
    for name in ["f", "g"] {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT;
        let mut file: File = openat(&at, name, flags, Mode::S_IRWXU).unwrap().into();
        file.write_all(b"x").unwrap();
    }
    let deep = format!("{}/", "d".repeat(200)).repeat(64);
    let list = lines(&["./a", &format!("./{deep}f"), &format!("./{deep}g")]);
    let ours = run(hashctl_alone().current_dir(dir.path()).args(["sum", "-r", ".", "-o", "list"]));
    assert_eq!((&*ours.stderr, ours.code), ("", 0));
    assert_eq!(fs::read_to_string(dir.path().join("list")).unwrap(), list);
    let ours = check(dir.path(), &["list"]);
    assert_eq!((ours.out().lines().count(), ours.code), (3, 0), "{}", ours.stderr);
    let ours = run(hashctl_alone().current_dir(dir.path()).args(["audit", "list", "."]));
    let matched = "hashctl: ./list: left out: the manifest or its state\nhashctl: 3 matched\n";
    assert_eq!((&*ours.stderr, ours.code), (matched, 0));
    let ours = run(hashctl_alone().current_dir(dir.path()).args(["dups", "."]));
    assert!(ours.stderr.starts_with("hashctl: 1 groups, 2 duplicates"), "{}", ours.stderr);
    let missing = lines(&[&format!("{deep}h"), &format!("{}f", deep.replace("/d", "/e"))]);
    fs::write(dir.path().join("list"), missing).unwrap();
    let ours = check(dir.path(), &["--quiet", "list"]);
    assert_eq!((ours.out().matches("FAILED open or read").count(), ours.code), (2, 1));
}

fn lines(names: &[&str]) -> String {
    names.iter().map(|name| line(Algorithm::Sha256, b"x", name)).collect()
}

#[test]
fn two_names_never_have_one_status_line() {
    let dir = dir_with(&["\\a\\nb", "a\nb", "\\"]);
    let list =
        run(hashctl_alone().current_dir(dir.path()).args(["sum", "\\a\\nb", "a\nb", "\\"])).stdout;
    fs::write(dir.path().join("m"), list).unwrap();
    let ours = check(dir.path(), &["m"]);
    assert_eq!((&*ours.out(), ours.code), ("\\\\\\a\\\\nb: OK\n\\a\\nb: OK\n\\\\\\: OK\n", 0));
}

#[test]
fn a_digest_by_itself_is_of_the_file_that_the_list_is_named_after() {
    let dir = dir_with(&["d/f.jar", "other"]);
    let at = |name: &str| dir.path().join(name);
    fs::write(at("d/f.jar.sha1"), hex(&digest(Algorithm::Sha1, b"x"))).unwrap();
    fs::write(at("digest"), format!("sha256:{}\n", sha256())).unwrap();
    fs::write(at("gone.sha256"), sha256()).unwrap();
    for (args, want, code) in [
        (&["d/f.jar.sha1"][..], "d/f.jar: OK\n", 0),
        (&["-C", "d", "d/f.jar.sha1"], "f.jar: OK\n", 0),
        (&["digest", "other"], "other: OK\n", 0),
        (&["digest", "a", "d/f.jar.sha1"], "a: OK\nd/f.jar: OK\n", 0),
        (&["digest"], "", 1),
        (&["gone.sha256"], "gone: FAILED open or read\n", 1),
        (&["gone.sha256", "d/f.jar.sha1"], "gone: FAILED open or read\nd/f.jar: OK\n", 1),
        (&["gone.sha256", "other"], "other: OK\n", 0),
    ] {
        let ours = check(dir.path(), args);
        assert_eq!((&*ours.out(), ours.code), (want, code), "{args:?}: {}", ours.stderr);
    }
}

#[test]
fn files_are_looked_for_in_another_directory_and_by_a_part_of_their_name() {
    let dir = dir_with(&["sub/f"]);
    let at = |name: &str| dir.path().join(name);
    fs::write(at("m"), line(Algorithm::Sha256, b"x", "f")).unwrap();
    fs::write(
        at("n"),
        line(Algorithm::Sha256, b"x", "/build/pkg/f") + &line(Algorithm::Sha256, b"x", "g"),
    )
    .unwrap();
    let ours = check(dir.path(), &["-C", "sub", "m"]);
    assert_eq!((&*ours.out(), ours.code), ("f: OK\n", 0), "{}", ours.stderr);
    let ours = check(dir.path(), &["-C", "sub", "--strip-components", "2", "n"]);
    let want = "hashctl: WARNING: 1 name has no more components than are stripped\nhashctl: 1 file: 1 OK\n";
    assert_eq!((&*ours.out(), &*ours.stderr, ours.code), ("f: OK\n", want, 1));
    let ours = check(dir.path(), &["-C", "gone", "m"]);
    assert_eq!((&*ours.stderr, ours.code), ("hashctl: gone: No such file or directory\n", 2));
}

#[test]
fn hints_name_the_other_algorithm_and_the_similar_file() {
    let dir = dir_with(&["File.txt"]);
    let blake3 = hex(&digest(Algorithm::Blake3, b"x"));
    fs::write(dir.path().join("m"), format!("{blake3}  a\n")).unwrap();
    let ours = check(dir.path(), &["m"]);
    let want = "hashctl: WARNING: 1 computed checksum did NOT match\n\
                hashctl: m: nothing matched; digests of 64 digits were taken for SHA256, see \
                -a blake3, -a sha512-256\n\
                hashctl: 1 file: 0 OK, 1 FAILED\n";
    assert_eq!((&*ours.stderr, ours.code), (want, 1));
    assert_eq!(check(dir.path(), &["-a", "blake3", "m"]).code, 0);
    fs::write(dir.path().join("m"), line(Algorithm::Sha256, b"x", "file.TXT ")).unwrap();
    let ours = check(dir.path(), &["m"]);
    let want = "hashctl: 'file.TXT ': No such file or directory; there is File.txt (blanks at the end, \
                upper and lower case)\n";
    assert!(ours.stderr.starts_with(want), "{}", ours.stderr);
}

#[test]
fn lists_with_zero_bytes_between_lines_are_checked() {
    let dir = dir_with(&["b\nc"]);
    let list = run(hashctl_alone().current_dir(dir.path()).args(["sum", "-z", "a", "b\nc"])).stdout;
    fs::write(dir.path().join("m"), list).unwrap();
    let ours = check(dir.path(), &["-z", "m"]);
    assert_eq!((&*ours.out(), ours.code), ("a: OK\n\\b\\nc: OK\n", 0), "{}", ours.stderr);
}

#[test]
fn an_interrupted_check_goes_on_where_it_was() {
    let dir = dir_with(&["b", "c"]);
    let at = |name: &str| dir.path().join(name);
    fs::write(at("changed"), "other").unwrap();
    mkfifo(&at("fifo"), Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    fs::write(at("m"), lines(&["a", "changed", "b", "fifo", "c"])).unwrap();
    let args = ["check", "--resume", "state", "m"];
    let child = start(hashctl_alone().current_dir(dir.path()).args(args).stdout(Stdio::piped()));
    // Once there is a reader, everything before it is on its way to be printed.
    let writer = OpenOptions::new().write(true).open(at("fifo")).unwrap();
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    let ours = finish(child);
    drop(writer);
    assert_eq!(ours.code, 4, "{}", ours.stderr);
    assert!(
        ours.stderr.contains("the same command goes on from here, by state"),
        "{}",
        ours.stderr
    );
    let printed = ours.out().lines().count();
    let state: serde_json::Value = serde_json::from_slice(&fs::read(at("state")).unwrap()).unwrap();
    assert_eq!(state["version"], 1);

    // Another check does not take it for its own.
    let other = check(dir.path(), &["-a", "sha256", "--resume", "state", "m"]);
    assert_eq!(other.code, 2, "{}", other.stderr);

    // What matched is not read again; what failed is.
    fs::remove_file(at("fifo")).unwrap();
    fs::write(at("fifo"), "x").unwrap();
    if printed >= 1 {
        fs::write(at("a"), "not looked at any more").unwrap();
    }
    let ours = check(dir.path(), &args[1..]);
    let all = ["a: OK\n", "changed: FAILED\n", "b: OK\n", "fifo: OK\n", "c: OK\n"];
    let earlier = [0, 1, 1, 2, 2, 2][printed];
    let want: Vec<&str> = match earlier {
        0 => all.to_vec(),
        1 => all[1..].to_vec(),
        _ => vec![all[1], all[3], all[4]],
    };
    assert_eq!(ours.out(), want.concat(), "{printed} were printed");
    let counts = match earlier {
        0 => "5 files: 4 OK, 1 FAILED\n".to_owned(),
        _ => format!("5 files: {} OK, 1 FAILED, {earlier} verified earlier\n", 4 - earlier),
    };
    assert!(ours.stderr.ends_with(&counts), "{}", ours.stderr);
    assert_eq!(ours.code, 1);
    assert!(!at("state").exists(), "the check is at its end");
}

#[test]
fn a_state_of_resume_counts_only_for_the_list_as_it_was() {
    let dir = dir_with(&["b"]);
    let at = |name: &str| dir.path().join(name);
    let list = line(Algorithm::Sha256, b"x", "a") + &line(Algorithm::Sha256, b"x", "b");
    fs::write(at("m"), &list).unwrap();
    let metadata = fs::metadata(at("m")).unwrap();
    let mtime_ns = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
    let state = |size: u64| {
        serde_json::json!({
            "version": 1, "algorithm": null, "strip_components": 0,
            "directory_b64": base64(dir.path().canonicalize().unwrap().as_os_str().as_bytes()),
            "lists": [{
                "list_b64": base64(b"m"), "size": size, "mtime_ns": mtime_ns, "verified": [[1, 1]],
            }],
        })
    };
    fs::write(at("state"), state(list.len() as u64).to_string()).unwrap();
    let ours = check(dir.path(), &["--resume", "state", "m"]);
    assert_eq!((&*ours.out(), ours.code), ("b: OK\n", 0), "{}", ours.stderr);
    fs::write(at("state"), state(1).to_string()).unwrap();
    let ours = check(dir.path(), &["--resume", "state", "m"]);
    assert_eq!((&*ours.out(), ours.code), ("a: OK\nb: OK\n", 0), "{}", ours.stderr);
    for (state, want) in [
        (
            "junk",
            "hashctl: state: not a file of --resume, or a damaged one; remove it to start again",
        ),
        (
            "{\"version\":2}",
            "hashctl: state: version 2 of the file is unknown; remove it to start again",
        ),
    ] {
        fs::write(at("state"), state).unwrap();
        let ours = check(dir.path(), &["--resume", "state", "m"]);
        assert_eq!(ours.code, 2);
        assert!(ours.stderr.starts_with(want), "{}", ours.stderr);
    }
    let ours = check(dir.path(), &["--resume", "new", "-"]);
    assert_eq!(ours.code, 2);
}

fn base64(bytes: &[u8]) -> String {
    let mut command = tool("base64", Path::new("/"));
    run_with(command.arg("-w0"), bytes.to_vec()).out()
}
