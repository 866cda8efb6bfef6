//! Lists of many tools and what is read in them. Each is of our own making, in the form of the tool.

use crate::digest::Choice;
use crate::function::Function;
use crate::manifest::{Claim, NotAList, Parsed, Parser};
use ipc_proto::Algorithm;

/// Claims and faults of a list, as one line: tag, name, and length if it is there.
fn summary(list: &str, text: &[u8]) -> String {
    let mut parser = Parser::new(None, list.as_bytes());
    let mut seen = Vec::new();
    for line in text.split(|&byte| byte == b'\n') {
        match parser.parse(line) {
            Parsed::Nothing => {}
            Parsed::Claim(Claim { function, digest, name, size }) => {
                assert_eq!(digest, vec![0xab; function.digest_len()]);
                let size = size.map_or(String::new(), |size| format!(" {size}"));
                seen.push(format!("{} {}{size}", function.tag(), name.escape_ascii()));
            }
            Parsed::Digest(function, digest) => {
                assert_eq!(digest, vec![0xab; function.digest_len()]);
                seen.push(format!("{} alone", function.tag()));
            }
            Parsed::Signed => seen.push("signed".to_owned()),
            Parsed::Bad => seen.push("bad".to_owned()),
            Parsed::Unsupported => seen.push("unsupported".to_owned()),
            Parsed::Refused(NotAList::Utf16) => return "UTF-16".to_owned(),
            Parsed::Refused(NotAList::Binary) => return "binary".to_owned(),
        }
    }
    seen.join("; ")
}

/// `text` with digests in the place of `H32` and so on.
fn with_digests(text: &str) -> String {
    let base64 = "q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=";
    [16, 20, 28, 32, 48, 64]
        .iter()
        .fold(text.replace("B32", base64), |text, len| {
            text.replace(&format!("H{len}"), &"ab".repeat(*len))
        })
        .replace("SPACED32", &["ab"; 32].join(" "))
        .replace("COLONS32", &["ab"; 32].join(":"))
}

#[track_caller]
fn check(list: &str, text: &str, want: &str) {
    let text = with_digests(text);
    assert_eq!(summary(list, text.as_bytes()), want, "{text}");
    let windows = format!("\u{feff}{}", text.replace('\n', "\r\n"));
    assert_eq!(summary(list, windows.as_bytes()), want, "with CRLF and a byte order mark");
}

#[test]
fn sums_of_distributions() {
    check("SHA256SUMS", "H32  a.iso\nH32 *b.iso\n", "SHA256 a.iso; SHA256 b.iso");
    check(
        "SHASUMS256.txt",
        "H32  node.tar.gz\nH32  win-x64/node.exe\n",
        "SHA256 node.tar.gz; SHA256 win-x64/node.exe",
    );
    check("sha512sums", "H64  a\nH64  b c\n", "SHA512 a; SHA512 b c");
    check("B2SUMS", "H64  a\n", "BLAKE2b a");
    check("B3SUMS", "H32  a\n", "BLAKE3 a");
    check("b2sum -l 256", "BLAKE2b-256 (a) = H32\n", "BLAKE2b-256 a");
    check("MD5SUMS", "H16  ./a\nH16  ./dists/b\n", "MD5 ./a; MD5 ./dists/b");
    check(
        "CHECKSUM",
        "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n# a.iso: 12 bytes\nSHA256 (a.iso) = H32\n\
         -----BEGIN PGP SIGNATURE-----\n\niQIzBAEBCAAdFiEE\n=abcd\n-----END PGP SIGNATURE-----\n",
        "signed; SHA256 a.iso",
    );
    check(
        "sha256sums.asc",
        "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nH32  linux-1.tar.gz\n\
         - -----\nH32  - a\n-----BEGIN PGP SIGNATURE-----\nVersion: 1\n\nH32  b\n\
         -----END PGP SIGNATURE-----\n",
        "signed; SHA256 linux-1.tar.gz; SHA256 - a",
    );
    check("CHECKSUM.SHA512", "SHA512 (a.img.xz) = H64\n", "SHA512 a.img.xz");
    check(
        "SHA256.sig",
        "untrusted comment: verify with openbsd-72-base.pub\nRWQFpTxG4bHYRN9TIh\nSHA256 (a.tgz) = H32\n",
        "signed; SHA256 a.tgz",
    );
}

#[test]
fn ports_and_packages() {
    check(
        "distinfo",
        "TIMESTAMP = 1700000000\nSHA256 (d/a.tar.gz) = H32\nSIZE (d/a.tar.gz) = 12\n",
        "SHA256 d/a.tar.gz",
    );
    check(
        "distinfo",
        "$NetBSD: distinfo,v 1.1 $\n\nBLAKE2s (a.tgz) = H32\nSHA512 (a.tgz) = H64\nSize (a.tgz) = 12 bytes\n",
        "unsupported; SHA512 a.tgz",
    );
    check(
        "Manifest",
        "DIST a-1.tar.xz 12 BLAKE2B H64 SHA512 H64\nAUX x.patch 7 SHA256 H32 RMD160 H20\n",
        "SHA512 a-1.tar.xz 12; SHA256 files/x.patch 7",
    );
    check(
        "a.dsc",
        "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\nFormat: 3.0 (quilt)\nSource: a\n\
         Package-List:\n a deb misc optional arch=any\nChecksums-Sha1:\n H20 12 a.tar.xz\n\
         Checksums-Sha256:\n H32 12 a.tar.xz\n H32 5 a.debian.tar.xz\nFiles:\n H16 12 a.tar.xz\n\n\
         -----BEGIN PGP SIGNATURE-----\n\nxx\n-----END PGP SIGNATURE-----\n",
        "signed; SHA1 a.tar.xz 12; SHA256 a.tar.xz 12; SHA256 a.debian.tar.xz 5; MD5 a.tar.xz 12",
    );
    check("a.changes", "Format: 1.8\nFiles:\n H16 12 utils optional a_1.deb\n", "MD5 a_1.deb 12");
    check(
        "Release",
        "Origin: Debian\nSuite: stable\nMD5Sum:\n H16   12 main/Packages\nSHA256:\n H32        12 main/Packages\n",
        "MD5 main/Packages 12; SHA256 main/Packages 12",
    );
    check(
        "Packages",
        "Package: a\nFilename: pool/a.deb\nSize: 12\nMD5sum: H16\nSHA256: H32\nDescription: x\n more\n\n\
         Package: b\nFilename: pool/b.deb\nSHA256: H32\n",
        "MD5 pool/a.deb; SHA256 pool/a.deb; SHA256 pool/b.deb",
    );
}

#[test]
fn lists_of_other_tools() {
    check("openssl 1", "SHA256(a)= H32\nSHA512-256(b)= H32\n", "SHA256 a; SHA512/256 b");
    check(
        "openssl 3",
        "SHA2-256(a b)= H32\nSHA2-512/256(c)= H32\nBLAKE2B-512(d)= H64\nSHA3-256(e)= H32\n",
        "SHA256 a b; SHA512/256 c; BLAKE2b d; unsupported",
    );
    check("openssl -c", "SHA2-256(a)= COLONS32\n", "SHA256 a");
    check("perl", "SHA-256 (a) = H32\nsha256 (b) = H32\n", "SHA256 a; SHA256 b");
    check("cksum --base64", "SHA256 (a) = B32\n", "SHA256 a");
    check("md5 -r", "H16 a\nH16 b c\n", "MD5 a; MD5 b c");
    check(
        "rhash --bsd",
        "CRC32 (a) = 00000000\nMD5 (a) = H16\nTIGER (a) = H28\nSHA256 (a) = H32\n",
        "unsupported; MD5 a; unsupported; SHA256 a",
    );
    check(
        "rhash",
        "; Generated by RHash v1.4.3\n;\n;    12  10:00.00 2026-11-27 a b\na b 3610A686\nc H32\n",
        "unsupported; SHA256 c",
    );
    check(
        "hashdeep",
        "%%%% HASHDEEP-1.0\n%%%% size,md5,sha256,filename\n## Invoked from: /x\n## $ hashdeep -r .\n## \n\
         0,H16,H32,/x/a\n12,H16,H32,/x/b, c\n",
        "SHA256 /x/a 0; SHA256 /x/b, c 12",
    );
    check(
        "hashdeep -c",
        "%%%% HASHDEEP-1.0\n%%%% size,tiger,whirlpool,filename\n1,H28,H64,a\n",
        "unsupported",
    );
    check(
        "CertUtil",
        "SHA256 hash of a.txt:\nH32\nCertUtil: -hashfile command completed successfully.\n",
        "SHA256 a.txt",
    );
    check(
        "CertUtil of Windows 7",
        "SHA256 hash of file a.txt:\nSPACED32\nCertUtil: -hashfile command completed\n",
        "SHA256 a.txt",
    );
    check(
        "Get-FileHash",
        "\nAlgorithm       Hash                          Path\n---------       ----                          ----\n\
         SHA256          H32       C:\\a b.txt         \n\n\n",
        "SHA256 C:\\\\a b.txt",
    );
    check(
        "Format-List",
        "\nAlgorithm : SHA256\nHash      : H32\nPath      : C:\\a.txt\n\n",
        "SHA256 C:\\\\a.txt",
    );
    check(
        "Export-Csv",
        "#TYPE x\n\"Algorithm\",\"Hash\",\"Path\"\n\"SHA256\",\"H32\",\"C:\\a, \"\"b\"\".txt\"\n",
        "SHA256 C:\\\\a, \\\"b\\\".txt",
    );
}

#[test]
fn bags_and_digests_by_themselves() {
    check(
        "manifest-sha256.txt",
        "H32 data/a\nH32  data/b%0Ac\nH32\tdata/100%25\nH32 *data/d\n",
        "SHA256 data/a; SHA256 data/b\\nc; SHA256 data/100%; SHA256 data/d",
    );
    check("list.txt", "H32  data/b%0Ac\n", "SHA256 data/b%0Ac");
    check("a.jar.sha1", "H20", "SHA1 alone");
    check("a.tgz.sha256", "H32  \n", "SHA256 alone");
    check("digest", "sha256:H32\n", "SHA256 alone");
    check("integrity", "sha256-B32\n", "SHA256 alone");
    check("label", "SHA256: H32\n", "SHA256 alone");
    check("openssl", "SHA2-256(stdin)= H32\n", "SHA256 alone");
    check("openssl 1.0", "(stdin)= H32\n", "SHA256 alone");
    check("bsd", "SHA256 (stdin) = H32\n", "SHA256 stdin");
    check("list", "H32  a\nH32\n", "SHA256 a; bad");
    check("list", "B32  a\nsha256:H32  b\nsha256-B32  c\n", "SHA256 a; SHA256 b; SHA256 c");
}

#[test]
fn what_is_no_list_is_refused() {
    let text = with_digests("H32  a\r\n");
    let units =
        |to_bytes: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(to_bytes).collect::<Vec<u8>>();
    for (mark, to_bytes) in [
        (&b"\xff\xfe"[..], u16::to_le_bytes as fn(u16) -> [u8; 2]),
        (b"\xfe\xff", u16::to_be_bytes),
    ] {
        let units = units(to_bytes);
        assert_eq!(summary("list", &units), "UTF-16", "without a mark");
        assert_eq!(summary("list", &[mark, &units].concat()), "UTF-16");
    }
    check(
        "prose",
        "Added 2 files\nSee the README.\nsha256: none\nSHA3-256: H32\n",
        "bad; bad; bad; bad",
    );
}

#[test]
fn the_algorithm_that_was_asked_for_wins_over_the_name_of_the_list() {
    let line = with_digests("H32  a");
    let asked = Some(Function::from(Algorithm::Sha512_256));
    let mut parser = Parser::new(asked, b"B3SUMS");
    assert!(
        matches!(parser.parse(line.as_bytes()), Parsed::Claim(claim) if Some(claim.function) == asked)
    );
    assert!(Choice::default().asked.is_none());
}
