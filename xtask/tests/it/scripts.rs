//! Rules about shell scripts; shellcheck is a step of its own.

use crate::tree::{files, refuse, root};
use std::os::unix::fs::PermissionsExt;

fn scripts() -> Vec<String> {
    let scripts = files().into_iter().filter(|file| file.path.ends_with(".sh"));
    let scripts: Vec<String> = scripts.map(|file| file.path).collect();
    assert!(scripts.contains(&"run.sh".to_owned()), "{scripts:?}");
    scripts
}

#[test]
fn every_script_can_be_started() {
    let is_executable = |path: &String| {
        let mode = root().join(path).metadata().unwrap().permissions().mode();
        mode & 0o111 == 0o111
    };
    let stuck = scripts().into_iter().filter(|path| !is_executable(path));
    refuse(&stuck.collect::<Vec<_>>(), "a script is started by its name: chmod +x");
}

#[test]
fn every_script_stops_at_its_first_error() {
    let loose = files().into_iter().filter(|file| {
        let is_script = file.path.ends_with(".sh") || file.path == ".ci/run";
        is_script && !file.text.lines().any(|line| line == "set -euo pipefail")
    });
    let reason = "without `set -euo pipefail` a script goes on after what failed";
    refuse(&loose.map(|file| file.path).collect::<Vec<_>>(), reason);
}
