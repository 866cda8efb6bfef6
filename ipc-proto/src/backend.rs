//! The names of the backends: what a worker may say that it hashes with, and what its `--backend`
//! takes. This is the only list; the engine's table of kernels is compared with it.

use crate::Family;

/// The backend that every machine has, for every algorithm.
pub const PORTABLE: &str = "portable";

/// A set of kernels for one family. The name says family, instructions and how many messages it
/// hashes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendInfo {
    /// The name.
    pub name: &'static str,
    /// The family that it serves.
    pub family: Family,
    /// The kind of processor, as Rust's `target_arch` names it.
    pub arch: &'static str,
    /// The features of the processor that it needs, as Rust names them.
    pub features: &'static [&'static str],
}

/// Every backend but [`PORTABLE`].
pub const ALL: &[BackendInfo] = &[
    x86_64("sha256_sha_ni_x2", Family::Sha256, &["sha", "sse4.1", "ssse3"]),
    x86_64("sha256_avx512_x16", Family::Sha256, AVX512),
    x86_64("sha256_avx2_x8", Family::Sha256, &["avx2"]),
    x86_64("sha512_avx512_x8", Family::Sha512, AVX512),
    x86_64("sha512_avx2_x4", Family::Sha512, &["avx2"]),
    x86_64("blake3_avx512_x16", Family::Blake3, AVX512),
    x86_64("blake3_avx2_x8", Family::Blake3, &["avx2"]),
    x86_64("md5_avx512_x16", Family::Md5, AVX512),
    x86_64("md5_avx2_x8", Family::Md5, &["avx2"]),
    x86_64("sha1_avx512_x16", Family::Sha1, AVX512),
    x86_64("sha1_avx2_x8", Family::Sha1, &["avx2"]),
    aarch64("sha256_aarch64_x2", Family::Sha256, &["sha2"]),
    aarch64("sha256_neon_x4", Family::Sha256, NEON),
    aarch64("sha512_aarch64_x2", Family::Sha512, &["sha3"]),
    aarch64("blake3_neon_x4", Family::Blake3, NEON),
    aarch64("md5_neon_x4", Family::Md5, NEON),
    aarch64("sha1_neon_x4", Family::Sha1, NEON),
];

const AVX512: &[&str] = &["avx512f", "avx512bw"];
const NEON: &[&str] = &["neon"];

const fn x86_64(
    name: &'static str,
    family: Family,
    features: &'static [&'static str],
) -> BackendInfo {
    BackendInfo { name, family, arch: "x86_64", features }
}

const fn aarch64(
    name: &'static str,
    family: Family,
    features: &'static [&'static str],
) -> BackendInfo {
    BackendInfo { name, family, arch: "aarch64", features }
}

/// Every name, [`PORTABLE`] first.
pub const NAMES: [&str; ALL.len() + 1] = {
    let mut names = [PORTABLE; ALL.len() + 1];
    let mut i = 0;
    while i < ALL.len() {
        names[i + 1] = ALL[i].name;
        i += 1;
    }
    names
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Algorithm;

    #[test]
    fn a_name_says_which_family_it_serves_and_is_unique() {
        let mut names = NAMES.to_vec();
        for backend in ALL {
            let mut of_family = Algorithm::ALL.iter().filter(|a| a.family() == backend.family);
            let start = |a: &Algorithm| backend.name.starts_with(&format!("{a}_"));
            assert!(of_family.any(start), "{}", backend.name);
            assert!(backend.name.len() <= crate::limits::NAME_LEN_MAX);
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len() + 1);
    }
}
