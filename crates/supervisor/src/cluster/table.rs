//! The table of a cluster for a person: one line per member.

use super::fleet::Fleet;
use super::machine::{Machine, Phase};
use crate::columns;
use std::fs;
use std::path::Path;

/// The table, with a line of headings.
pub(super) fn table(fleet: &Fleet) -> String {
    let mut rows = vec![
        ["NAME", "ROLE", "STATE", "UP", "MEMORY", "IMAGE", "METRICS", "SSH"].map(str::to_owned),
    ];
    for (i, machine) in fleet.machines.iter().enumerate() {
        let memory = resident_mib(fleet, i).map_or_else(|| "-".to_owned(), |mib| format!("{mib}M"));
        let image = machine.image.as_ref().map_or("-", |image| &image.digest);
        let [metrics, ssh] = fleet.context.addresses(i);
        rows.push([
            machine.member.name.clone(),
            machine.member.role.name().to_owned(),
            state(machine).to_owned(),
            match machine.phase == Phase::Down {
                true => "-".to_owned(),
                false => format!("{}s", machine.since.elapsed().as_secs()),
            },
            memory,
            image.chars().take(19).collect(),
            metrics,
            ssh,
        ]);
    }
    columns::aligned(&rows)
}

/// Resident memory of the member's main process, in MiB.
fn resident_mib(fleet: &Fleet, i: usize) -> Option<u64> {
    let pid = fleet.supervisor.pid(fleet.machines[i].main_id()?)?;
    let text = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib / 1024)
}

/// The phase of a member, in a word.
pub(super) fn state(machine: &Machine) -> &'static str {
    match machine.phase {
        Phase::Down => "stopped",
        Phase::Daemons { .. } | Phase::Booting => "booting",
        Phase::Healthy if machine.failures > 0 => "unhealthy",
        Phase::Healthy => "healthy",
        Phase::Ending { .. } => "stopping",
        Phase::Resting { .. } => "restarting",
    }
}
