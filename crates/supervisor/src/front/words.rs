//! Commands of `run.sh` and the words that people try for them.

use std::ffi::OsStr;

/// Use of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// hashctl hashes: it needs a cluster, and boots one where none runs.
    Hashes,
    /// hashctl asks the cluster that runs.
    Asks,
    /// hashctl asks the cluster that runs, except about files of schedules.
    Schedule,
    /// hashctl works on files of this host: no cluster is needed.
    Alone,
    /// hashctl prints versions.
    Version,
    /// A cluster is started, or a VM.
    Up,
    /// A command of this program.
    Own(&'static str),
    /// A script.
    Script(&'static str),
    Help,
}

const COMMANDS: &[(&str, Use)] = &[
    ("sum", Use::Hashes),
    ("check", Use::Hashes),
    ("audit", Use::Hashes),
    ("update", Use::Hashes),
    ("compare", Use::Hashes),
    ("dups", Use::Hashes),
    ("status", Use::Asks),
    ("top", Use::Asks),
    ("release", Use::Asks),
    ("submit", Use::Asks),
    ("jobs", Use::Asks),
    ("show", Use::Asks),
    ("wait", Use::Asks),
    ("result", Use::Asks),
    ("cancel", Use::Asks),
    ("retry", Use::Asks),
    ("pause", Use::Asks),
    ("resume", Use::Asks),
    ("rm", Use::Asks),
    ("get", Use::Asks),
    ("search", Use::Asks),
    ("drain", Use::Asks),
    ("undrain", Use::Asks),
    ("backup", Use::Asks),
    ("restore", Use::Alone),
    ("schedule", Use::Schedule),
    ("version", Use::Version),
    ("--version", Use::Version),
    ("-V", Use::Version),
    ("up", Use::Up),
    ("start", Use::Up),
    ("down", Use::Own("stop")),
    ("stop", Use::Own("stop")),
    ("restart", Use::Own("restart")),
    ("ps", Use::Own("ps")),
    ("ssh", Use::Own("ssh")),
    ("exec", Use::Own("exec")),
    ("cp", Use::Own("cp")),
    ("logs", Use::Own("logs")),
    ("monitor", Use::Script("monitor.sh")),
    ("doctor", Use::Script("doctor.sh")),
    ("monitoring", Use::Script("monitoring.sh")),
    ("deploy", Use::Script("deploy.sh")),
    ("autostart", Use::Script("autostart.sh")),
    ("apply", Use::Up),
    ("help", Use::Help),
    ("--help", Use::Help),
    ("-h", Use::Help),
];

/// Names of programs that hashctl stands for.
const PERSONALITIES: &[&str] =
    &["md5sum", "sha1sum", "sha224sum", "sha256sum", "sha384sum", "sha512sum", "b2sum", "b3sum"];

/// Words for something else, and what there is instead.
const SYNONYMS: &[(&str, &str)] = &[
    ("hash", "sum PATH"),
    ("digest", "sum PATH"),
    ("sha256", "sum PATH"),
    ("sha512", "sum -a sha512 PATH"),
    ("blake3", "sum -a blake3 PATH"),
    ("md5", "sum -a md5 PATH"),
    ("verify", "check LIST"),
    ("diff", "audit LIST DIR"),
    ("duplicates", "dups DIR"),
    ("list", "ps"),
    ("ls", "ps"),
    ("info", "ps"),
    ("workers", "status"),
    ("health", "ps"),
    ("boot", "up"),
    ("create", "up"),
    ("run", "up"),
    ("launch", "up"),
    ("kill", "down"),
    ("halt", "down"),
    ("destroy", "down"),
    ("shutdown", "down"),
    ("poweroff", "down"),
    ("quit", "down"),
    ("reboot", "restart NAME"),
    ("reload", "apply"),
    ("shell", "ssh NAME"),
    ("login", "ssh NAME"),
    ("console", "logs NAME"),
    ("log", "logs"),
    ("journal", "logs"),
    ("watch", "top"),
    ("stats", "top"),
    ("scp", "cp FROM TO"),
    ("copy", "cp FROM TO"),
    ("rollout", "deploy"),
    ("upgrade", "deploy"),
    ("unquarantine", "release NAME"),
];

/// Use of the command `word`.
pub(super) fn of(word: &OsStr) -> Option<Use> {
    let word = word.to_str()?;
    if PERSONALITIES.contains(&word) {
        return Some(Use::Hashes);
    }
    COMMANDS.iter().find(|(name, _)| *name == word).map(|(_, used)| *used)
}

pub(super) fn hashes(word: &str) -> bool {
    of(OsStr::new(word)) == Some(Use::Hashes)
}

/// True for a program that hashctl stands for: it parses its arguments itself.
pub(super) fn is_personality(word: &OsStr) -> bool {
    word.to_str().is_some_and(|word| PERSONALITIES.contains(&word))
}

/// Command that may have been meant by `word`.
pub(super) fn meant(word: &str) -> Option<&'static str> {
    let word = word.to_lowercase();
    let synonym = SYNONYMS.iter().find(|(other, _)| *other == word).map(|(_, instead)| *instead);
    let commands = || COMMANDS.iter().map(|(name, _)| *name).filter(|name| !name.starts_with('-'));
    synonym.or_else(|| suggestion(&word, commands().chain(PERSONALITIES.iter().copied())))
}

/// The one of `known` that is most like `word`, if one is like it.
pub(super) fn suggestion(
    word: &str,
    known: impl Iterator<Item = &'static str>,
) -> Option<&'static str> {
    let distance = |name: &str| strsim::damerau_levenshtein(word, name);
    let nearest = known.min_by_key(|name| distance(name))?;
    (distance(nearest) * 3 <= nearest.len()).then_some(nearest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_suggests_the_nearest_command_and_a_file_name_none() {
        for (word, want) in [
            ("smu", Some("sum")),
            ("sum", Some("sum")),
            ("SUM", Some("sum")),
            ("chekc", Some("check")),
            ("statsu", Some("status")),
            ("sha256sums", Some("sha256sum")),
            ("hash", Some("sum PATH")),
            ("kill", Some("down")),
            ("debian.iso", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(meant(word), want, "{word:?}");
        }
    }

    #[test]
    fn each_word_means_one_thing() {
        let mut words: Vec<&str> = COMMANDS.iter().map(|(name, _)| *name).collect();
        words.extend(PERSONALITIES);
        words.extend(SYNONYMS.iter().map(|(word, _)| *word));
        let len = words.len();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), len);
        for (_, instead) in SYNONYMS {
            let word = instead.split(' ').next().unwrap();
            assert!(of(OsStr::new(word)).is_some(), "{instead}");
        }
    }
}
