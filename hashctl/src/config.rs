//! What the arguments and the environment mean: which socket, and what is open.

use crate::args::Global;
use crate::plane::Choice;
use crate::quote::quote;
use ipc_proto::endpoint::{self, CLIENT_SOCKET, EndpointError, SYSTEM_RUNTIME_DIR};
use std::env;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

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
    pub(crate) socket: PathBuf,
    /// Where links to the datasets of this controller are, if that is known.
    pub(crate) datasets: Option<PathBuf>,
    pub(crate) plane: Choice,
    pub(crate) verbose: bool,
    pub(crate) stdio: Stdio,
}

impl Config {
    pub(crate) fn new(global: Global, stdio: Stdio) -> Result<Self, EndpointError> {
        let variable = |name| env::var_os(name).filter(|value: &OsString| !value.is_empty());
        let (socket, datasets) = match global.connect {
            // Links beside another controller may lead elsewhere.
            Some(text) => (endpoint::parse(&text)?, None),
            None => {
                let asked =
                    global.runtime_dir.or_else(|| variable(RUNTIME_DIR_VARIABLE).map(Into::into));
                let xdg = variable("XDG_RUNTIME_DIR").map(PathBuf::from);
                let exists = Path::new(SYSTEM_RUNTIME_DIR).is_dir();
                let dir = endpoint::runtime_dir(asked, exists, xdg);
                (dir.join(CLIENT_SOCKET), Some(dir.join(DATASETS_DIR)))
            }
        };
        endpoint::check(&socket)?;
        Ok(Self { socket, datasets, plane: global.plane, verbose: global.verbose, stdio })
    }

    /// The socket, as it appears in a message.
    pub(crate) fn socket_text(&self) -> String {
        quote(self.socket.as_os_str().as_bytes())
    }
}
