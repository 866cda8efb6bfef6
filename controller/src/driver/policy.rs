//! The policy: who may connect, and what each may do.
//!
//! The controller's own user and root may do everything. Others may do what the first rule says that
//! names their uid or the effective gid of theirs; over vsock, where nobody has a uid, what the rule of
//! their token says. Who is not named may not connect. `docs/policy.md` has the file.

use super::token::Token;
use crate::core::{DatasetRights, Principal, Quota, Rights};
use ipc_proto::limits::{JOB_PRIORITY_MAX, RULE_WORDS_MAX};
use ipc_proto::message::RuleRow;
use ipc_socket::Peer;
use serde::Deserialize;
use serde::de::IntoDeserializer;
use std::collections::BTreeSet;
use std::fmt;
use std::iter;
use std::path::Path;
use std::rc::Rc;

/// Maximum length of the file, in bytes.
pub const FILE_LEN_MAX: usize = 64 << 10;

/// Maximum number of rules.
const RULES_MAX: usize = 256;

/// The rules of a controller.
#[derive(Clone, Debug)]
pub struct AccessPolicy {
    own_uid: u32,
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    uids: Vec<u32>,
    gids: Vec<u32>,
    token: Option<Token>,
    works: bool,
    rights: Rc<Rights>,
}

impl Rule {
    fn names(&self, peer: Peer) -> bool {
        self.uids.contains(&peer.uid) || self.gids.contains(&peer.gid)
    }

    fn row(&self) -> RuleRow {
        let Self { uids, gids, token, works, rights } = self;
        let Rights { submit, see_jobs, manage_jobs, release, drain, backup, ref datasets, quota } =
            **rights;
        let may = [
            (submit, "submit"),
            (see_jobs, "see-jobs"),
            (manage_jobs, "manage-jobs"),
            (release, "release"),
            (drain, "drain"),
            (backup, "backup"),
            (*works, "work"),
        ];
        let bounds = [
            ("connections", quota.clients),
            ("jobs", quota.jobs),
            ("items", quota.items),
            ("bytes", quota.bytes),
            ("durable-jobs", quota.durable_jobs),
            ("durable-items", quota.durable_items),
            ("priority", quota.priority),
        ];
        RuleRow {
            // A file has room for more, and nobody reads them.
            uids: uids.iter().copied().take(RULE_WORDS_MAX).collect(),
            gids: gids.iter().copied().take(RULE_WORDS_MAX).collect(),
            has_token: token.is_some(),
            may: may.iter().filter(|(may, _)| *may).map(|(_, word)| (*word).to_owned()).collect(),
            datasets: match datasets {
                DatasetRights::All => vec![ALL_DATASETS.to_owned()],
                DatasetRights::Named(names) => names.iter().cloned().collect(),
            },
            quota: bounds
                .iter()
                .filter(|(_, bound)| *bound < u64::MAX)
                .map(|(name, bound)| ((*name).to_owned(), *bound))
                .collect(),
        }
    }

    /// Returns true if it permits anything that a client does.
    fn is_for_clients(&self) -> bool {
        let Rights { submit, see_jobs, release, drain, backup, .. } = *self.rights;
        submit || see_jobs || release || drain || backup
    }
}

impl AccessPolicy {
    /// Only the controller's own user and root.
    #[must_use]
    pub fn own(own_uid: u32) -> Self {
        Self { own_uid, rules: Vec::new() }
    }

    /// Adds users, and groups, that may open jobs and see all of them.
    pub fn allow(&mut self, uids: Vec<u32>, gids: Vec<u32>) {
        if !(uids.is_empty() && gids.is_empty()) {
            let rights = Rc::new(Rights::jobs());
            self.rules.push(Rule { uids, gids, token: None, works: false, rights });
        }
    }

    /// Adds a token whose holders may do over vsock what the controller's own user may.
    pub fn trust(&mut self, token: Token) {
        let (uids, gids, rights) = (Vec::new(), Vec::new(), Rc::new(Rights::ALL));
        self.rules.push(Rule { uids, gids, token: Some(token), works: false, rights });
    }

    /// Adds the rules in a file of this content, of a controller that has `datasets`. `token` reads the
    /// file of a token.
    ///
    /// # Errors
    /// The first rule that is not one, with its line or number.
    pub fn extend(
        &mut self,
        content: &[u8],
        datasets: &[String],
        token: impl Fn(&Path) -> Result<Token, String>,
    ) -> Result<(), PolicyError> {
        let text = std::str::from_utf8(content).map_err(|_| PolicyError::NotText)?;
        let file: FileForm = toml::from_str(text).map_err(PolicyError::Form)?;
        if file.rule.len() > RULES_MAX {
            return Err(PolicyError::TooMany);
        }
        let first = self.rules.len();
        for (number, form) in (1..).zip(file.rule) {
            let wrong = |text| PolicyError::Rule { number, text };
            let rule = form.rule(datasets, &token).map_err(wrong)?;
            for (other, earlier) in (1..).zip(&self.rules[first..]) {
                let twice = |kind, id| wrong(format!("{kind} {id} is in rule {other} already"));
                if let Some(uid) = rule.uids.iter().find(|uid| earlier.uids.contains(uid)) {
                    return Err(twice("uid", uid));
                }
                if let Some(gid) = rule.gids.iter().find(|gid| earlier.gids.contains(gid)) {
                    return Err(twice("gid", gid));
                }
                if rule.token.is_some() && rule.token == earlier.token {
                    return Err(wrong(format!("its token is that of rule {other}")));
                }
            }
            self.rules.push(rule);
        }
        Ok(())
    }

    /// Rights of `peer`, of this host, as a client; `None` if it may not connect.
    #[must_use]
    pub fn client(&self, peer: Peer) -> Option<Rc<Rights>> {
        if self.is_own(Principal::Uid(peer.uid)) {
            return Some(Rc::new(Rights::ALL));
        }
        let rule = self.rules.iter().find(|rule| rule.names(peer));
        rule.filter(|rule| rule.is_for_clients()).map(|rule| Rc::clone(&rule.rights))
    }

    /// Returns true if `peer`, of this host, may connect as a worker.
    #[must_use]
    pub fn admits_worker(&self, peer: Peer) -> bool {
        self.is_own(Principal::Uid(peer.uid))
            || self.rules.iter().find(|rule| rule.names(peer)).is_some_and(|r| r.works)
    }

    /// The holder of the token `guess` and its rights, as a client over vsock; `None` if no rule has it.
    /// Where no rule has a token every VM of the host may open jobs.
    #[must_use]
    pub fn token_holder(&self, guess: &[u8]) -> Option<(Principal, Rc<Rights>)> {
        if !self.has_tokens() {
            return Some((Principal::Token(0), Rc::new(Rights::jobs())));
        }
        let mut holder = None;
        for (number, rule) in (0..).zip(&self.rules) {
            // All are compared, so that the time tells nothing.
            if rule.token.as_ref().is_some_and(|token| token.is(guess)) {
                holder = Some((Principal::Token(number), Rc::clone(&rule.rights)));
            }
        }
        holder
    }

    /// The rules, in their order.
    #[must_use]
    pub fn rows(&self) -> Vec<RuleRow> {
        let own = Rule {
            uids: BTreeSet::from([0, self.own_uid]).into_iter().collect(),
            gids: Vec::new(),
            token: None,
            works: true,
            rights: Rc::new(Rights::ALL),
        };
        iter::once(&own).chain(&self.rules).map(Rule::row).collect()
    }

    /// The rights of the holder of a token, by its number; `None` if no rule has it any more.
    #[must_use]
    pub fn token_rights(&self, number: u16) -> Option<Rc<Rights>> {
        if !self.has_tokens() {
            return Some(Rc::new(Rights::jobs()));
        }
        let rule = self.rules.get(usize::from(number)).filter(|rule| rule.token.is_some());
        rule.map(|rule| Rc::clone(&rule.rights))
    }

    /// Returns true if a client over vsock must know a token.
    #[must_use]
    pub fn has_tokens(&self) -> bool {
        self.rules.iter().any(|rule| rule.token.is_some())
    }

    /// Returns true if no other user of this host may be a client.
    #[must_use]
    pub fn is_private_for_clients(&self) -> bool {
        let is_other = |rule: &Rule| rule.token.is_none() && rule.is_for_clients();
        !self.rules.iter().any(is_other)
    }

    /// Returns true if no other user of this host may be a worker.
    #[must_use]
    pub fn is_private_for_workers(&self) -> bool {
        !self.rules.iter().any(|rule| rule.works)
    }

    /// Returns true if `principal` is the controller's own user, or root.
    #[must_use]
    pub fn is_own(&self, principal: Principal) -> bool {
        [Principal::Uid(0), Principal::Uid(self.own_uid)].contains(&principal)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileForm {
    #[serde(default)]
    rule: Vec<RuleForm>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleForm {
    #[serde(default)]
    uids: Vec<u32>,
    #[serde(default)]
    gids: Vec<u32>,
    token_file: Option<String>,
    may: BTreeSet<Right>,
    #[serde(default)]
    datasets: BTreeSet<String>,
    #[serde(default)]
    quota: QuotaForm,
}

/// Bounds; what is missing is bounded by the share of a user alone.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct QuotaForm {
    connections: Option<u64>,
    jobs: Option<u64>,
    items: Option<u64>,
    bytes: Option<u64>,
    durable_jobs: Option<u64>,
    durable_items: Option<u64>,
    priority: Option<u64>,
}

impl QuotaForm {
    fn quota(&self) -> Result<Quota, String> {
        if self.priority.is_some_and(|priority| priority > JOB_PRIORITY_MAX.into()) {
            return Err(format!("a priority is 0 to {JOB_PRIORITY_MAX}"));
        }
        let or_share = |bound: Option<u64>| bound.unwrap_or(u64::MAX);
        Ok(Quota {
            clients: or_share(self.connections),
            jobs: or_share(self.jobs),
            items: or_share(self.items),
            bytes: or_share(self.bytes),
            durable_jobs: or_share(self.durable_jobs),
            durable_items: or_share(self.durable_items),
            priority: or_share(self.priority),
        })
    }
}

/// A word of `may`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Right {
    Submit,
    SeeJobs,
    ManageJobs,
    Release,
    Drain,
    Backup,
    Work,
}

/// Stands for all datasets.
const ALL_DATASETS: &str = "*";

impl RuleForm {
    fn rule(
        self,
        known: &[String],
        token: impl Fn(&Path) -> Result<Token, String>,
    ) -> Result<Rule, String> {
        let Self { uids, gids, token_file, may, datasets, quota } = self;
        if uids.is_empty() && gids.is_empty() && token_file.is_none() {
            return Err("it names nobody: write uids, gids or token_file".to_owned());
        }
        if token_file.is_some() && !(uids.is_empty() && gids.is_empty()) {
            return Err("a token and users are two rules: over vsock nobody has a uid".to_owned());
        }
        if token_file.is_some() && may.contains(&Right::Work) {
            return Err("workers over vsock have tokens of their own: --worker-tokens".to_owned());
        }
        let rights = Rc::new(rights(&may, datasets, known, quota.quota()?)?);
        let token = token_file.as_deref().map(Path::new).map(token).transpose()?;
        Ok(Rule { uids, gids, token, works: may.contains(&Right::Work), rights })
    }
}

/// The rights that some words grant, in some datasets of those that are `known`.
fn rights(
    may: &BTreeSet<Right>,
    datasets: BTreeSet<String>,
    known: &[String],
    quota: Quota,
) -> Result<Rights, String> {
    let may = |right| may.contains(&right);
    if !datasets.is_empty() && !may(Right::Submit) {
        return Err("it has datasets, but not the right to submit".to_owned());
    }
    let is_known = |name: &String| name == ALL_DATASETS || known.contains(name);
    if let Some(name) = datasets.iter().find(|name| !is_known(name)) {
        return Err(format!("no dataset of this controller is named {name:?}; see --dataset"));
    }
    let datasets = match datasets.contains(ALL_DATASETS) {
        true => DatasetRights::All,
        false => DatasetRights::Named(datasets),
    };
    let (submit, see_jobs) = (may(Right::Submit), may(Right::SeeJobs));
    let (release, drain) = (may(Right::Release), may(Right::Drain));
    let backup = may(Right::Backup);
    if may(Right::ManageJobs) && !(submit && see_jobs) {
        return Err("manage-jobs is of no use without submit and see-jobs".to_owned());
    }
    let manage_jobs = may(Right::ManageJobs);
    Ok(Rights { submit, see_jobs, manage_jobs, release, drain, backup, datasets, quota })
}

/// The rights of a token of the HTTP API, from words of `may`, `dataset=NAME`, and bounds on durable jobs as `priority=N`.
pub(super) fn api_rights<'a>(
    words: impl Iterator<Item = &'a str>,
    known: &[String],
) -> Result<Rights, String> {
    let (mut may, mut datasets) = (BTreeSet::new(), BTreeSet::new());
    let mut quota = QuotaForm::default();
    for word in words {
        if let Some((name, bound)) = word.split_once('=').filter(|(name, _)| *name != "dataset") {
            let place = match name {
                "durable-jobs" => &mut quota.durable_jobs,
                "durable-items" => &mut quota.durable_items,
                "priority" => &mut quota.priority,
                _ => return Err(format!("there is no bound {name:?} over HTTP")),
            };
            let bound = bound.parse().map_err(|_| format!("{name} is a number"))?;
            if place.replace(bound).is_some() {
                return Err(format!("{name} is there twice"));
            }
            continue;
        }
        if let Some(name) = word.strip_prefix("dataset=") {
            datasets.insert(name.to_owned());
            continue;
        }
        let right = Right::deserialize(word.into_deserializer());
        let right = right.map_err(|error: serde::de::value::Error| error.to_string())?;
        match right {
            Right::Submit | Right::SeeJobs | Right::ManageJobs => drop(may.insert(right)),
            Right::Release | Right::Drain | Right::Backup | Right::Work => {
                return Err(format!("nothing over HTTP needs the right {word:?}"));
            }
        }
    }
    rights(&may, datasets, known, quota.quota()?)
}

/// A file that is no policy.
#[derive(Debug)]
pub enum PolicyError {
    /// It is not text.
    NotText,
    /// It is not TOML, or has keys or values that there are not.
    Form(toml::de::Error),
    /// It has more rules than there may be.
    TooMany,
    /// A rule contradicts itself, another one, or the controller.
    Rule {
        /// Its number, from 1.
        number: usize,
        /// The reason.
        text: String,
    },
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotText => f.write_str("not UTF-8"),
            Self::Form(error) => f.write_str(error.to_string().trim_end()),
            Self::TooMany => write!(f, "more than {RULES_MAX} rules"),
            Self::Rule { number, text } => write!(f, "rule {number}: {text}"),
        }
    }
}

impl std::error::Error for PolicyError {}

#[cfg(test)]
mod tests;
