//! Rules about every tracked text, whatever its language. The needles are put together here so
//! that this file does not break its own rules.

use crate::tree::{File, files, refuse};

#[track_caller]
fn check_absent(needles: &[String], except: impl Fn(&File) -> bool, reason: &str) {
    let found = files().into_iter().filter(|file| !except(file)).flat_map(|file| {
        let lines = file.text.lines().enumerate();
        let lines = lines.filter(|(_, line)| needles.iter().any(|needle| line.contains(needle)));
        lines
            .map(|(i, line)| format!("{}:{}: {}", file.path, i + 1, line.trim()))
            .collect::<Vec<_>>()
    });
    refuse(&found.collect::<Vec<_>>(), reason);
}

#[test]
fn no_registry_is_named_by_its_host() {
    let hosts = [["crates", "io"], ["pypi", "org"], ["npmjs", "org"], ["debian", "org"]];
    let needles = hosts.map(|parts| parts.join("."));
    let reason = "packages are named, never the host that serves them: machines have mirrors";
    check_absent(&needles, |file| file.path.ends_with("Cargo.lock"), reason);
}

#[test]
fn no_path_of_one_machine_is_written_down() {
    let needles = ["root", "home"].map(|dir| format!("/{dir}/"));
    let reason = "a path below somebody's home exists on one machine only";
    check_absent(&needles, |_| false, reason);
}

#[test]
fn ssh_host_keys_are_always_checked() {
    let needles =
        ["no", "off"].map(|value| format!("{}={value}", ["StrictHost", "KeyChecking"].concat()));
    let reason = "host keys are made by the host and pinned; a session that skips the check talks \
                  to anybody";
    check_absent(&needles, |_| false, reason);
}
