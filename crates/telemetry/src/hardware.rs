//! Names of this host and of its processor, for people.

use std::fs;

/// The name of this host; empty if it does not say.
#[must_use]
pub fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

/// The processor of this host; empty if it does not say.
#[must_use]
pub fn cpu_name() -> String {
    cpu_of(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default())
}

/// The processor in the text of `/proc/cpuinfo`: its model on x86, on ARM its implementer and part.
fn cpu_of(text: &str) -> String {
    let value = |key: &str| {
        let pairs = text.lines().filter_map(|line| line.split_once(':'));
        pairs.into_iter().find(|(name, _)| name.trim() == key).map(|(_, value)| value.trim())
    };
    match (value("model name"), value("CPU implementer"), value("CPU part")) {
        (Some(model), ..) => model.split_whitespace().collect::<Vec<_>>().join(" "),
        (None, Some(implementer), Some(part)) => format!("ARM {implementer} {part}"),
        (None, ..) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_has_a_name_where_the_kernel_knows_one() {
        for (text, want) in [
            ("processor\t: 0\nmodel name\t: AMD  EPYC 9554\n", "AMD EPYC 9554"),
            ("CPU implementer\t: 0x41\nCPU part\t: 0xd0c\n", "ARM 0x41 0xd0c"),
            ("processor\t: 0\n", ""),
            ("", ""),
        ] {
            assert_eq!(cpu_of(text), want, "{text:?}");
        }
    }
}
