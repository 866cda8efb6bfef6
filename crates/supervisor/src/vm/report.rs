//! Reports of VMs about themselves (`scripts/lib/guest-report`): untrusted, so only lines pass whose
//! every word is of its kind. Scripts may compute with their numbers and print the rest.

use crate::cluster::Error;
use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::process::ExitCode;

/// Longest report that is read, in bytes; one of ours has a few hundred.
const REPORT_LEN_MAX: u64 = 64 << 10;

/// A number keeps below this, so that scripts can multiply it.
const NUMBER_MAX: u64 = 999_999_999_999;

/// Prints the valid lines of the report on standard input.
///
/// # Errors
/// It cannot be read, or stdout not written.
pub(crate) fn filter_report() -> Result<ExitCode, Error> {
    let mut said = Vec::new();
    let read = io::stdin().lock().take(REPORT_LEN_MAX).read_to_end(&mut said);
    read.map_err(Error::step("read a VM's report"))?;
    let lines: String = facts(&said).iter().flat_map(|fact| [*fact, "\n"]).collect();
    io::stdout().lock().write_all(lines.as_bytes()).map_err(Error::step("write to stdout"))?;
    Ok(ExitCode::SUCCESS)
}

/// The valid lines of a report; of keys that can have only one, the first.
pub(crate) fn facts(said: &[u8]) -> Vec<&str> {
    let (mut facts, mut seen) = (Vec::new(), HashSet::new());
    let lines = said.split(|&byte| byte == b'\n').filter_map(|line| str::from_utf8(line).ok());
    for line in lines.filter(|line| is_fact(line)) {
        let key = line.split(' ').next().unwrap_or_default();
        if matches!(key, "service" | "space" | "mount" | "listens") || seen.insert(key) {
            facts.push(line);
        }
    }
    facts
}

/// A key and its values, with one space between two words.
fn is_fact(line: &str) -> bool {
    let words: Vec<&str> = line.split(' ').collect();
    match words[..] {
        ["service", name, state, seconds] => {
            is_word(name, 40, |byte| is_lower(byte) || byte.is_ascii_digit() || byte == b'-')
                && is_word(state, 16, is_lower)
                && number(seconds).is_some()
        }
        ["uptime" | "clock" | "trouble", seconds] => number(seconds).is_some(),
        ["memory", total, available] => is_part(available, total),
        ["space", mount, total, available] => {
            mount.starts_with('/')
                && is_word(mount, 41, |byte| is_lower(byte) || byte == b'/')
                && is_part(available, total)
        }
        ["mount", mount, "ro" | "rw"] => {
            let is_inner =
                |byte: u8| is_lower(byte) || byte.is_ascii_digit() || b"/_-".contains(&byte);
            mount.starts_with('/') && is_word(mount, 41, is_inner)
        }
        ["listens", address] => {
            is_word(address, 48, |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'.' | b':'))
        }
        ["version", program, version] => {
            let name = program.strip_prefix("hashcluster-").unwrap_or_default();
            let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b".+-".contains(&byte);
            is_word(name, 16, is_lower) && is_word(version, 32, is_inner)
        }
        ["image", digest] => {
            is_word(digest, 64, |byte| byte.is_ascii_alphanumeric() || b":._-".contains(&byte))
        }
        _ => false,
    }
}

fn is_lower(byte: u8) -> bool {
    byte.is_ascii_lowercase()
}

fn is_word(word: &str, len_max: usize, is_inner: impl Fn(u8) -> bool) -> bool {
    (1..=len_max).contains(&word.len()) && word.bytes().all(is_inner)
}

/// Decimal digits without a leading zero, which a shell would read as octal.
fn number(word: &str) -> Option<u64> {
    let is_decimal = word.bytes().all(|byte| byte.is_ascii_digit());
    let is_octal = word.len() > 1 && word.starts_with('0');
    word.parse().ok().filter(|&number| is_decimal && !is_octal && number <= NUMBER_MAX)
}

/// True if scripts can say how much of `total` is `part`.
fn is_part(part: &str, total: &str) -> bool {
    let numbers = number(part).zip(number(total));
    numbers.is_some_and(|(part, total)| total > 0 && part <= total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(said: &str, want: &[&str]) {
        assert_eq!(facts(said.as_bytes()), want, "{said:?}");
    }

    #[test]
    fn a_report_of_ours_passes_as_a_whole() {
        let said = "service hashcluster-worker run 12\nservice sshd down 0\nuptime 61\n\
                    clock 1764200000\nmemory 192000 96000\nspace / 1000 400\n\
                    space /var/lib/hashcluster 1000 0\nlistens 0.0.0.0:22\nlistens :::9464\n\
                    mount /data/set_1-a ro\ntrouble 0\n\
                    version hashcluster-worker 0.1.0\nimage sha256:0a_b.c-d";
        check(said, &said.lines().collect::<Vec<_>>());
    }

    #[test]
    fn words_that_a_shell_would_evaluate_do_not_pass() {
        for line in [
            "memory 1000 PATH[$(touch x)]",
            "memory a[$(touch x)] 1",
            "memory 0 0",
            "memory 1000 1001",
            "memory 1000",
            "memory 1000 1 1",
            "memory 01000 1",
            "memory 1000 08",
            "memory 1000 0x1",
            "memory 1000 +1",
            "memory 1000 -1",
            "memory 9999999999999 1",
            "clock $(date)",
            "clock 1\u{1b}[2J",
            "clock 1\r",
            "clock  1",
            " clock 1",
            "clock",
            "uptime ",
            "service x;y run 1",
            "service x run",
            "space / 0 0",
            "space tmp 1 1",
            "space /t*p 1 1",
            "mount /data/$(x) ro",
            "mount /data/x sync",
            "trouble x",
            "listens $(x)",
            "listens ",
            "version hashctl 1",
            "version hashcluster-worker `x`",
            "image \u{202e}x",
            "image",
            "PATH 1",
            "",
        ] {
            check(line, &[]);
        }
    }

    #[test]
    fn a_key_with_one_value_has_the_first() {
        check(
            "clock x\nclock 1\nclock 2\nlistens 1:1\nlistens 1:1",
            &["clock 1", "listens 1:1", "listens 1:1"],
        );
    }
}
