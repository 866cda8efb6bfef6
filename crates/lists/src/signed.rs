//! Text around the lines of a signed list: clear-signed by PGP (RFC 9580, section 7), or with the two
//! lines of signify in front. No signature is verified.

use serde::{Deserialize, Serialize};

const PGP_MESSAGE: &[u8] = b"-----BEGIN PGP SIGNED MESSAGE-----";
const PGP_SIGNATURE: &[u8] = b"-----BEGIN PGP SIGNATURE-----";
const PGP_END: &[u8] = b"-----END PGP SIGNATURE-----";
const SIGNIFY: &[u8] = b"untrusted comment: ";

/// Part of a signed list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Armor {
    /// Not signed, as far as is known.
    #[default]
    Outside,
    /// Up to the first empty line.
    Header,
    /// Dashes at the start of a line are escaped.
    Message,
    /// Up to its end.
    Signature,
    /// The line with the signature of signify.
    Signify,
}

/// Meaning of a line for the signature.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Signed<'a> {
    /// A line of the text, without the escape.
    Text(&'a [u8]),
    /// The start of a signed text.
    Start,
    /// Something around it.
    Around,
}

impl Armor {
    pub(super) fn take<'a>(&mut self, line: &'a [u8]) -> Signed<'a> {
        let ruled = line.trim_ascii_end();
        let is_field = || line.windows(2).any(|pair| pair == b": ");
        let (next, signed) = match *self {
            _ if ruled == PGP_MESSAGE => (Self::Header, Signed::Start),
            _ if ruled == PGP_SIGNATURE => (Self::Signature, Signed::Around),
            Self::Outside if line.starts_with(SIGNIFY) => (Self::Signify, Signed::Start),
            Self::Header if ruled.is_empty() => (Self::Message, Signed::Around),
            Self::Header if is_field() => (Self::Header, Signed::Around),
            Self::Header | Self::Message => {
                (Self::Message, Signed::Text(line.strip_prefix(b"- ").unwrap_or(line)))
            }
            Self::Signature if ruled == PGP_END => (Self::Outside, Signed::Around),
            Self::Signature => (Self::Signature, Signed::Around),
            Self::Signify => (Self::Outside, Signed::Around),
            Self::Outside => (Self::Outside, Signed::Text(line)),
        };
        *self = next;
        signed
    }
}
