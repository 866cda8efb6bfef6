//! Hashing, whatever does it: the dispatch to backends, and what only one family needs.
//!
//! A [`Backend`] is one set of kernels with a file of its own; it serves whole messages
//! ([`Backend::hash_many`]) and messages that come in pieces ([`Stream`]). Which one is taken for what
//! is in [`choice`]: [`hash_many`] and [`stream()`] take the fastest. Steps whose output is not
//! a digest yet are in [`Subtree`] and [`merge`] (BLAKE3), [`segment`] and [`Midway`] (SHA-2).
//!
//! Which backends there are is found out once, by [`Backend::check`] or with the first use. Two
//! variables change it: `HASHCLUSTER_DENY_CPU` (see `cpu`) and `HASHCLUSTER_REQUIRE_BACKENDS`,
//! names of backends that there have to be, with commas between them.
//!
//! Invariants: the same input gives the same output from every backend; nothing here panics on a
//! peer's input: what a step does not take is `None`.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod blake3_avx2_x8;
#[cfg(target_arch = "x86_64")]
mod blake3_avx512_x16;
mod choice;
mod cpu;
#[cfg(test)]
mod equal;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod fips180;
#[cfg(target_arch = "x86_64")]
mod forest;
#[cfg(test)]
mod guarded;
mod kernels;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod lanes;
mod midway;
mod portable;
mod segment;
#[cfg(target_arch = "aarch64")]
mod sha256_aarch64_x2;
#[cfg(target_arch = "x86_64")]
mod sha256_avx2_x8;
#[cfg(target_arch = "x86_64")]
mod sha256_avx512_x16;
#[cfg(target_arch = "aarch64")]
mod sha512_aarch64_x2;
#[cfg(target_arch = "x86_64")]
mod sha512_avx2_x4;
#[cfg(target_arch = "x86_64")]
mod sha512_avx512_x8;
#[cfg(target_arch = "x86_64")]
mod sha_ni_x2;
mod tree;

#[cfg(target_arch = "x86_64")]
pub use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub use avx512::Avx512;
pub use choice::{Choice, ForceError, Forced, choose, hash_many, stream};
pub use cpu::UnknownFeature;
pub(crate) use kernels::Kernels;
pub use midway::Midway;
pub use portable::Stream;
pub use segment::segment;
#[cfg(target_arch = "x86_64")]
pub use sha_ni_x2::ShaNi;
#[cfg(target_arch = "aarch64")]
pub use sha256_aarch64_x2::Sha2;
#[cfg(target_arch = "x86_64")]
pub use sha256_avx512_x16::WideAndPairs;
#[cfg(target_arch = "aarch64")]
pub use sha512_aarch64_x2::Sha3;
pub use tree::{ChainingValue, Subtree, merge};

use cpu::Cpu;
use ipc_proto::Algorithm;
use std::error::Error;
use std::sync::OnceLock;
use std::{env, fmt};

/// Names of the backends that there have to be.
const REQUIRE_BACKENDS: &str = "HASHCLUSTER_REQUIRE_BACKENDS";

/// One set of kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// The `sha2` and `blake3` crates, one message at a time. They detect CPU features themselves.
    Portable,
    /// SHA-256 and SHA-224 by the SHA extensions, two messages at once.
    #[cfg(target_arch = "x86_64")]
    ShaNiX2(ShaNi),
    /// BLAKE3 of small messages by AVX-512, 16 chunks at once.
    #[cfg(target_arch = "x86_64")]
    Avx512X16(Avx512),
    /// SHA-512, SHA-384 and SHA-512/256 by AVX-512, eight messages at once.
    #[cfg(target_arch = "x86_64")]
    Sha512Avx512X8(Avx512),
    /// SHA-256 and SHA-224 by AVX-512, 16 messages at once.
    #[cfg(target_arch = "x86_64")]
    Sha256Avx512X16(WideAndPairs),
    /// SHA-256 and SHA-224 by AVX2, eight messages at once.
    #[cfg(target_arch = "x86_64")]
    Sha256Avx2X8(Avx2),
    /// BLAKE3 of small messages by AVX2, eight chunks at once.
    #[cfg(target_arch = "x86_64")]
    Blake3Avx2X8(Avx2),
    /// SHA-512, SHA-384 and SHA-512/256 by AVX2, four messages at once.
    #[cfg(target_arch = "x86_64")]
    Sha512Avx2X4(Avx2),
    /// SHA-256 and SHA-224 by the SHA2 instructions of ARMv8, two messages at once.
    #[cfg(target_arch = "aarch64")]
    Sha256Aarch64X2(Sha2),
    /// SHA-512, SHA-384 and SHA-512/256 by the SHA512 instructions of ARMv8.2, two messages at once.
    #[cfg(target_arch = "aarch64")]
    Sha512Aarch64X2(Sha3),
}

impl Backend {
    /// Finds out which backends there are.
    ///
    /// # Errors
    /// A variable says what cannot be. Everything else here panics then.
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

    /// Whether it has a kernel of its own for `algorithm`.
    #[cfg_attr(
        not(any(target_arch = "x86_64", target_arch = "aarch64")),
        expect(unused_variables, reason = "portable serves all")
    )]
    #[must_use]
    pub const fn serves(self, algorithm: Algorithm) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::ShaNiX2(_) => sha_ni_x2::serves(algorithm),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512X16(_) | Self::Blake3Avx2X8(_) => forest::serves(algorithm),
            #[cfg(target_arch = "x86_64")]
            Self::Sha512Avx512X8(_) => sha512_avx512_x8::serves(algorithm),
            #[cfg(target_arch = "x86_64")]
            Self::Sha256Avx512X16(_) => sha256_avx512_x16::serves(algorithm),
            #[cfg(target_arch = "x86_64")]
            Self::Sha256Avx2X8(_) => sha256_avx2_x8::serves(algorithm),
            #[cfg(target_arch = "x86_64")]
            Self::Sha512Avx2X4(_) => sha512_avx2_x4::serves(algorithm),
            #[cfg(target_arch = "aarch64")]
            Self::Sha256Aarch64X2(_) => sha256_aarch64_x2::serves(algorithm),
            #[cfg(target_arch = "aarch64")]
            Self::Sha512Aarch64X2(_) => sha512_aarch64_x2::serves(algorithm),
        }
    }

    /// Whether it has a kernel of its own for messages that come in pieces.
    const fn streams(self) -> bool {
        matches!(self, Self::Portable)
    }

    /// The name that the controller and metrics show.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Self::ShaNiX2(_) => "sha_ni_x2",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512X16(_) => "avx512_x16",
            #[cfg(target_arch = "x86_64")]
            Self::Sha512Avx512X8(_) => "avx512_x8",
            #[cfg(target_arch = "x86_64")]
            Self::Sha256Avx512X16(_) => "sha256_avx512_x16",
            #[cfg(target_arch = "x86_64")]
            Self::Sha256Avx2X8(_) => "avx2_x8",
            #[cfg(target_arch = "x86_64")]
            Self::Blake3Avx2X8(_) => "blake3_avx2_x8",
            #[cfg(target_arch = "x86_64")]
            Self::Sha512Avx2X4(_) => "avx2_x4",
            #[cfg(target_arch = "aarch64")]
            Self::Sha256Aarch64X2(_) => "sha256_aarch64_x2",
            #[cfg(target_arch = "aarch64")]
            Self::Sha512Aarch64X2(_) => "sha512_aarch64_x2",
        }
    }

    /// How many messages [`Backend::hash_many`] takes best at once.
    #[must_use]
    pub const fn lanes(self) -> usize {
        match self {
            Self::Portable => 1,
            // Among more messages, one of any length finds others that take as long.
            #[cfg(target_arch = "x86_64")]
            Self::ShaNiX2(_)
            | Self::Sha512Avx512X8(_)
            | Self::Sha256Avx512X16(_)
            | Self::Sha256Avx2X8(_)
            | Self::Sha512Avx2X4(_) => 16,
            #[cfg(target_arch = "aarch64")]
            Self::Sha256Aarch64X2(_) | Self::Sha512Aarch64X2(_) => 16,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512X16(_) => blake3_avx512_x16::LANES,
            #[cfg(target_arch = "x86_64")]
            Self::Blake3Avx2X8(_) => blake3_avx2_x8::LANES,
        }
    }

    /// Appends the digest of each input to `out`, in order. An algorithm that it has no kernel for
    /// is left to the portable one.
    pub fn hash_many(self, algorithm: Algorithm, inputs: &[&[u8]], out: &mut Vec<u8>) {
        match self {
            Self::Portable => portable::hash_many(algorithm, inputs, out),
            #[cfg(target_arch = "x86_64")]
            Self::ShaNiX2(proof) => sha_ni_x2::hash_many(proof, algorithm, inputs, out),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512X16(proof) => forest::hash_many(proof, algorithm, inputs, out),
            #[cfg(target_arch = "x86_64")]
            Self::Blake3Avx2X8(proof) => forest::hash_many(proof, algorithm, inputs, out),
            #[cfg(target_arch = "x86_64")]
            Self::Sha512Avx512X8(proof) => {
                sha512_avx512_x8::hash_many(proof, algorithm, inputs, out)
            }
            #[cfg(target_arch = "x86_64")]
            Self::Sha256Avx512X16(kernels) => {
                sha256_avx512_x16::hash_many(kernels, algorithm, inputs, out)
            }
            #[cfg(target_arch = "x86_64")]
            Self::Sha256Avx2X8(proof) => sha256_avx2_x8::hash_many(proof, algorithm, inputs, out),
            #[cfg(target_arch = "x86_64")]
            Self::Sha512Avx2X4(proof) => sha512_avx2_x4::hash_many(proof, algorithm, inputs, out),
            #[cfg(target_arch = "aarch64")]
            Self::Sha256Aarch64X2(proof) => {
                sha256_aarch64_x2::hash_many(proof, algorithm, inputs, out)
            }
            #[cfg(target_arch = "aarch64")]
            Self::Sha512Aarch64X2(proof) => {
                sha512_aarch64_x2::hash_many(proof, algorithm, inputs, out)
            }
        }
    }

    /// Starts a message that comes in pieces.
    #[must_use]
    pub fn stream(self, algorithm: Algorithm) -> Stream {
        match self {
            Self::Portable => Stream::new(algorithm),
            // One message alone is as fast in the crate.
            #[cfg(target_arch = "x86_64")]
            Self::ShaNiX2(_)
            | Self::Avx512X16(_)
            | Self::Sha512Avx512X8(_)
            | Self::Sha256Avx512X16(_)
            | Self::Sha256Avx2X8(_)
            | Self::Blake3Avx2X8(_)
            | Self::Sha512Avx2X4(_) => Stream::new(algorithm),
            #[cfg(target_arch = "aarch64")]
            Self::Sha256Aarch64X2(_) | Self::Sha512Aarch64X2(_) => Stream::new(algorithm),
        }
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
    let backends: Vec<_> = simd(&cpu).into_iter().flatten().chain([Backend::Portable]).collect();
    let is_missing = |name: &&str| !backends.iter().any(|backend| backend.name() == *name);
    match cpu::list(required).find(is_missing) {
        Some(name) => Err(BackendError::Missing { name: name.to_owned(), backends }),
        None => Ok(backends),
    }
}

/// Where two serve the same algorithm, the faster one first.
#[cfg(target_arch = "x86_64")]
fn simd(cpu: &Cpu) -> [Option<Backend>; 7] {
    let (avx512, avx2) = (Avx512::detect(cpu), Avx2::detect(cpu));
    [
        ShaNi::detect(cpu).map(Backend::ShaNiX2),
        avx512.map(Backend::Avx512X16),
        avx512.map(Backend::Sha512Avx512X8),
        WideAndPairs::detect(cpu).map(Backend::Sha256Avx512X16),
        avx2.map(Backend::Sha256Avx2X8),
        avx2.map(Backend::Blake3Avx2X8),
        avx2.map(Backend::Sha512Avx2X4),
    ]
}

#[cfg(target_arch = "aarch64")]
fn simd(cpu: &Cpu) -> [Option<Backend>; 2] {
    [
        Sha2::detect(cpu).map(Backend::Sha256Aarch64X2),
        Sha3::detect(cpu).map(Backend::Sha512Aarch64X2),
    ]
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn simd(_: &Cpu) -> [Option<Backend>; 0] {
    []
}

/// What the environment asks of this machine, and cannot have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendError {
    /// `HASHCLUSTER_DENY_CPU` names what is no feature.
    Denied(UnknownFeature),
    /// `HASHCLUSTER_REQUIRE_BACKENDS` names what is not there.
    Missing {
        /// The name.
        name: String,
        /// What is there.
        backends: Vec<Backend>,
    },
}

impl fmt::Display for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(error) => error.fmt(f),
            Self::Missing { name, backends } => {
                write!(
                    f,
                    "{REQUIRE_BACKENDS} names {name:?}, which is not available here; these are:"
                )?;
                backends.iter().try_for_each(|backend| write!(f, " {}", backend.name()))
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
        for &backend in Backend::available() {
            let (len, name) = (input.len(), backend.name());
            let mut whole = Vec::new();
            backend.hash_many(algorithm, &[input], &mut whole);
            assert_eq!(hex(&whole), want, "{algorithm} of {len} bytes by {name}");
            let mut stream = backend.stream(algorithm);
            input.chunks(61).for_each(|piece| stream.update(piece));
            let mut streamed = Vec::new();
            stream.finish(&mut streamed);
            assert_eq!(hex(&streamed), want, "{algorithm} of {len} bytes by {name}, in pieces");
        }
    }

    #[test]
    fn a_required_backend_that_is_hidden_is_an_error() {
        let all = detect("", "").unwrap();
        assert_eq!(all.last(), Some(&Backend::Portable));
        let names: Vec<_> = all.iter().map(|backend| backend.name()).collect();
        assert_eq!(detect("", &names.join(",")), Ok(all));
        #[cfg(target_arch = "x86_64")]
        let by_feature = [
            ("sha", "sha_ni_x2"),
            ("avx512f", "avx512_x16"),
            ("avx512bw", "avx512_x16"),
            ("avx512f", "avx512_x8"),
            ("avx512bw", "sha256_avx512_x16"),
            ("avx2", "avx2_x8"),
            ("avx2", "blake3_avx2_x8"),
            ("avx2", "avx2_x4"),
        ];
        #[cfg(target_arch = "aarch64")]
        let by_feature = [("sha2", "sha256_aarch64_x2"), ("sha3", "sha512_aarch64_x2")];
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let by_feature = [];
        for (denied, name) in by_feature {
            let error = detect(denied, &format!("portable, {name}")).unwrap_err();
            let text = error.to_string();
            let start =
                format!("HASHCLUSTER_REQUIRE_BACKENDS names {name:?}, which is not available here");
            assert!(text.starts_with(&start) && text.contains(" portable"), "{text}");
        }
    }

    #[test]
    fn no_two_backends_have_the_same_name() {
        let mut names: Vec<_> = Backend::available().iter().map(|backend| backend.name()).collect();
        names.sort_unstable();
        let all_len = names.len();
        names.dedup();
        assert_eq!(names.len(), all_len, "{names:?}");
    }

    /// Some leave few messages to them.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn every_backend_goes_without_the_sha_extensions() {
        let data: Vec<u8> = (0..=250).cycle().take(4000).collect();
        for backend in detect("sha", "").unwrap() {
            for width in 0..=40 {
                let inputs: Vec<_> = (0..width).map(|i| &data[..i * i * 7 % 4000]).collect();
                let (mut want, mut got) = (Vec::new(), Vec::new());
                Backend::Portable.hash_many(Algorithm::Sha256, &inputs, &mut want);
                backend.hash_many(Algorithm::Sha256, &inputs, &mut got);
                assert!(got == want, "{width} messages by {}", backend.name());
            }
        }
    }

    #[test]
    fn a_misspelt_feature_or_backend_is_an_error() {
        for (denied, required, want) in [
            ("sha1", "", "HASHCLUSTER_DENY_CPU names \"sha1\""),
            ("", "portabel", "HASHCLUSTER_REQUIRE_BACKENDS names \"portabel\""),
        ] {
            let text = detect(denied, required).unwrap_err().to_string();
            assert!(text.starts_with(want), "{text}");
        }
    }

    /// FIPS 180-4's examples, as NIST publishes them with the standard, and the empty message of
    /// its validation suite (`SHA*ShortMsg.rsp`, Len = 0).
    #[test]
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
            (
                Sha256,
                two_blocks,
                "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
            ),
            (
                Sha384,
                b"",
                "38b060a751ac96384cd9327eb1b1e36a21fdb71114be0743\
                 4c0cc7bf63f6e1da274edebfe76f65fbd51ad2f14898b95b",
            ),
            (
                Sha384,
                b"abc",
                "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded163\
                 1a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7",
            ),
            (
                Sha384,
                two_long_blocks,
                "09330c33f71147e83d192fc782cd1b4753111b173b3b05d2\
                 2fa08086e3b0f712fcc7c71a557e2db966c3e9fa91746039",
            ),
            (
                Sha512,
                b"",
                "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce\
                 47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e",
            ),
            (
                Sha512,
                b"abc",
                "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
                 2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
            ),
            (
                Sha512,
                two_long_blocks,
                "8e959b75dae313da8cf4f72814fc143f8f7779c6eb9f7fa17299aeadb6889018\
                 501d289e4900f7e4331b99dec4b5433ac7d329eeb6dd26545e96e55b874be909",
            ),
            (Sha512_256, b"", "c672b8d1ef56ed28ab87c3622c5114069bdd3ad7b8f9737498d0c01ecef0967a"),
            (
                Sha512_256,
                b"abc",
                "53048e2681941ef99b2e29b76b4c7dabe4c2d0c634fc6d46e0e2f13107e7af23",
            ),
            (
                Sha512_256,
                two_long_blocks,
                "3928e184fb8690f840da3988121d31be65cb9d3ef83ee6146feac861e19b563a",
            ),
        ] {
            check(algorithm, input, want);
        }
        check(
            Sha256,
            &vec![b'a'; 1_000_000],
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
        );
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
    fn every_length_around_block_borders_is_the_same_whole_and_in_pieces() {
        let data: Vec<u8> = (0..=250).cycle().take(2100).collect();
        for algorithm in Algorithm::ALL {
            let inputs: Vec<&[u8]> = (0..=300).chain(1000..=2100).map(|len| &data[..len]).collect();
            let mut want = Vec::new();
            hash_many(algorithm, &inputs, &mut want);
            assert_eq!(want.len(), inputs.len() * algorithm.digest_len());
            let mut got = Vec::new();
            for input in inputs {
                let mut stream = stream(algorithm);
                let (head, tail) = input.split_at(input.len() / 3);
                stream.update(head);
                stream.update(tail);
                stream.finish(&mut got);
            }
            assert_eq!(got, want, "{algorithm}");
        }
    }
}
