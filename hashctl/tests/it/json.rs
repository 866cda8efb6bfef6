//! Lines of JSON against their documentation.

use crate::program::{hashctl_alone, run};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use tempfile::tempdir;

/// Type of each key of `command`, by `docs/json.md`.
fn documented(command: &str) -> BTreeMap<String, String> {
    let text = include_str!("../../../docs/json.md");
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    rows.filter_map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let is_of = cells[3].split(", ").any(|of| of == command);
        is_of.then(|| (cells[1].trim_matches('`').to_owned(), cells[2].to_owned()))
    })
    .collect()
}

#[test]
fn every_key_of_json_is_documented_with_its_type() {
    let dir = tempdir().unwrap();
    let odd = std::path::Path::new(OsStr::from_bytes(b"odd-\xff"));
    fs::write(dir.path().join("a"), "a").unwrap();
    fs::write(dir.path().join(odd), "b").unwrap();
    let hashctl = || {
        let mut command = hashctl_alone();
        command.current_dir(dir.path());
        command
    };
    let list = run(hashctl().args(["sum", "a"]).arg(odd)).stdout;
    let zeros = format!("{}  a\n{}  gone\njunk\n", "0".repeat(64), "0".repeat(64));
    fs::write(dir.path().join("list"), [&list, zeros.as_bytes()].concat()).unwrap();
    // A state of the list, to which a wrong digest is a change.
    let head = format!("hashctl-state 1\nsha256 {} 9 1 1 1 1 a\n", "0".repeat(64));
    let state = format!("{head}end 1 {}\n", blake3::hash(head.as_bytes()));
    fs::write(dir.path().join("list.state"), state).unwrap();
    let sum = run(hashctl().args(["sum", "--json", "a", "gone"]).arg(odd));
    let check = run(hashctl().args(["check", "--json", "list"]));
    // A tree that has something of everything.
    let tree = dir.path().join("tree");
    fs::create_dir(&tree).unwrap();
    for (name, content) in [("a", "1"), ("b", "1"), ("c", "2")] {
        fs::write(tree.join(name), content).unwrap();
        let odd = [name.as_bytes(), b"\xff"].concat();
        fs::write(tree.join(OsStr::from_bytes(&odd)), content.repeat(2)).unwrap();
    }
    let dups = run(hashctl().args(["dups", "--json", "tree", "gone"]).arg(odd.join("gone")));
    let list = run(hashctl().args(["sum", "-r", "tree"])).stdout;
    fs::write(dir.path().join("m"), list).unwrap();
    fs::remove_file(tree.join("c")).unwrap();
    fs::create_dir(tree.join("d")).unwrap();
    fs::rename(tree.join(OsStr::from_bytes(b"c\xff")), tree.join("d/c")).unwrap();
    fs::rename(tree.join("b"), tree.join("d/b")).unwrap();
    std::os::unix::net::UnixListener::bind(tree.join("c")).unwrap();
    fs::write(tree.join("a"), "other").unwrap();
    let compare = run(hashctl().args(["compare", "--json", "m", "tree"]));
    let audit = run(hashctl().args(["audit", "--json", "m", "tree"]));
    let update = run(hashctl().args(["update", "--json", "m", "tree"]));
    let runs = [
        ("sum", sum),
        ("check", check),
        ("audit", audit),
        ("update", update),
        ("compare", compare),
        ("dups", dups),
    ];
    for (command, ours) in runs {
        assert_eq!(ours.code, 1, "{}", ours.stderr);
        let documented = documented(command);
        let mut seen = BTreeSet::new();
        for line in ours.out().lines() {
            let Value::Object(object) = serde_json::from_str(line).unwrap() else {
                panic!("{line}")
            };
            assert_eq!(object["version"], 1, "{line}");
            for (key, value) in object {
                let kind = match value {
                    Value::String(_) => "string",
                    Value::Number(_) => "number",
                    Value::Object(_) => "object",
                    Value::Array(_) => "array",
                    Value::Null | Value::Bool(_) => panic!("{key}: {value}"),
                };
                assert_eq!(documented.get(&key).map(String::as_str), Some(kind), "{command} {key}");
                seen.insert(key);
            }
        }
        let documented: BTreeSet<String> = documented.into_keys().collect();
        assert_eq!(seen, documented, "{command}");
    }
}

#[test]
fn json_of_a_check_has_a_status_per_file_and_the_counts() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("a"), "a").unwrap();
    let digest = run(hashctl_alone().current_dir(dir.path()).args(["sum", "a"])).out();
    let zeros = "0".repeat(64);
    let list = format!("{digest}{zeros}  a\n{zeros}  gone\nx\n");
    fs::write(dir.path().join("m"), list).unwrap();
    let ours = run(hashctl_alone().current_dir(dir.path()).args(["check", "--json", "m"]));
    let lines: Vec<Value> =
        ours.out().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let statuses: Vec<&Value> = lines.iter().map(|line| &line["status"]).collect();
    assert_eq!(
        statuses,
        [&"ok".into(), &"mismatch".into(), &"missing".into(), &Value::Null, &Value::Null]
    );
    assert_eq!((&lines[1]["expected"], &lines[1]["name"]), (&zeros.into(), &"a".into()));
    assert_eq!((&lines[3]["list"], &lines[3]["line"]), (&"m".into(), &4.into()));
    let counts = serde_json::json!({
        "files": 3, "ok": 1, "mismatch": 1, "unreadable": 1, "missing_ignored": 0,
        "verified_earlier": 0,
    });
    assert_eq!(lines[4]["counts"], counts);
    let quiet =
        run(hashctl_alone().current_dir(dir.path()).args(["check", "--json", "--quiet", "m"]));
    assert_eq!(quiet.out().lines().count(), 3, "{}", quiet.out());
}
