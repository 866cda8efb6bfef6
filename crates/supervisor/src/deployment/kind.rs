//! Kinds of values: the limits of each, how it is read from a text, what to write instead.

use super::sched::{FIFO_PRIORITY_MAX, is_sched};
use ipc_proto::sample::Sample;
use std::fmt;
use telemetry::SyslogTarget;
use toml::de::DeValue;

/// Longest name of a VM, in bytes.
const HOST_LEN_MAX: usize = 32;

/// Longest name of a dataset, in bytes.
const DATASET_NAME_LEN_MAX: usize = 32;

/// Longest command of a health check, in bytes.
const COMMAND_LEN_MAX: usize = 1_024;

/// A VM's memory. With less the kernel of the development image ends in a panic before it runs a program,
/// in VMs of either role.
pub(super) const MEMORY: Kind = Kind::Size { units: "MG", min_kib: 96 << 10, max_kib: 64 << 20 };

/// A VM's CPUs.
pub(super) const CPUS: Kind = Kind::Number { min: 1, max: 64 };

/// Lowest port that an ordinary user may bind.
pub(super) const PORT_MIN: u16 = 1_024;

/// A port of the host.
pub(super) const PORT: Kind = Kind::Number { min: PORT_MIN as u64, max: u16::MAX as u64 };

/// Type and limits of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A number with a unit out of `units`.
    Size {
        units: &'static str,
        min_kib: u64,
        max_kib: u64,
    },
    Number {
        min: u64,
        max: u64,
    },
    /// A label of a host name: RFC 1123, section 2.1.
    Host,
    DatasetName,
    CpuSet,
    Sched,
    OneOf(&'static [&'static str]),
    /// Share of items that are cross-checked.
    Sample,
    Command,
    Dir,
    /// A syslog collector.
    Collector,
    Bool,
    /// Names of datasets, no two of them equal.
    DatasetNames,
    Table,
    /// One of several below a key, with a name of the user's.
    NamedTable(&'static str),
}

impl Kind {
    /// True if TOML writes it as a string.
    pub(super) fn is_text(self) -> bool {
        let is_other = matches!(
            self,
            Self::Number { .. }
                | Self::Bool
                | Self::DatasetNames
                | Self::Table
                | Self::NamedTable(_)
        );
        !is_other
    }

    /// True if `text` in quotes is a value that has to stand without them.
    pub(super) fn is_misquoted(self, text: &str) -> bool {
        let is_number = || text.parse().is_ok_and(|number| self.number(number).is_some());
        (matches!(self, Self::Number { .. }) && is_number())
            || (self == Self::Bool && matches!(text, "true" | "false"))
    }

    /// A value of a flag, as the program takes it: a size in bytes.
    pub(super) fn flag_value(self, value: &DeValue<'_>) -> Option<String> {
        match value {
            DeValue::Boolean(value) if self == Self::Bool => Some(value.to_string()),
            DeValue::Integer(number) => {
                let number = u64::from_str_radix(number.as_str(), number.radix()).ok()?;
                self.number(number).map(|number| number.to_string())
            }
            DeValue::String(text) => match self.size_kib(text) {
                Some(kib) => Some((kib << 10).to_string()),
                None => self.text(text).map(str::to_owned),
            },
            DeValue::Boolean(_)
            | DeValue::Float(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => None,
        }
    }

    /// A number within the limits.
    pub(super) fn number(self, number: u64) -> Option<u64> {
        let Self::Number { min, max } = self else { return None };
        (min..=max).contains(&number).then_some(number)
    }

    /// A size within the limits, in KiB.
    pub(super) fn size_kib(self, text: &str) -> Option<u64> {
        let Self::Size { units, min_kib, max_kib } = self else { return None };
        let unit = text.chars().next_back().filter(|&unit| units.contains(unit))?;
        let number = digits(&text[..text.len() - unit.len_utf8()])?;
        let kib = number.checked_mul(unit_kib(unit))?;
        (min_kib..=max_kib).contains(&kib).then_some(kib)
    }

    /// A text that may stand as it is.
    pub(super) fn text(self, text: &str) -> Option<&str> {
        let is_good = match self {
            Self::Host => is_host(text),
            Self::DatasetName => is_dataset_name(text),
            Self::OneOf(texts) => texts.contains(&text),
            Self::Command => {
                (1..=COMMAND_LEN_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
            }
            Self::Dir => !text.is_empty() && !text.contains('\0'),
            Self::Collector => collector(text).is_some(),
            Self::Sched => is_sched(text),
            Self::Sample => text.parse::<Sample>().is_ok(),
            Self::Size { .. }
            | Self::Number { .. }
            | Self::CpuSet
            | Self::Bool
            | Self::DatasetNames
            | Self::Table
            | Self::NamedTable(_) => false,
        };
        is_good.then_some(text)
    }
}

/// Decimal digits and nothing else.
pub(super) fn digits(text: &str) -> Option<u64> {
    // `parse` takes a leading plus sign.
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

/// A size as it is written, in the largest unit that gives a whole number.
pub(super) fn size(kib: u64) -> String {
    let unit = ['G', 'M'].into_iter().find(|&unit| kib.is_multiple_of(unit_kib(unit)));
    let unit = unit.unwrap_or('K');
    format!("{}{unit}", kib / unit_kib(unit))
}

fn unit_kib(unit: char) -> u64 {
    match unit {
        'G' => 1 << 20,
        'M' => 1 << 10,
        _ => 1,
    }
}

/// A syslog collector; a relative path would be one of the supervisor's working directory.
pub(super) fn collector(text: &str) -> Option<SyslogTarget> {
    let target = text.parse().ok()?;
    let is_relative = matches!(&target, SyslogTarget::Unix(path) if path.is_relative());
    let is_path = !is_relative && !text.contains('\0');
    is_path.then_some(target)
}

/// Names that mean something else already: ourselves, in the VM and among the files of the run
/// directory.
const HOSTS_TAKEN: [&str; 2] = ["localhost", "supervisor"];

fn is_host(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=HOST_LEN_MAX).contains(&text.len())
        && !HOSTS_TAKEN.contains(&text)
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_dataset_name(text: &str) -> bool {
    let is_good = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
    (1..=DATASET_NAME_LEN_MAX).contains(&text.len()) && text.bytes().all(is_good)
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Size { min_kib, max_kib, .. } => {
                write!(f, "{} to {}", size(min_kib), size(max_kib))
            }
            Self::Number { min, max } => write!(f, "{min} to {max}"),
            Self::Host => {
                write!(f, "1 to {HOST_LEN_MAX} letters, digits and, in between, hyphens")
            }
            Self::DatasetName => write!(f, "1 to {DATASET_NAME_LEN_MAX} of a-z, 0-9, _ and -"),
            Self::CpuSet => f.write_str("CPU numbers such as 0,2-3"),
            Self::Sched => write!(f, "other, batch or fifo:PRIO with 1 to {FIFO_PRIORITY_MAX}"),
            Self::OneOf(texts) => f.write_str(&texts.join(" or ")),
            Self::Sample => write!(f, "1/N with N from 1 to {}", u32::MAX),
            Self::Command => {
                write!(f, "1 to {COMMAND_LEN_MAX} bytes without control characters")
            }
            Self::Dir => f.write_str("the path of a directory"),
            Self::Collector => f.write_str("the absolute path of a socket or udp:HOST:PORT or off"),
            Self::Bool => f.write_str("true or false"),
            Self::DatasetNames => f.write_str("an array of names of datasets, each once"),
            Self::Table => f.write_str("a table"),
            Self::NamedTable(key) => write!(f, "a table: [{key}.NAME], with its keys below it"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_has_a_unit_and_limits() {
        let memlock = Kind::Size { units: "KMG", min_kib: 64, max_kib: 64 << 20 };
        for (kind, text, want) in [
            (MEMORY, "96M", Some(96 << 10)),
            (MEMORY, "95M", None),
            (MEMORY, "64G", Some(64 << 20)),
            (MEMORY, "65G", None),
            (MEMORY, "65536M", Some(64 << 20)),
            (MEMORY, "65537M", None),
            (MEMORY, "192", None),
            (MEMORY, "M", None),
            (MEMORY, "", None),
            (MEMORY, "+192M", None),
            (MEMORY, " 192M", None),
            (MEMORY, "192m", None),
            (MEMORY, "192MB", None),
            (MEMORY, "99999K", None),
            (MEMORY, "0x40M", None),
            (MEMORY, "19€", None),
            (MEMORY, "18446744073709551615G", None),
            (MEMORY, "99999999999999999999M", None),
            (memlock, "64K", Some(64)),
            (memlock, "63K", None),
            (memlock, "8M", Some(8 << 10)),
        ] {
            assert_eq!(kind.size_kib(text), want, "{text:?}");
        }
    }

    #[test]
    fn a_size_is_written_as_it_is_read() {
        for text in ["64M", "192M", "1G", "1025M", "65K", "64G"] {
            let any = Kind::Size { units: "KMG", min_kib: 0, max_kib: u64::MAX };
            assert_eq!(size(any.size_kib(text).unwrap()), text);
        }
    }

    #[test]
    fn names_keep_to_their_characters_and_length() {
        let long = "x".repeat(33);
        for (kind, good, bad) in [
            (
                Kind::Host,
                &["a", "A1-b", "9", &long[1..]],
                &["", "-a", "a-", "a.b", "a_b", "é", " a", &long][..],
            ),
            (
                Kind::DatasetName,
                &["a", "_", "-9", &long[1..]],
                &["", "A", "a.b", "a/b", "..", "é", &long][..],
            ),
        ] {
            good.iter().for_each(|text| assert_eq!(kind.text(text), Some(*text)));
            bad.iter().for_each(|text| assert_eq!(kind.text(text), None, "{text:?}"));
        }
    }
}
