//! Notifications: JSON that is posted to a URL or given to a command, by a process of its own.
//!
//! A controller in its sandbox can neither connect to anything nor start programs. [`NotifierLink::start`] starts
//! a process before that, which does nothing else: it takes a [`Delivery`] per packet, tries it once, and
//! answers with a [`DeliveryReport`]. It ends when the controller does.
//!
//! A request is signed as [Standard Webhooks](https://www.standardwebhooks.com) say: HMAC-SHA256 (RFC 2104)
//! over its id, time and body.
//!
//! Not here: what is worth a notification, the queue, and further attempts (the controller's `notices`).

mod command;
mod http;
mod link;
mod serve;
mod sign;

pub use link::NotifierLink;
pub use serve::serve;

use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error;

/// Longest body in bytes.
pub const BODY_LEN_MAX: usize = 16 << 10;

/// Longest packet between the two processes: a body in which every character is escaped, and where it goes. Every
/// Linux has room for it in a socket's buffer.
const PACKET_LEN_MAX: usize = 6 * BODY_LEN_MAX + (64 << 10);

/// Time limit of a request, from the look-up of its host to the status of the answer.
pub const POST_TIMEOUT: Duration = Duration::from_secs(15);

/// Time limit of a command.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest reason why a delivery failed, in bytes.
pub const TEXT_LEN_MAX: usize = 512;

/// Permissions of the process that delivers.
#[derive(Clone, Debug, Default)]
pub struct Permissions {
    /// Directory of the commands that may be started; none may without it.
    pub commands: Option<PathBuf>,
    /// Directory of the secrets that sign requests, a file each.
    pub secrets: Option<PathBuf>,
}

/// A notification on its way to one recipient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Comes back in the report.
    pub number: u64,
    /// The same in every attempt, so that a recipient can tell that it got it before.
    pub id: String,
    /// The recipient.
    pub to: DeliveryTarget,
    /// JSON, at most [`BODY_LEN_MAX`] bytes.
    pub body: String,
}

/// The recipient of a delivery.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DeliveryTarget {
    /// The body is posted there.
    Url {
        /// `http://HOST[:PORT]/PATH` or `unix:SOCKET[:/PATH]`.
        url: String,
        /// Name of the secret that signs it.
        secret: Option<String>,
    },
    /// A command gets the body on its standard input.
    Command {
        /// Its name in the directory of commands.
        name: String,
        /// Its arguments.
        args: Vec<String>,
    },
}

/// The end of one attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryReport {
    /// That of the delivery.
    pub number: u64,
    /// Why it failed.
    pub failure: Option<DeliveryFailure>,
}

/// The reason why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Error)]
#[error("{text}")]
pub struct DeliveryFailure {
    /// For a person, at most [`TEXT_LEN_MAX`] bytes.
    pub text: String,
    /// A further attempt would fail, too.
    pub is_final: bool,
}

impl DeliveryFailure {
    fn new(is_final: bool, text: impl Into<String>) -> Self {
        let mut text = text.into();
        text.truncate(text.floor_char_boundary(TEXT_LEN_MAX));
        Self { text, is_final }
    }

    /// A failure that may pass.
    fn passing(text: impl Into<String>) -> Self {
        Self::new(false, text)
    }

    /// A failure that stays until somebody mends its cause.
    fn lasting(text: impl Into<String>) -> Self {
        Self::new(true, text)
    }
}
