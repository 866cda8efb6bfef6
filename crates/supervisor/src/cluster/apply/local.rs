//! Changes of a cluster without VMs while it runs. What its processes were started with is compared with what
//! they would be started with now: flags, and the programs themselves, which a build may have replaced.

use super::Step;
use crate::args::LocalOptions;
use crate::cluster::context::Context;
use crate::cluster::control::Request;
use crate::cluster::description::Declared;
use crate::cluster::error::Error;
use crate::cluster::fleet::Fleet;
use crate::cluster::machine::Machine;
use crate::cluster::pages;
use crate::deployment::{Member, Role};
use crate::local::LocalContext;
use crate::supervise::Program;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

/// Changes that lead from the cluster that runs to the one that is wanted.
#[derive(Debug, Default)]
pub(super) struct LocalChanges {
    added: Vec<Member>,
    /// Names of members that have to restart, the controller last.
    changed: Vec<String>,
    /// Names of workers that are to go.
    removed: Vec<String>,
    /// All of it for a person, one line each.
    pub(super) lines: Vec<String>,
}

/// Tells the difference to what is asked for, and gives the steps to it.
pub(super) fn plan(
    request: &mut Request,
    fleet: &mut Fleet,
    before: &LocalOptions,
    args: &str,
) -> Result<Option<Vec<Step>>, Error> {
    let asked = LocalOptions::from_line(args).map_err(Error::Refused)?;
    check_fixed(fleet, &asked)?;
    let (is_dry, options) = (asked.dry_run, asked.after(before));
    let wanted = wanted(&options)?;
    wanted.check_datasets(fleet.context.layout())?;
    wanted.notices().for_each(|notice| request.tell(&notice));
    let changes = compare(fleet, &wanted);
    changes.lines.iter().for_each(|line| request.tell(line));
    if is_dry {
        return Ok(None);
    }
    if changes.lines.is_empty() {
        request.tell("nothing to change");
    }
    Ok(Some(steps(changes, wanted, options)))
}

/// The cluster that `options` describe now.
pub(in crate::cluster) fn wanted(options: &LocalOptions) -> Result<LocalContext, Error> {
    LocalContext::new(&options.start)
}

fn check_fixed(fleet: &Fleet, asked: &LocalOptions) -> Result<(), Error> {
    let own = &fleet.http;
    match asked.start.metrics_port {
        Some(port) if own.to_string() != pages::local(port).to_string() => {
            Err(Error::Refused(format!(
                "--metrics-port {port}: the supervisor serves its metrics at {own}; scripts/stop.sh stops the \
                 cluster, the next start takes the option"
            )))
        }
        _ => Ok(()),
    }
}

/// Compares what runs with what is wanted.
pub(super) fn compare(fleet: &Fleet, wanted: &LocalContext) -> LocalChanges {
    let mut changes = LocalChanges::default();
    let Context::Local(context, layout) = &fleet.context else { return changes };
    // Where they keep state and serve pages stays as it is.
    let wanted = wanted.in_place_of(context);
    changes.lines.extend(fleet.logs.difference(&wanted.syslog()));
    if fleet.limits.stop_limit != wanted.stop_limit {
        let [before, now] =
            [fleet.limits.stop_limit, wanted.stop_limit].map(|limit| limit.as_millis());
        changes.lines.push(format!("~ stop limit: {before} ms -> {now} ms; without a restart"));
    }
    // In the order in which they change: the controller last.
    let mut members = wanted.members();
    members.rotate_left(1);
    for machine in &fleet.machines {
        let name = &machine.member.name;
        if !members.iter().any(|member| member.name == *name) {
            changes.lines.push(format!("- {name}"));
            changes.removed.push(name.clone());
        }
    }
    for member in members {
        let machine = fleet.machines.iter().find(|machine| machine.member.name == member.name);
        let Some(machine) = machine else {
            changes.lines.push(format!("+ {}", member.name));
            changes.added.push(member);
            continue;
        };
        let fresh = wanted.unit(&member, layout).main;
        let Some(why) = difference(fleet, machine, &fresh) else { continue };
        let end = match member.role {
            Role::Controller => "restarts last, clients lose their connections",
            Role::Worker => "restarts",
        };
        changes.lines.push(format!("~ {}: {why}; {end}", member.name));
        changes.changed.push(member.name);
    }
    changes
}

/// Why the process of a member is not what it would be if it started now; one that is stopped will be.
fn difference(fleet: &Fleet, machine: &Machine, fresh: &Program) -> Option<String> {
    let id = machine.main_id()?;
    let pid = fleet.supervisor.pid(id)?;
    let before = fleet.supervisor.program(id);
    let mut why = Vec::new();
    if before.path != fresh.path {
        why.push(format!("program {} -> {}", before.path.display(), fresh.path.display()));
    } else if was_replaced(pid, fresh) {
        why.push("its program was replaced".to_owned());
    }
    why.extend(flags(&before.args, &fresh.args));
    (!why.is_empty()).then(|| why.join(", "))
}

/// True if the file of a program is another one than its process runs.
fn was_replaced(pid: u32, program: &Program) -> bool {
    let file =
        |path: &std::path::Path| fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
    let runs = file(format!("/proc/{pid}/exe").as_ref());
    matches!((runs, file(&program.path)), (Some(runs), Some(now)) if runs != now)
}

/// Flags that come, and those that go, for a person.
fn flags(before: &[OsString], now: &[OsString]) -> Vec<String> {
    let [before, now] = [before, now].map(grouped);
    let mut lines: Vec<String> =
        now.iter().filter(|flag| !before.contains(flag)).map(|flag| flag.join(" ")).collect();
    // What has another value now is named with that.
    let stays = |flag: &&Vec<String>| {
        now.contains(flag) || now.iter().any(|other| other[0] == flag[0] && !before.contains(other))
    };
    // One of several of its name is named with its value.
    let gone = |flag: &Vec<String>| {
        let is_alone = before.iter().filter(|other| other[0] == flag[0]).count() == 1;
        if is_alone { format!("no {}", flag[0]) } else { format!("no {}", flag.join(" ")) }
    };
    lines.extend(before.iter().filter(|flag| !stays(flag)).map(gone));
    lines
}

/// Each flag with its values.
fn grouped(args: &[OsString]) -> Vec<Vec<String>> {
    let mut flags: Vec<Vec<String>> = Vec::new();
    for word in args {
        let shown = crate::quote::shell(word);
        match flags.last_mut() {
            Some(flag) if !is_flag(word) => flag.push(shown),
            _ => flags.push(vec![shown]),
        }
    }
    flags
}

fn is_flag(word: &OsStr) -> bool {
    word.as_bytes().starts_with(b"--")
}

/// All that leads to what is wanted, in its order: who comes, who changes, who goes, and the controller last.
fn steps(changes: LocalChanges, wanted: LocalContext, options: LocalOptions) -> Vec<Step> {
    let mut steps: Vec<Step> = vec![Step::Change(Box::new(move |fleet| {
        let Context::Local(context, layout) = &mut fleet.context else { return Ok(()) };
        fleet.logs.turn_to(layout, &wanted.syslog())?;
        fleet.limits.stop_limit = wanted.stop_limit;
        *context = wanted.in_place_of(context);
        context.tell_datasets(layout)
    }))];
    let names: Vec<String> = changes.added.iter().map(|member| member.name.clone()).collect();
    if !names.is_empty() {
        let added = changes.added;
        steps.push(Step::Change(Box::new(move |fleet| {
            fleet.machines.extend(added.into_iter().map(|member| Machine::new(member, None)));
            fleet.members_changed();
            fleet.publish(&[])
        })));
        steps.push(Step::Start(names.clone()));
        steps.extend(names.into_iter().map(Step::Tell));
    }
    let (controller, workers): (Vec<_>, Vec<_>) =
        changes.changed.into_iter().partition(|name| name == "controller");
    let restart = |name: &String| {
        let steps = Step::renew(name, Box::new(|_| Ok(())));
        steps.into_iter().chain([Step::Tell(name.clone())]).collect::<Vec<_>>()
    };
    steps.extend(workers.iter().flat_map(restart));
    for name in changes.removed {
        steps.extend(super::stop(vec![name.clone()]));
        steps.push(Step::Change(Box::new(move |fleet| {
            let i = fleet.find(&name)?;
            fleet.machines.remove(i);
            fleet.members_changed();
            fleet.publish(&[])
        })));
    }
    steps.extend(controller.iter().flat_map(restart));
    steps.push(Step::Change(Box::new(|fleet| {
        fleet.declare(Declared::Local(options));
        Ok(())
    })));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_that_come_change_and_go_are_named() {
        let args = |line: &str| line.split_whitespace().map(OsString::from).collect::<Vec<_>>();
        for (before, now, want) in [
            ("--name w1 --reading auto", "--name w1 --reading plain", "--reading plain"),
            ("--name w1 --drop-behind", "--name w1", "no --drop-behind"),
            ("--name w1", "--name w1 --syslog off", "--syslog off"),
            ("--name w1", "--name w1", ""),
            ("--dataset a=/a --dataset b=/b", "--dataset b=/b", "no --dataset a=/a"),
            ("--dataset b=/b", "--dataset a=/a --dataset b=/b", "--dataset a=/a"),
        ] {
            assert_eq!(flags(&args(before), &args(now)).join(", "), want, "{before} | {now}");
        }
    }
}
