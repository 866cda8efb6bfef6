//! Rules about `Cargo.toml` files, read line by line: they are simple, and rules keep them so.

use crate::tree::{File, files, read, refuse, root};

/// Lines without comments of those tables of `manifest` whose names `wanted` accepts.
fn lines(manifest: &str, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let mut is_wanted = false;
    let mut found = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if let Some(table) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            is_wanted = wanted(table);
        } else if is_wanted && !line.is_empty() && !line.starts_with('#') {
            found.push(line.to_owned());
        }
    }
    found
}

fn key(line: &str) -> &str {
    line.split(['=', '.', ' ']).next().unwrap_or_default()
}

/// Names of the crates that `manifest` depends on outside its tests.
fn dependencies(manifest: &str) -> Vec<String> {
    let is_wanted = |table: &str| table.ends_with("dependencies") && !table.contains("dev-");
    lines(manifest, is_wanted).iter().map(|line| key(line).to_owned()).collect()
}

fn members() -> Vec<String> {
    let root = read("Cargo.toml");
    let members = root.lines().find_map(|line| line.strip_prefix("members = [")).unwrap();
    let members: Vec<String> = members
        .trim_end_matches(']')
        .split(',')
        .map(|member| member.trim().trim_matches('"').to_owned())
        .collect();
    assert!(members.len() >= 8, "{members:?}");
    members
}

#[test]
fn every_crate_follows_the_workspace() {
    let package = ["version", "edition", "rust-version", "license", "publish"];
    let mut broken = Vec::new();
    for member in members() {
        let manifest = read(&format!("{member}/Cargo.toml"));
        let mut has = |table: &str, line: &str| {
            if !lines(&manifest, |name| name == table).iter().any(|found| found == line) {
                broken.push(format!("{member}/Cargo.toml: no `{line}` in [{table}]"));
            }
        };
        has("lints", "workspace = true");
        package.iter().for_each(|key| has("package", &format!("{key}.workspace = true")));
    }
    refuse(&broken, "lints and the oldest Rust are decided once, in the workspace");
}

#[test]
fn the_oldest_rust_is_the_one_that_tests_are_built_with() {
    let package = lines(&read("Cargo.toml"), |table| table == "workspace.package");
    let needs = package.iter().find_map(|line| line.strip_prefix("rust-version = \"")).unwrap();
    let needs = needs.trim_end_matches('"');
    let source = read("xtask/src/oldest.rs");
    let pin =
        source.lines().find_map(|line| line.strip_prefix("pub(crate) const VERSION: &str = \""));
    let pin = pin.unwrap().trim_end_matches("\";");
    let series = read("xtask/yocto/versions.py");
    let mut broken = Vec::new();
    if pin.rsplit_once('.').is_none_or(|(minor, _)| minor != needs) {
        broken.push(format!("Cargo.toml: rust-version is {needs}, xtask/src/oldest.rs has {pin}"));
    }
    if !series.contains(&format!("\"{pin}\"")) {
        broken.push(format!("xtask/yocto/versions.py: no series of Yocto has Rust {pin}"));
    }
    refuse(
        &broken,
        "what is promised to build with a Rust is built with it, patch release included",
    );
}

#[test]
fn every_version_is_named_once_in_the_workspace() {
    let mut broken = Vec::new();
    for member in members() {
        let manifest = read(&format!("{member}/Cargo.toml"));
        for line in lines(&manifest, |table| table.ends_with("dependencies")) {
            let line = line.replace(' ', "");
            if !line.contains("workspace=true") && !line.contains("path=") {
                broken.push(format!("{member}/Cargo.toml: {line}"));
            }
        }
    }
    refuse(&broken, "a dependency's version stands in [workspace.dependencies] only");
}

#[test]
fn no_crate_links_what_it_has_to_do_without() {
    let kernels = &["sha2", "blake3", "engine", "hashcluster-worker"][..];
    let programs = &["hashcluster-worker", "hashctl"][..];
    let sockets = &["tokio", "ipc-socket", "hashcluster-controller"][..];
    let io = &["tokio", "nix", "libc", "mio", "socket2", "ipc-socket"][..];
    let members = members();
    let crates = members.iter().filter(|member| member.starts_with("crates/"));
    let crates = crates.map(|member| (&**member, programs, "arrows run from programs to crates"));
    let rows = [
        ("controller", kernels, "it hands out work and computes none, and parses no data"),
        ("crates/engine", sockets, "files and hashes in one process, for whoever links it"),
        ("ipc-proto", io, "bytes in, bytes out: no I/O, no async, no system calls"),
    ];
    for (member, without, reason) in rows.into_iter().chain(crates) {
        let mut found = dependencies(&read(&format!("{member}/Cargo.toml")));
        found.retain(|name| without.contains(&name.as_str()));
        refuse(&found, &format!("{member}: {reason}"));
    }
}

#[test]
fn every_dependency_says_why_it_is_here() {
    let decisions = read("docs/decisions/0002-dependencies.md");
    let external = lines(&read("Cargo.toml"), |table| table == "workspace.dependencies");
    let external = external.iter().filter(|line| !line.contains("path ="));
    let names: Vec<&str> = external.map(|line| key(line)).collect();
    assert!(names.contains(&"bincode"), "{names:?}");
    let unnamed = names
        .into_iter()
        .filter(|name| !decisions.lines().any(|line| line.contains(&format!("`{name}`"))));
    let reason = "a dependency gets a line with its `name` in docs/decisions/0002-dependencies.md: \
                  why, its size, what else was looked at";
    refuse(&unnamed.map(str::to_owned).collect::<Vec<_>>(), reason);
}

#[test]
fn every_fuzz_target_is_replayed_by_a_test() {
    let manifest = read("fuzz/Cargo.toml");
    let bins = lines(&manifest, |table| table == "[bin]");
    let targets = bins.iter().filter_map(|line| line.strip_prefix("name = "));
    let targets: Vec<&str> = targets.map(|name| name.trim_matches('"')).collect();
    assert!(targets.contains(&"frames"), "{targets:?}");
    let files = files();
    let replays: Vec<&File> = files.iter().filter(|file| file.path.ends_with("/fuzz.rs")).collect();
    let is_replayed = |target: &str| {
        let (quoted, folder) = (format!("\"{target}\""), format!("fuzz/seeds/{target}\""));
        let named = |file: &&File| file.text.contains(&quoted) || file.text.contains(&folder);
        let seeds = format!("fuzz/seeds/{target}/");
        replays.iter().any(named) && root().join(seeds).is_dir()
    };
    let lost = targets.into_iter().filter(|target| !is_replayed(target)).map(str::to_owned);
    let reason = "a fuzz target has committed seeds, and a fuzz.rs in tests/it/ or beside the code \
                  that runs it over them and over random inputs, so that every run of the tests is a short run of the fuzzer";
    refuse(&lost.collect::<Vec<_>>(), reason);
}

#[test]
fn a_manifest_is_read_by_its_tables() {
    let manifest = "[package]\nname = \"x\"\n[dependencies]\n# why\na = \"1\"\nb.workspace = true\n\
                    [target.'cfg(unix)'.dependencies]\nc={}\n[dev-dependencies]\nd = \"1\"\n";
    assert_eq!(dependencies(manifest), ["a", "b", "c"]);
}
