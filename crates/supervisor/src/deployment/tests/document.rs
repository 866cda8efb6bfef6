//! The document of `cluster.toml`, held against the code.

use super::*;

const DOCUMENT: &str = include_str!("../../../../../docs/cluster-toml.md");

/// The blocks of TOML in the document.
fn blocks() -> Vec<&'static str> {
    DOCUMENT.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

#[test]
fn the_documents_example_is_a_deployment() {
    let deployment = good(PORTS, blocks()[0]);
    let (controller, worker) = (&deployment.vms[0], &deployment.vms[1]);
    assert_eq!((controller.memory_mib, controller.memlock_kib), (512, Some(65_536)));
    assert_eq!((worker.memory_mib, worker.metrics_port), (256, 9464));
    assert_eq!(worker.args, ["--threads", "2", "--sched", "fifo:10", "--drop-behind"]);
    assert_eq!(worker.datasets, ["usr"]);
    assert_eq!((worker.health.interval.as_secs(), worker.health.retries), (10, 5));
    assert_eq!((deployment.strategy, deployment.datasets.len()), (Strategy::Sequential, 2));
}

#[test]
fn the_documents_defaults_are_those_of_the_code() {
    assert_eq!(blocks().len(), 2);
    assert_eq!(good(PORTS, blocks()[1]), good(PORTS, ""));
}

/// Rows of the table in the document's section `title`: key, values, default.
fn documented(title: &str) -> Vec<(String, String, String)> {
    let section = DOCUMENT.split(&format!("\n## {title}\n")).nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        (cells[1].trim_matches('`').into(), cells[3].into(), cells[4].trim_matches('`').into())
    })
    .collect()
}

/// The reader itself says which keys it knows, and what each has to be.
#[test]
fn the_documents_keys_and_limits_are_those_of_the_code() {
    let both = "`[defaults]` and `[vm.NAME]`";
    for (titles, section) in [
        (&[both][..], "[defaults]"),
        (&[both, "`[vm.NAME]` alone"], "[vm.worker1]"),
        (&["`health`"], "[defaults.health]"),
        (&["`health`"], "[vm.worker1.health]"),
        (&["`[start]`"], "[start]"),
        (&["`[logs]`"], "[logs]"),
        (&["`[datasets.NAME]`"], "[datasets.x]"),
    ] {
        let refused = |line: &str| load(PORTS, &format!("{section}\n{line}\n")).unwrap_err();
        let rows: Vec<_> = titles.iter().flat_map(|title| documented(title)).collect();
        let keys: Vec<&str> = rows.iter().map(|(key, ..)| &key[..]).collect();
        let unknown = refused("no-such-key = 1");
        let line = unknown.lines().find(|line| line.contains("no-such-key")).unwrap();
        let known: Vec<&str> = line.split("keys are ").nth(1).unwrap().split(", ").collect();
        let (mut keys, mut known) = (keys, known);
        keys.sort_unstable();
        known.sort_unstable();
        assert_eq!(keys, known, "{section}");
        for (key, values, default) in &rows {
            let error = refused(&format!("{key} = 1979-05-27"));
            let limits = error.rsplit("; write ").next().unwrap();
            assert_eq!(limits.trim_start_matches("in quotes "), values, "{section} {key}");
            let is_value = default.starts_with(|c: char| c == '"' || c.is_ascii_digit())
                || ["true", "false"].contains(&&default[..]);
            if is_value && section != "[datasets.x]" {
                let changed = good(PORTS, &format!("{section}\n{key} = {default}\n"));
                assert_eq!(changed, good(PORTS, ""), "{section} {key} = {default}");
            }
        }
    }
}
