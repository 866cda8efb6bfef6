//! `config`: a deployment is read, checked and shown; nothing starts.

use super::{CpuSet, Deployment, check_ports_free};
use crate::args::ConfigOptions;
use crate::cluster::Error;
use std::io::{self, Write};
use std::process::ExitCode;

/// Shows the deployment on stdout.
///
/// # Errors
/// [`Error::Deployment`] if the description is refused, [`Error::Step`] for the host's part.
pub(crate) fn config(options: &ConfigOptions) -> Result<ExitCode, Error> {
    let asked = &options.deployment;
    let cpus = CpuSet::of_this_process().map_err(Error::step("read this host's CPUs"))?;
    let deployment = Deployment::load(asked, &cpus)?;
    if options.check_ports {
        check_ports_free(asked.ports(), &deployment.vms, &[])?;
    }
    match io::stdout().lock().write_all(deployment.to_string().as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::step("write to stdout")(error))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}
