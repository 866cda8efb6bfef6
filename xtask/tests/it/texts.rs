//! Rules about every tracked text, whatever its language. The needles are put together here so
//! that this file does not break its own rules.

use crate::tree::{File, files, refuse};

#[track_caller]
fn check_absent(needles: &[String], except: impl Fn(&File) -> bool, reason: &str) {
    let found = files().into_iter().filter(|file| !except(file)).flat_map(|file| {
        file.lines_with(|line| needles.iter().any(|needle| line.contains(needle)))
    });
    refuse(&found.collect::<Vec<_>>(), reason);
}

#[test]
fn no_registry_is_named_by_its_host() {
    let hosts = [["crates", "io"], ["pypi", "org"], ["npmjs", "org"], ["debian", "org"]];
    let needles = hosts.map(|parts| parts.join("."));
    let reason = "packages are named, never the host that serves them: machines have mirrors";
    let is_list =
        |file: &File| ["Cargo.lock", "-crates.inc"].iter().any(|end| file.path.ends_with(end));
    check_absent(&needles, is_list, reason);
}

#[test]
fn no_path_of_one_machine_is_written_down() {
    let needles = ["root", "home"].map(|dir| format!("/{dir}/"));
    let reason = "a path below somebody's home exists on one machine only";
    check_absent(&needles, |_| false, reason);
}

#[test]
fn nothing_opens_a_vm_with_a_password() {
    let needles = [
        ["ssh", "pass"],
        ["chpass", "wd"],
        ["PasswordAuthentication ", "yes"],
        ["PermitEmptyPasswords ", "yes"],
        ["debug-", "tweaks"],
        ["empty-root-", "password"],
        ["allow-empty-", "password"],
    ];
    let reason =
        "VMs are opened with keys alone; root's password is locked, and none is written down";
    check_absent(&needles.map(|parts| parts.concat()), |_| false, reason);
}

/// True if `line` disables the check of SSH host keys, as an option or a line of ssh_config(5).
fn skips_host_keys(line: &str) -> bool {
    let option = ["stricthost", "keychecking"].concat();
    let line = line.to_ascii_lowercase();
    line.match_indices(&option).any(|(at, _)| {
        let rest = line[at + option.len()..].trim_start_matches([' ', '\t', '=', '"', '\'']);
        let value = rest.split(|c: char| !c.is_ascii_alphanumeric()).next();
        matches!(value, Some("no" | "off"))
    })
}

#[test]
fn ssh_host_keys_are_always_checked() {
    let found = files().into_iter().flat_map(|file| file.lines_with(skips_host_keys));
    let reason = "host keys are made by the host and pinned; a session that skips the check talks \
                  to anybody";
    refuse(&found.collect::<Vec<_>>(), reason);
}

#[test]
fn a_disabled_host_key_check_is_found_in_every_spelling() {
    let option = ["StrictHost", "KeyChecking"].concat();
    for (after, skips) in [
        ("=no", true),
        (" no", true),
        ("   =  off", true),
        ("=\"no\"", true),
        (" No # why", true),
        (" yes", false),
        ("=accept-new", false),
        (" nowhere", false),
        ("", false),
    ] {
        assert_eq!(skips_host_keys(&format!("ssh -o {option}{after}")), skips, "{after:?}");
        assert_eq!(
            skips_host_keys(&format!("{}{after}", option.to_lowercase())),
            skips,
            "{after:?}"
        );
    }
}
