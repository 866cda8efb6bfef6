//! Hash functions, and the mode of those with parameters.

pub(crate) use ::lists::function::Function;
use std::fmt;

/// The mode of BLAKE3 (BLAKE3 paper, section 2.3) for [`Function::Blake3`].
#[derive(Clone, Default)]
pub(crate) enum Blake3Mode {
    #[default]
    Hash,
    Keyed(Box<[u8; 32]>),
    DeriveKey(String),
}

/// Without the key and the context, which are secrets.
impl fmt::Debug for Blake3Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hash => "Hash",
            Self::Keyed(_) => "Keyed",
            Self::DeriveKey(_) => "DeriveKey",
        })
    }
}

impl Blake3Mode {
    pub(crate) fn hasher(&self) -> blake3::Hasher {
        match self {
            Self::Hash => blake3::Hasher::new(),
            Self::Keyed(key) => blake3::Hasher::new_keyed(key),
            Self::DeriveKey(context) => blake3::Hasher::new_derive_key(context),
        }
    }
}
