//! `docs/protocol.md` says what the code does: its tags, limits and example are compared.

use crate::golden::{golden, unhex};
use crate::variants::ENUMS;
use ipc_proto::Algorithm;
use ipc_proto::limits;
use ipc_proto::message::{SandboxLayer, SandboxLayers, VERSION_MAX};
use std::time::Duration;

const DOC: &str = include_str!("../../../docs/protocol.md");
const LIMITS: &str = include_str!("../../src/limits.rs");

/// The lines of the section under `heading`, up to the next heading.
#[track_caller]
fn section(heading: &str) -> Vec<&'static str> {
    let mut lines = DOC.lines().skip_while(|line| *line != heading).skip(1).peekable();
    assert!(lines.peek().is_some(), "no section '{heading}'");
    lines.take_while(|line| !line.starts_with('#')).collect()
}

/// The cells of each table row, without the head of the table.
fn rows(lines: &[&'static str]) -> Vec<Vec<&'static str>> {
    let is_row = |line: &&&str| line.starts_with('|') && !line.starts_with("|---");
    let cells = |line: &&'static str| line.trim_matches('|').split(" | ").map(str::trim).collect();
    lines.iter().filter(is_row).map(cells).skip(1).collect()
}

#[test]
fn every_tag_is_in_the_table_of_its_enum() {
    for (name, variants) in ENUMS {
        let rows = rows(&section(&format!("### `{name}`")));
        let got: Vec<String> = rows.iter().map(|row| format!("{} {}", row[0], row[1])).collect();
        let want: Vec<String> =
            variants.iter().enumerate().map(|(tag, name)| format!("{tag} `{name}`")).collect();
        assert_eq!(got, want, "{name}");
    }
}

#[test]
fn every_digest_has_the_length_in_the_table() {
    for (row, algorithm) in rows(&section("### `Algorithm`")).iter().zip(Algorithm::ALL) {
        assert_eq!(row[2], format!("{} bytes", algorithm.digest_len()), "{algorithm}");
    }
}

#[test]
fn every_limit_is_in_the_table_with_its_value() {
    let seconds = |time: Duration| format!("{} s", time.as_secs());
    let want = [
        ("BODY_LEN_MAX", limits::BODY_LEN_MAX.to_string()),
        ("HELLO_LEN_MAX", limits::HELLO_LEN_MAX.to_string()),
        ("DECODE_CLAIM_MAX", limits::DECODE_CLAIM_MAX.to_string()),
        ("FRAME_DESCRIPTORS_MAX", limits::FRAME_DESCRIPTORS_MAX.to_string()),
        ("FRAME_MESSAGES_MAX", limits::FRAME_MESSAGES_MAX.to_string()),
        ("INLINE_LEN_MAX", limits::INLINE_LEN_MAX.to_string()),
        ("DATASETS_MAX", limits::DATASETS_MAX.to_string()),
        ("DATASET_LEN_MAX", limits::DATASET_LEN_MAX.to_string()),
        ("FRAME_NAMES_MAX", limits::FRAME_NAMES_MAX.to_string()),
        ("NAMES_LEN_MAX", limits::NAMES_LEN_MAX.to_string()),
        ("LIST_ENTRIES_MAX", limits::LIST_ENTRIES_MAX.to_string()),
        ("CLAIMS_MAX", limits::CLAIMS_MAX.to_string()),
        ("CLAIMS_STATE_LEN_MAX", limits::CLAIMS_STATE_LEN_MAX.to_string()),
        ("PATH_LEN_MAX", limits::PATH_LEN_MAX.to_string()),
        ("MERGE_VALUES_MAX", limits::MERGE_VALUES_MAX.to_string()),
        ("CHAINING_VALUE_LEN", limits::CHAINING_VALUE_LEN.to_string()),
        ("CHUNK_LEN", limits::CHUNK_LEN.to_string()),
        ("STATE_LEN_MAX", limits::STATE_LEN_MAX.to_string()),
        ("SEGMENT_ALIGN", limits::SEGMENT_ALIGN.to_string()),
        ("PROGRESS_LEN_MAX", limits::PROGRESS_LEN_MAX.to_string()),
        ("LONG_LEN", limits::LONG_LEN.to_string()),
        ("NAME_LEN_MAX", limits::NAME_LEN_MAX.to_string()),
        ("TOKEN_LEN_MAX", limits::TOKEN_LEN_MAX.to_string()),
        ("BACKENDS_MAX", limits::BACKENDS_MAX.to_string()),
        ("INTERLEAVE_MAX", limits::INTERLEAVE_MAX.to_string()),
        ("REASON_LEN_MAX", limits::REASON_LEN_MAX.to_string()),
        ("CLIENT_JOBS_MAX", limits::CLIENT_JOBS_MAX.to_string()),
        ("ITEM_ALGORITHMS_MAX", limits::ITEM_ALGORITHMS_MAX.to_string()),
        ("WORKER_THREADS_MAX", limits::WORKER_THREADS_MAX.to_string()),
        ("CREDIT_MAX", limits::CREDIT_MAX.to_string()),
        ("STATUS_ROWS_MAX", limits::STATUS_ROWS_MAX.to_string()),
        ("JOB_KEY_LEN_MAX", limits::JOB_KEY_LEN_MAX.to_string()),
        ("JOB_LABELS_MAX", limits::JOB_LABELS_MAX.to_string()),
        ("JOB_PRIORITY_MAX", limits::JOB_PRIORITY_MAX.to_string()),
        ("JOB_ROOTS_MAX", limits::JOB_ROOTS_MAX.to_string()),
        ("JOB_ROOTS_LEN_MAX", limits::JOB_ROOTS_LEN_MAX.to_string()),
        ("JOB_ROWS_MAX", limits::JOB_ROWS_MAX.to_string()),
        ("LOSSES_MAX", limits::LOSSES_MAX.to_string()),
        ("BACKUP_PIECE_LEN_MAX", limits::BACKUP_PIECE_LEN_MAX.to_string()),
        ("EVENT_ROWS_MAX", limits::EVENT_ROWS_MAX.to_string()),
        ("EVENT_TEXT_LEN_MAX", limits::EVENT_TEXT_LEN_MAX.to_string()),
        ("RULES_MAX", limits::RULES_MAX.to_string()),
        ("RULE_WORDS_MAX", limits::RULE_WORDS_MAX.to_string()),
        ("SCHEDULE_TEXT_LEN_MAX", limits::SCHEDULE_TEXT_LEN_MAX.to_string()),
        ("SCHEDULE_ROWS_MAX", limits::SCHEDULE_ROWS_MAX.to_string()),
        ("STEP_NAME_LEN_MAX", limits::STEP_NAME_LEN_MAX.to_string()),
        ("OUTPUTS_LEN_MAX", limits::OUTPUTS_LEN_MAX.to_string()),
        ("DIAL_TIMEOUT", seconds(limits::DIAL_TIMEOUT)),
        ("HELLO_TIMEOUT", seconds(limits::HELLO_TIMEOUT)),
        ("FRAME_TIMEOUT", seconds(limits::FRAME_TIMEOUT)),
        ("HEARTBEAT_INTERVAL", seconds(limits::HEARTBEAT_INTERVAL)),
        ("HEARTBEAT_TIMEOUT", seconds(limits::HEARTBEAT_TIMEOUT)),
    ];
    let in_code: Vec<&str> = LIMITS
        .lines()
        .filter_map(|line| line.strip_prefix("pub const ")?.split(':').next())
        .collect();
    assert_eq!(want.each_ref().map(|(name, _)| *name).as_slice(), in_code, "limits.rs");
    let in_doc: Vec<(&str, String)> = rows(&section("## Limits"))
        .iter()
        .map(|row| (row[0].trim_matches('`'), row[1].to_owned()))
        .collect();
    assert_eq!(in_doc, want, "docs/protocol.md");
}

#[test]
fn the_example_is_the_golden_conversation() {
    let conversation: Vec<Vec<u8>> = golden()
        .into_iter()
        .filter(|(label, _)| label.starts_with("example/"))
        .map(|(_, frame)| frame)
        .collect();
    let example: Vec<Vec<u8>> = section("## Example")
        .into_iter()
        .filter_map(|line| {
            let frame = line.strip_prefix("client ").or_else(|| line.strip_prefix("controller "));
            frame.map(unhex)
        })
        .collect();
    assert_eq!(example, conversation);
}

#[test]
fn the_document_is_about_the_newest_version() {
    assert!(DOC.contains(&format!("This is **version {VERSION_MAX}**.")));
}

#[test]
fn every_layer_of_a_sandbox_is_in_the_table_with_its_bit() {
    let rows = rows(&section("### Layers"));
    assert_eq!(rows.len(), SandboxLayer::ALL.len());
    for (bit, (row, layer)) in rows.iter().zip(SandboxLayer::ALL).enumerate() {
        assert_eq!(row[..2], [bit.to_string().as_str(), layer.name()]);
        assert_eq!(SandboxLayers::from_iter([layer]), SandboxLayers(1 << bit));
    }
}
