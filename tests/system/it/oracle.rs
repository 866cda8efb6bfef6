//! Output of `hashctl` against that of the installed tools, byte for byte.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};
use test_kit::{Cluster, Options, hostile_names, output, text, write_file};

fn files(dir: &Path) -> Vec<OsString> {
    let mut names: Vec<OsString> = Vec::new();
    // Around the ends of blocks, of their padding, of chunks and of buffers.
    let ends = [56, 64, 112, 120, 128, 1024, 1 << 20].into_iter().flat_map(|end| end - 1..=end + 1);
    let sizes = [0, 1].into_iter().chain(ends).chain([64 << 20]);
    for size in sizes {
        let name = format!("size-{size}");
        write_file(&dir.join(&name), size, size);
        names.push(name.into());
    }
    // `./-dash` stands for all that look like options.
    let hostile = hostile_names().into_iter().filter(|name| name.len() < 255 && name[0] != b'-');
    for name in hostile.chain([b"./-dash".to_vec()]) {
        let name = OsStr::from_bytes(&name);
        fs::write(dir.join(name), name.as_bytes()).unwrap();
        names.push(name.to_owned());
    }
    names
}

/// `hashctl sum` with `ours` prints what `program` with `theirs` prints.
#[track_caller]
fn check(cluster: &Cluster, dir: &Path, names: &[OsString], ours: &[&str], theirs: &[&str]) {
    let ours =
        output(cluster.hashctl().arg("sum").args(ours).arg("--").args(names).current_dir(dir));
    let program = &mut Command::new(theirs[0]);
    let theirs = output(program.args(&theirs[1..]).arg("--").args(names).current_dir(dir));
    assert!(ours.status.success() && theirs.status.success(), "{}", text(&ours.stderr));
    assert!(!ours.stdout.is_empty());
    assert_eq!(text(&ours.stdout), text(&theirs.stdout));
    assert_eq!(ours.stdout, theirs.stdout);
}

#[test]
fn output_is_that_of_the_installed_tools_for_all_sizes_and_names() {
    let dir = tempfile::tempdir().unwrap();
    let names = files(dir.path());
    let cluster = Cluster::start(Options::default());
    for algorithm in ["sha224", "sha256", "sha384", "sha512", "md5", "sha1", "blake2b"] {
        let program =
            if algorithm == "blake2b" { "b2sum".into() } else { format!("{algorithm}sum") };
        for options in [&[][..], &["--tag"], &["-z"]] {
            let ours = [&["-a", algorithm], options].concat();
            let theirs = [&[program.as_str()], options].concat();
            check(&cluster, dir.path(), &names, &ours, &theirs);
        }
    }
    // b3sum prints a replacement character where a name is not UTF-8, and no escape for a CR.
    let plain = |name: &&OsString| {
        std::str::from_utf8(name.as_bytes()).is_ok_and(|name| !name.contains('\r'))
    };
    let names: Vec<OsString> = names.iter().filter(plain).cloned().collect();
    check(&cluster, dir.path(), &names, &["-a", "blake3"], &["b3sum"]);
}

#[test]
fn manifests_are_accepted_both_ways() {
    let dir = tempfile::tempdir().unwrap();
    let names = files(dir.path());
    let cluster = Cluster::start(Options::default());
    let manifest = output(cluster.hashctl().arg("sum").arg("--").args(&names).current_dir(&dir));
    fs::write(dir.path().join("manifest"), &manifest.stdout).unwrap();
    let ours = output(cluster.hashctl().args(["check", "manifest"]).current_dir(&dir));
    let theirs = output(Command::new("sha256sum").args(["-c", "manifest"]).current_dir(&dir));
    assert!(ours.status.success() && theirs.status.success());
    assert_eq!(text(&ours.stdout), text(&theirs.stdout));
    fs::write(dir.path().join("size-64"), "another").unwrap();
    fs::remove_file(dir.path().join("size-65")).unwrap();
    let ours = output(cluster.hashctl().args(["check", "manifest"]).current_dir(&dir));
    let theirs = output(Command::new("sha256sum").args(["-c", "manifest"]).current_dir(&dir));
    assert_eq!((ours.status.code(), theirs.status.code()), (Some(1), Some(1)));
    assert_eq!(text(&ours.stdout), text(&theirs.stdout));
    // The last line, with the counts, is ours alone.
    let stderr = text(&ours.stderr);
    let (warnings, counts) = stderr.trim_end().rsplit_once('\n').expect("more than one line");
    assert_eq!(warnings, text(&theirs.stderr).trim_end().replace("sha256sum", "hashctl"));
    let files = names.len();
    let want = format!("hashctl: {files} files: {} OK, 1 FAILED, 1 could not be read", files - 2);
    assert_eq!(counts, want);
}

#[test]
fn standard_input_is_hashed_whatever_its_length() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(Options::default());
    for size in [0, 1, 127, 128, 129, (512 << 10) - 1, 512 << 10, (512 << 10) + 1, 40 << 20] {
        let path = dir.path().join("input");
        write_file(&path, size, size);
        for (algorithm, program) in
            [("sha256", "sha256sum"), ("sha512", "sha512sum"), ("blake3", "b3sum")]
        {
            let mut cat = Command::new("cat").arg(&path).stdout(Stdio::piped()).spawn().unwrap();
            let pipe = cat.stdout.take().unwrap();
            let ours = output(cluster.hashctl().args(["sum", "-a", algorithm, "-"]).stdin(pipe));
            cat.wait().unwrap();
            let theirs = output(Command::new(program).stdin(fs::File::open(&path).unwrap()));
            let digest = |bytes: &[u8]| text(bytes).split(' ').next().unwrap().to_owned();
            assert_eq!(digest(&ours.stdout), digest(&theirs.stdout), "{algorithm} of {size}");
            assert!(text(&ours.stdout).ends_with("  -\n"));
        }
    }
}
