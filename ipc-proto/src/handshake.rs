//! The first exchange of a connection, for both ends.
//!
//! The controller's end decides from the body of the first frame; waiting for it, and the time
//! limit, are the driver's, which asks [`deadline`]. Invariant: a peer without a common version is
//! refused with that reason, whatever the rest of its `Hello` looks like.

use crate::codec::{self, CodecError};
use crate::limits::HELLO_TIMEOUT;
use crate::message::{
    Hello, HelloReply, MAGIC, Preamble, RefuseReason, Role, VERSION_MAX, VERSION_MIN, Versions,
};
use std::fmt;
use std::time::Duration;

/// A peer whose `Hello` was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The version to speak.
    pub version: u16,
    /// Role of the peer: worker or client.
    pub role: Role,
}

/// Why a peer is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why, for a program.
    pub reason: RefuseReason,
    /// Why, for a person.
    pub text: String,
}

impl Refusal {
    /// A refusal with a message for a person.
    #[must_use]
    pub fn new(reason: RefuseReason, text: impl Into<String>) -> Self {
        Self { reason, text: text.into() }
    }

    /// The reply that carries it.
    #[must_use]
    pub fn into_reply(self) -> HelloReply {
        HelloReply::Refused { reason: self.reason, text: self.text, versions: Versions::OURS }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Deadline for the `Hello` of a connection that was accepted at `now`.
#[must_use]
pub fn deadline(now: Duration) -> Duration {
    now + HELLO_TIMEOUT
}

/// Judges the first body of a connection.
///
/// # Errors
/// What to tell the peer before closing.
pub fn accept(body: &[u8]) -> Result<Accepted, Refusal> {
    let not_ours = |error: CodecError| Refusal::new(RefuseReason::NotOurs, error.to_string());
    let preamble: Preamble = codec::decode_prefix(body).map_err(not_ours)?;
    if preamble.magic != MAGIC {
        return Err(Refusal::new(RefuseReason::NotOurs, "not the hashcluster protocol"));
    }
    let Some(version) = Versions::OURS.common(preamble.versions) else {
        let Versions { min, max } = preamble.versions;
        return Err(Refusal::new(
            RefuseReason::Version,
            format!(
                "no common protocol version: you speak {min} to {max}, \
                 the controller {VERSION_MIN} to {VERSION_MAX}"
            ),
        ));
    };
    let hello: Hello = codec::decode(body).map_err(not_ours)?;
    Ok(Accepted { version, role: hello.role })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Blob;
    use crate::frame::PREFIX_LEN;
    use crate::message::ClientIntro;

    fn client() -> Role {
        Role::Client(ClientIntro { software: "0.1.0".to_owned(), token: Blob::default() })
    }

    fn body(hello: &Hello) -> Vec<u8> {
        let mut frame = Vec::new();
        codec::encode_frame(hello, &mut frame).unwrap();
        frame.split_off(PREFIX_LEN)
    }

    #[track_caller]
    fn check_refused(body: &[u8], reason: RefuseReason, text: &str) {
        let refusal = accept(body).unwrap_err();
        assert_eq!(refusal.reason, reason);
        assert!(refusal.text.contains(text), "{}", refusal.text);
        let reply = refusal.into_reply();
        codec::encode_frame(&reply, &mut Vec::new()).expect("a refusal can be sent");
    }

    fn speaks(min: u16, max: u16) -> Vec<u8> {
        body(&Hello { versions: Versions { min, max }, ..Hello::new(client()) })
    }

    #[test]
    fn accepts_our_own_hello_and_that_of_a_newer_peer_that_still_speaks_our_version() {
        let want = Ok(Accepted { version: VERSION_MAX, role: client() });
        assert_eq!(accept(&body(&Hello::new(client()))), want);
        assert_eq!(accept(&speaks(VERSION_MIN, VERSION_MAX + 7)), want);
    }

    #[test]
    fn refuses_a_peer_without_a_common_version_whatever_follows() {
        let mut body = speaks(300, 400);
        check_refused(&body, RefuseReason::Version, "you speak 300 to 400");
        body.extend_from_slice(&[0xff; 50]);
        check_refused(&body, RefuseReason::Version, "no common protocol version");
        check_refused(&speaks(9, 0), RefuseReason::Version, "you speak 9 to 0");
    }

    #[test]
    fn refuses_bytes_without_the_magic() {
        check_refused(b"GET / HTTP/1.1\r\n", RefuseReason::NotOurs, "not the hashcluster protocol");
        check_refused(b"H", RefuseReason::NotOurs, "malformed");
        let whole = body(&Hello::new(client()));
        for cut in 0..whole.len() {
            assert_eq!(accept(&whole[..cut]).unwrap_err().reason, RefuseReason::NotOurs, "{cut}");
        }
        let mut trailing = whole;
        trailing.push(0);
        check_refused(&trailing, RefuseReason::NotOurs, "1 bytes after the message");
    }
}
