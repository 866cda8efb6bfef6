//! Digests by other means than the code under test.

use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use ipc_proto::Algorithm;
use ipc_proto::limits::CHAINING_VALUE_LEN;
use sha2::Digest;

pub(crate) fn digest(algorithm: Algorithm, data: &[u8]) -> Vec<u8> {
    match algorithm {
        Algorithm::Sha224 => sha2::Sha224::digest(data).to_vec(),
        Algorithm::Sha256 => sha2::Sha256::digest(data).to_vec(),
        Algorithm::Sha384 => sha2::Sha384::digest(data).to_vec(),
        Algorithm::Sha512 => sha2::Sha512::digest(data).to_vec(),
        Algorithm::Sha512_256 => sha2::Sha512_256::digest(data).to_vec(),
        Algorithm::Md5 => md5::Md5::digest(data).to_vec(),
        Algorithm::Sha1 => sha1::Sha1::digest(data).to_vec(),
        Algorithm::Blake2b => blake2::Blake2b512::digest(data).to_vec(),
        Algorithm::Blake3 => blake3::hash(data).as_bytes().to_vec(),
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The line that `hashctl sum` prints.
pub(crate) fn line(algorithm: Algorithm, data: &[u8], name: &str) -> String {
    format!("{}  {name}\n", hex(&digest(algorithm, data)))
}

/// The chaining value of a subtree that starts at `offset`.
pub(crate) fn subtree(offset: u64, data: &[u8]) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(offset).update(data);
    hasher.finalize_non_root().to_vec()
}

/// The one value of neighbouring ones, or the root: the left side of a node is the largest power of
/// two (BLAKE3 paper, section 2.1).
pub(crate) fn merge(values: &[u8], root: bool) -> Vec<u8> {
    let values: Vec<[u8; CHAINING_VALUE_LEN]> =
        values.chunks(CHAINING_VALUE_LEN).map(|value| value.try_into().unwrap()).collect();
    let (left, right) = halves(&values);
    match root {
        true => merge_subtrees_root(&left, &right, Mode::Hash).as_bytes().to_vec(),
        false => merge_subtrees_non_root(&left, &right, Mode::Hash).to_vec(),
    }
}

type Value = [u8; CHAINING_VALUE_LEN];

fn halves(values: &[Value]) -> (Value, Value) {
    let left_len = values.len().next_power_of_two() / 2;
    (node(&values[..left_len]), node(&values[left_len..]))
}

fn node(values: &[Value]) -> Value {
    let [value] = values else {
        let (left, right) = halves(values);
        return merge_subtrees_non_root(&left, &right, Mode::Hash);
    };
    *value
}
