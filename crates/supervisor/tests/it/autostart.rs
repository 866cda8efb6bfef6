//! The unit that starts a cluster.

use crate::harness::Bench;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use test_kit::Ended;

/// `autostart`, with a run.sh that knows `--known` and nothing else.
fn autostart(bench: &Bench, args: &[&str]) -> Ended {
    let start = bench.path("run.sh");
    fs::write(&start, "#!/bin/sh\n[ \"$*\" = '--known --dry-run' ] || { echo no >&2; exit 2; }\n")
        .unwrap();
    fs::set_permissions(&start, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = bench.command(&["autostart", "--start"]);
    command.arg(start).args(args).env("XDG_CONFIG_HOME", bench.path("config"));
    test_kit::Running::start(&mut command, test_kit::DEADLINE).end()
}

#[test]
fn autostart_is_enabled_shown_and_disabled_without_a_manager() {
    let bench = Bench::new("autostart", "");
    let unit = bench.path("config/systemd/user/hashcluster.service");
    let link = bench.path("config/systemd/user/default.target.wants/hashcluster.service");
    assert_eq!(autostart(&bench, &["status"]).status.code(), Some(3));
    let refused = autostart(&bench, &["enable", "--unknown"]);
    assert_eq!(refused.status.code(), Some(1), "{}", refused.stderr);
    assert!(refused.stderr.contains("no unit is written") && !unit.exists(), "{}", refused.stderr);
    for _ in 0..2 {
        let enabled = autostart(&bench, &["enable", "--known"]);
        assert!(enabled.status.success(), "{}", enabled.stderr);
        assert!(
            enabled.stderr.contains("systemctl --user start hashcluster"),
            "{}",
            enabled.stderr
        );
    }
    let text = fs::read_to_string(&link).unwrap();
    assert_eq!(text, autostart(&bench, &["show", "--known"]).stdout);
    assert!(
        text.contains("run.sh\" --foreground \"--known\"\n") && text.contains("\nType=notify\n")
    );
    let status = autostart(&bench, &["status"]);
    assert!(status.stdout.contains("is enabled and"), "{}", status.stdout);
    assert!(autostart(&bench, &["disable"]).status.success());
    assert!(!unit.exists() && link.symlink_metadata().is_err());
    assert!(autostart(&bench, &["disable"]).status.success());
}
