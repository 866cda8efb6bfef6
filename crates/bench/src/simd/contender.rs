//! Whatever can hash a set of messages.

use super::openssl::OpenSsl;
use engine::hash::Backend;
use ipc_proto::Algorithm;
use ring::digest as ring;
use sha2::Digest;

/// Appends the digests of all messages.
type HashAll = Box<dyn Fn(&[&[u8]], &mut Vec<u8>)>;

pub(super) struct Contender {
    pub(super) name: &'static str,
    pub(super) hash_all: HashAll,
}

/// Contender that a row promises to beat.
pub(super) fn reference(algorithm: Algorithm) -> Contender {
    match algorithm {
        Algorithm::Sha224 => each::<sha2::Sha224>(),
        Algorithm::Sha256 => each::<sha2::Sha256>(),
        Algorithm::Sha384 => each::<sha2::Sha384>(),
        Algorithm::Sha512 => each::<sha2::Sha512>(),
        Algorithm::Sha512_256 => each::<sha2::Sha512_256>(),
        Algorithm::Md5 => each::<md5::Md5>(),
        Algorithm::Sha1 => each::<sha1::Sha1>(),
        Algorithm::Blake2b => each::<blake2::Blake2b512>(),
        Algorithm::Blake3 => Contender::new("the blake3 crate", |message, out| {
            out.extend_from_slice(blake3::hash(message).as_bytes());
        }),
    }
}

/// Others that people use, as far as they are here.
pub(super) fn others(algorithm: Algorithm) -> Vec<Contender> {
    let (of_ring, of_openssl) = match algorithm {
        Algorithm::Sha224 => (None, Some(c"SHA2-224")),
        Algorithm::Sha256 => (Some(&ring::SHA256), Some(c"SHA2-256")),
        Algorithm::Sha384 => (Some(&ring::SHA384), Some(c"SHA2-384")),
        Algorithm::Sha512 => (Some(&ring::SHA512), Some(c"SHA2-512")),
        Algorithm::Sha512_256 => (Some(&ring::SHA512_256), Some(c"SHA2-512/256")),
        Algorithm::Md5 => (None, Some(c"MD5")),
        Algorithm::Sha1 => (Some(&ring::SHA1_FOR_LEGACY_USE_ONLY), Some(c"SHA1")),
        Algorithm::Blake2b => (None, Some(c"BLAKE2B-512")),
        Algorithm::Blake3 => (None, None),
    };
    // Nothing hides the SHA extensions from it.
    let of_ring = of_ring.filter(|_| !cfg!(sha2_backend = "soft"));
    let of_ring = of_ring.map(|algorithm| {
        Contender::new("ring", |message, out| {
            out.extend_from_slice(ring::digest(algorithm, message).as_ref());
        })
    });
    let of_openssl = of_openssl
        .and_then(OpenSsl::new)
        .map(|openssl| Contender::new("OpenSSL", move |message, out| openssl.hash(message, out)));
    of_ring.into_iter().chain(of_openssl).collect()
}

/// The backend of this name, if this machine has it and it has a kernel for `algorithm`.
pub(super) fn backend(name: &str, algorithm: Algorithm) -> Option<Contender> {
    let &backend = Backend::available()
        .iter()
        .find(|backend| backend.name() == name && backend.serves(algorithm))?;
    let hash_all = move |messages: &[&[u8]], out: &mut Vec<u8>| {
        backend.hash_many(algorithm, messages, out);
    };
    Some(Contender { name: backend.name(), hash_all: Box::new(hash_all) })
}

fn each<D: Digest>() -> Contender {
    Contender::new("the RustCrypto crate", |message, out| {
        out.extend_from_slice(&D::digest(message))
    })
}

impl Contender {
    /// One that takes message by message.
    fn new(name: &'static str, hash: impl Fn(&[u8], &mut Vec<u8>) + 'static) -> Self {
        let hash_all = move |messages: &[&[u8]], out: &mut Vec<u8>| {
            messages.iter().for_each(|message| hash(message, out));
        };
        Self { name, hash_all: Box::new(hash_all) }
    }
}
