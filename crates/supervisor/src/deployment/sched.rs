//! Where and how processes run: CPUs of the host, scheduling policies.

use super::kind::digits;
use std::fmt::Write;
use std::fs;
use std::io;

/// CPU numbers are below this: more than any host that Linux runs on.
const CPUS_MAX: u16 = 8_192;

/// Highest priority of `SCHED_FIFO`: sched(7).
pub(super) const FIFO_PRIORITY_MAX: u8 = 99;

/// CPUs of the host by number, ascending, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CpuSet(Vec<u16>);

impl CpuSet {
    /// The CPUs that this process may use, and so the processes that it starts.
    ///
    /// # Errors
    /// `/proc` is not there, or not Linux's.
    pub(crate) fn of_this_process() -> io::Result<Self> {
        let status = fs::read_to_string("/proc/self/status")?;
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        let none = || io::Error::other("no list of CPUs in /proc/self/status");
        list.and_then(|list| Self::parse(list.trim())).ok_or_else(none)
    }

    /// Reads a list such as `0,2-3`, as taskset(1) and the kernel write it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut cpus = Vec::new();
        for range in text.split(',') {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last) = (cpu(first)?, cpu(last)?);
            if first > last || cpus.len() > usize::from(CPUS_MAX) {
                return None;
            }
            cpus.extend(first..=last);
        }
        cpus.sort_unstable();
        cpus.dedup();
        Some(Self(cpus))
    }

    /// The CPUs of this set that `host` lacks.
    pub(crate) fn missing_in(&self, host: &Self) -> Option<Self> {
        let lacks = |cpu: &u16| host.0.binary_search(cpu).is_err();
        let missing: Vec<u16> = self.0.iter().copied().filter(lacks).collect();
        (!missing.is_empty()).then_some(Self(missing))
    }

    /// The list for taskset(1), such as `0,2-3`.
    pub(crate) fn as_arg(&self) -> String {
        let mut list = String::new();
        let mut rest = &self.0[..];
        while let Some(&first) = rest.first() {
            let len = rest.iter().zip(first..).take_while(|&(&cpu, want)| cpu == want).count();
            let comma = if list.is_empty() { "" } else { "," };
            let _ = write!(list, "{comma}{first}");
            if len > 1 {
                let _ = write!(list, "-{}", rest[len - 1]);
            }
            rest = &rest[len..];
        }
        list
    }
}

fn cpu(text: &str) -> Option<u16> {
    digits(text).and_then(|cpu| u16::try_from(cpu).ok()).filter(|&cpu| cpu < CPUS_MAX)
}

/// True for what the worker's `--sched` takes: `other`, `batch` or `fifo:PRIO`.
pub(super) fn is_sched(text: &str) -> bool {
    let is_priority = |text: &str| {
        digits(text).is_some_and(|priority| (1..=FIFO_PRIORITY_MAX.into()).contains(&priority))
    };
    matches!(text, "other" | "batch") || text.strip_prefix("fifo:").is_some_and(is_priority)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: Option<&str>) {
        assert_eq!(CpuSet::parse(text).map(|set| set.as_arg()).as_deref(), want, "{text:?}");
    }

    #[test]
    fn a_list_of_cpus_is_read_and_written_as_taskset_does() {
        check("0", Some("0"));
        check("0-3", Some("0-3"));
        check("3,1,2,7,1-2", Some("1-3,7"));
        check("0,1", Some("0-1"));
        check("8191", Some("8191"));
        for bad in ["", ",", "1,", "1-", "-1", "3-2", "+1", "8192", "99999", "1 2", "0-1-2", "a"] {
            check(bad, None);
        }
        check(&["0-8191"; 4_000].join(","), None);
    }

    #[test]
    fn this_process_has_a_cpu() {
        assert!(!CpuSet::of_this_process().unwrap().0.is_empty());
    }

    #[test]
    fn cpus_that_the_host_lacks_are_named() {
        let host = CpuSet::parse("0-3,6").unwrap();
        let missing =
            |text: &str| CpuSet::parse(text).unwrap().missing_in(&host).map(|set| set.as_arg());
        assert_eq!(missing("0,3,6"), None);
        assert_eq!(missing("2-7"), Some("4-5,7".to_owned()));
    }

    #[test]
    fn a_policy_is_what_the_worker_takes() {
        for text in ["other", "batch", "fifo:1", "fifo:99"] {
            assert!(is_sched(text), "{text}");
        }
        for bad in
            ["", "fifo", "fifo:", "fifo:0", "fifo:100", "fifo:+1", "fifo:-1", "rr:1", "Other"]
        {
            assert!(!is_sched(bad), "{bad}");
        }
    }
}
