//! The scripts, from a start to a stop, with the real binaries.

use std::fs;
use std::path::Path;
use std::process::Command;
use test_kit::{DEADLINE, Running, bin, output, repository, text, until};

fn script(name: &str, dir: &Path) -> Command {
    let mut command = Command::new(repository(name));
    command.env("HASHCLUSTER_RUNTIME_DIR", dir).current_dir(dir.parent().unwrap());
    command
}

#[test]
fn one_command_hashes_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("tree")).unwrap();
    for i in 0..500 {
        fs::write(dir.path().join(format!("tree/f{i:03}")), format!("{i}")).unwrap();
    }
    let run = dir.path().join("run");
    let sum = output(script("run.sh", &run).args(["--local", "2", "sum", "-r", "tree"]));
    assert!(sum.status.success(), "{}", text(&sum.stderr));
    let want = output(Command::new("bash").args(["-c", "sha256sum tree/*"]).current_dir(&dir));
    assert_eq!(text(&sum.stdout), text(&want.stdout));
    assert!(!run.exists(), "a run has a directory of its own, and removes it");
}

#[test]
fn what_cluster_toml_says_reaches_local_processes() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "abc").unwrap();
    let config = dir.path().join("cluster.toml");
    let run = dir.path().join("run");
    let text_of = "[defaults]\nbackend = 'portable'\nreading = 'plain'\nreport_every = '64M'\n\
                   drop_behind = true\ncross_check = '1/1'\n";
    fs::write(&config, text_of).unwrap();
    let script_of = "\"$0\" sum file >&2 && \"$0\" status --json && ps -o args= --ppid \"$PPID\"";
    let ran = output(
        Command::new(bin("hashcluster-vm"))
            .args(["local", "run", "--workers", "2", "--config"])
            .arg(&config)
            .args(["--", "sh", "-c", script_of])
            .arg(bin("hashctl"))
            .current_dir(&dir),
    );
    let (stdout, stderr) = (text(&ran.stdout), text(&ran.stderr));
    assert!(ran.status.success() && stderr.starts_with("ba7816bf"), "{stderr}");
    let (status, processes) = stdout.split_once('\n').unwrap();
    let status: serde_json::Value = serde_json::from_str(status).unwrap();
    assert_eq!(status["counters"]["items_checked"], 1);
    for worker in status["workers"].as_array().unwrap() {
        assert_eq!(worker["reading"], "plain");
        assert_eq!(worker["backends"]["sha256"], "portable");
    }
    let flags = "--backend portable --reading plain --report-every 67108864 --drop-behind";
    assert_eq!(processes.matches(flags).count(), 2, "{processes}");
    assert_eq!(processes.matches("--cross-check 1/1").count(), 1, "{processes}");

    fs::write(&config, "[defaults]\nreading = 'mmap'\n").unwrap();
    let mut refused = script("run.sh", &run);
    let refused =
        output(refused.arg("--config").arg(&config).args(["--local", "1", "sum", "file"]));
    let want = "cluster.toml:2: reading: bad value \"mmap\"; write auto or uring or plain\n";
    let stderr = text(&refused.stderr);
    assert!(stderr.ends_with(want), "{stderr}");
    assert_eq!((refused.status.code(), text(&refused.stdout)), (Some(2), String::new()));
}

#[test]
fn a_cluster_is_started_once_found_mended_and_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let up = Running::start(script("run.sh", &run).args(["--local", "2"]), DEADLINE);
    let hashctl = |args: &[&str]| {
        output(Command::new(bin("hashctl")).env("HASHCLUSTER_RUNTIME_DIR", &run).args(args))
    };
    until("two ready workers", || {
        hashctl(&["status", "--ready", "2"]).status.success().then_some(())
    });
    let second = output(script("run.sh", &run).args(["--local", "2"]));
    assert!(text(&second.stderr).contains("already runs"), "{}", text(&second.stderr));
    let worker = |name: &str| {
        let status: serde_json::Value =
            serde_json::from_slice(&hashctl(&["status", "--json"]).stdout).unwrap();
        let workers = status["workers"].as_array().unwrap().clone();
        workers.iter().find(|w| w["name"] == name).map(|w| w["pid"].as_i64().unwrap())
    };
    let before = worker("w1").expect("the first worker is called w1");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(before).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    until("another process for w1", || worker("w1").filter(|&pid| pid != before));
    let stop_it = |up: Running| {
        let stop = output(&mut script("scripts/stop.sh", &run));
        assert!(stop.status.success(), "{}", text(&stop.stderr));
        let up = up.end();
        assert!(up.status.success(), "{}", up.stderr);
    };
    let submit = |args: &[&str]| {
        let file = repository("ports.conf");
        output(script("run.sh", &run).args(["submit", "--inline"]).args(args).arg(file))
    };
    let submitted = submit(&["--id", "kept", "--wait"]);
    assert!(submitted.status.success(), "{}", text(&submitted.stderr));
    let schedules = || output(script("run.sh", &run).args(["schedule", "list"]));
    let listed = schedules();
    assert!(text(&listed.stdout).starts_with("SCHEDULE"), "{}", text(&listed.stderr));
    stop_it(up);
    assert_eq!(schedules().status.code(), Some(3), "there is no cluster to ask");
    let example = repository("docs/examples/schedules.yaml");
    let checked = output(script("run.sh", &run).args(["schedule", "check"]).arg(example));
    assert!(checked.status.success(), "a file is checked without one: {}", text(&checked.stderr));
    // Nothing boots for a job that would end with the command.
    assert_eq!(submit(&[]).status.code(), Some(3));
    let again = Running::start(script("run.sh", &run).args(["--local", "1"]), DEADLINE);
    until("a ready worker", || hashctl(&["status", "--ready", "1"]).status.success().then_some(()));
    let kept = hashctl(&["result", "kept"]);
    let want = output(Command::new("sha256sum").arg(repository("ports.conf")));
    assert_eq!(text(&kept.stdout), text(&want.stdout), "{}", text(&kept.stderr));
    stop_it(again);
    let left: Vec<_> = fs::read_dir(&run)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".sock") || name.ends_with("pid"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(hashctl(&["status"]).status.code(), Some(3));
}

#[test]
fn status_and_monitor_outlast_a_controller_that_is_stopped_and_started() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let mut up = Running::start(script("run.sh", &run).args(["--local", "1"]), DEADLINE);
    up.wait_for("are ready in");
    let succeeds = |name: &str, args: &[&str]| {
        let ended = output(script(name, &run).args(args));
        assert!(ended.status.success(), "{name} {args:?}: {}", text(&ended.stderr));
    };
    let monitor = Running::start(script("scripts/monitor.sh", &run).arg("1"), DEADLINE);
    let tables = || {
        let shown = monitor.stdout();
        (shown.matches("WORKER").count(), shown.matches("stopped").count())
    };
    until("the workers", || (tables().0 > 0).then_some(()));
    succeeds("scripts/vm.sh", &["stop", "controller"]);
    // Its members are shown as long as nobody knows more, and none of them is taken for a VM.
    until("the members", || (tables().1 > 0).then_some(()));
    let status = output(&mut script("scripts/status.sh", &run));
    let shown = text(&status.stdout);
    assert_eq!(status.status.code(), Some(3), "{shown}");
    assert!(shown.contains("controller  controller  stopped"), "{shown}");
    assert!(shown.contains("sockets: none none"), "{shown}");
    assert!(!shown.contains("SSH       "), "{shown}");
    succeeds("scripts/start.sh", &["controller"]);
    let before = tables().0;
    until("the workers again", || (tables().0 > before + 1).then_some(()));
    let status = output(&mut script("scripts/status.sh", &run));
    let shown = text(&status.stdout);
    assert!(
        status.status.success() && shown.contains("sockets: client.sock worker.sock"),
        "{shown}"
    );
    // It ends with the cluster.
    succeeds("scripts/stop.sh", &[]);
    assert_eq!(monitor.end().status.code(), Some(3));
    assert!(up.end().status.success());
}

#[test]
fn the_example_client_talks_to_the_real_controller() {
    let cluster = test_kit::Cluster::start(test_kit::Options::default());
    let example = repository("docs/examples/client.py");
    let run = output(Command::new("python3").arg(example).arg(cluster.client_socket()).arg("abc"));
    assert!(run.status.success(), "{}", text(&run.stderr));
    let want = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert!(text(&run.stdout).contains(want), "{}", text(&run.stdout));
}

/// `qemu/setup.sh` in a tree of its own, as it is asked which image VMs boot.
fn image_of(tree: &Path, options: &[&str]) -> std::process::Output {
    output(setup(tree, options).env_remove("HASHCLUSTER_IMAGE"))
}

fn setup(tree: &Path, options: &[&str]) -> Command {
    let mut setup = Command::new(tree.join("qemu/setup.sh"));
    setup.env("HASHCLUSTER_CACHE", tree.join("cache")).arg("--dry-run");
    setup.args(options).arg("/nonexistent");
    setup
}

#[test]
fn an_image_that_kas_built_is_preferred_and_only_one_for_this_processor() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("qemu")).unwrap();
    for name in ["setup.sh", "tools.sh"] {
        fs::copy(repository("qemu").join(name), dir.path().join("qemu").join(name)).unwrap();
    }
    let deploy = dir.path().canonicalize().unwrap().join("build/tmp-musl/deploy/images");
    let build = |machine: &str| {
        fs::create_dir_all(deploy.join(machine)).unwrap();
        fs::write(deploy.join(machine).join("image.txt"), "kind yocto\n").unwrap();
    };
    build("qemuarm64");
    let none = image_of(dir.path(), &["--image", "yocto"]);
    assert_eq!(none.status.code(), Some(3), "{}", text(&none.stderr));
    assert!(text(&none.stderr).contains("kas build"), "{}", text(&none.stderr));
    assert!(!text(&image_of(dir.path(), &[]).stdout).contains("deploy/images"));
    build("qemux86-64");
    let want = format!("--image={}\n", deploy.join("qemux86-64").display());
    for options in [&[][..], &["--image", "yocto"]] {
        let found = image_of(dir.path(), options);
        assert!(text(&found.stdout).contains(&want), "{}", text(&found.stdout));
    }
    assert!(!text(&image_of(dir.path(), &["--image", "dev"]).stdout).contains("deploy/images"));
    // The environment says it where no option does.
    let asked = |value: &str, options: &[&str]| {
        let found = output(setup(dir.path(), options).env("HASHCLUSTER_IMAGE", value));
        text(&found.stdout)
    };
    assert!(!asked("dev", &[]).contains("deploy/images"));
    assert!(asked("/some/dir", &[]).contains("--image=/some/dir\n"));
    assert!(asked("/some/dir", &["--image", "yocto"]).contains(&want));
}

#[test]
fn kernel_and_architecture_are_those_of_the_development_image_and_of_no_other() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("qemu")).unwrap();
    for name in ["setup.sh", "tools.sh"] {
        fs::copy(repository("qemu").join(name), dir.path().join("qemu").join(name)).unwrap();
    }
    for (options, want) in [
        (&[][..], "cache/image"),
        (&["--kernel", "debian"], "cache/image"),
        (&["--kernel", "minimal"], "cache/image-minimal"),
        (&["--image", "dev", "--kernel", "minimal"], "cache/image-minimal"),
        (&["--arch", "x86_64"], "cache/image"),
        (&["--arch", "arm64"], "cache/image-arm64"),
    ] {
        let found = text(&image_of(dir.path(), options).stdout);
        let want = format!("--image={}\n", dir.path().join(want).display());
        assert!(found.contains(&want), "{options:?}: {found}");
    }
    for (options, want) in [
        (["--kernel", "minimal", "--image", "/x"], "--image names another"),
        (["--image", "dev", "--kernel", "tiny"], "--kernel is debian or minimal, not tiny"),
        (["--image", "/x", "--arch", "arm64"], "--image names another"),
        (["--image", "dev", "--arch", "mips"], "--arch is x86_64 or arm64, not mips"),
        (["--arch", "arm64", "--kernel", "minimal"], "--kernel minimal is for x86_64 only"),
    ] {
        let refused = image_of(dir.path(), &options);
        assert_eq!(refused.status.code(), Some(2), "{options:?}");
        assert!(text(&refused.stderr).contains(want), "{}", text(&refused.stderr));
    }
}

#[test]
fn the_doctor_knows_an_image_with_an_initrd_for_each_role() {
    let dir = tempfile::tempdir().unwrap();
    let files = [("kernel", "k"), ("initrd.controller", "c"), ("initrd.worker", "w")];
    for (name, content) in files {
        fs::write(dir.path().join(name), content).unwrap();
    }
    let image = |digest: &str| {
        let said = format!("digest sha256:{digest}\nkernel 1\nkind yocto\n");
        fs::write(dir.path().join("image.txt"), said).unwrap();
        let mut doctor = Command::new(repository("scripts/doctor.sh"));
        doctor.arg("--image").arg(dir.path()).arg("--runtime-dir").arg(dir.path().join("run"));
        text(&output(&mut doctor).stdout)
    };
    // Of "kcw", cut, as the image's recipe does.
    let digest = "e073c190d068dcd7e5b4cca107ef729844dab7c3";
    let said = image(digest);
    assert!(said.contains(&format!("ok    image: yocto, sha256:{digest} in ")), "{said}");
    let said = image(&digest.replace('7', "8"));
    assert!(said.contains("FAIL  image: ") && said.contains("&& kas build kas/"), "{said}");
}
