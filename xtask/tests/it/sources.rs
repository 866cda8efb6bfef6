//! Rules about Rust files.

use crate::tree::{File, names, refuse, rust_files};

/// Longest module, without its tests.
const MODULE_LINES_MAX: usize = 600;

/// The workspace denies unsafe code; an attribute that names the lint permits it.
#[test]
fn unsafe_code_is_announced_in_the_first_line_of_its_file() {
    let lint = concat!("un", "safe_code");
    let names_it = |file: File| {
        let first = format!("{}:1: ", file.path);
        let lines = file.lines_with(|line| line.contains(lint) && !line.starts_with("fn "));
        lines.into_iter().filter(move |line| !line.starts_with(&first))
    };
    let found: Vec<String> = rust_files().into_iter().flat_map(names_it).collect();
    refuse(
        &found,
        "what permits unsafe code stands in line 1: one grep has to list every such file",
    );
}

#[test]
fn no_path_of_the_tree_is_compiled_in() {
    let macros = ["env!(\"CARGO_MANIFEST_", "env!(\"CARGO_BIN_"];
    let names_one = |line: &str| macros.iter().any(|start| line.contains(start));
    let found: Vec<String> =
        rust_files().into_iter().flat_map(|file| file.lines_with(names_one)).collect();
    let reason = "cargo takes what it built for fresh where the tree was moved or copied, so that the path of \
                  the old tree would be used: read the variable at run time, as test_kit::program does";
    refuse(&found, reason);
}

/// Files and directories that may contain unsafe code besides the backends, each with its reason.
const UNSAFE_PLACES: &[(&str, &str)] = &[
    ("hashctl/src/stdio.rs", "looks at the standard descriptors before the runtime opens any"),
    ("hashctl/src/input/sys.rs", "dispositions of signals"),
    ("hashctl/src/compat/gnu/charset.rs", "asks the C library for the locale's characters"),
    ("ipc-proto/tests/it/memory.rs", "counts what is allocated"),
    ("crates/ipc-socket/src/sys.rs", "passes descriptors"),
    ("crates/supervisor/src/supervise/sys.rs", "starts and signals processes by their pidfd"),
    ("crates/supervisor/src/vm/share_view.rs", "a file server's sandbox: makes mounts read-only"),
    ("crates/supervisor/tests/fake/main.rs", "is given a descriptor by its number, as a daemon is"),
    ("crates/bench/src/simd/openssl.rs", "calls what is measured against"),
    ("crates/engine/src/hash/backends/", "instructions that not every processor has"),
    (
        "crates/engine/src/hash/guarded.rs",
        "pages that may not be touched, for tests of the backends",
    ),
    ("crates/engine/src/input/sys.rs", "system calls for reading"),
    ("crates/engine/src/input/sys/", "system calls for reading"),
    ("worker/src/sys.rs", "system calls for scheduling"),
    ("tests/kit/src/denied.rs", "makes the system calls that a sandbox denies"),
    ("tests/attack/src/user.rs", "changes the user of one thread"),
    ("crates/sandbox/src/layers.rs", "an option of prctl that no library offers"),
    ("crates/sandbox/src/view.rs", "makes mounts read-only"),
];

#[test]
fn unsafe_code_stands_only_in_backends_and_where_the_system_is_called() {
    let announcement = concat!("#![expect(un", "safe_code");
    let files = rust_files();
    let announced = files.iter().filter(|file| file.text.starts_with(announcement));
    let announced: Vec<&str> = announced.map(|file| file.path.as_str()).collect();
    let covers =
        |place: &str, path: &str| path == place || place.ends_with('/') && path.starts_with(place);
    let is_listed = |path: &str| UNSAFE_PLACES.iter().any(|(place, _)| covers(place, path));
    let elsewhere = announced.iter().filter(|path| !is_listed(path));
    let elsewhere: Vec<String> = elsewhere.map(ToString::to_string).collect();
    let reason = "unsafe code is for backends, descriptor passing and system calls: do without, or \
                  say in UNSAFE_PLACES why no safe code can do it";
    refuse(&elsewhere, reason);
    let is_stale = |place: &&str| !place.ends_with('/') && !announced.contains(place);
    let stale = UNSAFE_PLACES.iter().map(|(place, _)| *place).filter(is_stale);
    let stale: Vec<String> = stale.map(str::to_owned).collect();
    refuse(&stale, "UNSAFE_PLACES names what is not there any more, or is safe by now");
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

/// Code that peers reach: whatever they send, it must not panic.
const REACHED_BY_PEERS: &[&str] = &[
    "controller/src/core.rs",
    "controller/src/core/",
    "controller/src/driver.rs",
    "controller/src/driver/",
    "controller/src/jobs.rs",
    "controller/src/jobs/",
    "worker/src/link/",
    "worker/src/pool.rs",
    "crates/bridge/src/",
];

/// Every way to panic in the code that peers reach, by its message, with the reason why it cannot happen.
const PANICS: &[(&str, &str)] = &[
    ("a batch fits a frame", "a batch is made from frames, whose items are counted"),
    ("a frame's files are counted", "at most FRAME_NAMES_MAX, checked by the decoder"),
    ("a frame's messages are counted", "at most FRAME_MESSAGES_MAX, checked by the decoder"),
    (
        "the fair queue holds open jobs",
        "asserted by check_invariants after each event of the tests",
    ),
    ("the fair queue holds jobs with work", "asserted by check_invariants, too"),
    ("it was just listed", "nothing was taken since"),
    ("it was just there", "nothing was taken since"),
    (
        "every request has one reply, and its sender stays until then",
        "only the reply takes the sender, or the end of this future",
    ),
    ("our own statuses", "numbers in the code; every_error_is_a_problem has them"),
    ("a vector takes everything", "and the keys of our own objects are text"),
    ("the book answers with a job", "as docs/protocol.md says of each request"),
    ("the book answers with jobs", "the same"),
    ("the book answers with dead items", "the same"),
    ("the book answers with findings", "the same"),
    ("the planner answers with schedules", "the same"),
    ("the planner answers with runs", "the same"),
    ("every reason to refuse is listed", "peers_are_counted_by_role_and_reason tries each"),
    (
        "the book keeps the rules of the protocol: {fault}",
        "the simulation of durable jobs, on random histories",
    ),
    ("it holds a lease", "a lease is taken from its worker when that leaves"),
    ("open items are in the other group", "groups are made by that"),
    ("the client of job {id} left", "only in check_invariants, which tests call"),
    ("job {} of lease {id} is closed", "only in check_invariants, which tests call"),
    ("a test's items are few", "only in check_invariants, which tests call"),
    ("item {index} was not received", "only in check_invariants, which tests call"),
    ("the semaphore is never closed", "nobody calls close"),
    ("32 bits", "the remainder of 2^32"),
    ("a refusal is short", "its text is cut at REASON_LEN_MAX"),
    ("records are bounded by the frames they come from", "jobs/limits.rs and ipc_proto::limits"),
    ("the core verifies the length of outputs", "core/results.rs, before it reports them"),
    (
        "a result is of an item that was handed out and has none",
        "the core reports each item once; the simulation of durable jobs",
    ),
    ("a welcome is short", "at most 16 datasets of 32 bytes"),
    ("replies fit a frame", "of as many items as requests that fit one; a status drops rows"),
    ("batches fit a frame", "of as many items as requests that fit one"),
    ("it is open", "descriptors have numbers from 0 on"),
    ("it is held", "a slot keeps its descriptor while it has holders"),
    ("one was just pushed or joined", "the line before it"),
    ("it is the front", "the loop's condition"),
    ("the kernel took a filter before", "the same one, when the process started"),
    ("no more than credit was given", "counted by Leases::assign, in the same type"),
    ("nothing panics while it sends", "sending returns its errors"),
    ("nothing panics while it holds the leases", "bookkeeping, and the credit is checked"),
    ("nothing panics while it holds the state", "it sets and reads two fields"),
    ("keys of our own objects are text", "and numbers in them are integers"),
    ("what was encoded is JSON", "by the function above it"),
    ("no holder panics", "of the bridge's maps: whoever holds them inserts, takes or clones"),
    ("a worker's threads are counted", "at the start, before anybody is connected"),
];

#[test]
fn code_that_peers_reach_panics_only_where_a_reason_says_that_it_cannot() {
    let ways = [".expect(", "panic!(", "unreachable!(", "todo!(", ".unwrap()", ".unwrap_err()"];
    let message = |line: &str| {
        let at = ways.iter().find_map(|way| line.find(way).map(|at| at + way.len()))?;
        let text = line[at..].strip_prefix('"').and_then(|text| text.split('"').next());
        Some(text.unwrap_or("").to_owned())
    };
    let files = || rust_files().into_iter().filter(|file| file.is_in(REACHED_BY_PEERS));
    let is_unlisted = |line: &str| {
        message(line).is_some_and(|text| PANICS.iter().all(|(known, _)| *known != text))
    };
    let found: Vec<String> = files().flat_map(|file| file.broken(is_unlisted)).collect();
    refuse(
        &found,
        "return an error, or say in PANICS why this cannot happen whatever a peer sends",
    );
    let used: Vec<String> = files()
        .flat_map(|file| file.code().filter_map(|(_, line)| message(line)).collect::<Vec<_>>())
        .collect();
    let stale = PANICS.iter().filter(|(known, _)| !used.iter().any(|text| text == known));
    let stale: Vec<String> = stale.map(|(known, _)| (*known).to_owned()).collect();
    refuse(&stale, "PANICS names what is not there any more");
}

/// Files and directories that may read a clock besides `clock.rs`, each with its reason.
const CLOCK_PLACES: &[(&str, &str)] = &[
    ("crates/notifier/src/serve.rs", "recipients compare the time of a request with theirs"),
    ("crates/sandbox/src/table.rs", "lists the system calls that threads can make"),
    (
        "crates/supervisor/src/",
        "its event loops wait for processes, VMs and people, with deadlines",
    ),
    ("crates/telemetry/src/log.rs", "counts the log lines of each second, and stamps them"),
    ("hashctl/src/", "deadlines that people give, and a progress line once per interval"),
    ("xtask/src/", "each step of a check is timed"),
];

#[test]
fn clocks_are_read_only_in_clock_rs_and_where_a_reason_is_given() {
    let is_listed =
        |file: &File| CLOCK_PLACES.iter().any(|(place, _)| file.path.starts_with(place));
    let reads = |line: &str| {
        ["Instant::now", "SystemTime::now", "clock_gettime", ".elapsed()"]
            .iter()
            .any(|call| line.contains(call))
    };
    let files = rust_files().into_iter();
    let files = files.filter(|file| !file.path.ends_with("/clock.rs") && !is_listed(file));
    let found = files.filter(|file| !file.is_test()).flat_map(|file| file.broken(reads));
    let reason = "only clock.rs reads a clock: everything else takes `now`, so that tests and the \
                  simulation decide what time it is; or say in CLOCK_PLACES why it has to";
    refuse(&found.collect::<Vec<_>>(), reason);
}

#[test]
fn the_worker_opens_no_file_by_name_outside_its_datasets() {
    let ways =
        ["File::open", "File::create", "OpenOptions", "openat", "openat2", "read_dir", "fs::"];
    let files =
        rust_files().into_iter().filter(|file| file.is_in(&["worker/src/", "crates/engine/src/"]));
    // The one opens them, the other names the system calls for it.
    let known = ["crates/engine/src/input/dataset.rs", "worker/src/sandbox.rs"];
    let files = files.filter(|file| !known.contains(&file.path.as_str()));
    let opens = |line: &str| ways.iter().any(|way| names(line, way));
    let found = files.flat_map(|file| file.broken(opens));
    let reason = "the worker hashes what it is passed, and what is below a dataset's root: other code \
                  that opens files by name is what an attacker in it would look for";
    refuse(&found.collect::<Vec<_>>(), reason);
}

#[test]
fn no_test_is_switched_off() {
    let switch = concat!("#[", "ignore");
    let off =
        rust_files().into_iter().flat_map(|file| file.lines_with(|line| line.contains(switch)));
    refuse(
        &off.collect::<Vec<_>>(),
        "a test that does not run keeps no promise: mend or remove it",
    );
}
