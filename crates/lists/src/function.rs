//! Hash functions that a list can name: what workers compute, and those with parameters, which only `hashctl` computes.

use ipc_proto::limits::ITEM_ALGORITHMS_MAX;
use ipc_proto::{Algorithm, Algorithms};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Digest that is computed of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Function {
    /// Anywhere.
    Standard(Algorithm),
    /// Several of them in one read; the digests come back to back, in this order.
    Several(Algorithms),
    /// BLAKE2b with a digest of this many bytes, 1 to 64 (RFC 7693).
    Blake2b(u8),
    /// BLAKE3 with the run's mode of BLAKE3.
    Blake3,
}

impl From<Algorithms> for Function {
    fn from(algorithms: Algorithms) -> Self {
        algorithms.single().map_or(Self::Several(algorithms), Self::Standard)
    }
}

impl From<Algorithm> for Function {
    fn from(algorithm: Algorithm) -> Self {
        Self::Standard(algorithm)
    }
}

impl Function {
    /// BLAKE2b with a digest of `len` bytes, if there is one.
    pub fn blake2b(len: usize) -> Option<Self> {
        match u8::try_from(len).ok()? {
            64 => Some(Algorithm::Blake2b.into()),
            len @ 1..64 => Some(Self::Blake2b(len)),
            _ => None,
        }
    }

    /// Functions that together have all digests of `functions`, as few as possible: each is a read
    /// of the file.
    pub fn reads(functions: &[Self]) -> Vec<Self> {
        let (mut together, mut alone) = (Vec::new(), Vec::new());
        for function in functions {
            match function.standard() {
                Some(algorithm) => together.push(algorithm),
                None => alone.push(*function),
            }
        }
        let parts = together.chunks(ITEM_ALGORITHMS_MAX);
        let reads = parts.map(|part| Algorithms::new(part).expect("distinct functions").into());
        reads.chain(alone).collect()
    }

    /// The algorithm that workers know.
    pub fn standard(self) -> Option<Algorithm> {
        match self {
            Self::Standard(algorithm) => Some(algorithm),
            Self::Several(_) | Self::Blake2b(_) | Self::Blake3 => None,
        }
    }

    /// The algorithms that workers know.
    pub fn algorithms(self) -> Option<Algorithms> {
        match self {
            Self::Standard(algorithm) => Some(algorithm.into()),
            Self::Several(algorithms) => Some(algorithms),
            Self::Blake2b(_) | Self::Blake3 => None,
        }
    }

    /// One function per digest.
    pub fn each(self) -> impl Iterator<Item = Self> {
        let algorithms = match self {
            Self::Several(algorithms) => algorithms.iter().copied().map(Self::from).collect(),
            Self::Standard(_) | Self::Blake2b(_) | Self::Blake3 => vec![self],
        };
        algorithms.into_iter()
    }

    /// The algorithm of the same name; the first of several.
    pub fn algorithm(self) -> Algorithm {
        match self {
            Self::Standard(algorithm) => algorithm,
            Self::Several(algorithms) => algorithms[0],
            Self::Blake2b(_) => Algorithm::Blake2b,
            Self::Blake3 => Algorithm::Blake3,
        }
    }

    /// The name that a person types, such as `sha512-256` and `blake2b-256`.
    pub fn name(self) -> Cow<'static, str> {
        match self {
            Self::Blake2b(len) => format!("blake2b-{}", 8 * u16::from(len)).into(),
            Self::Standard(_) | Self::Several(_) | Self::Blake3 => self.algorithm().name().into(),
        }
    }

    /// The name in a line of the form `TAG (name) = digest`.
    pub fn tag(self) -> Cow<'static, str> {
        match self {
            Self::Blake2b(len) => format!("BLAKE2b-{}", 8 * u16::from(len)).into(),
            Self::Standard(_) | Self::Several(_) | Self::Blake3 => self.algorithm().tag().into(),
        }
    }

    /// Bytes of its digest; of an output of any length, those that are compared.
    pub fn digest_len(self) -> usize {
        match self {
            Self::Standard(algorithm) => algorithm.digest_len(),
            Self::Several(algorithms) => algorithms.digests_len(),
            Self::Blake2b(len) => len.into(),
            Self::Blake3 => Algorithm::Blake3.digest_len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Algorithm::{Blake2b, Blake3, Md5, Sha1, Sha256};

    #[test]
    fn several_digests_of_a_file_need_as_few_reads_as_possible() {
        let short = Function::Blake2b(32);
        let all = [Sha256, Md5, Blake3, Sha1].map(Function::from);
        let several = |list: &[Algorithm]| Function::from(Algorithms::new(list).unwrap());
        assert_eq!(Function::reads(&all[..1]), [Sha256.into()]);
        assert_eq!(Function::reads(&all), [several(&[Sha256, Md5, Blake3, Sha1])]);
        let more = [&all[..2], &[short], &all[2..], &[Blake2b.into()]].concat();
        assert_eq!(
            Function::reads(&more),
            [several(&[Sha256, Md5, Blake3, Sha1]), Blake2b.into(), short]
        );
        assert_eq!(Function::reads(&[]), []);
    }

    #[test]
    fn a_blake2b_of_full_length_is_the_one_that_workers_know() {
        assert_eq!(Function::blake2b(64), Some(Blake2b.into()));
        assert_eq!(Function::blake2b(32), Some(Function::Blake2b(32)));
        assert_eq!([0, 65, 300].map(Function::blake2b), [None; 3]);
    }
}
