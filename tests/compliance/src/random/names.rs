//! Random names, and invocations that hash or miss files of them.

use test_kit::Random;

/// Parts that shells, terminals and decoders treat specially.
const PIECES: &[&[u8]] = &[
    b"a",
    b"b",
    b"Z",
    b"0",
    b".",
    b"-",
    b"_",
    b"'",
    b"\"",
    b" ",
    b"  ",
    b"\\",
    b"\n",
    b"\r",
    b"\t",
    b"\x01",
    b"\x07",
    b"\x08",
    b"\x0b",
    b"\x0c",
    b"\x1b",
    b"\x7f",
    b"#",
    b"~",
    b"{",
    b"}",
    b":",
    b"?",
    b"*",
    b"[",
    b"]",
    b"!",
    b"$",
    b"&",
    b"(",
    b")",
    b";",
    b"<",
    b">",
    b"=",
    b"^",
    b"`",
    b"|",
    b"@",
    b"%",
    b"+",
    b",",
    b"\xc3\xbc",
    b"\xe2\x82\xac",
    b"\xf0\x9f\x98\x80",
    b"\xc2\x85",
    b"\xc2\xa0",
    b"\xc2\xad",
    b"\xe2\x80\x8b",
    b"\xe2\x80\xae",
    b"\xe2\x80\xa8",
    b"\xef\xbb\xbf",
    b"\xcd\xb8",
    b"\xef\xbf\xbf",
    b"\xf4\x8f\xbf\xbf",
    b"\xee\x80\x80",
    b"\xf3\xa0\x80\x81",
    b"\xcc\x81",
    b"\xff",
    b"\x80",
    b"\xc3",
    b"\xe2\x82",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xf8\x88\x80\x80\x80",
    b"\xc0\x80",
];

/// Most parts of a name.
const PIECES_MAX: u64 = 6;

/// A name that a directory can hold.
pub(super) fn name(random: &mut Random) -> Vec<u8> {
    loop {
        let len = 1 + random.below(PIECES_MAX);
        let mut name: Vec<u8> = (0..len).flat_map(|_| random.one_of(PIECES)).copied().collect();
        if random.chance(10) {
            name.extend(random.bytes(2).into_iter().filter(|byte| !matches!(byte, 0 | b'/')));
        }
        if !matches!(name[..], [b'.'] | [b'.', b'.']) {
            return name;
        }
    }
}

/// Names of the files that exist.
pub(super) fn files(random: &mut Random) -> Vec<Vec<u8>> {
    let mut files: Vec<Vec<u8>> = (0..100).map(|_| name(random)).collect();
    files.extend([b"a".to_vec(), b"b".to_vec()]);
    files
}

/// Options and names, some of files that are missing.
pub(super) fn args(tool: &str, files: &[Vec<u8>], random: &mut Random) -> Vec<Vec<u8>> {
    let mut args = Vec::new();
    for option in ["-b", "-t", "--tag", "-z", "--bin", "--te"] {
        if random.chance(12) {
            args.push(option.into());
        }
    }
    if tool == "b2sum" && random.chance(50) {
        args.push(format!("-l{}", 8 * random.below(66)).into_bytes());
    }
    if random.chance(85) {
        args.push(b"--".to_vec());
    }
    for _ in 0..random.below(12) {
        args.push(if random.chance(50) { random.one_of(files) } else { name(random) });
    }
    args
}
