//! Command lines, environments, files and terminals of the programs.

use crate::suite::{Boundary, Case, Cases};
use crate::user::STRANGER;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use test_kit::{Ended, Running, bin, hostile_names, repository};

/// The longest that a program may take to refuse.
const LIMIT: Duration = Duration::from_secs(20);

pub(crate) fn cases() -> Vec<Case> {
    let lists = [commands(), injections(), manifests(), trees(), outputs(), directories()];
    lists.into_iter().flatten().collect()
}

fn run(command: &mut Command) -> Ended {
    Running::start(command.stdin(Stdio::null()), LIMIT).end()
}

/// Ends with `code`, says `what`, panics nowhere and moves no terminal.
#[track_caller]
fn refused(command: &mut Command, code: i32, what: &str) {
    let ended = run(command);
    let said = &ended.stderr;
    assert_eq!(ended.status.code(), Some(code), "{:?} {said}", ended.status);
    assert!(said.contains(what), "no {what:?} in {said}");
    assert!(!said.contains("panicked"), "{said}");
    is_clean(said);
}

#[track_caller]
fn is_clean(text: &str) {
    let is_raw = |c: char| {
        (c.is_control() && !"\n\t\r".contains(c)) || ('\u{2028}'..='\u{202e}').contains(&c)
    };
    assert!(!text.contains(is_raw), "raw: {text:?}");
}

fn fresh_dir() -> TempDir {
    tempfile::tempdir().unwrap()
}

const REFUSED: &str = "an error that names it, nothing starts";

fn commands() -> Vec<Case> {
    let mut cases = Cases::at(Boundary::Commands);
    let long = "x".repeat(200);
    let controller: [(&str, Vec<String>, i32, &str); 14] = [
        ("an abstract socket", vec!["--client-socket=unix:@x".into()], 2, "client-socket"),
        ("a socket without a path", vec!["--client-socket=unix:".into()], 2, "empty socket path"),
        (
            "a socket's path that is too long",
            vec![format!("--client-socket=unix:/tmp/{long}")],
            2,
            "bytes",
        ),
        (
            "a socket of another family",
            vec!["--worker-socket=tcp:0.0.0.0:1".into()],
            2,
            "worker-socket",
        ),
        ("a negative user", vec!["--allow-uid=-1".into()], 2, "allow-uid"),
        ("a user of 33 bits", vec!["--allow-uid=4294967296".into()], 2, "allow-uid"),
        ("a dataset that is a path", vec!["--dataset=../x".into()], 2, "dataset"),
        ("one dataset twice", vec!["--dataset=x".into(), "--dataset=x".into()], 1, "named twice"),
        (
            "too many datasets",
            (0..17).map(|i| format!("--dataset=d{i}")).collect(),
            1,
            "at most 16",
        ),
        ("a cross-check of no item", vec!["--cross-check=1/0".into()], 2, "cross-check"),
        ("a descriptor that is no number", vec!["--ready-fd=99999999999".into()], 2, "ready-fd"),
        ("an endless file of tokens", vec!["--worker-tokens=/dev/zero".into()], 1, "/dev/zero"),
        ("an endless token", vec!["--client-token-file=/dev/zero".into()], 1, "/dev/zero"),
        ("an endless policy", vec!["--policy=/dev/zero".into()], 1, "/dev/zero"),
    ];
    for (name, args, code, what) in controller {
        cases.add(format!("controller: {name}"), REFUSED, move |_| {
            let dir = fresh_dir();
            let mut command = Command::new(bin("hashcluster-controller"));
            refused(command.arg("--runtime-dir").arg(dir.path()).args(&args), code, what);
            assert!(!dir.path().join("client.sock").exists());
        });
    }
    for (name, policy) in [
        ("that is no TOML", "[[rule]\n"),
        ("with an unknown key", "[[rule]]\nuids = [1]\nmay = []\nsudo = true\n"),
        ("with an unknown word", "[[rule]]\nuids = [1]\nmay = [\"everything\"]\n"),
        ("with one user twice", "[[rule]]\nuids = [1]\nmay = []\n[[rule]]\nuids = [1]\nmay = []\n"),
        ("for nobody", "[[rule]]\nmay = [\"work\"]\n"),
        ("with escapes for a terminal", "[[rule]]\n\"\\u001b[2J\\u202e\" = 1\n"),
    ] {
        cases.add(format!("controller: a policy {name}"), REFUSED, move |_| {
            let dir = fresh_dir();
            let path = dir.path().join("policy");
            fs::write(&path, policy).unwrap();
            let mut command = Command::new(bin("hashcluster-controller"));
            refused(
                command.arg("--runtime-dir").arg(dir.path()).arg("--policy").arg(path),
                1,
                "policy",
            );
        });
    }
    let worker: [(&str, &[&str], i32, &str); 8] = [
        ("no threads", &["--threads=0"], 2, "threads"),
        ("more threads than a worker has", &["--threads=5000"], 2, "threads"),
        (
            "a name that is too long",
            &["--name=xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"],
            2,
            "name",
        ),
        ("an unknown backend", &["--backend=sudo"], 2, "backend"),
        ("cores that there are not", &["--cpuset=1023"], 1, "1023"),
        ("a policy that there is not", &["--sched=fifo:0"], 2, "sched"),
        ("a dataset without a directory", &["--dataset=x"], 2, "dataset"),
        ("a dataset whose directory is a file", &["--dataset=x=/etc/passwd"], 1, "/etc/passwd"),
    ];
    for (name, args, code, what) in worker {
        cases.add(format!("worker: {name}"), REFUSED, move |_| {
            let dir = fresh_dir();
            let mut command = Command::new(bin("hashcluster-worker"));
            refused(command.arg("--runtime-dir").arg(dir.path()).args(args), code, what);
        });
    }
    cases.add("worker: a processor feature that there is not", REFUSED, |_| {
        let dir = fresh_dir();
        let mut command = Command::new(bin("hashcluster-worker"));
        command.arg("--runtime-dir").arg(dir.path()).env("HASHCLUSTER_DENY_CPU", "$(id),\u{1b}[2J");
        let ended = run(&mut command);
        assert!(
            !ended.status.success() && ended.stderr.contains("HASHCLUSTER_DENY_CPU"),
            "{}",
            ended.stderr
        );
        is_clean(&ended.stderr);
    });
    let hashctl: [(&str, &[&str], i32, &str); 8] = [
        ("an abstract socket", &["--connect=unix:@x", "status"], 2, "abstract"),
        (
            "a socket that there is not",
            &["--connect=unix:/nonexistent/x", "status"],
            3,
            "/nonexistent/x",
        ),
        ("an endless token", &["--token-file=/dev/zero", "status"], 2, "/dev/zero"),
        ("an unknown plane", &["--plane=../x", "status"], 2, "plane"),
        ("a timeout before now", &["sum", "--timeout=-1", "x"], 2, "timeout"),
        ("an unknown algorithm", &["sum", "-a", "rot13", "x"], 2, "rot13"),
        ("a release of nobody", &["release", ""], 2, ""),
        (
            "an unknown option that moves a terminal",
            &["sum", "--\u{1b}[2J\u{202e}"],
            2,
            "unexpected",
        ),
    ];
    for (name, args, code, what) in hashctl {
        cases.add(format!("hashctl: {name}"), REFUSED, move |site| {
            refused(site.hashctl().args(args), code, what);
        });
    }
    cases.done()
}

/// Words that a shell would run.
const INJECTED: [&str; 5] =
    ["$(touch {})", "`touch {}`", "; touch {} ;", "a[$(touch {})]", "\n\ttouch {}\n"];

fn injections() -> Vec<Case> {
    let mut cases = Cases::at(Boundary::Commands);
    for key in [
        "[defaults]\nbackend",
        "[defaults]\nreading",
        "[defaults]\ncross_check",
        "[vm.w1]\nmem",
        "[defaults]\n\"x\"",
    ] {
        let title = key.replace('\n', " ");
        cases.add_slow(
            format!("cluster.toml: {title} that a shell would run"),
            REFUSED,
            move |_| {
                inject(|dir, words| {
                    let words = words.replace('\n', "\\n");
                    fs::write(dir.join("cluster.toml"), format!("{key} = \"{words}\"\n")).unwrap();
                    let mut command = Command::new(bin("hashcluster-vm"));
                    command.args(["local", "run", "--config"]).arg(dir.join("cluster.toml"));
                    command.args(["--", "true"]);
                    command
                });
            },
        );
    }
    cases.add_slow("ports.conf with words that a shell would run", REFUSED, |_| {
        inject(|dir, words| {
            fs::write(dir.join("ports.conf"), format!("controller 2220 {words}\n{words}\n"))
                .unwrap();
            let mut command = Command::new(bin("hashcluster-vm"));
            command.arg("config");
            command
        });
    });
    for script in ["status.sh", "stop.sh", "logs.sh", "doctor.sh", "restart.sh", "ssh.sh"] {
        cases.add_slow(format!("{script}: arguments that a shell would run"), REFUSED, move |_| {
            inject(|_, words| {
                let mut command = Command::new(repository("scripts").join(script));
                command.arg(words);
                command
            });
        });
    }
    cases.done()
}

/// Runs a command per way to make a shell run words; none of them may be run.
fn inject(command: impl Fn(&Path, &str) -> Command) {
    for words in INJECTED {
        let dir = fresh_dir();
        let marker = dir.path().join("marker");
        let words = words.replace("{}", marker.to_str().unwrap());
        let mut command = command(dir.path(), &words);
        command.env("HASHCLUSTER_RUNTIME_DIR", dir.path().join("run")).current_dir(dir.path());
        let ended = run(&mut command);
        assert!(!marker.exists(), "{words:?} was run");
        assert!(!ended.status.success(), "{words:?} was accepted: {}", ended.stdout);
    }
}

fn manifests() -> Vec<Case> {
    let mut cases = Cases::at(Boundary::Files);
    let digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let line = |name: &[u8]| [digest.as_bytes(), b"  ", name, b"\n"].concat();
    let lists: Vec<(&str, Vec<u8>)> = vec![
        ("a name with a zero byte", line(b"fi\0le")),
        ("a name with a carriage return", line(b"file\r")),
        ("a name that moves a terminal", line(b"\x1b[2J\x1b]0;x\x07\xc2\x9b")),
        ("a name that turns text around", line("\u{202e}elif\u{2066}\u{2028}".as_bytes())),
        ("a line of a megabyte", line(&vec![b'n'; 1 << 20])),
        ("a megabyte without a line", vec![b'0'; 1 << 20]),
        ("a million empty lines", vec![b'\n'; 1 << 20]),
        ("nothing", Vec::new()),
        ("a digest that is too short", b"abc  empty\n".to_vec()),
        ("a digest of 65 digits", format!("{digest}0  empty\n").into_bytes()),
        ("an escape that is none", [b"\\", &line(b"a\\qb")[..]].concat()),
        ("an escape that is cut off", [b"\\", &line(b"a\\")[..]].concat()),
        ("binary bytes", (0..=255).cycle().take(1 << 16).collect()),
        ("a BSD line without an end", b"SHA256 (empty = e3b0".to_vec()),
        ("a BSD line of an unknown algorithm", format!("SHA0 (empty) = {digest}\n").into_bytes()),
        ("names of devices", [line(b"/dev/zero"), line(b"/dev/full")].concat()),
        ("names of directories", [line(b"/"), line(b".."), line(b".")].concat()),
    ];
    for (name, list) in lists {
        cases.add(
            format!("a manifest of {name}"),
            "an error or a failure, status 1, and no OK",
            move |site| {
                let dir = fresh_dir();
                fs::write(dir.path().join("empty"), "").unwrap();
                fs::write(dir.path().join("list"), &list).unwrap();
                let ended =
                    run(site.hashctl().args(["check", "--strict", "list"]).current_dir(&dir));
                assert_eq!(ended.status.code(), Some(1), "{} {}", ended.stdout, ended.stderr);
                assert!(!ended.stdout.contains("OK"), "{}", ended.stdout);
                is_clean(&ended.stderr);
            },
        );
    }
    cases.add(
        "a manifest with escapes, checked beside a terminal",
        "the terminal sees no control",
        |site| {
            let dir = fresh_dir();
            let mut list = line_of(digest, "\u{1b}[2J");
            list += &line_of(digest, "\u{202e}x");
            fs::write(dir.path().join("list"), list).unwrap();
            let ended = run(site.hashctl().args(["check", "list"]).current_dir(&dir));
            is_clean(&ended.stderr);
        },
    );
    cases.done()
}

fn line_of(digest: &str, name: &str) -> String {
    format!("{digest}  {name}\n")
}

fn trees() -> Vec<Case> {
    let mut cases = Cases::at(Boundary::Files);
    cases.add(
        "names that break what splits, escapes or decodes",
        "a manifest that checks",
        |site| {
            let dir = fresh_dir();
            for name in hostile_names() {
                let path = dir.path().join(OsStr::from_bytes(&name));
                fs::write(path, name).unwrap();
            }
            let sum = run(site.hashctl().args(["sum", "-r", "."]).current_dir(&dir));
            assert!(sum.status.success(), "{}", sum.stderr);
            let list = fresh_dir();
            fs::write(list.path().join("list"), &sum.printed).unwrap();
            let check =
                run(site.hashctl().arg("check").arg(list.path().join("list")).current_dir(&dir));
            assert!(check.status.success(), "{}", check.stderr);
            assert_eq!(
                check.stdout.matches(": OK").count(),
                hostile_names().len(),
                "{}",
                check.stdout
            );
        },
    );
    cases.add(
        "a tree of FIFOs, sockets, devices and loops",
        "it ends, and hangs nowhere",
        |site| {
            let dir = fresh_dir();
            let path = |name: &str| dir.path().join(name);
            nix::unistd::mkfifo(&path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
            let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
            symlink("loop", path("loop")).unwrap();
            symlink("..", path("up")).unwrap();
            symlink("/dev/zero", path("zero")).unwrap();
            fs::write(path("file"), "x").unwrap();
            let sum = run(site.hashctl().args(["sum", "-r", "."]).current_dir(&dir));
            assert_eq!(sum.stdout.lines().count(), 1, "{} {}", sum.stdout, sum.stderr);
            let sum = run(site
                .hashctl()
                .args(["sum", "fifo", "socket", "loop", "zero", "up"])
                .current_dir(&dir));
            assert_eq!((sum.status.code(), &*sum.stdout), (Some(1), ""), "{}", sum.stderr);
        },
    );
    cases.add("a tree deeper than a path may be long", "an error, and it ends", |site| {
        let dir = fresh_dir();
        let step = "d".repeat(200);
        let script =
            format!("for i in $(seq 40); do mkdir {step} && cd {step} || exit; done; echo x >deep");
        assert!(run(Command::new("bash").args(["-c", &script]).current_dir(&dir)).status.success());
        let sum = run(site.hashctl().args(["sum", "-r", "."]).current_dir(&dir));
        assert!(matches!(sum.status.code(), Some(0 | 1)), "{:?} {}", sum.status, sum.stderr);
        assert!(!sum.stderr.contains("panicked"), "{}", sum.stderr);
        assert!(run(Command::new("rm").arg("-r").arg(dir.path().join(&step))).status.success());
    });
    cases.done()
}

fn outputs() -> Vec<Case> {
    let mut cases = Cases::at(Boundary::Resources);
    for (name, script, code) in [
        ("standard output that is full", "\"$0\" sum /etc/passwd >/dev/full", 1),
        ("standard output that is closed", "\"$0\" sum /etc/passwd >&-", 1),
        ("--help to standard output that is full", "\"$0\" --help >/dev/full", 1),
        ("--version to standard output that is closed", "\"$0\" --version >&-", 1),
        ("standard input that is closed", "\"$0\" sum <&-", 1),
        ("standard input that is open for writing only", "\"$0\" sum 0>>/dev/null", 1),
        ("a manifest from closed standard input", "\"$0\" check - <&-", 1),
        ("standard error that is full", "\"$0\" sum /nonexistent 2>/dev/full", 1),
        ("standard error that is closed", "\"$0\" sum /nonexistent 2>&-", 1),
        ("all of the three closed", "\"$0\" sum /etc/passwd <&- >&- 2>&-", 1),
        ("a limit of 24 open files", "ulimit -n 24; \"$0\" sum /etc/passwd", 0),
        (
            "a reader that leaves",
            "set -o pipefail; \"$0\" sum $(yes /etc/passwd | head -5000) | head -1",
            1,
        ),
        ("a limit of 128 MiB of memory", "ulimit -v 131072; \"$0\" sum /etc/passwd", 0),
    ] {
        cases.add(format!("hashctl: {name}"), "the status that says so", move |site| {
            let ours = site.hashctl();
            let mut shell = Command::new("bash");
            shell.args(["-c", script]).arg(ours.get_program());
            shell.envs(ours.get_envs().filter_map(|(key, value)| Some((key, value?))));
            let ended = run(&mut shell);
            assert_eq!(ended.status.code(), Some(code), "{} {}", ended.stdout, ended.stderr);
            assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
        });
    }
    cases.add("hashctl: a limit of 64 open files for 600 files", "every digest", |site| {
        let dir = fresh_dir();
        (0..600).for_each(|i| fs::write(dir.path().join(format!("{i}")), "x").unwrap());
        let ours = site.hashctl();
        let mut shell = Command::new("bash");
        shell
            .args(["-c", "ulimit -n 64; exec \"$0\" sum -r ."])
            .arg(ours.get_program())
            .current_dir(&dir);
        shell.envs(ours.get_envs().filter_map(|(key, value)| Some((key, value?))));
        let ended = run(&mut shell);
        assert_eq!(
            (ended.status.code(), ended.stdout.lines().count()),
            (Some(0), 600),
            "{}",
            ended.stderr
        );
    });
    for (name, limit, what) in
        [("39 open files", "-n 39", "files"), ("no memory for threads", "-v 3000", "")]
    {
        cases.add(format!("controller: {name}"), "does not start, and says so", move |_| {
            let dir = fresh_dir();
            let script = format!("ulimit {limit}; exec \"$0\" --runtime-dir \"$1\"");
            let mut shell = Command::new("bash");
            shell.args(["-c", &script]).arg(bin("hashcluster-controller")).arg(dir.path());
            let ended = run(&mut shell);
            assert!(!ended.status.success() && ended.stderr.contains(what), "{}", ended.stderr);
        });
    }
    cases.done()
}

fn directories() -> Vec<Case> {
    let mut cases = Cases::at(Boundary::Directories);
    let controller = |dir: &Path| {
        let mut command = Command::new(bin("hashcluster-controller"));
        command.arg("--runtime-dir").arg(dir);
        command
    };
    cases.add(
        "a second controller in a directory",
        "does not start; the first one stays",
        move |site| {
            refused(&mut controller(site.cluster().dir()), 1, "another controller listens");
        },
    );
    for name in ["client.sock", "worker.sock", "client.sock.lock", "worker.sock.lock"] {
        cases.add(
            format!("{name} as a link to somebody's file"),
            "does not start; the file is whole",
            move |site| {
                let dir = fresh_dir();
                let victim = site.data().join("victim");
                fs::write(&victim, "precious").unwrap();
                symlink(&victim, dir.path().join(name)).unwrap();
                refused(&mut controller(dir.path()), 1, name);
                assert_eq!(fs::read(&victim).unwrap(), b"precious");
                assert_eq!(fs::metadata(&victim).unwrap().permissions().mode() & 0o777, 0o644);
            },
        );
    }
    cases.add("a directory in the place of a socket", "does not start", move |_| {
        let dir = fresh_dir();
        fs::create_dir(dir.path().join("client.sock")).unwrap();
        refused(&mut controller(dir.path()), 1, "not a socket");
    });
    for (name, make) in [
        (
            "an endless endpoint",
            (|dir: &Path| symlink("/dev/zero", dir.join("client.endpoint")).unwrap()) as fn(&Path),
        ),
        ("an endpoint that is a directory", |dir| {
            fs::create_dir(dir.join("client.endpoint")).unwrap()
        }),
        ("an endpoint with escapes", |dir| {
            fs::write(dir.join("client.endpoint"), "vsock:\u{1b}[2J:1").unwrap()
        }),
        ("an endless token", |dir| {
            fs::write(dir.join("client.endpoint"), "vsock:3:5001\n").unwrap();
            symlink("/dev/zero", dir.join("client.token")).unwrap();
        }),
    ] {
        cases.add(format!("hashctl: {name}"), "an error that names it", move |site| {
            let dir = fresh_dir();
            make(dir.path());
            let mut command = site.hashctl();
            refused(command.arg("status").env("HASHCLUSTER_RUNTIME_DIR", dir.path()), 3, "client.");
        });
    }
    cases.add("a runtime directory in /tmp that somebody else made", "is not used", |site| {
        let user = 61_000 + u32::try_from(site.fresh()).unwrap();
        let dir = PathBuf::from(format!("/tmp/hashcluster-{user}"));
        fs::create_dir(&dir).unwrap();
        symlink(site.client_socket(), dir.join("client.sock")).unwrap();
        chown(&dir, Some(STRANGER), Some(STRANGER)).unwrap();
        let mut command = site.hashctl();
        command.env_remove("HASHCLUSTER_RUNTIME_DIR").env_remove("XDG_RUNTIME_DIR");
        let ended = run(command.arg("status").uid(user).gid(user));
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(ended.status.code(), Some(3), "{}", ended.stderr);
        let is_used = ended.stderr.contains("refused") || ended.stderr.contains("not allowed");
        assert!(!is_used, "it was connected to: {}", ended.stderr);
    });
    cases.add_slow(
        "a runtime directory that is removed",
        "connections go on; it ends in order",
        |_| {
            let mut cluster = test_kit::Cluster::start(test_kit::Options::default());
            let mut job = test_kit::MessageJob::on(&cluster);
            fs::remove_dir_all(cluster.dir()).unwrap();
            (0..50).for_each(|_| job.round_trip());
            assert!(cluster.terminate_controller());
        },
    );
    cases.done()
}
