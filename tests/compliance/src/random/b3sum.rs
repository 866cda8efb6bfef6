//! Random invocations of b3sum: options and names, and lists.

use super::lists::spoil;
use super::names;
use crate::families::b3sum::digests;
use test_kit::Random;

/// Options for hashing, and names; some of the files are missing.
pub(super) fn args(files: &[Vec<u8>], random: &mut Random) -> Vec<Vec<u8>> {
    let mut args = Vec::new();
    for option in
        ["--tag", "--no-names", "--no-mmap", "--raw", "--derive-key=x", "--keyed", "--quiet"]
    {
        if random.chance(10) {
            args.push(option.into());
        }
    }
    for option in ["--length=", "-l", "--seek=", "--num-threads="] {
        if random.chance(10) {
            args.push(format!("{option}{}", random.below(300)).into_bytes());
        }
    }
    let has_end = random.chance(85);
    if has_end {
        args.push(b"--".to_vec());
    }
    for _ in 0..random.below(12) {
        let name = if random.chance(50) { random.one_of(files) } else { names::name(random) };
        // A known difference: the original leaves out all that may follow an escape.
        if has_end || !name.starts_with(b"-") || !name.contains(&0x1b) {
            args.push(name);
        }
    }
    args
}

/// Options for checking `LIST` or standard input.
pub(super) fn check_args(random: &mut Random) -> Vec<Vec<u8>> {
    let mut args = vec![b"-c".to_vec()];
    for option in ["--quiet", "--no-mmap", "--seek=0", "--num-threads=2"] {
        if random.chance(15) {
            args.push(option.into());
        }
    }
    match random.below(4) {
        0 => {}
        1 => args.push(b"-".to_vec()),
        2 => args.push(b"LIST".to_vec()),
        _ => args.extend([b"LIST".to_vec(), b"LIST".to_vec()]),
    }
    args
}

/// A list, most of it good.
pub(super) fn list(files: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut text = Vec::new();
    let damage = random.one_of(&[0, 5, 30]);
    for _ in 0..random.below(12) {
        let mut line = line(files, random);
        if random.chance(damage) {
            spoil(&mut line, random);
        }
        line.extend(
            random.one_of::<&[u8]>(&[b"\n", b"\n", b"\n", b"\n", b"\r\n", b"\n\n", b" \n"]),
        );
        // A line that names standard input would have the original wait for itself.
        let names_stdin = |line: &[u8]| {
            line.ends_with(b"  -") || line.windows(6).any(|part| part == b"(-) = ".as_slice())
        };
        if !line.split(|byte| matches!(byte, b'\n' | b'\r')).any(names_stdin) {
            text.extend(line);
        }
    }
    if random.chance(20) {
        text.pop();
    }
    text
}

fn line(files: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut digest = match random.below(10) {
        0 => digests()[1].clone(),
        1 => "0".repeat(64),
        _ => digests()[0].clone(),
    };
    if random.chance(3) {
        digest = digest.to_uppercase();
    }
    if random.chance(3) {
        digest.truncate(random.index(digest.len() + 1));
    }
    let mut name = if random.chance(85) { random.one_of(files) } else { names::name(random) };
    if random.chance(90) {
        // The rest would end the list.
        name = String::from_utf8_lossy(&name).replace('\u{fffd}', "").into_bytes();
    }
    let is_odd = name.iter().any(|byte| matches!(byte, b'\n' | b'\\' | b'\r'));
    let escapes = if is_odd { random.chance(80) } else { random.chance(5) };
    if escapes {
        name = super::lists::escape(&name);
    }
    let mut line = if escapes { b"\\".to_vec() } else { Vec::new() };
    let digest = digest.as_bytes();
    let parts: [&[u8]; 5] = match random.below(12) {
        0..=3 => [b"BLAKE3 (", &name, b") = ", digest, b""],
        4 => {
            let tag =
                random.one_of::<&[u8]>(&[b"BLAKE3(", b"BLAKE2b (", b"blake3 (", b"BLAKE3  ("]);
            [tag, &name, b") = ", digest, b""]
        }
        5 => {
            let close = random.one_of::<&[u8]>(&[b")= ", b") =", b")  = ", b") =  ", b" = "]);
            [b"BLAKE3 (", &name, close, digest, b""]
        }
        6 => {
            let gap = random.one_of::<&[u8]>(&[b" ", b" *", b"\t", b"   ", b"", b"\t\t"]);
            [digest, gap, &name, b"", b""]
        }
        _ => [digest, b"  ", &name, b"", b""],
    };
    parts.iter().for_each(|part| line.extend(*part));
    line
}
