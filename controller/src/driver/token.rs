//! What a client has to know where the kernel cannot say who it is.

use ipc_proto::limits::TOKEN_LEN_MAX;
use ipc_proto::token::{self, TokenError};
use std::fmt;
use std::hint::black_box;

/// The clients' token. It is compared in a time that does not tell how much of a guess is right.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    bytes: [u8; TOKEN_LEN_MAX],
    len: usize,
}

impl Token {
    /// The token in a file of this content.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn parse(content: &[u8]) -> Result<Self, TokenError> {
        token::parse(content).map(|token| Self::padded(&token))
    }

    /// Whether `guess`, of at most [`TOKEN_LEN_MAX`] bytes, is this token.
    #[must_use]
    pub fn is(&self, guess: &[u8]) -> bool {
        let guess = Self::padded(guess);
        let differences = self.bytes.iter().zip(&guess.bytes).fold(0, |found, (ours, theirs)| {
            // Kept from becoming a loop that ends at the first difference.
            black_box(found | (ours ^ theirs))
        });
        (differences == 0) & (self.len == guess.len)
    }

    fn padded(token: &[u8]) -> Self {
        let mut bytes = [0; TOKEN_LEN_MAX];
        bytes[..token.len()].copy_from_slice(token);
        Self { bytes, len: token.len() }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_is_the_token() {
        let token = Token::parse(b"secret\n").unwrap();
        assert!(token.is(b"secret"));
        for guess in [&b""[..], b"s", b"secre", b"secret\n", b"secret\0", b"Secret", b"secreT"] {
            assert!(!token.is(guess), "{guess:?}");
        }
        let longest = [7; TOKEN_LEN_MAX];
        assert!(Token::parse(&longest).unwrap().is(&longest));
        assert!(!token.is(&longest));
    }

    #[test]
    fn a_token_is_not_shown() {
        assert_eq!(format!("{:?}", Token::parse(b"secret").unwrap()), "Token { .. }");
    }
}
