//! The digest algorithms and what is fixed about each: its names and the length of its digest.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A digest algorithm. The order is part of the wire format: append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Algorithm {
    /// SHA-224 (FIPS 180-4, section 6.3).
    Sha224,
    /// SHA-256 (FIPS 180-4, section 6.2).
    Sha256,
    /// SHA-384 (FIPS 180-4, section 6.5).
    Sha384,
    /// SHA-512 (FIPS 180-4, section 6.4).
    Sha512,
    /// SHA-512/256 (FIPS 180-4, section 6.7).
    Sha512_256,
    /// BLAKE3 in its hash mode with a 32-byte output (BLAKE3 paper, section 2).
    Blake3,
    /// MD5 (RFC 1321), which is broken: for old manifests.
    Md5,
    /// SHA-1 (FIPS 180-4, section 6.1), which is broken: for old manifests.
    Sha1,
    /// BLAKE2b without a key and with a 64-byte output (RFC 7693), as `b2sum` computes it.
    Blake2b,
}

/// Algorithms that share a compression function and so their kernels, which hash messages of all of
/// them together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// SHA-256 and SHA-224.
    Sha256,
    /// SHA-512, SHA-384 and SHA-512/256.
    Sha512,
    /// BLAKE3.
    Blake3,
    /// MD5.
    Md5,
    /// SHA-1.
    Sha1,
    /// BLAKE2b.
    Blake2b,
}

impl Family {
    /// Every family.
    pub const ALL: [Self; 6] =
        [Self::Sha256, Self::Sha512, Self::Blake3, Self::Md5, Self::Sha1, Self::Blake2b];

    /// Returns true if hashing can stop in the middle of a message and resume elsewhere, so that
    /// the algorithm has checkpoints and segments. BLAKE3 is a tree: its messages split into subtrees instead.
    #[must_use]
    pub const fn has_midstate(self) -> bool {
        !matches!(self, Self::Blake3)
    }
}

impl Algorithm {
    /// Every algorithm, in wire order.
    pub const ALL: [Self; 9] = [
        Self::Sha224,
        Self::Sha256,
        Self::Sha384,
        Self::Sha512,
        Self::Sha512_256,
        Self::Blake3,
        Self::Md5,
        Self::Sha1,
        Self::Blake2b,
    ];

    /// Length of a digest in bytes.
    #[must_use]
    pub const fn digest_len(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha224 => 28,
            Self::Sha384 => 48,
            Self::Sha512 | Self::Blake2b => 64,
            Self::Sha256 | Self::Sha512_256 | Self::Blake3 => 32,
        }
    }

    /// The family whose kernels compute it.
    #[must_use]
    pub const fn family(self) -> Family {
        match self {
            Self::Sha224 | Self::Sha256 => Family::Sha256,
            Self::Sha384 | Self::Sha512 | Self::Sha512_256 => Family::Sha512,
            Self::Blake3 => Family::Blake3,
            Self::Md5 => Family::Md5,
            Self::Sha1 => Family::Sha1,
            Self::Blake2b => Family::Blake2b,
        }
    }

    /// As [`Family::has_midstate`].
    #[must_use]
    pub const fn has_midstate(self) -> bool {
        self.family().has_midstate()
    }

    /// Returns true if collisions are practical, so that a digest detects damage but no forgery.
    #[must_use]
    pub const fn is_legacy(self) -> bool {
        matches!(self, Self::Md5 | Self::Sha1)
    }

    /// The name that a person types and a metric label carries, such as `sha512-256`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha224 => "sha224",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
            Self::Sha512_256 => "sha512-256",
            Self::Blake3 => "blake3",
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Blake2b => "blake2b",
        }
    }

    /// The name in a BSD-style line `TAG (file) = digest`, as coreutils and b3sum print it.
    #[must_use]
    pub const fn tag(self) -> &'static str {
        match self {
            Self::Sha224 => "SHA224",
            Self::Sha256 => "SHA256",
            Self::Sha384 => "SHA384",
            Self::Sha512 => "SHA512",
            Self::Sha512_256 => "SHA512/256",
            Self::Blake3 => "BLAKE3",
            Self::Md5 => "MD5",
            Self::Sha1 => "SHA1",
            Self::Blake2b => "BLAKE2b",
        }
    }

    /// The algorithm whose BSD tag is `tag`, if there is one.
    #[must_use]
    pub fn from_tag(tag: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.tag() == tag)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that no algorithm has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownAlgorithm(pub String);

impl fmt::Display for UnknownAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown algorithm '{}'; one of", self.0)?;
        for (i, algorithm) in Algorithm::ALL.iter().enumerate() {
            write!(f, "{} {algorithm}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl std::error::Error for UnknownAlgorithm {}

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    /// Takes [`Algorithm::name`] in any case, with or without its hyphens: `SHA-256`, `sha256`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = |name: &str| name.to_ascii_lowercase().replace(['-', '/', '_'], "");
        Self::ALL
            .into_iter()
            .find(|algorithm| plain(algorithm.name()) == plain(text))
            .ok_or_else(|| UnknownAlgorithm(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_tags_lead_back_to_their_algorithm() {
        for algorithm in Algorithm::ALL {
            assert_eq!(algorithm.name().parse(), Ok(algorithm));
            assert_eq!(algorithm.name().to_uppercase().parse(), Ok(algorithm));
            assert_eq!(Algorithm::from_tag(algorithm.tag()), Some(algorithm));
        }
        assert_eq!("SHA-512/256".parse(), Ok(Algorithm::Sha512_256));
    }

    #[test]
    fn all_is_in_wire_order_and_covers_every_family() {
        assert!(Algorithm::ALL.is_sorted());
        for family in Family::ALL {
            assert!(Algorithm::ALL.iter().any(|algorithm| algorithm.family() == family));
        }
    }

    #[test]
    fn rejects_an_unknown_name_and_lists_the_known_ones() {
        let error = "md4".parse::<Algorithm>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown algorithm 'md4'; one of sha224, sha256, sha384, sha512, sha512-256, blake3, \
             md5, sha1, blake2b"
        );
        assert_eq!(Algorithm::from_tag("sha256"), None);
    }
}
