//! Tokens of the HTTP API: each is a principal with rights of its own. `docs/api.md` has the file.

use super::policy::api_rights;
use super::token::Token;
use crate::core::{Principal, PrincipalName, Rights};
use ipc_proto::limits::TOKEN_LEN_MAX;
use std::rc::Rc;

/// Most tokens: all are compared with each guess.
pub const API_TOKENS_MAX: usize = 64;

/// Shortest token, in bytes: others may guess as often as they like.
pub const API_TOKEN_LEN_MIN: usize = 16;

/// The tokens of the HTTP API.
#[derive(Clone, Debug, Default)]
pub struct ApiTokens(Vec<ApiToken>);

#[derive(Clone, Debug)]
struct ApiToken {
    name: PrincipalName,
    token: Token,
    rights: Rc<Rights>,
}

impl ApiTokens {
    /// The tokens in a file of this content, of a controller that has `datasets`: `NAME TOKEN RIGHT…` per line;
    /// lines that are empty or start with `#` are left out.
    ///
    /// # Errors
    /// The first line that is not one, for a person.
    pub fn parse(content: &[u8], datasets: &[String]) -> Result<Self, String> {
        let text = std::str::from_utf8(content).map_err(|_| "not UTF-8".to_owned())?;
        let mut tokens: Vec<ApiToken> = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let mut words = line.split_ascii_whitespace();
            let Some(name) = words.next().filter(|word| !word.starts_with('#')) else { continue };
            let fresh = Self::line(name, words, datasets);
            let fresh = fresh.map_err(|error| format!("line {number}: {error}"))?;
            if tokens.iter().any(|other| other.name == fresh.name) {
                return Err(format!("line {number}: second token named {name}"));
            }
            if tokens.iter().any(|other| other.token == fresh.token) {
                return Err(format!("line {number}: the token is that of another name"));
            }
            if tokens.len() >= API_TOKENS_MAX {
                return Err(format!("it has more than {API_TOKENS_MAX} tokens"));
            }
            tokens.push(fresh);
        }
        Ok(Self(tokens))
    }

    fn line<'a>(
        name: &str,
        mut words: impl Iterator<Item = &'a str>,
        datasets: &[String],
    ) -> Result<ApiToken, String> {
        let Some(token) = words.next() else { return Err("write NAME TOKEN RIGHT...".to_owned()) };
        let Some(name) = PrincipalName::new(name) else {
            let len_max = PrincipalName::LEN_MAX;
            return Err(format!(
                "a name has 1 to {len_max} letters, digits, dots, hyphens and underscores"
            ));
        };
        if !(API_TOKEN_LEN_MIN..=TOKEN_LEN_MAX).contains(&token.len()) {
            return Err(format!("a token has {API_TOKEN_LEN_MIN} to {TOKEN_LEN_MAX} bytes"));
        }
        let token = Token::parse(token.as_bytes()).map_err(|error| error.to_string())?;
        let rights = Rc::new(api_rights(words, datasets)?);
        Ok(ApiToken { name, token, rights })
    }

    /// The holder of the token `guess`, and its rights.
    #[must_use]
    pub fn holder(&self, guess: &[u8]) -> Option<(Principal, Rc<Rights>)> {
        if guess.len() > TOKEN_LEN_MAX {
            return None;
        }
        let mut holder = None;
        for known in &self.0 {
            // All are compared, so that the time tells nothing.
            if known.token.is(guess) {
                holder = Some((Principal::Named(known.name), Rc::clone(&known.rights)));
            }
        }
        holder
    }

    /// The rights of the token called `name`; `None` if there is none any more.
    pub(super) fn rights_of(&self, name: PrincipalName) -> Option<Rc<Rights>> {
        let known = self.0.iter().find(|known| known.name == name);
        known.map(|known| Rc::clone(&known.rights))
    }

    /// Number of tokens.
    #[must_use]
    pub fn tokens_len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{DatasetRights, Quota};

    fn parse(text: &str) -> Result<ApiTokens, String> {
        ApiTokens::parse(text.as_bytes(), &["photos".to_owned()])
    }

    #[test]
    fn each_token_is_a_principal_with_its_rights() {
        let tokens = parse(
            "# for the build\n\nci aaaaaaaaaaaaaaaa submit dataset=photos\n\
             ops\tbbbbbbbbbbbbbbbb submit see-jobs manage-jobs dataset=* durable-jobs=4 priority=2 durable-items=5\nnone cccccccccccccccc\n",
        )
        .unwrap();
        assert_eq!(tokens.tokens_len(), 3);
        let (ci, rights) = tokens.holder(b"aaaaaaaaaaaaaaaa").unwrap();
        assert_eq!(ci.to_string(), "token ci");
        assert!(rights.submit && !rights.see_jobs && rights.datasets.includes("photos"));
        let (_, rights) = tokens.holder(b"bbbbbbbbbbbbbbbb").unwrap();
        assert!(rights.manage_jobs && rights.see_jobs && !rights.release && !rights.drain);
        assert_eq!(rights.datasets, DatasetRights::All);
        let (durable_jobs, durable_items, priority) = (4, 5, 2);
        let quota = Quota { durable_jobs, durable_items, priority, ..Quota::MAX };
        assert_eq!(rights.quota, quota);
        let (_, rights) = tokens.holder(b"cccccccccccccccc").unwrap();
        assert_eq!(*rights, Rights { quota: rights.quota, ..Rights::default() });
        for guess in ["", "a", "aaaaaaaaaaaaaaa", "aaaaaaaaaaaaaaaaa", &"a".repeat(65)] {
            assert_eq!(tokens.holder(guess.as_bytes()), None, "{guess}");
        }
    }

    #[test]
    fn a_line_that_cannot_be_meant_is_named() {
        for (text, want) in [
            ("ci", "line 1: write NAME TOKEN RIGHT..."),
            ("ci short", "line 1: a token has 16 to 64 bytes"),
            (&format!("ci {}", "x".repeat(65)), "line 1: a token has 16 to 64 bytes"),
            (
                "a/b aaaaaaaaaaaaaaaa",
                "line 1: a name has 1 to 32 letters, digits, dots, hyphens and underscores",
            ),
            ("\nci aaaaaaaaaaaaaaaa drain", "line 2: nothing over HTTP needs the right \"drain\""),
            (
                "ci aaaaaaaaaaaaaaaa submit dataset=x",
                "line 1: no dataset of this controller is named \"x\"; see --dataset",
            ),
            (
                "ci aaaaaaaaaaaaaaaa dataset=photos",
                "line 1: it has datasets, but not the right to submit",
            ),
            ("ci aaaaaaaaaaaaaaaa priority=10", "line 1: a priority is 0 to 9"),
            ("ci aaaaaaaaaaaaaaaa priority=x", "line 1: priority is a number"),
            ("ci aaaaaaaaaaaaaaaa priority=1 priority=1", "line 1: priority is there twice"),
            ("ci aaaaaaaaaaaaaaaa jobs=1", "line 1: there is no bound \"jobs\" over HTTP"),
            ("a aaaaaaaaaaaaaaaa\na bbbbbbbbbbbbbbbb", "line 2: second token named a"),
            ("a aaaaaaaaaaaaaaaa\nb aaaaaaaaaaaaaaaa", "line 2: the token is that of another name"),
        ] {
            assert_eq!(parse(text).unwrap_err(), want, "{text}");
        }
        let error = parse("ci aaaaaaaaaaaaaaaa sumbit").unwrap_err();
        assert!(error.starts_with("line 1: unknown variant `sumbit`, expected one of"), "{error}");
        let many: String =
            (0..=API_TOKENS_MAX).map(|n| format!("n{n} token-number-{n:04}\n")).collect();
        assert_eq!(parse(&many).unwrap_err(), "it has more than 64 tokens");
        assert_eq!(ApiTokens::parse(b"\xff", &[]).unwrap_err(), "not UTF-8");
    }
}
