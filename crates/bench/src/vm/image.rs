//! Size of the image.

use super::host::Host;
use crate::report::{Report, Target};
use std::io;
use std::process::{Command, Stdio};

const MB: f64 = 1e6;

pub(super) fn measure(report: &mut Report, host: &Host) {
    let size = |name: &str| {
        let metadata = host.image().join(name).metadata();
        metadata.unwrap_or_else(|error| panic!("{name}: {error}")).len() as f64 / MB
    };
    report.note(&format!("kernel: {:.2} MB", size("kernel")));
    report.check("initrd", size("initrd"), " MB", Target::AtMost(6.0));
    let root = unpacked_len(host) as f64 / MB;
    report.check("root, unpacked, as an archive", root, " MB", Target::AtMost(14.0));
}

/// Length of the archive in the initrd: the files, and a header each.
fn unpacked_len(host: &Host) -> u64 {
    let mut zstd = Command::new("zstd")
        .args(["-q", "-dc"])
        .arg(host.image().join("initrd"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("setup.sh made sure of zstd");
    let mut stdout = zstd.stdout.take().expect("it was just made");
    let len = io::copy(&mut stdout, &mut io::sink()).expect("zstd writes");
    assert!(zstd.wait().expect("our own child").success(), "the initrd is not compressed by zstd");
    len
}
