//! Random lists: lines as the tools write them, and what is nearly one.

use super::names;
use crate::families::gnu::{digests, tag};
use test_kit::Random;

/// Options for checking.
pub(super) fn args(random: &mut Random) -> Vec<Vec<u8>> {
    let mut args = vec![b"-c".to_vec()];
    let options =
        ["-w", "--warn", "--quiet", "--status", "--strict", "--ignore-missing", "--ign", "--qui"];
    for option in options {
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

/// A list for `tool`, most of it good.
pub(super) fn list(tool: &str, files: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut text = Vec::new();
    let lines = random.below(12);
    let damage = random.one_of(&[0, 5, 30]);
    for i in 0..lines {
        let mut line = line(tool, files, random);
        if random.chance(damage) {
            spoil(&mut line, random);
        }
        text.extend(line);
        let ends: &[&[u8]] =
            &[b"\n", b"\n", b"\n", b"\n", b"\n", b"\n", b"\r\n", b"\n\n", b" \n", b"\0\n"];
        if i + 1 < lines || random.chance(80) {
            text.extend(random.one_of(ends));
        }
    }
    text
}

fn line(tool: &str, files: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let own = if random.chance(90) {
        tool
    } else {
        random.one_of(&["md5sum", "sha1sum", "sha256sum", "b2sum"])
    };
    let mut digest = match random.below(10) {
        0 => random.one_of(&digests()[own])[..].to_owned(),
        1 => "0".repeat(digests()[own][0].len()),
        _ => digests()[own][0].clone(),
    };
    if random.chance(20) {
        digest = digest.to_uppercase();
    }
    if random.chance(5) || own == "b2sum" && random.chance(30) {
        digest.truncate(random.index(digest.len() + 1));
    }
    let bits = digest.len() * 4;
    let name = if random.chance(85) { random.one_of(files) } else { names::name(random) };
    let is_odd = name.iter().any(|byte| matches!(byte, b'\n' | b'\\' | b'\r'));
    let escapes = if is_odd { random.chance(80) } else { random.chance(5) };
    let name = if escapes { escape(&name) } else { name };
    let mut line = Vec::new();
    if random.chance(5) {
        line.extend(random.one_of::<&[u8]>(&[b" ", b"\t", b"  ", b"#", b"# "]));
    }
    if escapes {
        line.push(b'\\');
    }
    let tag = tag(own);
    let tag = match random.below(12) {
        0 => format!("{tag}-{bits}"),
        1 => format!(
            "{tag}-{}",
            random.one_of(&["0", "7", "08", "8", "256", "512", "520", " 8", "0x10"])
        ),
        2 => tag.to_lowercase(),
        _ if own == "b2sum" && bits < 512 => format!("{tag}-{bits}"),
        _ => tag.to_owned(),
    };
    let put =
        |line: &mut Vec<u8>, parts: [&[u8]; 5]| parts.iter().for_each(|part| line.extend(*part));
    let (digest, tag) = (digest.as_bytes(), tag.as_bytes());
    match random.below(12) {
        0..=3 => put(&mut line, [tag, b" (", &name, b") = ", digest]),
        4 => put(&mut line, [tag, b"(", &name, b")= ", digest]),
        5 => {
            let open = random.one_of::<&[u8]>(&[b"(", b" (", b"  (", b"\t(", b" "]);
            let close = random
                .one_of::<&[u8]>(&[b")=", b") =", b")\t=\t", b") ", b" = ", b")==", b")  =  "]);
            put(&mut line, [tag, open, &name, close, digest]);
        }
        6 => put(&mut line, [digest, b" *", &name, b"", b""]),
        7 => put(&mut line, [digest, b" ", &name, b"", b""]),
        8 => {
            let gap = random
                .one_of::<&[u8]>(&[b"\t", b" \t", b"\t ", b"", b"   ", b"  *", b"**", b"\x0b"]);
            put(&mut line, [digest, gap, &name, b"", b""]);
        }
        _ => put(&mut line, [digest, b"  ", &name, b"", b""]),
    }
    line
}

pub(super) fn escape(name: &[u8]) -> Vec<u8> {
    let escape = |&byte: &u8| match byte {
        b'\n' => b"\\n".to_vec(),
        b'\r' => b"\\r".to_vec(),
        b'\\' => b"\\\\".to_vec(),
        _ => vec![byte],
    };
    name.iter().flat_map(escape).collect()
}

/// Changes, removes or inserts one byte, or ends the line at it.
pub(super) fn spoil(line: &mut Vec<u8>, random: &mut Random) {
    let at = random.index(line.len());
    let byte = random.one_of(b" \t*()=\\-0afgAG#\0\n\r'\xff");
    match random.below(4) {
        0 => drop(line.remove(at)),
        1 => line.insert(at, byte),
        2 => line[at] = byte,
        _ => line.truncate(at),
    }
}
