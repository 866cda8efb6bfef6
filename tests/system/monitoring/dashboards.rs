//! Dashboards: their structure, and their queries with the variables replaced.

use crate::{monitoring, succeeds};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::process::Command;
use test_kit::text;

/// Variables that Grafana has by itself, and values for them.
const BUILT_IN: [(&str, &str); 3] =
    [("$__rate_interval", "1m"), ("$__range", "10m"), ("$__auto", "1m")];

/// Units of Grafana: SI and IEC sizes, durations, shares, counts.
const UNITS: [&str; 6] = ["short", "s", "bytes", "Bps", "ops", "percentunit"];

/// Columns of a dashboard.
const COLUMNS: u64 = 24;

/// A query of a panel.
#[derive(Debug)]
pub(crate) struct Query {
    /// Dashboard and panel, for messages.
    pub(crate) place: String,
    pub(crate) expr: String,
    pub(crate) is_prometheus: bool,
}

/// All dashboards, by the names of their files.
fn dashboards() -> Vec<(String, Value)> {
    let files = fs::read_dir(monitoring("grafana/dashboards")).unwrap();
    let read = |path: std::path::PathBuf| {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let board = fs::read(&path).unwrap();
        let board = serde_json::from_slice(&board);
        (name, board.unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    };
    files.map(|entry| read(entry.unwrap().path())).collect()
}

fn panels(board: &Value) -> &[Value] {
    board["panels"].as_array().unwrap()
}

fn string<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}"))
}

/// All queries of all panels, for one cluster.
pub(crate) fn queries(cluster: &str) -> Vec<Query> {
    let mut found = Vec::new();
    for (name, board) in dashboards() {
        for panel in panels(&board) {
            let is_prometheus = panel["datasource"]["type"] == "prometheus";
            for target in panel["targets"].as_array().unwrap() {
                let place = format!("{name}: {}, {}", string(panel, "title"), target["refId"]);
                let mut expr = string(target, "expr").to_owned();
                for (name, value) in BUILT_IN {
                    expr = expr.replace(name, value);
                }
                let expr = expr.replace("$cluster", cluster).replace("$vm", ".+");
                found.push(Query { place, expr, is_prometheus });
            }
        }
    }
    assert!(found.len() > 40, "{} queries", found.len());
    found
}

#[test]
fn dashboards_have_the_uids_that_links_rely_on() {
    let found: BTreeSet<String> =
        dashboards().iter().map(|(_, board)| string(board, "uid").to_owned()).collect();
    let want =
        ["hosts", "jobs", "logs", "overview", "vms", "worker"].map(|n| format!("hashcluster-{n}"));
    assert_eq!(found, BTreeSet::from(want));
}

#[test]
fn every_panel_has_its_place_its_unit_and_a_data_source_that_is_provisioned() {
    let sources =
        fs::read_to_string(monitoring("grafana/provisioning/datasources/hashcluster.yml"));
    let sources = sources.unwrap();
    let sources: BTreeSet<&str> =
        sources.lines().filter_map(|line| line.trim().strip_prefix("uid: ")).collect();
    for (name, board) in dashboards() {
        let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
        for panel in panels(&board) {
            let place = format!("{name}: {}", string(panel, "title"));
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{place}: its id is used twice");
            let [x, y, w, h] =
                ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap());
            assert!(w > 0 && h > 0 && x + w <= COLUMNS, "{place}: {}", panel["gridPos"]);
            for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                assert!(taken.insert(cell), "{place}: covers another panel");
            }
            assert!(sources.contains(string(&panel["datasource"], "uid")), "{place}: data source");
            let defaults = &panel["fieldConfig"]["defaults"];
            assert!(UNITS.contains(&string(defaults, "unit")), "{place}: unit");
            let steps = defaults["thresholds"]["steps"].as_array();
            for pair in steps.map(Vec::as_slice).unwrap_or_default().windows(2) {
                let value = |step: &Value| step["value"].as_f64().unwrap_or(f64::MIN);
                assert!(value(&pair[0]) < value(&pair[1]), "{place}: thresholds rise");
            }
            let targets = panel["targets"].as_array().unwrap();
            let names: BTreeSet<&str> = targets.iter().map(|t| string(t, "refId")).collect();
            assert!(!names.is_empty() && names.len() == targets.len(), "{place}: refIds");
        }
    }
}

#[test]
fn every_variable_of_a_query_is_defined() {
    for (name, board) in dashboards() {
        let variables = board["templating"]["list"].as_array().unwrap();
        let variables: BTreeSet<&str> = variables.iter().map(|v| string(v, "name")).collect();
        let targets = panels(&board).iter().flat_map(|panel| panel["targets"].as_array().unwrap());
        for expr in targets.map(|target| string(target, "expr")) {
            for word in expr.split('$').skip(1) {
                let end =
                    word.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(word.len());
                let is_built_in = BUILT_IN.iter().any(|(name, _)| name[1..] == word[..end]);
                let is_known = is_built_in || variables.contains(&word[..end]);
                assert!(is_known, "{name}: ${} in {expr}", &word[..end]);
            }
        }
    }
}

/// As a rule each, which `promtool` parses.
#[test]
fn every_query_is_valid() {
    let mut rules = "groups:\n- name: queries\n  rules:\n".to_owned();
    for (number, query) in queries("a").iter().filter(|query| query.is_prometheus).enumerate() {
        let Query { place, expr, .. } = query;
        writeln!(rules, "  # {place}\n  - record: query:{number}\n    expr: >-\n      {expr}")
            .unwrap();
    }
    let file = tempfile::NamedTempFile::with_suffix(".yml").unwrap();
    fs::write(&file, rules).unwrap();
    let checked = succeeds(Command::new("promtool").args(["check", "rules"]).arg(file.path()));
    assert!(checked.contains("rules found"), "{}", text(checked.as_bytes()));
}
