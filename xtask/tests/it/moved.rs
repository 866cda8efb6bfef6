//! `cargo xtask` in a tree that was moved or copied after it was built.

use crate::tree::xtask;
use std::fs;
use std::os::unix::fs::PermissionsExt;

#[test]
fn the_tree_where_cargo_or_the_caller_is_now_is_the_one_that_is_built() {
    let dir = std::env::temp_dir().join(format!("hashcluster-{}-moved", std::process::id()));
    let tree = dir.join("a b'ü");
    fs::create_dir_all(tree.join("xtask")).unwrap();
    fs::write(tree.join("xtask/Cargo.toml"), "").unwrap();
    // Says where it is called.
    let cargo = dir.join("cargo");
    fs::write(&cargo, "#!/bin/sh\npwd -P\n").unwrap();
    fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).unwrap();
    let root = fs::canonicalize(&tree).unwrap();
    for (package, cwd) in [(Some(tree.join("xtask")), "/".into()), (None, tree.join("xtask"))] {
        let mut sim = xtask();
        sim.args(["sim", "1"]).env("CARGO", &cargo).env_remove("CARGO_MANIFEST_DIR");
        sim.envs(package.map(|dir| ("CARGO_MANIFEST_DIR", dir))).current_dir(cwd);
        let ran = sim.output().unwrap();
        assert_eq!(String::from_utf8_lossy(&ran.stdout), format!("{}\n", root.display()));
    }
    fs::remove_dir_all(&dir).unwrap();
}
