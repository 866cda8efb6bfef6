//! Whether the ports of a deployment can be had, asked of the kernel before QEMU asks.

use super::Vm;
use super::fault::{Faults, LoadErrors, Reason};
use super::load;
use super::port_holder;
use super::ports_conf;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

/// Tries to listen at every port of `vms`, as QEMU will.
///
/// Somebody else may be faster afterwards: QEMU's own error is still to be expected.
///
/// # Errors
/// Each port that cannot be had, with its line in `ports_file` and, where the kernel tells it, the
/// process that has it.
pub(crate) fn check_ports_free(ports_file: &Path, vms: &[Vm]) -> Result<(), LoadErrors> {
    let mut faults = Faults::of_file(ports_file);
    let ports = vms.iter().flat_map(|vm| [vm.ssh_port, vm.metrics_port]);
    for (port, error) in ports.filter_map(|port| Some((port, bind(port).err()?))) {
        let reason = if error.kind() == io::ErrorKind::AddrInUse {
            Reason::PortInUse { port, holder: port_holder::find(port) }
        } else {
            Reason::NotBound { port, error }
        };
        faults.add(line_of(ports_file, port), reason);
    }
    LoadErrors::unless((), [faults])
}

/// The standard library sets `SO_REUSEADDR`: connections that have ended keep no port.
fn bind(port: u16) -> io::Result<()> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map(drop)
}

/// The line that gives `port`. A deployment does not know it, so the file is read again.
fn line_of(ports_file: &Path, port: u16) -> Option<usize> {
    let bytes = load::read(ports_file).ok()?;
    let lines = ports_conf::parse(&bytes, &mut Faults::of_file(ports_file));
    let found = lines.into_iter().find(|vm| [vm.ssh_port, vm.metrics_port].contains(&Some(port)));
    found.map(|vm| vm.line)
}
