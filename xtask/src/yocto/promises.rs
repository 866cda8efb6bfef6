//! Promises of `docs/specification-annex.md` about images, checked on `cpio -tv` of an initrd.

use crate::tools::Failure;

/// Limit of a worker's compressed root, without its kernel.
pub(super) const WORKER_BYTES_MAX: u64 = 8_000_000;

/// Interpreters that an image must not have. BusyBox' shell is required.
const INTERPRETERS: [&str; 9] =
    ["bash", "dash", "expect", "gawk", "lua", "perl", "python", "ruby", "tclsh"];

/// Counts the files of `listing`; the error lists every file that breaks a promise.
pub(super) fn check_files(listing: &str) -> Result<usize, Failure> {
    let wrong: Vec<String> = listing.lines().filter_map(fault).collect();
    if !wrong.is_empty() {
        return Err(Failure::Wrong(wrong.join("\n")));
    }
    match listing.lines().count() {
        0 => Err(Failure::Wrong("the initrd is empty".into())),
        files => Ok(files),
    }
}

/// Refuses an `etc/shadow` that lets anybody log in with a password.
pub(super) fn check_shadow(shadow: &str) -> Result<(), Failure> {
    let is_locked = |line: &str| {
        line.split(':').nth(1).is_some_and(|hash| hash.starts_with('!') || hash.starts_with('*'))
    };
    match shadow.lines().find(|line| !is_locked(line)) {
        _ if shadow.is_empty() => Err(Failure::Wrong("etc/shadow is empty".into())),
        Some(line) => Err(Failure::Wrong(format!("etc/shadow permits a password login: {line}"))),
        None => Ok(()),
    }
}

fn fault(line: &str) -> Option<String> {
    let mode = line.split_whitespace().next()?.as_bytes();
    let path = line.split_whitespace().nth(8)?;
    let name = path.rsplit('/').next().unwrap_or(path);
    let is_link = mode.first() == Some(&b'l');
    // Like /tmp: anybody may add files, nobody may remove others'.
    let is_sticky = mode.first() == Some(&b'd') && mode.get(9) == Some(&b't');
    let is_special = |at: usize| mode.get(at).is_some_and(|bit| b"sS".contains(bit));
    if is_special(3) || is_special(6) {
        Some(format!("{path} is setuid or setgid"))
    } else if !is_link && !is_sticky && mode.get(8) == Some(&b'w') {
        Some(format!("{path} is world-writable"))
    } else if INTERPRETERS.iter().any(|known| name.starts_with(known)) && path.contains("bin/") {
        Some(format!("{path} is an interpreter"))
    } else if name == "authorized_keys" || name == "host_key" {
        Some(format!("{path} is a credential"))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
-rwxr-xr-x   1 root     root       555720 Mar  9  2018 usr/bin/busybox
lrwxrwxrwx   1 root     root            7 Mar  9  2018 usr/bin/sh -> busybox
drwxrwxrwt   2 root     root            0 Mar  9  2018 tmp
";

    #[track_caller]
    fn refuses(line: &str, want: &str) {
        match check_files(&format!("{GOOD}{line}\n")) {
            Err(Failure::Wrong(what)) => assert!(what.contains(want), "{what}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_root_that_keeps_its_promises_passes() {
        assert_eq!(check_files(GOOD).ok(), Some(3));
        assert!(check_files("").is_err());
    }

    #[test]
    fn a_file_that_breaks_a_promise_is_named() {
        refuses("-rwsr-xr-x 1 root root 1 Mar 9 2018 usr/bin/su", "setuid");
        refuses("-rwxr-sr-x 1 root root 1 Mar 9 2018 usr/bin/wall", "setgid");
        refuses("drwxrwxrwx 1 root root 1 Mar 9 2018 data", "data is world-writable");
        refuses("-rwxr-xr-x 1 root root 1 Mar 9 2018 usr/bin/python3", "interpreter");
        refuses("-rw------- 1 root root 1 Mar 9 2018 etc/hashcluster/host_key", "credential");
    }

    #[test]
    fn a_password_is_refused() {
        assert!(check_shadow("root:*:1::::::\nsshd:!:1::::::\n").is_ok());
        assert!(check_shadow("root::1::::::\n").is_err());
        assert!(check_shadow("root:$6$salt$hash:1::::::\n").is_err());
        assert!(check_shadow("").is_err());
    }
}
