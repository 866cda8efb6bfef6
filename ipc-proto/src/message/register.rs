//! Registers of the controller itself: the audit trail, and the rules of its policy.

use super::{LimitExceeded, at_most};
use crate::limits::{EVENT_TEXT_LEN_MAX, NAME_LEN_MAX, RULE_WORDS_MAX};
use crate::list;
use serde::{Deserialize, Serialize};

/// An event of the audit trail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRow {
    /// Its number: those of later events are greater.
    pub number: u64,
    /// Seconds since 1970.
    pub at_s: u64,
    /// Its kind, a word such as `job-submitted`.
    pub kind: String,
    /// The job, worker or schedule that it is about; empty for none.
    pub subject: String,
    /// Whoever asked for it; empty if nobody did.
    pub by: String,
    /// More, for a person.
    pub text: String,
}

/// A rule of the policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleRow {
    /// Users that it is for.
    #[serde(deserialize_with = "list::at_most::<_, _, RULE_WORDS_MAX>")]
    pub uids: Vec<u32>,
    /// Groups that it is for.
    #[serde(deserialize_with = "list::at_most::<_, _, RULE_WORDS_MAX>")]
    pub gids: Vec<u32>,
    /// It is for the holders of a token, over vsock.
    pub has_token: bool,
    /// The words of its rights.
    #[serde(deserialize_with = "list::at_most::<_, _, RULE_WORDS_MAX>")]
    pub may: Vec<String>,
    /// Datasets in which files may be named; `*` for all.
    #[serde(deserialize_with = "list::at_most::<_, _, RULE_WORDS_MAX>")]
    pub datasets: Vec<String>,
    /// Bounds on what a user may hold, by their names; what is not here is bounded by the user's share alone.
    #[serde(deserialize_with = "list::at_most::<_, _, RULE_WORDS_MAX>")]
    pub quota: Vec<(String, u64)>,
}

impl EventRow {
    pub(super) fn check(&self) -> Result<(), LimitExceeded> {
        at_most("kind", self.kind.len(), NAME_LEN_MAX)?;
        at_most("subject", self.subject.len(), EVENT_TEXT_LEN_MAX)?;
        at_most("by", self.by.len(), EVENT_TEXT_LEN_MAX)?;
        at_most("text", self.text.len(), EVENT_TEXT_LEN_MAX)
    }
}

impl RuleRow {
    pub(super) fn check(&self) -> Result<(), LimitExceeded> {
        for words in [self.uids.len(), self.gids.len(), self.datasets.len(), self.may.len()] {
            at_most("words of a rule", words, RULE_WORDS_MAX)?;
        }
        at_most("bounds", self.quota.len(), RULE_WORDS_MAX)?;
        let bounds = self.quota.iter().map(|(name, _)| name);
        let mut names = self.may.iter().chain(&self.datasets).chain(bounds);
        names.try_for_each(|name| at_most("word of a rule", name.len(), NAME_LEN_MAX))
    }
}
