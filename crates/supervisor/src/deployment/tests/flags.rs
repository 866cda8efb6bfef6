//! Settings that become flags of the programs: whose they are, and which wins.

use super::*;
use std::path::Path;

#[test]
fn flags_are_the_workers_or_the_controllers_and_the_most_specific_wins() {
    let deployment = good(
        PORTS,
        "[defaults]\nbackend = 'portable'\nreading = 'plain'\ndrop_behind = true\n\
         report_every = '64M'\ncross_check = '1/9'\njournal_max = '2G'\n\
         [vm.worker2]\nbackend = 'sha256_avx2_x8'\ndrop_behind = false\nreport_every = '1K'\n",
    );
    let seen: Vec<String> = deployment.vms.iter().map(|vm| vm.args.join(" ")).collect();
    let want = [
        "--cross-check 1/9 --journal-max 2147483648",
        "--backend portable --reading plain --report-every 67108864 --drop-behind",
        "--backend sha256_avx2_x8 --reading plain --report-every 1024",
    ];
    assert_eq!(seen, want);
    let shown = deployment.to_string();
    assert!(
        shown.contains("\nflags of controller: --cross-check 1/9 --journal-max 2147483648\n"),
        "{shown}"
    );
    let own =
        good(PORTS, "[defaults]\ncross_check = '1/9'\n[vm.controller]\ncross_check = '1/2'\n");
    assert_eq!(own.vms[0].args, ["--cross-check", "1/2"]);
}

#[test]
fn flags_of_another_program_are_refused() {
    check(
        "[vm.controller]\nbackend = 'portable'\nreading = 'auto'\ndrop_behind = true\n\
         report_every = '1G'\n[vm.worker1]\ncross_check = '1/9'\n",
        &[
            "2: backend is for workers; the controller hashes nothing",
            "3: reading is for workers; the controller hashes nothing",
            "4: drop_behind is for workers; the controller hashes nothing",
            "5: report_every is for workers; the controller hashes nothing",
            "7: cross_check is for the controller; write it there, or in [defaults]",
        ],
    );
}

/// All names of backends are in the document, which is compared with the message.
#[test]
fn a_backend_that_does_not_exist_is_refused() {
    let refused = load(PORTS, "[defaults]\nbackend = 'avx1024'\n").unwrap_err();
    let want = "cluster.toml:2: backend: bad value \"avx1024\"; write portable or sha256_";
    assert!(refused.starts_with(want), "{refused}");
}

#[test]
fn a_cluster_without_vms_has_the_flags_of_the_defaults() {
    let load = |config: &str| {
        let files = Files::new(b"", Some(config.as_bytes()));
        let path = files.path("cluster.toml");
        let given = LocalFlags::load(Some(&path), &["given=/".into()], false);
        given.map_err(|errors| files.plain(&errors))
    };
    let config = "[defaults]\nthreads = 9\nreading = 'plain'\ncross_check = '1/3'\njournal_max = '64M'\n\
                  [vm.worker1]\nbackend = 'portable'\n[datasets.d]\ndir = '/nowhere'\n";
    let flags = load(config).unwrap();
    assert_eq!(flags.controller, ["--cross-check", "1/3", "--journal-max", "67108864"]);
    assert_eq!(flags.workers, ["--reading", "plain"]);
    let datasets: Vec<_> =
        flags.datasets.iter().map(|set| (&*set.name, set.dir.as_path(), set.is_missing)).collect();
    let want = [("d", Path::new("/nowhere"), true), ("given", Path::new("/"), false)];
    assert_eq!(datasets, want, "one of a file may be missing");
    assert_eq!(
        load("[defaults]\nreading = 1\ncolor = 2\n").unwrap_err().lines().next(),
        Some("cluster.toml:2: reading: bad value 1; write in quotes auto or uring or plain")
    );
    let missing =
        LocalFlags::load(Some(Path::new("/nowhere/cluster.toml")), &[], false).unwrap_err();
    assert_eq!(missing.to_string(), "/nowhere/cluster.toml: there is no such file");
    let mistyped = LocalFlags::load(None, &["d=/nowhere".into()], false).unwrap_err();
    let want =
        "--dataset: cannot use /nowhere as a dataset: No such file or directory (os error 2)";
    assert_eq!(mistyped.to_string(), want);
    let gone = LocalFlags::load(None, &["d=/nowhere".into()], true).unwrap();
    assert!(gone.datasets[0].is_missing, "it was there when it was named");
}
