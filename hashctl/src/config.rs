//! Meaning of the arguments and the environment: which controller, and what is open.

use crate::args::Global;
use crate::exit::Exit;
use crate::input::plane::Choice;
use crate::isolation::{Isolation, SettingsError};
use crate::lists::quote::quote;
use crate::progress::ProgressMode;
use crate::say::io_text;
use client::{Address, AddressError, JobOptions, client_runtime_dir, read_token};
use ipc_proto::endpoint::Endpoint;
use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

/// Names the runtime directory when no argument does.
const RUNTIME_DIR_VARIABLE: &str = "HASHCLUSTER_RUNTIME_DIR";

/// Links to the datasets, in the runtime directory.
const DATASETS_DIR: &str = "datasets";

/// State of the standard descriptors when the program started: which were open.
#[derive(Clone, Copy, Debug)]
pub struct Stdio {
    /// Standard input.
    pub has_stdin: bool,
    /// Standard output.
    pub has_stdout: bool,
    /// Standard error.
    pub has_stderr: bool,
    /// SIGPIPE was ignored, before the standard library ignored it.
    pub ignores_sigpipe: bool,
}

/// Settings that every command needs.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) address: Address,
    /// Directory of links to this controller's datasets, if it is known.
    pub(crate) datasets: Option<PathBuf>,
    /// Runtime directory that leads to the controller again after it was lost, if nothing else was named.
    pub(crate) rediscovered_in: Option<PathBuf>,
    pub(crate) plane: Choice,
    pub(crate) engine: EngineChoice,
    /// Hashing threads of this process.
    pub(crate) threads: Option<u16>,
    pub(crate) progress: ProgressMode,
    pub(crate) verbose: bool,
    pub(crate) job: JobOptions,
    /// Longest time without a result.
    pub(crate) timeout: Option<Duration>,
    pub(crate) stdio: Stdio,
    /// Name of standard output in messages.
    pub(crate) output: String,
    /// Results are printed as they come, not in input order.
    pub(crate) is_unordered: bool,
}

/// Where files are hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EngineChoice {
    /// By a cluster.
    Cluster,
    /// In this process.
    Embedded,
    /// By a cluster if one runs where one is looked for, else in this process.
    Found,
}

/// Why it is unknown which controller is meant.
#[derive(Debug)]
pub(crate) enum ConfigError {
    /// An argument is invalid.
    Argument(AddressError),
    /// The runtime directory leads to no controller.
    Directory(AddressError),
    /// Hashing in this process is asked for and forbidden.
    Isolated(Isolation),
    /// A file of settings is invalid.
    Settings(SettingsError),
}

impl ConfigError {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Argument(_)
            | Self::Directory(AddressError::Socket(_))
            | Self::Isolated(_)
            | Self::Settings(_) => Exit::Usage,
            Self::Directory(_) => Exit::Unreachable,
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Argument(AddressError::Io(path, error))
            | Self::Directory(AddressError::Io(path, error)) => {
                write!(f, "{}: {}", path.display(), io_text(error))
            }
            Self::Argument(error) | Self::Directory(error) => error.fmt(f),
            Self::Isolated(isolation) => write!(f, "--embedded: forbidden by {isolation}"),
            Self::Settings(error) => error.fmt(f),
        }
    }
}

impl Error for ConfigError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Argument(error) | Self::Directory(error) => Some(error),
            Self::Settings(error) => Some(error),
            Self::Isolated(_) => None,
        }
    }
}

impl Config {
    pub(crate) fn new(global: Global, stdio: Stdio) -> Result<Self, ConfigError> {
        let variable = |name| env::var_os(name).filter(|value: &OsString| !value.is_empty());
        let (mut datasets, mut rediscovered_in) = (None, None);
        let asked_dir = global.connection.runtime_dir;
        let asked_dir = asked_dir.or_else(|| variable(RUNTIME_DIR_VARIABLE).map(Into::into));
        let is_named = global.connection.connect.is_some() || asked_dir.is_some();
        let isolation = Isolation::find().map_err(ConfigError::Settings)?;
        let engine = match isolation {
            Some(isolation) if global.embedded => return Err(ConfigError::Isolated(isolation)),
            Some(_) => EngineChoice::Cluster,
            None if global.embedded => EngineChoice::Embedded,
            None if global.cluster || is_named || global.isolated => EngineChoice::Cluster,
            None if global.connection.plane != Choice::Auto => EngineChoice::Cluster,
            None => EngineChoice::Found,
        };
        let mut address = match global.connection.connect {
            // Links in a directory of ours may lead elsewhere than another controller's.
            Some(text) => Endpoint::to_dial(&text)
                .map(Address::new)
                .map_err(|error| ConfigError::Argument(AddressError::Socket(error)))?,
            None => {
                let xdg = variable("XDG_RUNTIME_DIR").map(PathBuf::from);
                let dir = client_runtime_dir(asked_dir, xdg);
                datasets = Some(dir.join(DATASETS_DIR));
                let address = Address::in_dir(&dir).map_err(ConfigError::Directory)?;
                rediscovered_in = Some(dir);
                address
            }
        };
        if let Some(path) = global.connection.token_file {
            rediscovered_in = None;
            address.token = read_token(&path).map_err(ConfigError::Argument)?;
        }
        let (plane, verbose) = (global.connection.plane, global.connection.verbose);
        let (job, timeout) = (JobOptions::default(), None);
        let output = "standard output".to_owned();
        let (threads, progress) = (global.threads, global.progress);
        Ok(Self {
            address,
            datasets,
            rediscovered_in,
            plane,
            engine,
            threads,
            progress,
            verbose,
            job,
            timeout,
            stdio,
            output,
            is_unordered: false,
        })
    }

    /// Where the controller is, as it appears in a message.
    pub(crate) fn endpoint_text(&self) -> String {
        match &self.address.endpoint {
            Endpoint::Unix(path) => quote(path.as_os_str().as_bytes()),
            Endpoint::VsockUnix { path, port } => {
                format!("vsock-unix:{}:{port}", quote(path.as_os_str().as_bytes()))
            }
            endpoint @ Endpoint::Vsock { .. } => endpoint.to_string(),
        }
    }
}
