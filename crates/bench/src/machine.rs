//! The machine that figures belong to: processor, kernel, and the programs that are measured against.

use std::fs;
use std::process::Command;

/// Instruction sets that the kernels use, as `/proc/cpuinfo` names them.
const FEATURES: [&str; 5] = ["ssse3", "sha_ni", "avx2", "avx512f", "avx512bw"];

/// Cores of AMD's processors by family and range of models, as Linux tells them apart
/// (`arch/x86/kernel/cpu/amd.c`).
const AMD_CORES: [(u32, u32, u32, &str); 13] = [
    (0x17, 0x00, 0x2f, "Zen"),
    (0x17, 0x30, 0x4f, "Zen 2"),
    (0x17, 0x50, 0x5f, "Zen"),
    (0x17, 0x60, 0x7f, "Zen 2"),
    (0x17, 0x90, 0x91, "Zen 2"),
    (0x17, 0xa0, 0xaf, "Zen 2"),
    (0x19, 0x00, 0x0f, "Zen 3"),
    (0x19, 0x10, 0x1f, "Zen 4"),
    (0x19, 0x20, 0x5f, "Zen 3"),
    (0x19, 0x60, 0xaf, "Zen 4"),
    (0x1a, 0x00, 0x2f, "Zen 5"),
    (0x1a, 0x40, 0x4f, "Zen 5"),
    (0x1a, 0x60, 0x7f, "Zen 5"),
];

/// One line about the processor and its kernel.
pub(crate) fn describe() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{}, {cores} cores, Linux {}", processor(&cpuinfo), kernel.trim())
}

/// The first line that a program writes about its version.
pub(crate) fn version_of(program: &str, question: &str) -> String {
    let output = Command::new(program).arg(question).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned()
}

/// A processor by name, family, model and the features that matter here.
fn processor(cpuinfo: &str) -> String {
    let value = |key: &str| {
        let mut fields = cpuinfo.lines().filter_map(|line| line.split_once(':'));
        fields.find(|(name, _)| name.trim() == key).map(|(_, value)| value.trim())
    };
    let number = |key| value(key).and_then(|value| value.parse::<u32>().ok());
    let name = value("model name").unwrap_or("unknown processor");
    let (Some(family), Some(model)) = (number("cpu family"), number("model")) else {
        return name.to_owned();
    };
    let is_it = |&&(of, first, last, _): &&(u32, u32, u32, &str)| {
        of == family && (first..=last).contains(&model)
    };
    let core = AMD_CORES.iter().filter(|_| value("vendor_id") == Some("AuthenticAMD")).find(is_it);
    let core = core.map_or("unknown core", |(.., core)| core);
    let has = value("flags").unwrap_or_default();
    let has = |feature: &&str| has.split(' ').any(|flag| flag == *feature);
    let features: Vec<&str> = FEATURES.into_iter().filter(|feature| has(feature)).collect();
    format!("{name}, family {family} model {model} ({core}), {}", features.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_is_named_by_its_family_and_model() {
        let info = |vendor: &str, family: u32, model: u32| {
            format!(
                "processor\t: 0\nvendor_id\t: {vendor}\ncpu family\t: {family}\nmodel\t\t: {model}\n\
                 model name\t: Some CPU\nflags\t\t: fpu avx2 sha_ni\n"
            )
        };
        for (vendor, family, model, want) in [
            ("AuthenticAMD", 25, 17, "family 25 model 17 (Zen 4)"),
            ("AuthenticAMD", 25, 1, "family 25 model 1 (Zen 3)"),
            ("AuthenticAMD", 26, 2, "family 26 model 2 (Zen 5)"),
            ("AuthenticAMD", 26, 68, "family 26 model 68 (Zen 5)"),
            ("AuthenticAMD", 99, 1, "family 99 model 1 (unknown core)"),
            ("GenuineIntel", 25, 17, "family 25 model 17 (unknown core)"),
        ] {
            let got = processor(&info(vendor, family, model));
            assert_eq!(got, format!("Some CPU, {want}, sha_ni avx2"));
        }
        assert_eq!(processor("model name : Neoverse-N1\n"), "Neoverse-N1");
        assert_eq!(processor(""), "unknown processor");
    }
}
