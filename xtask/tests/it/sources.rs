//! Rules about Rust files.

use crate::tree::{names, refuse, rust_files};

/// Longest module, without its tests.
const MODULE_LINES_MAX: usize = 600;

#[test]
fn unsafe_code_is_announced_in_the_first_line_of_its_file() {
    let keyword = concat!("un", "safe");
    let uses = ["{", "fn ", "impl ", "extern "].map(|what| format!("{keyword} {what}"));
    let announcement = format!("#![expect({keyword}_code, reason");
    let silent = |file: &crate::tree::File| !file.text.starts_with(&announcement);
    let found = rust_files().into_iter().filter(silent).flat_map(|file| {
        let lines = file.text.lines().enumerate();
        let lines = lines.filter(|(_, line)| !line.trim_start().starts_with("//"));
        let used = lines.filter(|(_, line)| uses.iter().any(|what| names(line, what)));
        used.map(|(i, line)| format!("{}:{}: {}", file.path, i + 1, line.trim()))
            .collect::<Vec<_>>()
    });
    let reason = format!("unsafe code without `{announcement} = \"…\")]` in the first line: one");
    refuse(&found.collect::<Vec<_>>(), &format!("{reason} grep has to list every such file"));
}

#[test]
fn no_module_is_too_long_to_hold_in_mind() {
    let too_long = rust_files().into_iter().filter_map(|file| {
        let lines = file.untested_lines().count();
        (lines > MODULE_LINES_MAX).then(|| format!("{}: {lines} lines", file.path))
    });
    let reason = "a module is for one idea: about 300 lines without tests, at most 600; split it";
    refuse(&too_long.collect::<Vec<_>>(), reason);
}

#[test]
fn clocks_are_read_only_in_clock_rs() {
    let may = ["xtask/", "qemu/", "hashctl/"];
    let files = rust_files().into_iter();
    let files = files.filter(|file| !file.path.ends_with("/clock.rs") && !file.is_in(&may));
    let reads = |line: &str| {
        ["Instant", "SystemTime"].iter().any(|clock| line.contains(&format!("{clock}::now")))
    };
    let found = files.filter(|file| !file.is_test()).flat_map(|file| file.broken(reads));
    let reason = "only clock.rs reads a clock: everything else takes `now`, so that tests and the \
                  simulation decide what time it is";
    refuse(&found.collect::<Vec<_>>(), reason);
}

#[test]
fn the_worker_opens_no_file_by_name_outside_its_datasets() {
    let ways =
        ["File::open", "File::create", "OpenOptions", "openat", "openat2", "read_dir", "fs::"];
    let files = rust_files().into_iter().filter(|file| file.is_in(&["worker/src/"]));
    let files = files.filter(|file| file.path != "worker/src/datasets.rs");
    let opens = |line: &str| ways.iter().any(|way| names(line, way));
    let found = files.flat_map(|file| file.broken(opens));
    let reason = "the worker hashes what it is handed, and what is below a dataset's root: other code \
                  that opens files by name is what an attacker in it would look for";
    refuse(&found.collect::<Vec<_>>(), reason);
}

#[test]
fn no_test_is_switched_off() {
    let switch = concat!("#[", "ignore");
    let off = rust_files().into_iter().flat_map(|file| {
        let lines = file.text.lines().enumerate().filter(|(_, line)| line.contains(switch));
        lines.map(|(i, _)| format!("{}:{}", file.path, i + 1)).collect::<Vec<_>>()
    });
    refuse(
        &off.collect::<Vec<_>>(),
        "a test that does not run keeps no promise: mend or remove it",
    );
}
