//! One worker with all that is known of it.

use super::rows::{RegisterRow, history};
use crate::commands::jobs::JobSession;
use crate::exit::Exit;
use overview::{age, bytes, one_line};
use serde_json::Value;
use std::fmt::Write;
use std::time::Duration;

/// Adds the history of a worker to its row.
pub(super) fn add_history(session: &mut JobSession<'_>, row: &mut RegisterRow) -> Result<(), Exit> {
    let events = history(session, &row.id)?;
    if let Value::Object(object) = &mut row.object {
        object.insert("history".to_owned(), events.into());
    }
    Ok(())
}

/// All of a worker, a line per key.
pub(super) fn text(row: &RegisterRow) -> String {
    let object = &row.object;
    let word = |key: &str| match object.get(key) {
        Some(Value::String(text)) => one_line(text),
        Some(Value::Number(number)) => number.to_string(),
        Some(_) | None => String::new(),
    };
    let number = |key: &str| object.get(key).and_then(Value::as_u64);
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let value = if value.is_empty() { "-" } else { value };
        let _ = writeln!(text, "{name:<11}{value}");
    };
    line("worker", &word("name"));
    let is_away = object.get("connected") != Some(&Value::Bool(true));
    let health = match (is_away, object.get("quarantine")) {
        (true, None) => "drained, away".to_owned(),
        (true, Some(_)) => "quarantined, away".to_owned(),
        (false, _) => word("health"),
    };
    line("health", &health);
    if let Some(reason) = object.pointer("/quarantine/reason").and_then(Value::as_str) {
        line("reason", &one_line(reason));
    }
    if let Some(by) = object.pointer("/drain/by").and_then(Value::as_str) {
        line("drained by", &one_line(by));
    }
    if !is_away {
        for key in ["host", "image", "cpu", "version", "threads"] {
            line(key, &word(key));
        }
        let up = number("uptime_ms").unwrap_or_default();
        line("connected", &age(Duration::from_millis(up)));
        let speed = |algorithm: &str| {
            let speed = object.get("speeds").and_then(|speeds| speeds.get(algorithm)?.as_u64());
            speed.map_or_else(String::new, |speed| format!(", {}/s per thread", bytes(speed)))
        };
        for (algorithm, backend) in
            object.get("backends").and_then(Value::as_object).into_iter().flatten()
        {
            let backend = one_line(backend.as_str().unwrap_or_default());
            line(algorithm, &(backend + &speed(algorithm)));
        }
        line("items", &word("items"));
        line("bytes", &bytes(number("bytes").unwrap_or_default()));
        line("lost", &word("attempts_lost"));
    }
    for event in object.get("history").and_then(Value::as_array).into_iter().flatten() {
        let word = |key: &str| one_line(event.get(key).and_then(Value::as_str).unwrap_or_default());
        let at = event.get("time").and_then(Value::as_i64).map(schedule::utc_text);
        let event = word("event");
        let event = event.strip_prefix("worker-").unwrap_or(&event);
        let words = [at.unwrap_or_default(), event.to_owned(), word("by"), word("text")];
        let words: Vec<String> = words.into_iter().filter(|word| !word.is_empty()).collect();
        line("history", &words.join("  "));
    }
    text
}
