//! Hashing: the backends, the choice between them, and steps that only one family has.
//!
//! A [`Backend`] is one set of kernels, a row of the table in `backends`; it hashes whole messages
//! ([`Backend::hash_many`]) and absorbs blocks of interleaved ones ([`Midstate::update_many_by`]). Which
//! one is used for what is decided in `choice`; `Kernels` resolves it once per batch. Messages that
//! come in pieces are a [`Stream`]. Steps whose output is not a digest yet are in [`Subtree`] and
//! [`merge`] (BLAKE3), [`segment`] and [`Midstate`] (all others).
//!
//! The backends are detected once, by [`Backend::check`] or at the first use. Two variables change
//! them: `HASHCLUSTER_DENY_CPU` (see `cpu`) and `HASHCLUSTER_REQUIRE_BACKENDS`, a comma-separated list
//! of backends that have to be available.
//!
//! Invariants: every backend returns the same output for the same input; nothing here panics on a
//! peer's input: a step that cannot be done is `None`.

#[macro_use]
mod cpu;
mod backends;
mod blake2b;
mod choice;
#[cfg(test)]
mod equal;
#[cfg(test)]
mod guarded;
mod kernels;
mod lanes;
mod many_trees;
mod merkle_damgard;
mod midstate;
mod portable;
mod tree;

pub use choice::{Choice, ForceError, Forced, choose};
pub use cpu::UnknownFeature;
pub(crate) use kernels::{FEW_LEN_MAX, FEW_MAX, Kernels};
pub use midstate::{Midstate, segment};
pub use portable::{OutputSlot, Stream};
pub use tree::{ChainingValue, Subtree, merge};

use backends::{Absorb, Row};
use cpu::Cpu;
use ipc_proto::{Algorithm, backend};
use std::error::Error;
use std::sync::OnceLock;
use std::{env, fmt};

/// Names of the backends that have to be available.
const REQUIRE_BACKENDS: &str = "HASHCLUSTER_REQUIRE_BACKENDS";

/// One set of kernels that this processor can run.
#[derive(Clone, Copy, Debug)]
pub struct Backend(&'static Row);

impl PartialEq for Backend {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Backend {}

impl Backend {
    /// The RustCrypto and `blake3` crates, one message at a time, for every algorithm. They detect CPU
    /// features themselves.
    pub const PORTABLE: Self = Self(&backends::PORTABLE);

    /// Detects the backends.
    ///
    /// # Errors
    /// A variable names an unknown feature or a backend that is not available. Everything else here
    /// panics then.
    pub fn check() -> Result<(), BackendError> {
        detected().as_ref().map(|_| ()).map_err(Clone::clone)
    }

    /// The backends of this machine; of those that serve an algorithm, the one that is expected to be
    /// the fastest comes first.
    ///
    /// # Panics
    /// If [`Backend::check`] fails.
    #[must_use]
    pub fn available() -> &'static [Self] {
        match detected() {
            Ok(backends) => backends,
            Err(error) => panic!("{error}"),
        }
    }

    /// Returns true if it has its own kernel for `algorithm`.
    #[must_use]
    pub fn serves(self, algorithm: Algorithm) -> bool {
        self.0.family.is_none_or(|family| family == algorithm.family())
    }

    /// The name that the controller and metrics show: one of [`ipc_proto::backend::ALL`].
    #[must_use]
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// Preferred number of messages per call of [`Backend::hash_many`].
    #[must_use]
    pub fn preferred_batch(self) -> usize {
        self.0.preferred_batch
    }

    /// Number of messages that it absorbs interleaved.
    fn width(self) -> usize {
        self.0.width
    }

    fn absorb(self) -> Option<&'static Absorb> {
        self.0.absorb
    }

    /// The digest of each input, back to back.
    #[must_use]
    pub fn digests(self, algorithm: Algorithm, inputs: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        self.hash_many(algorithm, inputs, &mut out);
        out
    }

    /// Appends the digest of each input to `out`, in order. An algorithm that it has no kernel for
    /// is left to the portable one.
    pub fn hash_many(self, algorithm: Algorithm, inputs: &[&[u8]], out: &mut Vec<u8>) {
        let backend = if self.serves(algorithm) { self } else { Self::PORTABLE };
        (backend.0.hash_many)(algorithm, inputs, out);
    }
}

fn detected() -> &'static Result<Vec<Backend>, BackendError> {
    static DETECTED: OnceLock<Result<Vec<Backend>, BackendError>> = OnceLock::new();
    DETECTED.get_or_init(|| {
        let variable = |name| env::var_os(name).unwrap_or_default().to_string_lossy().into_owned();
        detect(&variable(cpu::DENY_CPU), &variable(REQUIRE_BACKENDS))
    })
}

fn detect(denied: &str, required: &str) -> Result<Vec<Backend>, BackendError> {
    let cpu = Cpu::detect(denied).map_err(BackendError::Denied)?;
    let backends = backends::of(&cpu);
    let is_missing = |name: &&str| !backends.iter().any(|backend| backend.name() == *name);
    match cpu::list(required).find(is_missing) {
        Some(name) if backend::NAMES.contains(&name) => {
            Err(BackendError::Missing { name: name.to_owned(), backends })
        }
        Some(name) => Err(BackendError::Unknown { name: name.to_owned() }),
        None => Ok(backends),
    }
}

/// Backends named by the environment that are unknown, or that this machine does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendError {
    /// `HASHCLUSTER_DENY_CPU` names an unknown feature.
    Denied(UnknownFeature),
    /// `HASHCLUSTER_REQUIRE_BACKENDS` names a backend that is not available.
    Missing {
        /// The name.
        name: String,
        /// The available backends.
        backends: Vec<Backend>,
    },
    /// `HASHCLUSTER_REQUIRE_BACKENDS` names a backend that no machine has.
    Unknown {
        /// The name.
        name: String,
    },
}

impl fmt::Display for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(error) => error.fmt(f),
            Self::Missing { name, backends } => {
                write!(f, "{REQUIRE_BACKENDS}: {name:?} is not available here; available:")?;
                backends.iter().try_for_each(|backend| write!(f, " {}", backend.name()))
            }
            Self::Unknown { name } => {
                write!(f, "{REQUIRE_BACKENDS}: unknown backend {name:?}; known:")?;
                backend::NAMES.iter().try_for_each(|name| write!(f, " {name}"))
            }
        }
    }
}

impl Error for BackendError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[track_caller]
    fn check(algorithm: Algorithm, input: &[u8], want: &str) {
        let len = input.len();
        for &backend in Backend::available() {
            let whole = backend.digests(algorithm, &[input]);
            assert_eq!(hex(&whole), want, "{algorithm} of {len} bytes by {}", backend.name());
        }
        for piece_len in [1, 63, 64, 129, 4096] {
            let (mut stream, mut streamed) = (Stream::new(algorithm), Vec::new());
            input.chunks(piece_len).for_each(|piece| stream.update(piece));
            stream.finish(&mut streamed);
            assert_eq!(hex(&streamed), want, "{algorithm} of {len} bytes by {piece_len}");
        }
    }

    #[test]
    fn the_table_has_the_names_families_and_features_of_the_list() {
        let known = backend::ALL.iter().filter(|known| known.arch == env::consts::ARCH);
        let all = detect("", "").unwrap();
        assert_eq!(all.last(), Some(&Backend::PORTABLE));
        for known in known {
            let found = all.iter().find(|backend| backend.name() == known.name);
            let has = |feature: &&str| Cpu::detect("").unwrap().has_named(feature);
            assert_eq!(found.is_some(), known.features.iter().all(has), "{}", known.name);
            if let Some(found) = found {
                assert_eq!(found.0.family, Some(known.family), "{}", known.name);
            }
            for hidden in known.features {
                let error = detect(hidden, &format!("portable, {}", known.name)).unwrap_err();
                let want = format!(
                    "HASHCLUSTER_REQUIRE_BACKENDS: {:?} is not available here; available: ",
                    known.name
                );
                let text = error.to_string();
                assert!(text.starts_with(&want) && text.ends_with(" portable"), "{text}");
            }
        }
        assert!(all.iter().all(|backend| backend::NAMES.contains(&backend.name())));
        let mut names: Vec<_> = all.iter().map(|backend| backend.name()).collect();
        assert_eq!(detect("", &names.join(",")), Ok(all));
        let all_len = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all_len, "{names:?}");
    }

    #[test]
    fn a_misspelt_or_old_name_is_an_error_that_lists_the_known_ones() {
        for (denied, required, want) in [
            ("sha1", "", "HASHCLUSTER_DENY_CPU: unknown feature \"sha1\"; known: "),
            ("", "portabel", "HASHCLUSTER_REQUIRE_BACKENDS: unknown backend \"portabel\"; known: "),
            ("", "avx2_x8", "HASHCLUSTER_REQUIRE_BACKENDS: unknown backend \"avx2_x8\"; known: "),
        ] {
            let text = detect(denied, required).unwrap_err().to_string();
            assert!(text.starts_with(want), "{text}");
            let known = backend::NAMES.iter().all(|name| text.contains(name));
            assert!(known || required.is_empty(), "{text}");
        }
    }

    /// Some leave few messages to the SHA extensions.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn every_backend_agrees_without_the_sha_extensions() {
        let data: Vec<u8> = (0..=250).cycle().take(4000).collect();
        for backend in detect("sha", "").unwrap() {
            for width in 0..=40 {
                let inputs: Vec<_> = (0..width).map(|i| &data[..i * i * 7 % 4000]).collect();
                let want = Backend::PORTABLE.digests(Algorithm::Sha256, &inputs);
                let got = backend.digests(Algorithm::Sha256, &inputs);
                assert!(got == want, "{width} messages by {}", backend.name());
            }
        }
    }

    /// FIPS 180-4's examples, as NIST publishes them with the standard, and the empty message of
    /// its validation suite (`SHA*ShortMsg.rsp`, Len = 0).
    #[test]
    #[rustfmt::skip]
    fn sha2_gives_the_published_digests() {
        use Algorithm::{Sha224, Sha256, Sha384, Sha512, Sha512_256};
        let two_blocks = b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
        let two_long_blocks = b"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn\
            hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu";
        for (algorithm, input, want) in [
            (Sha224, &b""[..], "d14a028c2a3a2bc9476102bb288234c415a2b01f828ea62ac5b3e42f"),
            (Sha224, b"abc", "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7"),
            (Sha224, two_blocks, "75388b16512776cc5dba5da1fd890150b0c6455cb4f58b1952522525"),
            (Sha256, b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            (Sha256, b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (Sha256, two_blocks,
                "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"),
            (Sha384, b"",
                "38b060a751ac96384cd9327eb1b1e36a21fdb71114be0743\
                 4c0cc7bf63f6e1da274edebfe76f65fbd51ad2f14898b95b"),
            (Sha384, b"abc",
                "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded163\
                 1a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7"),
            (Sha384, two_long_blocks,
                "09330c33f71147e83d192fc782cd1b4753111b173b3b05d2\
                 2fa08086e3b0f712fcc7c71a557e2db966c3e9fa91746039"),
            (Sha512, b"",
                "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce\
                 47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e"),
            (Sha512, b"abc",
                "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
                 2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"),
            (Sha512, two_long_blocks,
                "8e959b75dae313da8cf4f72814fc143f8f7779c6eb9f7fa17299aeadb6889018\
                 501d289e4900f7e4331b99dec4b5433ac7d329eeb6dd26545e96e55b874be909"),
            (Sha512_256, b"", "c672b8d1ef56ed28ab87c3622c5114069bdd3ad7b8f9737498d0c01ecef0967a"),
            (Sha512_256, b"abc",
                "53048e2681941ef99b2e29b76b4c7dabe4c2d0c634fc6d46e0e2f13107e7af23"),
            (Sha512_256, two_long_blocks,
                "3928e184fb8690f840da3988121d31be65cb9d3ef83ee6146feac861e19b563a"),
        ] {
            check(algorithm, input, want);
        }
        let million = vec![b'a'; 1_000_000];
        check(Sha256, &million, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    }

    /// RFC 1321, appendix A.5.
    #[test]
    fn md5_gives_the_published_digests() {
        let digits = b"1234567890".repeat(8);
        let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        for (input, want) in [
            (&b""[..], "d41d8cd98f00b204e9800998ecf8427e"),
            (b"a", "0cc175b9c0f1b6a831c399e269772661"),
            (b"abc", "900150983cd24fb0d6963f7d28e17f72"),
            (b"message digest", "f96b697d7cb7938d525a2f31aaf161d0"),
            (b"abcdefghijklmnopqrstuvwxyz", "c3fcd3d76192e4007dfb496cca67e13b"),
            (letters, "d174ab98d277d9f5a5611c2c9f419d9f"),
            (&digits, "57edf4a22be3c955ac49da2e2107b67a"),
        ] {
            check(Algorithm::Md5, input, want);
        }
    }

    /// FIPS 180-4's examples, as NIST publishes them with the standard, the empty message of its
    /// validation suite, and a million times "a" (RFC 3174, section 7.3).
    #[test]
    fn sha1_gives_the_published_digests() {
        let two_blocks = b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
        for (input, want) in [
            (&b""[..], "da39a3ee5e6b4b0d3255bfef95601890afd80709"),
            (b"abc", "a9993e364706816aba3e25717850c26c9cd0d89d"),
            (two_blocks, "84983e441c3bd26ebaae4aa1f95129e5e54670f1"),
            (&[b'a'; 1_000_000], "34aa973cd4c4daa4f61eeb2bdbad27316534016f"),
        ] {
            check(Algorithm::Sha1, input, want);
        }
    }

    /// RFC 7693, appendix A, and from BLAKE2's `blake2-kat.json` the messages without a key of which
    /// the bytes count up: empty, one block, and one and two blocks less one byte.
    #[test]
    #[rustfmt::skip]
    fn blake2b_gives_the_published_digests() {
        let counting: Vec<u8> = (0..=255).collect();
        for (input, want) in [
            (&b"abc"[..],
                "ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d1\
                 7d87c5392aab792dc252d5de4533cc9518d38aa8dbf1925ab92386edd4009923"),
            (b"",
                "786a02f742015903c6c6fd852552d272912f4740e15847618a86e217f71f5419\
                 d25e1031afee585313896444934eb04b903a685b1448b755d56f701afe9be2ce"),
            (&counting[..127],
                "b6292669ccd38d5f01caae96ba272c76a879a45743afa0725d83b9ebb26665b7\
                 31f1848c52f11972b6644f554c064fa90780dbbbf3a89d4fc31f67df3e5857ef"),
            (&counting[..128],
                "2319e3789c47e2daa5fe807f61bec2a1a6537fa03f19ff32e87eecbfd64b7e0e\
                 8ccff439ac333b040f19b0c4ddd11a61e24ac1fe0f10a039806c5dcc0da3d115"),
            (&counting[..255],
                "5b21c5fd8868367612474fa2e70e9cfa2201ffeee8fafab5797ad58fefa17c9b\
                 5b107da4a3db6320baaf2c8617d5a51df914ae88da3867c2d41f0cc14fa67928"),
        ] {
            check(Algorithm::Blake2b, input, want);
        }
    }

    /// The hash column of BLAKE3's `test_vectors.json`, first 32 bytes.
    #[test]
    fn blake3_gives_the_published_digests() {
        for (len, want) in [
            (0, "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"),
            (1, "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213"),
            (1023, "10108970eeda3eb932baac1428c7a2163b0e924c9a9e25b35bba72b28f70bd11"),
            (1024, "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7"),
            (1025, "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444"),
            (2048, "e776b6028c7cd22a4d0ba182a8bf62205d2ef576467e838ed6f2529b85fba24a"),
            (2049, "5f4d72f40d7a5f82b15ca2b2e44b1de3c2ef86c426c95c1af0b6879522563030"),
            (31744, "62b6960e1a44bcc1eb1a611a8d6235b6b4b78f32e7abc4fb4c6cdcce94895c47"),
            (102_400, "bc3e3d41a1146b069abffad3c0d44860cf664390afce4d9661f7902e7943e085"),
        ] {
            let input: Vec<u8> = (0..=250).cycle().take(len).collect();
            check(Algorithm::Blake3, &input, want);
        }
    }

    #[test]
    fn every_length_around_block_borders_has_the_same_digest_whole_and_in_pieces() {
        let data: Vec<u8> = (0..=250).cycle().take(2100).collect();
        for algorithm in Algorithm::ALL {
            let inputs: Vec<&[u8]> = (0..=300).chain(1000..=2100).map(|len| &data[..len]).collect();
            let mut want = Vec::new();
            Choice::of(algorithm).hash_many(algorithm, &inputs, &mut want);
            assert_eq!(want.len(), inputs.len() * algorithm.digest_len());
            let mut got = Vec::new();
            for input in inputs {
                let mut stream = Stream::new(algorithm);
                let (head, tail) = input.split_at(input.len() / 3);
                stream.update(head);
                stream.update(tail);
                stream.finish(&mut got);
            }
            assert_eq!(got, want, "{algorithm}");
        }
    }
}
