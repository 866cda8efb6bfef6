//! What the arguments and the environment mean: which controller, and what is open.

use crate::args::Global;
use crate::discovery::{self, FileError, Place};
use crate::exit::Exit;
use crate::plane::Choice;
use crate::quote::quote;
use ipc_proto::Blob;
use ipc_proto::endpoint::{Endpoint, EndpointError};
use ipc_proto::sample::Sample;
use std::env;
use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Names the runtime directory when no argument does.
const RUNTIME_DIR_VARIABLE: &str = "HASHCLUSTER_RUNTIME_DIR";

/// Links to the datasets, in the runtime directory.
const DATASETS_DIR: &str = "datasets";

/// Which of the standard descriptors were open when the program started.
#[derive(Clone, Copy, Debug)]
pub struct Stdio {
    /// Standard input.
    pub has_stdin: bool,
    /// Standard output.
    pub has_stdout: bool,
}

/// What every command needs to know.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) endpoint: Endpoint,
    /// What lets us in; empty if nothing has to.
    pub(crate) token: Blob,
    /// Where links to the datasets of this controller are, if that is known.
    pub(crate) datasets: Option<PathBuf>,
    pub(crate) plane: Choice,
    pub(crate) verbose: bool,
    /// How many items are cross-checked, beside those that the controller checks anyway.
    pub(crate) sample: Option<Sample>,
    pub(crate) stdio: Stdio,
}

/// Why nobody knows which controller is meant.
#[derive(Debug)]
pub(crate) enum ConfigError {
    /// The argument, or the runtime directory, cannot lead to any.
    Endpoint(EndpointError),
    /// The file that an argument names is no token.
    Token(FileError),
    /// What stands in the runtime directory makes no sense.
    Discovery(FileError),
}

impl ConfigError {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Endpoint(_) | Self::Token(_) => Exit::Usage,
            Self::Discovery(_) => Exit::Unreachable,
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint(error) => write!(f, "the controller's socket: {error}"),
            Self::Token(error) | Self::Discovery(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    pub(crate) fn new(global: Global, stdio: Stdio) -> Result<Self, ConfigError> {
        let variable = |name| env::var_os(name).filter(|value: &OsString| !value.is_empty());
        let mut datasets = None;
        let mut place = match global.connect {
            // Links beside another controller may lead elsewhere.
            Some(text) => {
                let endpoint = Endpoint::to_dial(&text).map_err(ConfigError::Endpoint)?;
                Place { endpoint, token: Blob::default() }
            }
            None => {
                let asked =
                    global.runtime_dir.or_else(|| variable(RUNTIME_DIR_VARIABLE).map(Into::into));
                let xdg = variable("XDG_RUNTIME_DIR").map(PathBuf::from);
                let dir = ipc_socket::client_runtime_dir(asked, xdg);
                datasets = Some(dir.join(DATASETS_DIR));
                discovery::find(&dir)?
            }
        };
        if let Some(path) = global.token_file {
            place.token = discovery::read_token(&path).map_err(ConfigError::Token)?;
        }
        let Place { endpoint, token } = place;
        let (plane, verbose) = (global.plane, global.verbose);
        Ok(Self { endpoint, token, datasets, plane, verbose, sample: None, stdio })
    }

    /// Where the controller is, as it appears in a message.
    pub(crate) fn endpoint_text(&self) -> String {
        match &self.endpoint {
            Endpoint::Unix(path) => quote(path.as_os_str().as_bytes()),
            Endpoint::VsockUnix { path, port } => {
                format!("vsock-unix:{}:{port}", quote(path.as_os_str().as_bytes()))
            }
            endpoint @ Endpoint::Vsock { .. } => endpoint.to_string(),
        }
    }
}
