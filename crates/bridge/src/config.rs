//! The configuration file: which broker, as whom, and which datasets this host has.

use crate::shard::{DatasetKey, IDENTITY_LEN_MAX, WrongMessage};
use ipc_proto::limits::NAME_LEN_MAX;
use ipc_socket::Trust;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;

/// Name of the file in a dataset's root that holds the dataset's identity.
pub const MARKER: &str = ".hashcluster-dataset";

/// Most bytes of a configuration file.
const CONFIG_LEN_MAX: u64 = 64 << 10;

/// Shards that a host holds where its file does not say.
const SHARDS: usize = 4;

/// Most shards that a host may hold: each has a thread and a connection to the controller.
const SHARDS_MAX: usize = 64;

/// Seconds to finish what is held, where the file does not say.
const STOP_S: u64 = 60;

/// Most such seconds: a day.
const STOP_S_MAX: u64 = 86_400;

/// Most shards that a submitting host may have with the broker.
const OUTSTANDING_MAX: usize = 4096;

/// Why a configuration cannot be used.
#[derive(Debug, Error)]
pub enum BridgeConfigError {
    /// A file cannot be read, or others can read or write it.
    #[error("{path}: {1}", path = .0.display())]
    Io(PathBuf, #[source] io::Error),
    /// The file is no TOML of the right keys.
    #[error("{path}: {1}", path = .0.display())]
    Form(PathBuf, #[source] toml::de::Error),
    /// A value is not allowed.
    #[error("{key}: {text}")]
    Value {
        /// The key.
        key: String,
        /// Why, and what is.
        text: String,
    },
    /// A dataset cannot be identified.
    #[error("dataset {name}: {path}: {1}; make it once, on one host: \
        cat /proc/sys/kernel/random/uuid > {path}", name = .0, path = .2.display())]
    Marker(String, #[source] io::Error, PathBuf),
    /// The marker's content is not an identity.
    #[error("dataset {name}: {path} holds no identity: 1 to 64 letters, digits and hyphens in one line",
        name = .0, path = .1.display())]
    Identity(String, PathBuf, #[source] WrongMessage),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigForm {
    host: Option<String>,
    deployment: Option<String>,
    broker: BrokerForm,
    #[serde(default)]
    serve: ServeForm,
    #[serde(default)]
    submit: SubmitForm,
    #[serde(default)]
    datasets: BTreeMap<String, PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BrokerForm {
    servers: Vec<String>,
    ca: Option<PathBuf>,
    credentials: Option<PathBuf>,
    nkey: Option<PathBuf>,
    replicas: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServeForm {
    runtime_dir: Option<PathBuf>,
    shards: Option<usize>,
    stop_s: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct SubmitForm {
    outstanding: Option<usize>,
    republish_after_s: Option<u64>,
    audit: Option<f64>,
}

/// Proof to the broker that this host may be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// A file with a JWT and the seed of its key, as `nsc` writes it.
    File(PathBuf),
    /// A file with the seed of an NKey.
    Nkey(PathBuf),
    /// None: only to a broker on this host.
    Nothing,
}

/// The broker, and how to get in.
#[derive(Clone, Debug)]
pub struct BrokerSettings {
    /// Its servers, as URLs.
    pub servers: Vec<String>,
    /// Certificates that servers must have been signed by; those of the system if none.
    pub ca: Option<PathBuf>,
    /// Proof of identity, read at each connection.
    pub credentials: Credentials,
    /// Copies of each stream that are made when it does not exist yet.
    pub replicas: usize,
    /// Prefix of everything on the broker, so that several clusters share it.
    pub deployment: String,
    /// This host's name.
    pub host: String,
}

/// A configuration, checked.
#[derive(Clone, Debug)]
pub struct BridgeConfig {
    /// The broker.
    pub broker: BrokerSettings,
    /// Where the local controller is; the usual places if `None`.
    pub runtime_dir: Option<PathBuf>,
    /// Shards that are served at a time.
    pub shards: usize,
    /// Time to finish what is held when a signal asks for the end.
    pub stop: Duration,
    /// Shards of a job that are with the broker at a time.
    pub outstanding: Option<usize>,
    /// Time after which a shard without a result is published again, in seconds.
    pub republish_after_s: Option<u64>,
    /// Share of the results that the submitting host compares with those of its own controller.
    pub audit: f64,
    /// Directories, by name.
    pub datasets: BTreeMap<String, PathBuf>,
}

impl BridgeConfig {
    /// Reads the file at `path`, which others may not write to.
    ///
    /// # Errors
    /// See [`BridgeConfigError`].
    pub fn read(path: &Path) -> Result<Self, BridgeConfigError> {
        let io = |error| BridgeConfigError::Io(path.to_owned(), error);
        let mut text = String::new();
        let file = Trust::Unwritten.open(path).map_err(io)?;
        file.take(CONFIG_LEN_MAX).read_to_string(&mut text).map_err(io)?;
        let form =
            toml::from_str(&text).map_err(|e| BridgeConfigError::Form(path.to_owned(), e))?;
        let named = std::env::var("HASHCLUSTER_BRIDGE_HOST").ok().filter(|name| !name.is_empty());
        let hostname = || std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self::check(form, named.unwrap_or_else(hostname).trim())
    }

    fn check(form: ConfigForm, hostname: &str) -> Result<Self, BridgeConfigError> {
        let host = form.host.as_deref().unwrap_or(hostname).to_owned();
        if !is_host_name(&host) {
            let text = format!(
                "{host:?}: 1 to {NAME_LEN_MAX} letters, digits, _ and -, dots between them"
            );
            return Err(wrong("host", text));
        }
        let deployment = word("deployment", form.deployment.as_deref().unwrap_or("main"))?;
        let range = |key: &str, value: Option<usize>, max: usize| match value {
            Some(value) if value == 0 || value > max => Err(wrong(key, format!("1 to {max}"))),
            Some(_) | None => Ok(value),
        };
        for name in form.datasets.keys() {
            DatasetKey::new(name, "x").map_err(|_| {
                wrong(&format!("datasets.{name}"), "a name has 1 to 32 of a-z, 0-9, _ and -")
            })?;
        }
        let republish_after_s = form.submit.republish_after_s;
        if republish_after_s == Some(0) {
            return Err(wrong("submit.republish_after_s", "at least 1"));
        }
        let audit = form.submit.audit.unwrap_or(0.0);
        if !(0.0..=1.0).contains(&audit) {
            return Err(wrong("submit.audit", "0 to 1"));
        }
        let stop_s = form.serve.stop_s.unwrap_or(STOP_S);
        if stop_s > STOP_S_MAX {
            return Err(wrong("serve.stop_s", format!("0 to {STOP_S_MAX}")));
        }
        Ok(Self {
            runtime_dir: form.serve.runtime_dir,
            shards: range("serve.shards", form.serve.shards, SHARDS_MAX)?.unwrap_or(SHARDS),
            stop: Duration::from_secs(stop_s),
            outstanding: range("submit.outstanding", form.submit.outstanding, OUTSTANDING_MAX)?,
            republish_after_s,
            audit,
            datasets: form.datasets,
            broker: form.broker.check(host, deployment)?,
        })
    }

    /// The directory of a dataset, and its key by its marker file.
    ///
    /// # Errors
    /// See [`BridgeConfigError`].
    pub fn dataset(&self, name: &str) -> Result<(PathBuf, DatasetKey), BridgeConfigError> {
        let Some(dir) = self.datasets.get(name) else {
            return Err(wrong(&format!("datasets.{name}"), "not in the configuration"));
        };
        Ok((dir.clone(), identify(name, dir)?))
    }
}

impl BrokerForm {
    fn check(self, host: String, deployment: String) -> Result<BrokerSettings, BridgeConfigError> {
        if self.servers.is_empty() {
            return Err(wrong("broker.servers", "at least one URL, such as tls://nats1:4222"));
        }
        let mut all_local = true;
        for server in &self.servers {
            let is_tls = server.starts_with("tls://");
            let is_local = server.strip_prefix("nats://").is_some_and(is_loopback);
            if !is_tls && !is_local {
                let text = format!("{server}: tls://HOST:PORT, or nats:// with a loopback address");
                return Err(wrong("broker.servers", text));
            }
            all_local &= is_local;
        }
        let credentials = match (self.credentials, self.nkey) {
            (Some(file), None) => Credentials::File(file),
            (None, Some(seed)) => Credentials::Nkey(seed),
            (None, None) if all_local => Credentials::Nothing,
            (None, None) => {
                let text = "wanted, or broker.nkey: only a broker on this host is used without";
                return Err(wrong("broker.credentials", text));
            }
            (Some(_), Some(_)) => {
                return Err(wrong("broker.nkey", "not together with broker.credentials"));
            }
        };
        let replicas = self.replicas.unwrap_or(1);
        if !matches!(replicas, 1 | 3 | 5) {
            return Err(wrong("broker.replicas", "1, 3 or 5"));
        }
        Ok(BrokerSettings {
            servers: self.servers,
            ca: self.ca,
            credentials,
            replicas,
            deployment,
            host,
        })
    }
}

/// True for `HOST:PORT` of this host.
fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let ip: Option<std::net::IpAddr> = host.parse().ok();
    host == "localhost" || ip.is_some_and(|ip| ip.is_loopback())
}

fn wrong(key: &str, text: impl Into<String>) -> BridgeConfigError {
    BridgeConfigError::Value { key: key.to_owned(), text: text.into() }
}

/// True for the name of a host: labels of letters, digits, `_` and `-` with dots between them.
pub(crate) fn is_host_name(text: &str) -> bool {
    text.len() <= NAME_LEN_MAX && text.split('.').all(is_word)
}

/// True for a value that may become part of names on the broker.
fn is_word(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    !text.is_empty() && text.len() <= NAME_LEN_MAX && text.bytes().all(is_plain)
}

fn word(key: &str, text: &str) -> Result<String, BridgeConfigError> {
    if !is_word(text) {
        let text = format!("{text:?}: 1 to {NAME_LEN_MAX} letters, digits, _ and -");
        return Err(wrong(key, text));
    }
    Ok(text.to_owned())
}

/// The dataset `name` whose root is `dir`, by the marker file there.
///
/// # Errors
/// [`BridgeConfigError::Marker`] and [`BridgeConfigError::Identity`].
pub fn identify(name: &str, dir: &Path) -> Result<DatasetKey, BridgeConfigError> {
    let path = dir.join(MARKER);
    let mut text = String::new();
    let read = File::open(&path)
        .and_then(|file| file.take(IDENTITY_LEN_MAX as u64 + 2).read_to_string(&mut text));
    read.map_err(|error| BridgeConfigError::Marker(name.to_owned(), error, path.clone()))?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    DatasetKey::new(name, line).map_err(|e| BridgeConfigError::Identity(name.to_owned(), path, e))
}

#[cfg(test)]
mod tests;
