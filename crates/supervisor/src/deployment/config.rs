//! `config`: a deployment is read, checked and shown; nothing starts.

use super::{Deployment, LoadErrors, LoadOptions, check_ports_free};
use crate::args::ConfigOptions;
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

/// Exit status where the description is refused: it is a usage error.
const REFUSED: u8 = 2;

/// Why nothing is shown.
#[derive(Debug)]
pub(crate) enum ConfigError {
    Refused(LoadErrors),
    Io { what: &'static str, error: io::Error },
}

impl ConfigError {
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Refused(_) => ExitCode::from(REFUSED),
            Self::Io { .. } => ExitCode::FAILURE,
        }
    }
}

impl From<LoadErrors> for ConfigError {
    fn from(errors: LoadErrors) -> Self {
        Self::Refused(errors)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(errors) => errors.fmt(f),
            Self::Io { what, error } => write!(f, "hashcluster-vm: {what}: {error}"),
        }
    }
}

/// Shows the deployment on stdout.
pub(crate) fn config(options: &ConfigOptions) -> Result<ExitCode, ConfigError> {
    let asked = &options.deployment;
    let load = LoadOptions::new(asked)
        .map_err(|error| ConfigError::Io { what: "read this host's CPUs", error })?;
    let deployment = Deployment::load(&load)?;
    if options.check_ports {
        check_ports_free(&asked.ports, &deployment.vms)?;
    }
    match io::stdout().lock().write_all(deployment.to_string().as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(ConfigError::Io { what: "write", error })
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}
