//! Files that are too large, too deep or too many of something.

use crate::files::{read, refused};
use schedule::{DEPTH_MAX, FILE_LEN_MAX, TASKS_MAX, parse};
use std::fmt::Write as _;

#[test]
fn ten_thousand_tasks_are_read_and_one_more_is_refused() {
    let file = |count: usize, at: &str| {
        let mut text = String::from("schedules:\n  all:\n    dataset: d\n    parallel:\n");
        for i in 0..count {
            let _ = writeln!(text, "      t{i}: {{kind: sum, path: p{i}{at}}}");
        }
        text
    };
    let all = read(&file(TASKS_MAX, ""));
    assert_eq!(all[0].steps.len(), TASKS_MAX);
    assert_eq!(read(&all[0].to_json()), all);
    refused(&file(TASKS_MAX + 1, ""), &["10005:7: more than 10000 tasks and groups"]);
}

#[test]
fn ten_thousand_schedules_are_read() {
    let mut text = String::from("dataset: d\nschedules:\n");
    for i in 0..10_000 {
        let _ = writeln!(text, "  s{i}: {{at: '{} * * * *', kind: sum}}", i % 60);
    }
    assert_eq!(read(&text).len(), 10_000);
}

#[test]
fn two_large_groups_after_each_other_cost_an_edge_per_task() {
    let group = |name: &str| {
        let tasks: String = (0..4_000).map(|i| format!("t{i}: {{kind: sum}}, ")).collect();
        format!("{name}: {{parallel: {{{tasks}}}}}")
    };
    let text =
        format!("schedules: {{s: {{dataset: d, sequential: {{{}, {}}}}}}}", group("a"), group("b"));
    let edges: usize = read(&text)[0].steps.iter().map(|step| step.after.len()).sum();
    assert!(edges < 17_000, "{edges}");
}

#[test]
fn a_bomb_is_refused_at_once() {
    let mut lol = String::from("a0: &a0 [x, x]\n");
    for i in 1..30 {
        let _ = writeln!(lol, "a{i}: &a{i} [*a{0}, *a{0}, *a{0}]", i - 1);
    }
    refused(&lol, &["1:5: anchors (&NAME) are not supported; quote a value that begins with '&'"]);
    for piece in ["[", "{a: ", "- ", "? ", "[[a]: "] {
        let deep = piece.repeat(100_000);
        let errors = parse(deep.as_bytes()).unwrap_err().to_string();
        let is_refused = errors.contains(&format!("nested deeper than {DEPTH_MAX}"))
            || errors.contains("a key is a word");
        assert!(is_refused, "{piece}: {errors}");
    }
    let long = vec![b'#'; FILE_LEN_MAX + 1];
    let text = parse(&long).unwrap_err().to_string();
    assert_eq!(text, "1:1: longer than 4194304 bytes");
    // Parameters that double a value on every level.
    let mut deep = String::from("schedules: {s: {dataset: d, parameters: {p: xxxxxxxx}, ");
    for i in 0..12 {
        let _ = write!(deep, "parallel: {{g{i}: {{parameters: {{p: '${{p}}${{p}}'}}, ");
    }
    deep += "kind: sum, path: '${p}'}";
    deep += &"}}".repeat(12);
    deep += "}";
    let errors = parse(deep.as_bytes()).unwrap_err().to_string();
    assert!(errors.contains("p: longer than 4096 bytes"), "{errors}");
}

#[test]
fn errors_are_reported_up_to_a_limit() {
    let lines: String = (0..5_000).map(|i| format!("  s{i}: {{kind: nothing}}\n")).collect();
    let errors = parse(format!("schedules:\n{lines}").as_bytes()).unwrap_err();
    assert_eq!(errors.all().len(), 100);
    assert!(errors.to_string().ends_with("\nand maybe more"));
}
