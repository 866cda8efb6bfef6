//! Resources that this process takes from its host: cores, priority, descriptors, memory.
//!
//! [`Settings::apply`] is for the main thread, before any other is started: threads inherit.

use crate::sys;
use ipc_proto::limits::{CREDIT_MAX, FRAME_DESCRIPTORS_MAX};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::sysinfo::sysinfo;
use nix::unistd::Pid;
use std::fmt;
use std::io;
use std::str::FromStr;

/// Highest priority of `SCHED_FIFO`: sched(7).
const FIFO_PRIORITY_MAX: u8 = 99;

/// Batches held in addition to those in work, so that no thread waits for the next.
const PREFETCH: u16 = 1;

/// Descriptors kept free of batches: standard streams, sockets, and a frame that is arriving while
/// another is handed out.
const DESCRIPTORS_RESERVE: usize = 32 + 2 * FRAME_DESCRIPTORS_MAX;

/// Descriptors that may wait to be closed where few may be open, and where many may.
const CLOSING_MAX: [usize; 2] = [128, 1024];

/// Cores by number, ascending, written like `0,2-3`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cores(Vec<usize>);

/// A text that is not a list of cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadCores;

impl fmt::Display for BadCores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "write cores as 0,2-3, each below {}", CpuSet::count())
    }
}

impl std::error::Error for BadCores {}

impl FromStr for Cores {
    type Err = BadCores;

    fn from_str(text: &str) -> Result<Self, BadCores> {
        let mut cores = Vec::new();
        for range in text.split(',') {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last) = (core(first)?, core(last)?);
            if first > last {
                return Err(BadCores);
            }
            cores.extend(first..=last);
        }
        cores.sort_unstable();
        cores.dedup();
        Ok(Self(cores))
    }
}

fn core(text: &str) -> Result<usize, BadCores> {
    // `parse` takes a leading plus sign.
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(BadCores);
    }
    text.parse().ok().filter(|&core| core < CpuSet::count()).ok_or(BadCores)
}

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = &self.0[..];
        let mut comma = "";
        while let Some(&first) = rest.first() {
            let len = rest.iter().zip(first..).take_while(|&(&core, want)| core == want).count();
            match len {
                1 => write!(f, "{comma}{first}")?,
                _ => write!(f, "{comma}{first}-{}", first + len - 1)?,
            }
            comma = ",";
            rest = &rest[len..];
        }
        Ok(())
    }
}

/// A scheduling policy, written `other`, `batch` or `fifo:PRIO`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// `SCHED_OTHER`.
    Other,
    /// `SCHED_BATCH`.
    Batch,
    /// `SCHED_FIFO` with a priority of 1 to 99.
    Fifo(u8),
}

/// A text that is not a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadPolicy;

impl fmt::Display for BadPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "write other, batch, or fifo:PRIO with 1 to {FIFO_PRIORITY_MAX}")
    }
}

impl std::error::Error for BadPolicy {}

impl FromStr for Policy {
    type Err = BadPolicy;

    fn from_str(text: &str) -> Result<Self, BadPolicy> {
        match text.split_once(':') {
            None if text == "other" => Ok(Self::Other),
            None if text == "batch" => Ok(Self::Batch),
            Some(("fifo", priority)) => match priority.parse() {
                Ok(priority @ 1..=FIFO_PRIORITY_MAX) => Ok(Self::Fifo(priority)),
                _ => Err(BadPolicy),
            },
            _ => Err(BadPolicy),
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other => f.write_str("other"),
            Self::Batch => f.write_str("batch"),
            Self::Fifo(priority) => write!(f, "fifo:{priority}"),
        }
    }
}

/// A resource that the host does not grant.
#[derive(Debug)]
pub enum HostError {
    /// Not those cores.
    Cores {
        /// Cores that were asked for.
        asked: Cores,
        /// Cores that this process may use.
        allowed: Cores,
    },
    /// Not that nice value.
    Nice {
        /// Priority that was asked for.
        asked: i8,
        /// The system's error.
        error: io::Error,
    },
    /// Not that policy.
    Policy {
        /// Policy that was asked for.
        asked: Policy,
        /// The system's error.
        error: io::Error,
    },
    /// Not enough descriptors for a single batch.
    Descriptors {
        /// The hard limit.
        limit: usize,
    },
    /// Something that every host provides.
    System {
        /// The call that failed, in words.
        what: &'static str,
        /// The system's error.
        error: io::Error,
    },
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cores { asked, allowed } => write!(
                f,
                "cannot run on cores {asked}: this process may use {allowed}; choose among those"
            ),
            Self::Nice { asked, error } => write!(
                f,
                "cannot set the nice value to {asked}: {error}; \
                 give the process CAP_SYS_NICE or a higher RLIMIT_NICE, or leave --nice out"
            ),
            Self::Policy { asked, error } => write!(
                f,
                "cannot set the scheduling policy to {asked}: {error}; \
                 give the process CAP_SYS_NICE or a higher RLIMIT_RTPRIO, or leave --sched out"
            ),
            Self::Descriptors { limit } => write!(
                f,
                "only {limit} descriptors may be open, a batch needs {}; raise the hard limit \
                 (ulimit -Hn)",
                DESCRIPTORS_RESERVE + CLOSING_MAX[0] + FRAME_DESCRIPTORS_MAX
            ),
            Self::System { what, error } => write!(f, "cannot {what}: {error}"),
        }
    }
}

impl std::error::Error for HostError {}

/// Resources that the operator asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Cores to run on.
    pub cores: Option<Cores>,
    /// Nice value.
    pub nice: Option<i8>,
    /// Scheduling policy.
    pub policy: Option<Policy>,
    /// Hashing threads; one per core if not given.
    pub threads: Option<u16>,
}

/// Resources that this process got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Hashing threads.
    pub threads: u16,
    /// Cores assigned to the threads round-robin; empty if they may run anywhere.
    pub pins: Vec<usize>,
    /// Descriptors that may be open.
    descriptors_max: usize,
}

impl Share {
    /// Number of batches that may be held at once, where each thread interleaves up to
    /// `interleave_max`: each batch may bring a frame full of descriptors.
    ///
    /// # Errors
    /// Not one of them might be open.
    pub fn credit(&self, interleave_max: u16) -> Result<u16, HostError> {
        credit(self.threads.saturating_mul(interleave_max), self.descriptors_max)
    }

    /// Number of descriptors that may wait to be closed.
    #[must_use]
    pub fn closing_max(&self) -> usize {
        closing_max(self.descriptors_max)
    }
}

impl Settings {
    /// Sets everything for this thread and those that it starts.
    pub fn apply(&self) -> Result<Share, HostError> {
        let allowed = allowed_cores()?;
        if let Some(asked) = &self.cores {
            if !asked.0.iter().all(|core| allowed.0.contains(core)) {
                return Err(HostError::Cores { asked: asked.clone(), allowed });
            }
            pin(&asked.0).map_err(|error| HostError::System { what: "choose cores", error })?;
        }
        if let Some(asked) = self.nice {
            sys::set_nice(asked).map_err(|error| HostError::Nice { asked, error })?;
        }
        if let Some(asked) = self.policy {
            set_policy(asked).map_err(|error| HostError::Policy { asked, error })?;
        }
        let cores = self.cores.as_ref().unwrap_or(&allowed);
        let threads = self
            .threads
            .unwrap_or_else(|| u16::try_from(cores.0.len()).expect("a set holds few cores"));
        let is_pinned = self.cores.is_some() || usize::from(threads) == cores.0.len();
        let pins = if is_pinned { cores.0.clone() } else { Vec::new() };
        Ok(Share { threads, pins, descriptors_max: raise_descriptor_limit()? })
    }
}

/// Restricts this thread to `cores`.
pub(crate) fn pin(cores: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    cores.iter().try_for_each(|&core| set.set(core))?;
    sched_setaffinity(Pid::from_raw(0), &set).map_err(io::Error::from)
}

/// Memory of this host, in bytes; 0 if it does not say.
#[must_use]
pub fn memory_bytes() -> u64 {
    sysinfo().map_or(0, |info| info.ram_total())
}

fn allowed_cores() -> Result<Cores, HostError> {
    let set = sched_getaffinity(Pid::from_raw(0))
        .map_err(|errno| HostError::System { what: "ask for cores", error: errno.into() })?;
    Ok(Cores((0..CpuSet::count()).filter(|&core| set.is_set(core).unwrap_or(false)).collect()))
}

fn set_policy(policy: Policy) -> io::Result<()> {
    match policy {
        Policy::Other => sys::set_scheduler(libc::SCHED_OTHER, 0),
        Policy::Batch => sys::set_scheduler(libc::SCHED_BATCH, 0),
        Policy::Fifo(priority) => sys::set_scheduler(libc::SCHED_FIFO, priority),
    }
}

/// Raises the soft limit to the hard one, and returns that.
fn raise_descriptor_limit() -> Result<usize, HostError> {
    let raise = || {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        if soft < hard {
            setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        }
        Ok(hard)
    };
    match raise() {
        Ok(hard) => Ok(usize::try_from(hard).unwrap_or(usize::MAX)),
        Err(error) => Err(HostError::System { what: "raise the descriptor limit", error }),
    }
}

fn closing_max(descriptors_max: usize) -> usize {
    (descriptors_max / 8).clamp(CLOSING_MAX[0], CLOSING_MAX[1])
}

fn credit(at_once: u16, descriptors_max: usize) -> Result<u16, HostError> {
    let wanted = at_once.saturating_add(PREFETCH).min(CREDIT_MAX);
    let kept = DESCRIPTORS_RESERVE + closing_max(descriptors_max);
    let possible = descriptors_max.saturating_sub(kept) / FRAME_DESCRIPTORS_MAX;
    match u16::try_from(possible).unwrap_or(u16::MAX).min(wanted) {
        0 => Err(HostError::Descriptors { limit: descriptors_max }),
        credit => Ok(credit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_parse_and_display_as_ranges() {
        for (text, want) in
            [("0", "0"), ("3,0,1", "0-1,3"), ("0,2-3", "0,2-3"), ("5-7,6", "5-7"), ("1023", "1023")]
        {
            assert_eq!(text.parse::<Cores>().unwrap().to_string(), want, "{text}");
        }
    }

    #[test]
    fn rejects_invalid_lists_of_cores() {
        for text in
            ["", ",", "1,", "a", "-", "1-", "-1", "3-1", "1-2-3", "+1", " 1", "1024", "0-99999999"]
        {
            assert_eq!(text.parse::<Cores>(), Err(BadCores), "'{text}'");
        }
    }

    #[test]
    fn a_displayed_policy_parses_to_the_same_policy() {
        for policy in [Policy::Other, Policy::Batch, Policy::Fifo(1), Policy::Fifo(99)] {
            assert_eq!(policy.to_string().parse(), Ok(policy));
        }
        for text in ["", "rr:1", "fifo", "fifo:", "fifo:0", "fifo:100", "other:1", "FIFO:1"] {
            assert_eq!(text.parse::<Policy>(), Err(BadPolicy), "'{text}'");
        }
    }

    #[test]
    fn credit_shrinks_with_the_descriptor_limit_and_is_never_0() {
        assert_eq!(credit(8, 1 << 20).unwrap(), 9);
        assert_eq!(credit(u16::MAX, usize::MAX).unwrap(), CREDIT_MAX);
        assert_eq!(credit(4, 1024).unwrap(), 1);
        let error = credit(4, 256).unwrap_err();
        assert_eq!(
            error.to_string(),
            "only 256 descriptors may be open, a batch needs 919; raise the hard limit (ulimit -Hn)"
        );
    }

    #[test]
    fn a_forbidden_core_is_reported_with_the_allowed_ones() {
        let allowed = allowed_cores().unwrap();
        let settings = Settings { cores: Some("1023".parse().unwrap()), ..Settings::default() };
        assert_eq!(
            settings.apply().unwrap_err().to_string(),
            format!("cannot run on cores 1023: this process may use {allowed}; choose among those")
        );
    }
}
