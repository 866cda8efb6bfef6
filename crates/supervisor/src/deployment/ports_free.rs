//! Checks that the ports of a deployment are free before QEMU binds them.

use super::Vm;
use super::fault::{Faults, LoadErrors};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use telemetry::port_holder;

/// Tries to listen at every port of `vms`, as QEMU will, except those that are `ours` already.
///
/// Somebody else may be faster afterwards: QEMU's own error is still to be expected.
///
/// # Errors
/// Each port that cannot be had, with its VM's line in `ports_file` and, where the kernel tells it,
/// the process that has it.
pub(crate) fn check_ports_free(
    ports_file: &Path,
    vms: &[Vm],
    ours: &[u16],
) -> Result<(), LoadErrors> {
    let mut faults = Faults::of_file(ports_file);
    let ports = vms.iter().flat_map(|vm| [(vm, vm.ssh_port), (vm, vm.metrics_port)]);
    for (vm, port) in ports.filter(|(_, port)| !ours.contains(port)) {
        match bind(port) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                let text = match port_holder::find(port) {
                    Some(holder) => {
                        format!("port {port} is in use by {holder}; stop it, or use another port")
                    }
                    None => format!(
                        "port {port} is in use; `ss -ltnp sport = {port}` as root says by what"
                    ),
                };
                faults.at(vm.line, text);
            }
            Err(error) => faults.at(vm.line, format!("port {port} cannot be used: {error}")),
        }
    }
    LoadErrors::unless((), [faults])
}

/// The standard library sets `SO_REUSEADDR`: connections that have ended keep no port.
fn bind(port: u16) -> io::Result<()> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map(drop)
}
