//! Rights that the policy gives to other users. Only root can be another user: to others only what the
//! controller's own user may do is tried.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};
use test_kit::{Cluster, Options, output, text, until};

/// Stands for the controller's own user.
const OWN: u32 = 0;

/// Runs a program of the cluster as `uid`.
fn as_user(uid: u32, command: &mut Command) -> Command {
    if uid == OWN {
        return std::mem::replace(command, Command::new("true"));
    }
    let mut other = Command::new("setpriv");
    other.arg(format!("--reuid={uid}")).args(["--regid=54000", "--clear-groups"]);
    other.arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
    for (name, value) in command.get_envs() {
        other.env(name, value.expect("set"));
    }
    other
}

fn hashctl(cluster: &Cluster, uid: u32, args: &[&str]) -> Output {
    output(&mut as_user(uid, cluster.hashctl().args(args)))
}

#[test]
fn another_user_may_do_what_its_rule_says_and_nothing_else() {
    let is_root = nix::unistd::geteuid().is_root();
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    let (open, photos) = (dir.path().join("open"), dir.path().join("photos"));
    fs::create_dir(&photos).unwrap();
    for file in [&open, &photos.join("one")] {
        fs::write(file, "abc").unwrap();
    }
    let policy = dir.path().join("policy.toml");
    let rules = "[[rule]]
        uids = [54001]
        may = ['submit']
        [[rule]]
        uids = [54002]
        may = ['submit', 'see-jobs', 'release']
        datasets = ['photos']
        [[rule]]
        uids = [54003]
        may = ['see-jobs']
        [[rule]]
        uids = [54006]
        may = ['work']";
    fs::write(&policy, rules).unwrap();
    let controller_args =
        vec![format!("--policy={}", policy.display()), "--allow-uid=54004".to_owned()];
    let datasets = vec![("photos", photos)];
    let cluster = Cluster::start(Options { controller_args, datasets, ..Options::default() });
    fs::set_permissions(cluster.dir(), Permissions::from_mode(0o755)).unwrap();
    cluster.link_datasets();
    let mine = ["sum", open.to_str().unwrap()];
    let one = cluster.dir().join("datasets/photos/one");
    let named = ["--plane", "dataset", "sum", one.to_str().unwrap()];
    let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    for (uid, sums, names, releases) in [
        (OWN, Ok(()), Ok(()), Ok(())),
        (54001, Ok(()), Err("dataset"), Err("may not release w0")),
        (54002, Ok(()), Ok(()), Ok(())),
        (
            54003,
            Err("may not open jobs; see the controller's --policy"),
            Err(""),
            Err("may not release w0"),
        ),
        (54004, Ok(()), Err("dataset"), Err("may not release w0")),
        (
            54005,
            Err("uid 54005 is not allowed; see --allow-uid"),
            Err("uid 54005"),
            Err("uid 54005"),
        ),
    ] {
        if uid != OWN && !is_root {
            continue;
        }
        for (args, want) in [(&mine[..], sums), (&named, names)] {
            let ran = hashctl(&cluster, uid, args);
            let (said, printed) = (text(&ran.stderr), text(&ran.stdout));
            assert_eq!(printed.contains(digest), want.is_ok(), "{uid}, {args:?}: {said}");
            assert_eq!(ran.status.success(), want.is_ok(), "{uid}, {args:?}: {said}");
            assert!(want.err().is_none_or(|want| said.contains(want)), "{uid}, {args:?}: {said}");
        }
        let ran = hashctl(&cluster, uid, &["release", "w0"]);
        let said = text(&ran.stderr);
        assert!(releases.err().is_none_or(|want| said.contains(want)), "{uid}: {said}");
    }
    if !is_root {
        return;
    }
    // Whoever may open jobs is no worker: it would be given the descriptors of others' files.
    let mut worker = Command::new(test_kit::bin("hashcluster-worker"));
    worker.arg("--runtime-dir").arg(cluster.dir()).args(["--name", "thief"]);
    let mut thief = as_user(54002, &mut worker).stderr(Stdio::null()).spawn().unwrap();
    let refusal = "uid 54002 may not connect as a worker; see --policy";
    until("a refusal of the thief", || cluster.logs().contains(refusal).then_some(()));
    thief.kill().unwrap();
    thief.wait().unwrap();
    let mut hired = as_user(54006, &mut worker).stderr(Stdio::null()).spawn().unwrap();
    cluster.wait_ready(3);
    hired.kill().unwrap();
    hired.wait().unwrap();
}
