//! Proof of identity where the kernel cannot say who a peer is: one token for clients, one per worker.

use ipc_proto::limits::{NAME_LEN_MAX, TOKEN_LEN_MAX};
use ipc_proto::token::{self, TokenError};
use std::collections::BTreeMap;
use std::fmt;
use std::hint::black_box;

/// A token. It is compared in a time that does not tell how much of a guess is right.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    bytes: [u8; TOKEN_LEN_MAX],
    len: usize,
}

impl Token {
    /// The token in a file of this content.
    pub fn parse(content: &[u8]) -> Result<Self, TokenError> {
        token::parse(content).map(|token| Self::padded(&token))
    }

    /// True if `guess`, of at most [`TOKEN_LEN_MAX`] bytes, is this token.
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

/// The token of each worker, by its name.
#[derive(Clone, Debug)]
pub struct WorkerTokens(BTreeMap<String, Token>);

/// A line that does not give a worker its token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkerTokensError {
    /// The file is not text.
    NotText,
    /// The line is not `NAME TOKEN`.
    Form {
        /// Number of the line, from 1.
        line: usize,
    },
    /// The name is too long.
    Name {
        /// Number of the line, from 1.
        line: usize,
    },
    /// The token is too long.
    Token {
        /// Number of the line, from 1.
        line: usize,
        /// The cause.
        error: TokenError,
    },
    /// The name has a token already.
    Duplicate {
        /// Number of the line, from 1.
        line: usize,
    },
}

impl fmt::Display for WorkerTokensError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotText => f.write_str("not UTF-8"),
            Self::Form { line } => write!(f, "line {line}: write NAME TOKEN"),
            Self::Name { line } => write!(f, "line {line}: a name has 1 to {NAME_LEN_MAX} bytes"),
            Self::Token { line, .. } => write!(f, "line {line}: invalid token"),
            Self::Duplicate { line } => write!(f, "line {line}: second token of one worker"),
        }
    }
}

impl std::error::Error for WorkerTokensError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Token { error, .. } => Some(error),
            Self::NotText | Self::Form { .. } | Self::Name { .. } | Self::Duplicate { .. } => None,
        }
    }
}

impl WorkerTokens {
    /// The tokens in a file of this content: one `NAME TOKEN` per line.
    pub fn parse(content: &[u8]) -> Result<Self, WorkerTokensError> {
        let text = std::str::from_utf8(content).map_err(|_| WorkerTokensError::NotText)?;
        let mut tokens = BTreeMap::new();
        for (line, text) in (1..).zip(text.lines()) {
            let mut words = text.split_ascii_whitespace();
            let (Some(name), Some(token), None) = (words.next(), words.next(), words.next()) else {
                return Err(WorkerTokensError::Form { line });
            };
            if name.len() > NAME_LEN_MAX {
                return Err(WorkerTokensError::Name { line });
            }
            let token = Token::parse(token.as_bytes());
            let token = token.map_err(|error| WorkerTokensError::Token { line, error })?;
            if tokens.insert(name.to_owned(), token).is_some() {
                return Err(WorkerTokensError::Duplicate { line });
            }
        }
        Ok(Self(tokens))
    }

    /// Number of workers that have one.
    #[must_use]
    pub fn workers_len(&self) -> usize {
        self.0.len()
    }

    /// True if `guess`, of at most [`TOKEN_LEN_MAX`] bytes, is the token of the worker `name`.
    #[must_use]
    pub fn admit(&self, name: &str, guess: &[u8]) -> bool {
        self.0.get(name).is_some_and(|token| token.is(guess))
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
    fn a_workers_token_is_bound_to_its_name() {
        let tokens = WorkerTokens::parse(b"w1 one\nw-2\ttwo\n").unwrap();
        for (name, guess, want) in [
            ("w1", &b"one"[..], true),
            ("w-2", b"two", true),
            ("w1", b"two", false),
            ("w-2", b"one", false),
            ("w1", b"", false),
            ("w", b"one", false),
        ] {
            assert_eq!(tokens.admit(name, guess), want, "{name}");
        }
        let long = "x".repeat(65);
        for (content, want) in [
            ("w1".to_owned(), "line 1: write NAME TOKEN"),
            ("w1 a\n\n".to_owned(), "line 2: write NAME TOKEN"),
            ("w1 a b".to_owned(), "line 1: write NAME TOKEN"),
            ("w1 a\nw1 b".to_owned(), "line 2: second token of one worker"),
            (format!("{long} a"), "line 1: a name has 1 to 64 bytes"),
            (format!("w1 {long}"), "line 1: invalid token"),
        ] {
            let error = WorkerTokens::parse(content.as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), want);
        }
        assert_eq!(WorkerTokens::parse(b"\xff").unwrap_err(), WorkerTokensError::NotText);
    }

    #[test]
    fn a_token_is_not_shown() {
        assert_eq!(format!("{:?}", Token::parse(b"secret").unwrap()), "Token { .. }");
    }
}
