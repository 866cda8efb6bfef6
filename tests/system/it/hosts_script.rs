//! `scripts/hosts.sh` with a real broker and bridges; SSH, systemd and dpkg are small programs of the test.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;
use test_kit::{Broker, bin, output, repository, text};

/// Runs its second argument as the host that the first one names.
const SSH: &str = r#"#!/bin/bash
[ "$1" != unreachable ] || { echo "ssh: no route to host" >&2; exit 255; }
export ON="$DIR/$1" PATH="$DIR/bin:$PROGRAMS:$PATH" HASHCLUSTER_BRIDGE_CONFIG="$DIR/$1/bridge.toml"
echo "$2" >> "$ON/commands"
exec bash -c "${2//\/etc\/hashcluster/$ON}"
"#;

/// Starts and stops the bridge of the host.
const SYSTEMCTL: &str = r#"#!/bin/bash
start() {
  [ -e "$ON/pid" ] && return
  hashcluster-bridge serve </dev/null >"$ON/log" 2>&1 &
  echo $! > "$ON/pid"
}
case $1 in
  enable) touch "$ON/enabled"; start ;;
  disable) rm "$ON/enabled" ;;
  start) [ -e "$ON/broken" ] || start ;;
  stop) kill "$(cat "$ON/pid")"; rm "$ON/pid" ;;
  try-restart) ;;
  *) exit 1 ;;
esac
"#;

const DPKG: &str = "#!/bin/bash\n! grep -q broken \"$2\" || { touch \"$ON/broken\"; }\n";

/// Hosts `h1` and `h2` with a broker, and what stands for their systems.
struct Site {
    dir: TempDir,
    _broker: Broker,
}

impl Site {
    fn new() -> Self {
        let (dir, broker) = (tempfile::tempdir().unwrap(), Broker::start());
        let path = |name: &str| dir.path().join(name);
        fs::create_dir_all(path("bin")).unwrap();
        for (name, script) in [("ssh", SSH), ("systemctl", SYSTEMCTL), ("dpkg", DPKG)] {
            let program = path("bin").join(name);
            fs::write(&program, script).unwrap();
            fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
        }
        fs::create_dir(path("data")).unwrap();
        fs::write(path("data/.hashcluster-dataset"), "1\n").unwrap();
        for host in ["h1", "h2"] {
            fs::create_dir(path(host)).unwrap();
            let config = format!(
                "host = \"{host}\"\nbroker.servers = [\"nats://127.0.0.1:{}\"]\n\
                 serve.runtime_dir = {:?}\ndatasets.d = {:?}\n",
                broker.port(),
                dir.path(),
                path("data")
            );
            fs::write(path(host).join("bridge.toml"), config).unwrap();
        }
        fs::write(path("good.deb"), "good").unwrap();
        fs::write(path("bad.deb"), "broken").unwrap();
        Self { dir, _broker: broker }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Status and standard error of the script.
    fn run(&self, args: &[&str]) -> (Option<i32>, String) {
        let programs = bin("hashcluster-bridge").parent().unwrap().to_owned();
        let mut script = Command::new(repository("scripts/hosts.sh"));
        script.args(args).env("DIR", self.dir.path()).env("PROGRAMS", &programs);
        script.env("HASHCLUSTER_BIN_DIR", &programs).env("HASHCLUSTER_HOSTS_WAIT", "5");
        script.env("HASHCLUSTER_BRIDGE_CONFIG", self.path("h1/bridge.toml"));
        let ended = output(script.env("HASHCLUSTER_SSH", self.path("bin/ssh")));
        (ended.status.code(), text(&ended.stderr))
    }

    fn is_running(&self, host: &str) -> bool {
        self.path(host).join("pid").exists()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for host in ["h1", "h2"] {
            // Those that a failed test left.
            if let Ok(pid) = fs::read_to_string(self.path(host).join("pid")) {
                output(Command::new("kill").args(["-9", pid.trim()]));
            }
        }
    }
}

#[test]
fn hosts_join_drain_leave_and_are_renewed_one_after_the_other() {
    let site = Site::new();
    let (status, said) = site.run(&["join", "h1", "unreachable", "h2"]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("h1: serving\n") && said.contains("h2: serving\n"), "{said}");
    assert!(said.contains("no route to host"), "{said}");

    let good = site.path("good.deb").display().to_string();
    let (status, said) = site.run(&["roll", &good, "h1", "h2"]);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.ends_with("h1: left\nh1: serving\nh2: left\nh2: serving\n"), "{said}");

    // The new version does not start on the first host: the second one is not touched.
    let bad = site.path("bad.deb").display().to_string();
    let before = fs::read_to_string(site.path("h2/commands")).unwrap();
    let (status, said) = site.run(&["roll", &bad, "h1", "h2"]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("h1: still left after 5 s, not serving"), "{said}");
    assert!(said.contains("h1 did not come back: the others stay as they are"), "{said}");
    assert_eq!(fs::read_to_string(site.path("h2/commands")).unwrap(), before);
    assert!(site.is_running("h2"));

    let (status, said) = site.run(&["drain", "h2"]);
    assert_eq!((status, &*said), (Some(0), "h2: left\n"));
    assert!(site.path("h2/enabled").exists() && !site.is_running("h2"));
    assert_eq!(site.run(&["join", "h2"]).0, Some(0));
    assert_eq!(site.run(&["leave", "h2"]).0, Some(0));
    assert!(!site.path("h2/enabled").exists());

    for wrong in [&["join"][..], &["roll", "h1"], &["drain", "-oProxyCommand=x"], &["fly", "h1"]] {
        assert_eq!(site.run(wrong).0, Some(2), "{wrong:?}");
    }
}
