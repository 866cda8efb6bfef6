//! `compose.yml` as docker-compose reads it, which needs no Docker.

use crate::{monitoring, succeeds};
use std::collections::BTreeSet;
use std::process::Command;

const VARIABLES: [(&str, &str); 5] = [
    ("MONITORING_DATA", "/srv/data"),
    ("MONITORING_USER", "1000:1000"),
    ("MONITORING_JOURNAL", "101"),
    ("MONITORING_ALERTS", "/srv/alertmanager.yml"),
    ("HASHCLUSTER_TARGETS", "/srv/targets"),
];

/// The services, each with its lines without their indentation.
fn services() -> Vec<(String, Vec<String>)> {
    let mut compose = Command::new("docker-compose");
    compose.arg("-f").arg(monitoring("compose.yml")).arg("config").envs(VARIABLES);
    let printed = succeeds(&mut compose);
    let (_, services) = printed.split_once("\nservices:\n").unwrap();
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    for line in services.lines().take_while(|line| line.starts_with(' ')) {
        match (line.strip_prefix("    "), found.last_mut()) {
            (Some(line), Some((_, lines))) => lines.push(line.trim_start().to_owned()),
            _ => found.push((line.trim().trim_end_matches(':').to_owned(), Vec::new())),
        }
    }
    found
}

#[test]
fn services_are_pinned_limited_checked_and_listen_at_loopback_only() {
    let services = services();
    let names: BTreeSet<&str> = services.iter().map(|(name, _)| name.as_str()).collect();
    let want = ["alertmanager", "alloy", "grafana", "loki", "node-exporter", "prometheus"];
    assert_eq!(names, BTreeSet::from(want));
    for (name, lines) in &services {
        let has = |line: &str| lines.iter().any(|found| found == line);
        let value = |key: &str| lines.iter().find_map(|line| line.strip_prefix(key));
        let image = value("image: ").unwrap();
        let (version, digest) = image.split_once("@sha256:").unwrap();
        assert!(version.split(':').nth(1).is_some_and(|tag| tag != "latest"), "{image}");
        assert!(digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit()), "{image}");
        for line in ["network_mode: host", "read_only: true", "user: 1000:1000", "healthcheck:"] {
            let quoted = line.replace("1000:1000", "'1000:1000'");
            assert!(has(line) || has(&quoted), "{name}: {line}");
        }
        assert!(has("- ALL") && has("- no-new-privileges:true"), "{name}: capabilities");
        assert!(value("mem_limit: ").is_some() && value("cpus: ").is_some(), "{name}: limits");
        assert!(!has("ports:"), "{name}: ports are not published, the network is the host's");
        // Loki's address stands in its own file.
        let listens =
            lines.iter().any(|line| line.contains("listen") && line.contains("127.0.0.1"))
                || value("GF_SERVER_HTTP_ADDR: ") == Some("127.0.0.1");
        assert!(listens || name == "loki", "{name} listens at 127.0.0.1");
        assert!(!lines.iter().any(|line| line.contains("0.0.0.0")), "{name}: {lines:?}");
    }
}

#[test]
fn nothing_starts_without_the_variables_that_the_script_sets() {
    for (missing, _) in VARIABLES {
        let mut compose = Command::new("docker-compose");
        compose.arg("-f").arg(monitoring("compose.yml")).arg("config").envs(VARIABLES);
        let ended = test_kit::output(compose.env_remove(missing));
        let said = test_kit::text(&ended.stderr);
        assert!(!ended.status.success() && said.contains("scripts/monitoring.sh"), "{said}");
    }
}

#[test]
fn no_file_listens_at_every_address_or_has_a_password() {
    for file in ["loki/loki.yml", "alloy/config.alloy", "prometheus/prometheus.yml", "compose.yml"]
    {
        let text = std::fs::read_to_string(monitoring(file)).unwrap();
        assert!(!text.contains("0.0.0.0") && text.contains("127.0.0.1"), "{file}");
        let secrets = text.lines().filter(|line| line.to_lowercase().contains("password"));
        let secrets: Vec<&str> =
            secrets.filter(|line| !line.contains("grafana-password")).collect();
        assert!(secrets.iter().all(|line| line.trim_start().starts_with('#')), "{secrets:?}");
    }
}
