//! `ports.conf`: one VM per line, its SSH port first and then perhaps `host=NAME`; the first VM is
//! the controller, the others are workers.
//!
//! Bytes in, lines and faults out. A line with a fault still counts as a VM, so that one fault does not
//! make others of the lines below.
//!
//! Not here: whether ports are in use (`ports_free`) or clash (`merge`), and every other setting, which
//! is `cluster.toml`'s.

use super::Role;
use super::fault::{Faults, bad_value};
use super::kind::{Kind, PORT, PORT_MIN, digits};
use super::shown::Shown;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// VMs of a cluster at most.
pub(super) const LINES_MAX: usize = 64;

/// The line of one VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct VmLine {
    /// Counted from 1.
    pub(super) line: usize,
    pub(super) role: Role,
    pub(super) name: String,
    /// None if it has a fault.
    pub(super) ssh_port: Option<u16>,
    /// Names of its datasets, set by `merge`.
    pub(super) datasets: Vec<String>,
}

/// Words that stood in `ports.conf` once: the key, and how `cluster.toml` has it. `{}` is the value.
const MOVED: [(&str, &str); 4] = [
    ("mem", "memory = \"{}\""),
    ("cpus", "cpus = {}"),
    ("metrics", "metrics_port = {}"),
    ("dataset", "datasets = [\"{}\"]"),
];

/// Reads a whole file.
pub(super) fn parse(bytes: &[u8], faults: &mut Faults) -> Vec<VmLine> {
    let mut vms: Vec<VmLine> = Vec::new();
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    for (i, text) in bytes.split(|&byte| byte == b'\n').enumerate() {
        let words = words(text);
        if words.is_empty() {
            continue;
        }
        if vms.len() == LINES_MAX {
            faults.at(i + 1, format!("more than {LINES_MAX} VMs"));
            break;
        }
        vms.push(vm(i + 1, vms.len(), &words, faults));
    }
    match vms.len() {
        0 => faults.whole("names no VM; write one SSH port per line, the controller's first"),
        1 => faults.whole("needs a controller and at least one worker; add a line with a port"),
        _ => {}
    }
    claim_names(&vms, faults);
    vms
}

/// The words of a line, without its comment.
fn words(line: &[u8]) -> Vec<&[u8]> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let line = line.split(|&byte| byte == b'#').next().unwrap_or_default();
    line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty()).collect()
}

fn vm(line: usize, index: usize, words: &[&[u8]], faults: &mut Faults) -> VmLine {
    let (role, mut name) = match index {
        0 => (Role::Controller, "controller".to_owned()),
        n => (Role::Worker, format!("worker{n}")),
    };
    let ssh_port = port(words[0]).map_err(|reason| faults.at(line, reason)).ok();
    // The name first: faults of the other words speak of it.
    let (hosts, others): (Vec<&[u8]>, Vec<_>) =
        words[1..].iter().partition(|word| word.starts_with(b"host="));
    for (i, word) in hosts.into_iter().enumerate() {
        let value = &word[b"host=".len()..];
        match str::from_utf8(value).ok().and_then(|value| Kind::Host.text(value)) {
            _ if i > 0 => faults.at(line, "host is given twice"),
            Some(host) => host.clone_into(&mut name),
            None => faults.at(line, bad_value("host", &Shown::quoted(value), Kind::Host, false)),
        }
    }
    for word in others {
        let moved = MOVED.iter().find_map(|(key, instead)| {
            let value = word.strip_prefix(key.as_bytes())?.strip_prefix(b"=")?;
            Some(instead.replace("{}", &Shown::bare(value).to_string()))
        });
        let word = Shown::quoted(word);
        faults.at(
            line,
            match moved {
                Some(instead) => format!("{word} belongs in cluster.toml: [vm.{name}] {instead}"),
                None => format!("unknown word {word}; after the port may stand host=NAME"),
            },
        );
    }
    VmLine { line, role, name, ssh_port, datasets: Vec::new() }
}

fn port(word: &[u8]) -> Result<u16, String> {
    let out_of_range = |port: Shown| format!("port {port} is out of range; use {PORT}");
    if word.is_empty() || !word.iter().all(u8::is_ascii_digit) {
        let word = Shown::quoted(word);
        return Err(format!("{word} is no port; begin the line with one, {PORT}"));
    }
    let number = str::from_utf8(word).ok().and_then(digits);
    match number.map(|number| (number, u16::try_from(number))) {
        Some((_, Ok(port))) if port >= PORT_MIN => Ok(port),
        Some((number @ 1.., Ok(_))) => Err(format!("port {number} is privileged; use {PORT}")),
        Some((number, _)) => Err(out_of_range(Shown::plain(number.to_string()))),
        None => Err(out_of_range(Shown::quoted(word))),
    }
}

/// Host names differ in more than their case.
fn claim_names(vms: &[VmLine], faults: &mut Faults) {
    let mut lines = HashMap::new();
    for vm in vms {
        match lines.entry(vm.name.to_ascii_lowercase()) {
            Entry::Vacant(free) => {
                free.insert(vm.line);
            }
            Entry::Occupied(taken) => {
                let (name, line) = (&vm.name, taken.get());
                let text =
                    format!("{name} is already the name of line {line}; choose with host=NAME");
                faults.at(vm.line, text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fault::LoadErrors;
    use super::*;

    fn read(text: impl AsRef<[u8]>) -> Result<Vec<VmLine>, String> {
        let mut faults = Faults::of("ports.conf");
        let vms = parse(text.as_ref(), &mut faults);
        LoadErrors::unless(vms, [faults]).map_err(|errors| errors.to_string())
    }

    /// Checks the faults, line by line without the name of the file.
    #[track_caller]
    fn check(text: impl AsRef<[u8]>, want: &[&str]) {
        let errors = read(&text).map_or_else(|errors| errors, |_| String::new());
        let found: Vec<&str> = errors
            .lines()
            .map(|line| line.strip_prefix("ports.conf:").expect("the file comes first"))
            .collect();
        assert_eq!(found, want, "{}", String::from_utf8_lossy(text.as_ref()));
    }

    /// Checks the faults of the second of three lines.
    #[track_caller]
    fn check_line(line: impl AsRef<[u8]>, want: &[&str]) {
        let line = line.as_ref();
        let want: Vec<String> = want.iter().map(|want| format!("2: {want}")).collect();
        let want: Vec<&str> = want.iter().map(String::as_str).collect();
        check([b"2220\n", line, b"\n2222\n"].concat(), &want);
    }

    #[test]
    fn the_first_line_is_the_controller_and_the_others_are_workers() {
        let vms = read("2220\n2221\n2222 host=rack-2\n2223\n").unwrap();
        let seen: Vec<_> =
            vms.iter().map(|vm| (vm.role, &vm.name[..], vm.ssh_port.unwrap())).collect();
        let want = [
            (Role::Controller, "controller", 2220),
            (Role::Worker, "worker1", 2221),
            (Role::Worker, "rack-2", 2222),
            (Role::Worker, "worker3", 2223),
        ];
        assert_eq!(seen, want);
    }

    #[test]
    fn comments_blank_lines_and_the_line_ends_of_windows_are_no_vms() {
        let text = b"\xef\xbb\xbf# a comment, caf\xe9\r\n\r\n \t\r\n  2220\t# the controller\r\n\
                     2221 host=a#b\r\n\r\n#2222";
        let vms = read(text).unwrap();
        assert_eq!(vms.iter().map(|vm| vm.line).collect::<Vec<_>>(), [4, 5]);
        assert_eq!(vms[1].name, "a");
    }

    #[test]
    fn what_is_no_port_is_refused() {
        let no_port =
            |shown: &str| format!("{shown} is no port; begin the line with one, 1024 to 65535");
        for (line, want) in [
            (&b"80"[..], "port 80 is privileged; use 1024 to 65535".to_owned()),
            (b"1023", "port 1023 is privileged; use 1024 to 65535".to_owned()),
            (b"0", "port 0 is out of range; use 1024 to 65535".to_owned()),
            (b"65536", "port 65536 is out of range; use 1024 to 65535".to_owned()),
            (
                b"99999999999999999999",
                "port \"99999999999999999999\" is out of range; use 1024 to 65535".to_owned(),
            ),
            (b"ssh", no_port("\"ssh\"")),
            (b"+2221", no_port("\"+2221\"")),
            (b"-1", no_port("\"-1\"")),
            (b"2221,2223", no_port("\"2221,2223\"")),
            // Hostile bytes are shown, and move no terminal.
            (b"22\x1b[2J21", no_port(r#""22\u{1b}[2J21""#)),
            ("2221\u{a0}host=a".as_bytes(), no_port(r#""2221\u{a0}host=a""#)),
            (b"2221\r2223", no_port(r#""2221\r2223""#)),
        ] {
            check_line(line, &[&want]);
        }
        check_line("64535", &[]);
    }

    #[test]
    fn words_that_moved_to_cluster_toml_are_refused_with_the_key_to_use() {
        for (word, name, instead) in [
            ("mem=256M", "worker1", r#"memory = "256M""#),
            ("cpus=2", "worker1", "cpus = 2"),
            ("metrics=9464", "worker1", "metrics_port = 9464"),
            ("dataset=isos", "worker1", r#"datasets = ["isos"]"#),
            ("mem=1G host=rack-2", "rack-2", r#"memory = "1G""#),
        ] {
            let shown = word.split(' ').next().unwrap();
            let want = format!("\"{shown}\" belongs in cluster.toml: [vm.{name}] {instead}");
            check_line(format!("2221 {word}"), &[&want]);
        }
        check_line(
            b"2221 mem=\xff\" dataset=a",
            &[
                r#""mem=\xff\"" belongs in cluster.toml: [vm.worker1] memory = "\xff\"""#,
                r#""dataset=a" belongs in cluster.toml: [vm.worker1] datasets = ["a"]"#,
            ],
        );
    }

    #[test]
    fn other_words_are_refused() {
        let bad_host = |shown: &str| {
            format!(
                "host: bad value {shown}; write 1 to 32 letters, digits and, in between, hyphens"
            )
        };
        let unknown =
            |shown: &str| format!("unknown word {shown}; after the port may stand host=NAME");
        for (words, want) in [
            ("big", vec![unknown("\"big\"")]),
            ("MEM=1G", vec![unknown("\"MEM=1G\"")]),
            ("mem = 1G", vec![unknown("\"mem\""), unknown("\"=\""), unknown("\"1G\"")]),
            ("host=a_b", vec![bad_host("\"a_b\"")]),
            ("host=", vec![bad_host("\"\"")]),
            ("host=a host=b", vec!["host is given twice".to_owned()]),
        ] {
            let want: Vec<&str> = want.iter().map(String::as_str).collect();
            check_line(format!("2221 {words}"), &want);
        }
    }

    #[test]
    fn a_name_is_used_once_and_so_are_the_names_that_follow_from_the_order() {
        let taken = |name: &str, line| {
            format!("3: {name} is already the name of line {line}; choose with host=NAME")
        };
        check("2220\n2221 host=worker2\n2222\n", &[&taken("worker2", 2)]);
        check("2220\n2221 host=a\n2222 host=A\n", &[&taken("A", 2)]);
        check("2220\n2221\n2222 host=controller\n", &[&taken("controller", 1)]);
        check("2220 host=a\n2221 host=worker2\n2222 host=worker1\n", &[]);
    }

    #[test]
    fn a_cluster_has_a_controller_a_worker_and_a_limit() {
        let none = " names no VM; write one SSH port per line, the controller's first";
        check("", &[none]);
        check("# nothing\n\n", &[none]);
        let one = " needs a controller and at least one worker; add a line with a port";
        check("2220\n", &[one]);
        let lines = |n: u16| (2_000..2_000 + n).map(|port| format!("{port}\n")).collect::<String>();
        check(lines(64), &[]);
        check(format!("\n{}", lines(66)), &["66: more than 64 VMs"]);
    }

    #[test]
    fn a_flood_of_faults_is_cut() {
        let line = format!("2220 {}\n2221\n", "x ".repeat(150));
        let errors = read(line).unwrap_err();
        assert_eq!(errors.lines().count(), 101);
        assert!(errors.ends_with("\nand 50 more"), "{errors}");
    }
}
