//! The secret that lets a client in where the kernel cannot say who it is.

use crate::Blob;
use crate::limits::TOKEN_LEN_MAX;
use std::fmt;

/// Bytes to read of a token's file: a token, a newline, and one byte too many.
pub const FILE_LEN_MAX: usize = TOKEN_LEN_MAX + 2;

/// Content of a file that is not a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// Nothing but perhaps a newline: that would let anybody in.
    Empty,
    /// Longer than [`TOKEN_LEN_MAX`].
    TooLong,
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("no token in it"),
            Self::TooLong => write!(f, "a token has at most {TOKEN_LEN_MAX} bytes"),
        }
    }
}

impl std::error::Error for TokenError {}

/// The token in a file of this `content`, of which the first [`FILE_LEN_MAX`] bytes are enough; one
/// newline at its end does not count.
pub fn parse(content: &[u8]) -> Result<Blob, TokenError> {
    match content.strip_suffix(b"\n").unwrap_or(content) {
        [] => Err(TokenError::Empty),
        token if token.len() > TOKEN_LEN_MAX => Err(TokenError::TooLong),
        token => Ok(Blob::from(token)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_ends_before_the_last_newline() {
        let longest = [b'x'; TOKEN_LEN_MAX];
        for (content, want) in [
            (&b"abc"[..], Ok(&b"abc"[..])),
            (b"abc\n", Ok(b"abc")),
            (b"abc\n\n", Ok(b"abc\n")),
            (b"\0\xff\n", Ok(b"\0\xff")),
            (b"", Err(TokenError::Empty)),
            (b"\n", Err(TokenError::Empty)),
            (&longest, Ok(&longest)),
            (&[&longest[..], b"\n"].concat(), Ok(&longest)),
            (&[&longest[..], b"y"].concat(), Err(TokenError::TooLong)),
            (&[&longest[..], b"\n\n"].concat(), Err(TokenError::TooLong)),
        ] {
            assert_eq!(parse(content), want.map(Blob::from), "{content:?}");
        }
    }
}
