//! Notations of digests and names of algorithms, as lists of many tools have them.

use super::hex;
use crate::function::Function;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ipc_proto::Algorithm;
use serde::{Deserialize, Serialize};

/// Names of algorithms in lists, in lower case and without dashes, underscores and blanks.
const TAGS: &[(&str, Algorithm)] = &[
    ("md5", Algorithm::Md5),
    ("sha1", Algorithm::Sha1),
    ("sha224", Algorithm::Sha224),
    ("sha2224", Algorithm::Sha224),
    ("sha256", Algorithm::Sha256),
    ("sha2256", Algorithm::Sha256),
    ("sha384", Algorithm::Sha384),
    ("sha2384", Algorithm::Sha384),
    ("sha512", Algorithm::Sha512),
    ("sha2512", Algorithm::Sha512),
    ("sha512/256", Algorithm::Sha512_256),
    ("sha512256", Algorithm::Sha512_256),
    ("sha2512/256", Algorithm::Sha512_256),
    ("sha2512256", Algorithm::Sha512_256),
    ("blake2b", Algorithm::Blake2b),
    ("blake2b512", Algorithm::Blake2b),
    ("b2", Algorithm::Blake2b),
    ("blake3", Algorithm::Blake3),
    ("b3", Algorithm::Blake3),
];

/// Algorithms that a digest without a name can be of, by its length: those that share a length with
/// a SHA-2 have to be named.
const BY_LENGTH: [Algorithm; 6] = [
    Algorithm::Sha256,
    Algorithm::Sha224,
    Algorithm::Sha384,
    Algorithm::Sha512,
    Algorithm::Sha1,
    Algorithm::Md5,
];

/// Longest name in [`TAGS`], with what [`by_tag`] leaves out.
const TAG_LEN_MAX: usize = 16;

/// The function that a list calls `tag`: `SHA256`, `SHA2-256`, `SHA-256`, `sha256`, `BLAKE2b-256` …
pub fn by_tag(tag: &[u8]) -> Option<Function> {
    if tag.len() > TAG_LEN_MAX || !tag.first().is_some_and(u8::is_ascii_alphabetic) {
        return None;
    }
    let is_plain = |byte: &u8| !b"-_ ".contains(byte);
    let plain: String =
        tag.iter().filter(|byte| is_plain(byte)).map(|&byte| char::from(byte)).collect();
    let plain = plain.to_ascii_lowercase();
    let found = TAGS.iter().find(|(known, _)| *known == plain);
    found.map(|&(_, algorithm)| algorithm.into()).or_else(|| shorter_blake2b(&plain))
}

/// The function called `blake2b256`, of as many bits.
fn shorter_blake2b(tag: &str) -> Option<Function> {
    let bits: usize = tag.strip_prefix("blake2b")?.parse().ok()?;
    let function = Function::blake2b(bits / 8)?;
    bits.is_multiple_of(8).then_some(function)
}

/// Algorithm of digests that do not name theirs.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Choice {
    /// The user's word: no other is accepted.
    pub asked: Option<Function>,
    /// By the name of the list, where the length fits.
    pub likely: Option<Function>,
}

/// A digest and where its algorithm is from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// The function.
    pub function: Function,
    /// The digest, of its length.
    pub bytes: Vec<u8>,
    /// The function is only one of those with this length.
    pub is_guess: bool,
}

impl Digest {
    /// A digest whose list names the function: hexadecimal, with colons between bytes, or base64.
    pub fn named(function: Function, text: &[u8]) -> Option<Self> {
        let fits = |bytes: &Vec<u8>| bytes.len() == function.digest_len();
        let bytes = notations(text).into_iter().flatten().find(fits)?;
        Some(Self { function, bytes, is_guess: false })
    }

    /// A digest by itself, or one that names its function: `sha256:HEX`, `sha256-BASE64` (SRI).
    pub fn parse(text: &[u8], choice: Choice) -> Option<Self> {
        let untagged = |bytes: Vec<u8>| {
            let fits = |function: &Function| function.digest_len() == bytes.len();
            if let Some(function) = choice.asked {
                return fits(&function).then_some(Self { function, bytes, is_guess: false });
            }
            let guess = || BY_LENGTH.into_iter().map(Function::from).find(fits);
            let function = choice.likely.filter(fits).or_else(guess)?;
            Some(Self { function, bytes, is_guess: true })
        };
        if let Some(digest) = Self::shorter_blake2b(text, choice) {
            return Some(digest);
        }
        let tagged = |mark: u8| {
            let at = text.iter().take(TAG_LEN_MAX).position(|&byte| byte == mark)?;
            Self::named(by_tag(&text[..at])?, &text[at + 1..])
        };
        let mut bytes = notations(text).into_iter().flatten();
        bytes.find_map(untagged).or_else(|| tagged(b':')).or_else(|| tagged(b'-'))
    }

    /// A digest by itself, where BLAKE2b is asked for or likely: it can have any length (`b2sum -l`).
    fn shorter_blake2b(text: &[u8], choice: Choice) -> Option<Self> {
        let (wanted, len_min) = match choice.asked {
            Some(asked) => (asked, 1),
            None => (choice.likely?, LIKELY_BLAKE2B_LEN_MIN),
        };
        if wanted != Algorithm::Blake2b.into() {
            return None;
        }
        let bytes = hex::decode(text).filter(|bytes| bytes.len() >= len_min)?;
        let function = Function::blake2b(bytes.len())?;
        Some(Self { function, bytes, is_guess: choice.asked.is_none() })
    }
}

/// Fewest bytes of a BLAKE2b that only the name of the list speaks for.
const LIKELY_BLAKE2B_LEN_MIN: usize = 16;

/// Bytes that `text` can stand for: hexadecimal digits, pairs of them with colons in between, base64.
fn notations(text: &[u8]) -> [Option<Vec<u8>>; 3] {
    [hex::decode(text), with_colons(text), STANDARD.decode(text).ok()]
}

fn with_colons(text: &[u8]) -> Option<Vec<u8>> {
    let pair = |pair| <[u8; 2]>::try_from(pair).ok();
    let pairs: Option<Vec<_>> = text.split(|&byte| byte == b':').map(pair).collect();
    hex::decode(pairs?.as_flattened())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_algorithm_is_known_by_its_own_names() {
        for algorithm in Algorithm::ALL {
            for tag in [algorithm.tag(), algorithm.name()] {
                assert_eq!(by_tag(tag.as_bytes()), Some(algorithm.into()), "{tag}");
            }
        }
        for tag in ["SHA2-256", "SHA-256", "sha_256", "Sha256"] {
            assert_eq!(by_tag(tag.as_bytes()), Some(Algorithm::Sha256.into()), "{tag}");
        }
        assert_eq!(by_tag(b"BLAKE2b-256"), Some(Function::Blake2b(32)));
        for tag in
            ["", "SHA3-256", "SHA", "256", "CRC32", "BLAKE2s", "BLAKE2b-7", "SHA256x", "--SHA256"]
        {
            assert_eq!(by_tag(tag.as_bytes()), None, "{tag}");
        }
    }

    #[test]
    fn digests_are_read_in_every_notation() {
        let bytes: Vec<u8> = (0..32).collect();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
        let colons: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let base64 = STANDARD.encode(&bytes);
        let guess = |text: &str| Digest::parse(text.as_bytes(), Choice::default());
        let digest = |is_guess| Digest {
            function: Algorithm::Sha256.into(),
            bytes: bytes.clone(),
            is_guess,
        };
        for text in [&hex, &colons.join(":"), &base64] {
            assert_eq!(guess(text), Some(digest(true)), "{text}");
        }
        for tag in ["sha256:", "SHA-256:", "sha256-"] {
            for text in [&hex, &base64] {
                assert_eq!(guess(&format!("{tag}{text}")), Some(digest(false)), "{tag}{text}");
            }
        }
        let asked = Choice { asked: Some(Algorithm::Blake3.into()), likely: None };
        assert_eq!(
            Digest::parse(hex.as_bytes(), asked).unwrap().function.algorithm(),
            Algorithm::Blake3
        );
        assert_eq!(Digest::parse(&hex.as_bytes()[..40], asked), None);
        let likely = Choice { asked: None, likely: Some(Algorithm::Blake3.into()) };
        assert_eq!(
            Digest::parse(hex.as_bytes(), likely).unwrap().function.algorithm(),
            Algorithm::Blake3
        );
        assert_eq!(
            Digest::parse(&hex.as_bytes()[..40], likely).unwrap().function.algorithm(),
            Algorithm::Sha1
        );
        for text in ["", "sha256:", "sha256-", &hex[1..], &base64[1..], "sha3-256:00", "README"] {
            assert_eq!(guess(text), None, "{text}");
        }
    }

    #[test]
    fn a_digest_of_any_length_is_blake2b_where_that_is_asked_for_or_likely() {
        let blake2b = Some(Algorithm::Blake2b.into());
        let asked = Choice { asked: blake2b, likely: None };
        let likely = Choice { asked: None, likely: blake2b };
        for (choice, len, want) in [
            (asked, 1, Some(Function::Blake2b(1))),
            (asked, 32, Some(Function::Blake2b(32))),
            (asked, 64, blake2b),
            (asked, 65, None),
            (likely, 15, None),
            (likely, 20, Some(Function::Blake2b(20))),
            (likely, 64, blake2b),
        ] {
            let text = "ab".repeat(len);
            let digest = Digest::parse(text.as_bytes(), choice);
            let function = digest.as_ref().map(|digest| digest.function);
            assert_eq!(function, want, "{len} bytes, {choice:?}");
        }
        assert_eq!(Digest::parse(b"abc", asked), None);
    }
}
