//! Rules, and that each alert has tests and a runbook.

use crate::dashboards::queries;
use crate::{monitoring, succeeds};
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use test_kit::repository;

/// The YAML files of a directory.
fn files(dir: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(monitoring(dir)).unwrap().map(|entry| entry.unwrap().path());
    let found: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "yml")).collect();
    assert!(!found.is_empty(), "{dir} is empty");
    found
}

fn texts(dir: &str) -> String {
    files(dir).iter().map(|path| fs::read_to_string(path).unwrap()).collect()
}

/// The word after `key` in each line that has it.
fn values<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    let values = text.lines().filter_map(|line| line.split_once(key));
    values.map(|(_, rest)| rest.trim().split([',', ' ', '}']).next().unwrap()).collect()
}

/// Names of all alerts.
fn alerts(rules: &str) -> BTreeSet<&str> {
    let found: BTreeSet<&str> = values(rules, "- alert:").into_iter().collect();
    assert!(found.len() >= 13, "{found:?}");
    found
}

#[test]
fn configuration_and_rules_are_valid() {
    let prometheus = monitoring("prometheus/prometheus.yml");
    succeeds(Command::new("promtool").args(["check", "config", "--lint-fatal"]).arg(prometheus));
    let rules = files("prometheus/rules");
    let checked =
        succeeds(Command::new("promtool").args(["check", "rules", "--lint-fatal"]).args(rules));
    assert!(!checked.contains(" 0 rules found"), "{checked}");
    let alertmanager = monitoring("alertmanager/alertmanager.yml");
    succeeds(Command::new("amtool").arg("check-config").arg(alertmanager));
}

#[test]
fn every_rule_does_what_its_tests_say() {
    succeeds(Command::new("promtool").args(["test", "rules"]).args(files("prometheus/tests")));
}

/// `promtool` succeeds also where there is no test.
#[test]
fn every_alert_has_a_test_in_which_it_fires_and_one_in_which_it_stays_silent() {
    let (rules, tests) = (texts("prometheus/rules"), texts("prometheus/tests"));
    let cases = || tests.split("eval_time:").skip(1);
    let silent = cases().filter(|case| case.contains("exp_alerts: []"));
    let silent: BTreeSet<&str> = silent.flat_map(|case| values(case, "alertname:")).collect();
    let fires = cases().filter(|case| case.contains("exp_labels:"));
    let fires: BTreeSet<&str> = fires.flat_map(|case| values(case, "alertname:")).collect();
    let alerts = alerts(&rules);
    assert_eq!(silent, alerts, "alerts with a case of silence, and all");
    assert_eq!(fires, alerts, "alerts with a case in which they fire, and all");
}

#[test]
fn every_recording_rule_has_a_test() {
    let (rules, tests) = (texts("prometheus/rules"), texts("prometheus/tests"));
    let recorded: BTreeSet<&str> = values(&rules, "- record:").into_iter().collect();
    let untested: Vec<&str> =
        recorded.into_iter().filter(|name| !tests.contains(&format!("- expr: {name}"))).collect();
    assert_eq!(untested, [""; 0]);
}

/// Names of metrics of ours in a text; those that rules record contain a colon.
fn metrics(text: &str) -> BTreeSet<String> {
    let is_inner = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let words = text.split(|c| !is_inner(c)).filter(|word| !word.contains(':'));
    let ours =
        words.filter(|word| word.starts_with("hashcluster_") || word.starts_with("process_"));
    ours.map(|word| word.trim_end_matches("_bucket").to_owned()).collect()
}

#[test]
fn every_metric_that_is_asked_for_is_documented() {
    let documented = fs::read_to_string(repository("docs/metrics.md")).unwrap();
    let queries: String = queries("a").into_iter().map(|query| query.expr + "\n").collect();
    let used = metrics(&(texts("prometheus/rules") + &queries));
    assert!(used.len() > 40, "{used:?}");
    let unknown = used.iter().filter(|name| !documented.contains(&format!("`{name}`")));
    let unknown: Vec<&String> = unknown.collect();
    assert!(unknown.is_empty(), "not in docs/metrics.md: {unknown:?}");
}

#[test]
fn every_alert_has_a_severity_and_a_runbook_and_no_runbook_is_left_over() {
    let rules = texts("prometheus/rules");
    let runbooks = fs::read_to_string(repository("docs/runbooks.md")).unwrap();
    for rule in rules.split("- alert:").skip(1) {
        let name = rule.split_whitespace().next().unwrap();
        let severity = values(rule, "severity:");
        assert!(matches!(severity[..], ["page" | "warning"]), "{name}: {severity:?}");
        let link = format!("docs/runbooks.md#{}", name.to_lowercase());
        assert_eq!(values(rule, "runbook_url:"), [link], "{name}");
        let section = runbooks.split("\n## ").find(|section| section.lines().next() == Some(name));
        let section =
            section.unwrap_or_else(|| panic!("{name} has no section in docs/runbooks.md"));
        assert!(section.contains(&format!("*{}.*", severity[0])), "{name}: its severity");
        assert!(section.contains("\n```\n"), "{name}: what to type");
    }
    let sections: BTreeSet<&str> = runbooks.lines().filter_map(|l| l.strip_prefix("## ")).collect();
    assert_eq!(sections, alerts(&rules));
}
