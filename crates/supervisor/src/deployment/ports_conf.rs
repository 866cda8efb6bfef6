//! `ports.conf`: one VM a line, its SSH port first, then words `KEY=VALUE`; the first VM is the
//! controller, the others are workers.
//!
//! Bytes in, lines and faults out. A line with a fault still counts as a VM, so that one fault
//! does not make others of the lines below.
//!
//! Not here: whether a port is in use (`ports_free`), what a VM gets that its line does not say
//! (`merge`).

use super::Role;
use super::fault::{Faults, PortUse, Reason};
use super::kind::{CPUS, Kind, MEMORY, PORT, PORT_MIN, digits};
use super::shown::Shown;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// VMs of a cluster at most.
pub(super) const LINES_MAX: usize = 64;

/// What is added to the SSH port where no `metrics=PORT` is given.
pub(super) const METRICS_OFFSET: u16 = 1_000;

/// What the line of one VM says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct VmLine {
    /// Counted from 1.
    pub(super) line: usize,
    pub(super) role: Role,
    pub(super) name: String,
    /// None if it has a fault.
    pub(super) ssh_port: Option<u16>,
    /// None if it has a fault.
    pub(super) metrics_port: Option<u16>,
    pub(super) memory_mib: Option<u32>,
    pub(super) cpus: Option<u16>,
    pub(super) datasets: Vec<String>,
}

/// Reads one value of a line; what is no such value is reported as this kind.
type Word = fn(&mut VmLine, &str) -> Result<(), Refused>;

enum Refused {
    Value(Kind),
    Fault(Reason),
}

/// Every key, and how its value is read.
const WORDS: [(&str, Word); 5] = [
    ("mem", |vm, value| {
        let kib = MEMORY.size_kib(value).ok_or(Refused::Value(MEMORY))?;
        vm.memory_mib = u32::try_from(kib >> 10).ok();
        Ok(())
    }),
    ("cpus", |vm, value| {
        let cpus = digits(value).and_then(|cpus| CPUS.number(cpus));
        vm.cpus = u16::try_from(cpus.ok_or(Refused::Value(CPUS))?).ok();
        Ok(())
    }),
    ("dataset", |vm, value| {
        let kind = Kind::DatasetName;
        let name = kind.text(value).ok_or(Refused::Value(kind))?;
        if vm.role == Role::Controller {
            return Err(Refused::Fault(Reason::DatasetOfController));
        }
        if vm.datasets.iter().any(|known| known == name) {
            return Err(Refused::Fault(Reason::Repeated(Shown::plain(format!("dataset={name}")))));
        }
        vm.datasets.push(name.to_owned());
        Ok(())
    }),
    ("host", |vm, value| {
        vm.name = Kind::Host.text(value).ok_or(Refused::Value(Kind::Host))?.to_owned();
        Ok(())
    }),
    ("metrics", |vm, value| {
        vm.metrics_port = Some(port(value.as_bytes()).map_err(|reason| {
            let is_number = !matches!(reason, Reason::NotAPort(_));
            if is_number { Refused::Fault(reason) } else { Refused::Value(PORT) }
        })?);
        Ok(())
    }),
];

/// Keys that may stand in a line more than once.
const REPEATABLE: [&str; 1] = ["dataset"];

/// Reads a whole file.
pub(super) fn parse(bytes: &[u8], faults: &mut Faults) -> Vec<VmLine> {
    let mut vms: Vec<VmLine> = Vec::new();
    let mut taken = Taken::default();
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    for (i, text) in bytes.split(|&byte| byte == b'\n').enumerate() {
        let words = words(text);
        if words.is_empty() {
            continue;
        }
        if vms.len() == LINES_MAX {
            faults.at(i + 1, Reason::TooManyVms);
            break;
        }
        vms.push(vm(i + 1, vms.len(), &words, &mut taken, faults));
    }
    match vms.len() {
        0 => faults.whole(Reason::NoVm),
        1 => faults.whole(Reason::NoWorker),
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

fn vm(
    line: usize,
    index: usize,
    words: &[&[u8]],
    taken: &mut Taken,
    faults: &mut Faults,
) -> VmLine {
    let (role, name) = match index {
        0 => (Role::Controller, "controller".to_owned()),
        n => (Role::Worker, format!("worker{n}")),
    };
    let ssh_port = port(words[0]).map_err(|reason| faults.at(line, reason)).ok();
    let mut vm = VmLine {
        line,
        role,
        name,
        ssh_port,
        metrics_port: None,
        memory_mib: None,
        cpus: None,
        datasets: Vec::new(),
    };
    let keys = read_words(&mut vm, &words[1..], faults);
    let is_free = ssh_port.is_some_and(|port| taken.claim(port, line, PortUse::Ssh, faults));
    if keys.contains(&"metrics") {
        if let Some(port) = vm.metrics_port {
            taken.claim(port, line, PortUse::Metrics, faults);
        }
    } else if let Some(ssh_port) = ssh_port.filter(|_| is_free) {
        vm.metrics_port = ssh_port.checked_add(METRICS_OFFSET);
        match vm.metrics_port {
            Some(port) => {
                taken.claim(port, line, PortUse::MetricsByDefault, faults);
            }
            None => faults.at(line, Reason::NoMetricsPort(ssh_port)),
        }
    }
    vm
}

/// Reads the words after the port, and says which keys were there.
fn read_words(vm: &mut VmLine, words: &[&[u8]], faults: &mut Faults) -> Vec<&'static str> {
    let known = || WORDS.iter().map(|&(key, _)| key).collect();
    let line = vm.line;
    let mut keys = Vec::new();
    for word in words {
        let Some(at) = word.iter().position(|&byte| byte == b'=') else {
            faults.at(line, Reason::NotAWord { word: Shown::quoted(word), known: known() });
            continue;
        };
        let (name, value) = (&word[..at], &word[at + 1..]);
        let Some(&(key, read)) = WORDS.iter().find(|(key, _)| key.as_bytes() == name) else {
            faults.at(line, Reason::UnknownKey { key: Shown::quoted(name), known: known() });
            continue;
        };
        if keys.contains(&key) && !REPEATABLE.contains(&key) {
            faults.at(line, Reason::Repeated(Shown::plain(key)));
            continue;
        }
        keys.push(key);
        // Bytes that are no text become a character that no value may have.
        match read(vm, &String::from_utf8_lossy(value)) {
            Ok(()) => {}
            Err(Refused::Fault(reason)) => faults.at(line, reason),
            Err(Refused::Value(kind)) => {
                let value = Shown::quoted(value);
                let is_quoted = false;
                faults.at(line, Reason::BadValue { key: key.to_owned(), value, kind, is_quoted });
            }
        }
    }
    keys
}

fn port(word: &[u8]) -> Result<u16, Reason> {
    let shown = || Shown::quoted(word);
    if word.is_empty() || !word.iter().all(u8::is_ascii_digit) {
        return Err(Reason::NotAPort(shown()));
    }
    let number = str::from_utf8(word).ok().and_then(digits);
    match number.map(|number| (number, u16::try_from(number))) {
        Some((_, Ok(port))) if port >= PORT_MIN => Ok(port),
        Some((number @ 1.., Ok(_))) => Err(Reason::Privileged(number)),
        Some((number, _)) => Err(Reason::OutOfRange(Shown::plain(number.to_string()))),
        None => Err(Reason::OutOfRange(shown())),
    }
}

/// Ports that lines above have.
#[derive(Debug, Default)]
struct Taken(HashMap<u16, (PortUse, usize)>);

impl Taken {
    /// Whether the port was free.
    fn claim(&mut self, port: u16, line: usize, of: PortUse, faults: &mut Faults) -> bool {
        match self.0.entry(port) {
            Entry::Vacant(free) => {
                free.insert((of, line));
                true
            }
            Entry::Occupied(taken) => {
                let &(by, by_line) = taken.get();
                faults.at(line, Reason::PortTaken { port, of, by, by_line });
                false
            }
        }
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
                let (name, by_line) = (vm.name.clone(), *taken.get());
                faults.at(vm.line, Reason::NameTaken { name, by_line });
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

    /// What is wrong, line by line without the name of the file.
    #[track_caller]
    fn check(text: impl AsRef<[u8]>, want: &[&str]) {
        let errors = read(&text).map_or_else(|errors| errors, |_| String::new());
        let found: Vec<&str> = errors
            .lines()
            .map(|line| line.strip_prefix("ports.conf:").expect("the file comes first"))
            .collect();
        assert_eq!(found, want, "{}", String::from_utf8_lossy(text.as_ref()));
    }

    /// What is wrong with the second of three lines.
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
        let seen: Vec<_> = vms
            .iter()
            .map(|vm| (vm.role, &vm.name[..], vm.ssh_port.unwrap(), vm.metrics_port.unwrap()))
            .collect();
        let want = [
            (Role::Controller, "controller", 2220, 3220),
            (Role::Worker, "worker1", 2221, 3221),
            (Role::Worker, "rack-2", 2222, 3222),
            (Role::Worker, "worker3", 2223, 3223),
        ];
        assert_eq!(seen, want);
    }

    #[test]
    fn comments_blank_lines_and_the_line_ends_of_windows_are_no_vms() {
        let text = b"\xef\xbb\xbf# a comment, caf\xe9\r\n\r\n \t\r\n  2220\t# the controller\r\n\
                     2221 mem=1G#cpus=2\r\n\r\n#2222";
        let vms = read(text).unwrap();
        assert_eq!(vms.iter().map(|vm| vm.line).collect::<Vec<_>>(), [4, 5]);
        assert_eq!((vms[1].memory_mib, vms[1].cpus), (Some(1_024), None));
    }

    #[test]
    fn words_after_the_port_are_read() {
        let line = "2221 mem=192M cpus=64 dataset=a dataset=b_2 host=W metrics=9464";
        let vms = read(format!("2220 mem=64G\n{line}")).unwrap();
        let want = VmLine {
            line: 2,
            role: Role::Worker,
            name: "W".into(),
            ssh_port: Some(2_221),
            metrics_port: Some(9_464),
            memory_mib: Some(192),
            cpus: Some(64),
            datasets: vec!["a".into(), "b_2".into()],
        };
        assert_eq!(vms[1], want);
        assert_eq!(vms[0].memory_mib, Some(65_536));
    }

    #[test]
    fn what_is_no_port_is_refused() {
        for (line, want) in [
            ("80", "port 80 is privileged; use 1024 to 65535"),
            ("1023", "port 1023 is privileged; use 1024 to 65535"),
            ("0", "port 0 is out of range; use 1024 to 65535"),
            ("65536", "port 65536 is out of range; use 1024 to 65535"),
            (
                "99999999999999999999",
                "port \"99999999999999999999\" is out of range; use 1024 to 65535",
            ),
            ("ssh", "\"ssh\" is no port; begin the line with one, 1024 to 65535"),
            ("+2221", "\"+2221\" is no port; begin the line with one, 1024 to 65535"),
            ("-1", "\"-1\" is no port; begin the line with one, 1024 to 65535"),
            ("2221,2223", "\"2221,2223\" is no port; begin the line with one, 1024 to 65535"),
            ("mem=1G 2221", "\"mem=1G\" is no port; begin the line with one, 1024 to 65535"),
        ] {
            // Of the last, the second word is none either.
            let also = "\"2221\" is no KEY=VALUE; keys are mem, cpus, dataset, host, metrics";
            let want = [want, also];
            check_line(line, if line.contains(' ') { &want } else { &want[..1] });
        }
        check_line("64535", &[]);
        check_line("64536", &["no port 64536 + 1000 for metrics; add metrics=PORT"]);
        check_line("65535 metrics=1024", &[]);
    }

    #[test]
    fn what_is_no_word_is_refused() {
        let keys = "keys are mem, cpus, dataset, host, metrics";
        check_line("2221 big", &[&format!("\"big\" is no KEY=VALUE; {keys}")]);
        check_line("2221 memory=1G", &[&format!("unknown key \"memory\"; {keys}")]);
        check_line("2221 MEM=1G", &[&format!("unknown key \"MEM\"; {keys}")]);
        check_line("2221 =1G", &[&format!("unknown key \"\"; {keys}")]);
        check_line(
            "2221 mem = 1G",
            &[
                &format!("\"mem\" is no KEY=VALUE; {keys}"),
                &format!("unknown key \"\"; {keys}"),
                &format!("\"1G\" is no KEY=VALUE; {keys}"),
            ],
        );
        for (word, want) in [
            ("mem=63M", "mem: bad value \"63M\"; write 64M to 64G"),
            ("mem=192", "mem: bad value \"192\"; write 64M to 64G"),
            ("mem=", "mem: bad value \"\"; write 64M to 64G"),
            ("cpus=0", "cpus: bad value \"0\"; write 1 to 64"),
            ("cpus=65", "cpus: bad value \"65\"; write 1 to 64"),
            ("cpus=1.5", "cpus: bad value \"1.5\"; write 1 to 64"),
            ("dataset=A", "dataset: bad value \"A\"; write 1 to 32 of a-z, 0-9, _ and -"),
            (
                "host=a_b",
                "host: bad value \"a_b\"; write 1 to 32 letters, digits and, in between, hyphens",
            ),
            ("metrics=x", "metrics: bad value \"x\"; write 1024 to 65535"),
            ("metrics=80", "port 80 is privileged; use 1024 to 65535"),
            (
                "metrics=2221",
                "port 2221, the metrics port, is already the SSH port of line 2; use another",
            ),
            ("mem=1G mem=1G", "mem is given twice"),
            ("mem=1 mem=1G cpus=1", "mem: bad value \"1\"; write 64M to 64G"),
            ("dataset=a dataset=b dataset=a", "dataset=a is given twice"),
        ] {
            let twice = ["mem is given twice"];
            let more = if word.starts_with("mem=1 ") { &twice[..] } else { &[] };
            check_line(format!("2221 {word}"), &[&[want], more].concat());
        }
    }

    #[test]
    fn hostile_bytes_are_shown_and_harmless() {
        check_line(
            b"22\x1b[2J21",
            &[r#""22\u{1b}[2J21" is no port; begin the line with one, 1024 to 65535"#],
        );
        check_line(b"2221 mem=\xff\xfe", &[r#"mem: bad value "\xff\xfe"; write 64M to 64G"#]);
        check_line(
            "2221\u{a0}mem=1G",
            &[r#""2221\u{a0}mem=1G" is no port; begin the line with one, 1024 to 65535"#],
        );
        check_line(
            "2221\r2223",
            &[r#""2221\r2223" is no port; begin the line with one, 1024 to 65535"#],
        );
    }

    #[test]
    fn a_port_is_used_once() {
        check(
            "2220\n2221\n2220\n",
            &["3: port 2220, the SSH port, is already the SSH port of line 1; use another"],
        );
        check(
            "2220\n3220\n",
            &["2: port 3220, the SSH port, is already the metrics port (its SSH port + 1000) of \
             line 1; use another, or choose with metrics=PORT"],
        );
        check(
            "2220\n2221 metrics=9000\n8000\n",
            &["3: port 9000, the metrics port (its SSH port + 1000), is already the metrics port \
             of line 2; use another, or choose with metrics=PORT"],
        );
        check(
            "3220\n2220\n",
            &["2: port 3220, the metrics port (its SSH port + 1000), is already the SSH port of \
             line 1; use another, or choose with metrics=PORT"],
        );
        check(
            "2220 metrics=9000\n2221 metrics=9000\n",
            &["2: port 9000, the metrics port, is already the metrics port of line 1; use another"],
        );
        check("2220 metrics=9000\n3220\n", &[]);
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
    fn the_controller_mounts_no_dataset() {
        let want = "1: the controller mounts no dataset; move dataset= to a worker's line";
        check("2220 dataset=a\n2221\n", &[want]);
    }

    #[test]
    fn every_fault_is_told_at_once() {
        check(
            "80 mem=1 host=\n2221 x\nzzz\n2221\n",
            &[
                "1: port 80 is privileged; use 1024 to 65535",
                "1: mem: bad value \"1\"; write 64M to 64G",
                "1: host: bad value \"\"; write 1 to 32 letters, digits and, in between, hyphens",
                "2: \"x\" is no KEY=VALUE; keys are mem, cpus, dataset, host, metrics",
                "3: \"zzz\" is no port; begin the line with one, 1024 to 65535",
                "4: port 2221, the SSH port, is already the SSH port of line 2; use another",
            ],
        );
    }

    #[test]
    fn a_flood_of_faults_is_cut() {
        let line = format!("2220 {}\n2221\n", "x ".repeat(150));
        let errors = read(line).unwrap_err();
        assert_eq!(errors.lines().count(), 101);
        assert!(errors.ends_with("\nand 50 more"), "{errors}");
    }
}
