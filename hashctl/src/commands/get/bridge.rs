//! Registers of many hosts, which the program `hashcluster-bridge` reads at the broker.

use super::RegisterKind;
use super::rows::RegisterRow;
use crate::commands::jobs::nonsense;
use crate::exit::Exit;
use crate::say::say;
use overview::{age, bytes};
use serde_json::Value;
use std::ffi::OsString;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Most bytes that the program may print: some 10,000 hosts, or dead letters.
const PRINTED_MAX: u64 = 256 << 20;

/// Its statuses: all is well, or something is lost or dead.
const GOOD: [i32; 2] = [0, 1];

/// The program beside this one, or the one in `PATH`.
fn program() -> OsString {
    const NAME: &str = "hashcluster-bridge";
    let beside = std::env::current_exe().ok().map(|own| own.with_file_name(NAME));
    beside.filter(|path: &PathBuf| path.is_file()).map_or_else(|| NAME.into(), Into::into)
}

/// The rows of a register of many hosts.
pub(super) fn rows(kind: RegisterKind) -> Result<Vec<RegisterRow>, Exit> {
    let word = if kind == RegisterKind::Hosts { "hosts" } else { "dead" };
    let mut command = Command::new(program());
    command.args([word, "--json"]).stdin(Stdio::null()).stdout(Stdio::piped());
    let fail = |error: std::io::Error| {
        say(format_args!("hashcluster-bridge, which knows many hosts: {error}"));
        Exit::Unreachable
    };
    let mut child = command.spawn().map_err(fail)?;
    let mut printed = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(PRINTED_MAX).read_to_end(&mut printed).map_err(fail)?;
    }
    // Without a status a signal ended it.
    let status = child.wait().map_err(fail)?.code().unwrap_or(3);
    if !GOOD.contains(&status) {
        // It has said why.
        return Err(if status == 2 { Exit::Usage } else { Exit::Unreachable });
    }
    let lines = printed.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    let row = |line| {
        let object: Value = serde_json::from_slice(line).map_err(|_| nonsense())?;
        Ok(if kind == RegisterKind::Hosts { host(object) } else { dead_shard(object) })
    };
    lines.map(row).collect()
}

fn word(object: &Value, key: &str) -> String {
    match &object[key] {
        Value::String(text) => text.clone(),
        Value::Array(values) => {
            let words: Vec<&str> = values.iter().filter_map(Value::as_str).collect();
            words.join(",")
        }
        value @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) => {
            value.to_string()
        }
    }
}

fn host(object: Value) -> RegisterRow {
    let number = |key: &str| object[key].as_u64().unwrap_or(0);
    let cells = vec![
        word(&object, "host"),
        word(&object, "state"),
        format!("{}/{}", number("held"), number("held_max")),
        word(&object, "done"),
        word(&object, "returned"),
        word(&object, "dead"),
        bytes(number("bytes")),
        age(Duration::from_secs(number("seen_s"))),
        format!("{:+} s", object["clock_ahead_s"].as_i64().unwrap_or(0)),
        word(&object, "version"),
        word(&object, "datasets"),
    ];
    RegisterRow { id: word(&object, "host"), object, cells }
}

fn dead_shard(object: Value) -> RegisterRow {
    let number = |key: &str| object[key].as_u64().unwrap_or(0);
    let files = object["files"].as_array();
    let reason = |note: &Value| format!("{}: {}", word(note, "host"), word(note, "reason"));
    let reasons = object["reasons"].as_array().into_iter().flatten().map(reason);
    let id = format!("{}.{}.{}", word(&object, "job"), number("shard"), number("attempt"));
    let time = i64::try_from(number("at")).map_or_else(|_| "-".to_owned(), schedule::utc_text);
    let cells = vec![
        id.clone(),
        time,
        word(&object, "dataset"),
        files.map_or(0, Vec::len).to_string(),
        bytes(number("bytes")),
        reasons.collect::<Vec<_>>().join("; "),
    ];
    RegisterRow { id, object, cells }
}
