//! Changes of a cluster while it runs (of one without VMs: [`local`]), from what its files and the command line say now: first what
//! comes, then what changes, one worker at a time, then what goes, and the controller last.

mod local;

use super::context::Context;
use super::control::Request;
use super::description::{Declared, Described};
use super::error::Error;
use super::fleet::Fleet;
use super::machine::{Machine, Phase};
use super::operation::{Operation, OperationStep};
use super::pages;
use crate::args::{AccelChoice, VmOptions};
use crate::deployment::{Role, check_ports_free};
use crate::vm::{self, Accel, DescribedCluster, Guest, Image, RunningVms, VmChanges, WantedVms};
use std::path::Path;

pub(super) use local::wanted as wanted_local;

/// A member that clients have to do without while it restarts, and its fresh image.
type Step = OperationStep;

/// Serves the command `apply`: compares, tells the difference, and begins to change what differs.
pub(super) fn serve(mut request: Request, fleet: &mut Fleet, args: &str) {
    match plan(&mut request, fleet, args) {
        Ok(None) => request.finish(Ok(())),
        Ok(Some(steps)) => fleet.operate(Operation::exclusive(request, steps)),
        Err(error) => request.finish(Err(error)),
    }
}

/// Changes that the files ask for now, for a person; what is wrong with them is a line as well.
pub(super) fn drift(fleet: &Fleet) -> Vec<String> {
    let found = fleet.description.look(|found| match found {
        Ok(Described::Vms(wanted)) => {
            compare(fleet, wanted).map(|changes| changes.lines).map_err(|error| error.to_string())
        }
        Ok(Described::Local(wanted)) => Ok(local::compare(fleet, wanted).lines),
        Err(error) => Err(error.clone()),
    });
    match found {
        None => Vec::new(),
        Some(Ok(lines)) => lines,
        Some(Err(error)) => error.lines().map(str::to_owned).collect(),
    }
}

fn plan(request: &mut Request, fleet: &mut Fleet, args: &str) -> Result<Option<Vec<Step>>, Error> {
    match fleet.declared.clone() {
        Some(Declared::Vms(before)) => plan_vms(request, fleet, &before, args),
        Some(Declared::Local(before)) => local::plan(request, fleet, &before, args),
        None => {
            let text = "only a cluster that ./run.sh started without a command can be changed; this one lives \
                        as long as its command";
            Err(Error::Refused(text.to_owned()))
        }
    }
}

fn plan_vms(
    request: &mut Request,
    fleet: &mut Fleet,
    before: &VmOptions,
    args: &str,
) -> Result<Option<Vec<Step>>, Error> {
    let asked = VmOptions::from_line(args).map_err(Error::Refused)?;
    check_fixed(fleet, &asked)?;
    let (is_dry, options) = (asked.dry_run, asked.after(before));
    let wanted = vm::wanted(&options)?;
    let changes = compare(fleet, &wanted)?;
    changes.lines.iter().for_each(|line| request.tell(line));
    if is_dry {
        return Ok(None);
    }
    if changes.is_empty() {
        request.tell("nothing to change");
        settle(fleet, &wanted, options);
        return Ok(None);
    }
    check_room(fleet, &changes, options.deployment.ports())?;
    steps(fleet, changes, wanted, options).map(Some)
}

/// Refuses what a cluster that runs cannot become.
fn check_fixed(fleet: &Fleet, asked: &VmOptions) -> Result<(), Error> {
    let Context::Vms(context, _) = &fleet.context else { return Ok(()) };
    let stop = "; scripts/stop.sh stops it, the next start takes the option";
    if let Some(state) = &asked.state
        && std::path::absolute(state).ok().as_deref() != Some(context.layout.state())
    {
        let (asked, own) = (state.display(), context.layout.state().display());
        let text =
            format!("--state-dir {asked}: the running cluster keeps its state in {own}{stop}");
        return Err(Error::Refused(text));
    }
    if let Some(port) = asked.metrics_port
        && fleet.http.to_string() != pages::local(port).to_string()
    {
        let own = &fleet.http;
        let text =
            format!("--metrics-port {port}: the supervisor serves its metrics at {own}{stop}");
        return Err(Error::Refused(text));
    }
    let accel = match asked.accel {
        None | Some(AccelChoice::Auto) => context.accel,
        Some(AccelChoice::Kvm) => Accel::Kvm,
        Some(AccelChoice::Tcg) => Accel::Tcg,
    };
    if accel != context.accel {
        let (asked, own) = (accel.name(), context.accel.name());
        let text = format!("--accel {asked}: the running cluster uses {own}{stop}");
        return Err(Error::Refused(text));
    }
    Ok(())
}

fn compare(fleet: &Fleet, wanted: &DescribedCluster) -> Result<VmChanges, Error> {
    let Context::Vms(context, guests) = &fleet.context else {
        return Err(Error::Refused("a cluster without VMs has no such description".to_owned()));
    };
    vm::check_shares(&wanted.shares, &context.layout)?;
    wanted.image.as_ref().map_or(Ok(()), |image| context.check_arch(image))?;
    let images: Vec<String> = fleet
        .machines
        .iter()
        .map(|machine| machine.image.as_ref().map(|image| image.digest.clone()).unwrap_or_default())
        .collect();
    let stale: Vec<Vec<String>> = (0..guests.len())
        .map(|i| fleet.stale(i).into_iter().map(|stale| stale.why).collect())
        .collect();
    let shares = &context.shares;
    let syslog = wanted.deployment.syslog.clone();
    let running = RunningVms { guests, shares, images: &images, stale: &stale };
    let wanted = WantedVms {
        vms: &wanted.deployment.vms,
        shares: &wanted.shares,
        image: wanted.image.as_ref().map(|image| &*image.digest),
    };
    let mut changes = VmChanges::between(running, wanted).map_err(Error::Refused)?;
    changes.lines.extend(fleet.logs.difference(&syslog));
    Ok(changes)
}

/// Checks that the host has the memory and the ports that are wanted besides those in use.
fn check_room(fleet: &Fleet, changes: &VmChanges, ports_file: &Path) -> Result<(), Error> {
    let Context::Vms(context, guests) = &fleet.context else { return Ok(()) };
    let running = |name: &str| guests.iter().find(|guest| guest.vm.name == name);
    let grown = |guest: &Guest| {
        let before = running(&guest.vm.name).map_or(0, |before| before.vm.memory_mib);
        u64::from(guest.vm.memory_mib.saturating_sub(before))
    };
    vm::check_memory(changes.added.iter().chain(&changes.changed).map(grown).sum())?;
    for guest in &changes.added {
        vm::check_sockets(&context.layout, &guest.vm.name)?;
    }
    let used: Vec<u16> = guests
        .iter()
        .zip(&fleet.machines)
        .filter(|(_, machine)| machine.phase != Phase::Down)
        .flat_map(|(guest, _)| [guest.vm.ssh_port, guest.vm.metrics_port])
        .collect();
    let vms: Vec<_> =
        changes.added.iter().chain(&changes.changed).map(|guest| guest.vm.clone()).collect();
    Ok(check_ports_free(ports_file, &vms, &used)?)
}

/// All that leads to what is wanted, in its order.
fn steps(
    fleet: &Fleet,
    changes: VmChanges,
    wanted: DescribedCluster,
    options: VmOptions,
) -> Result<Vec<Step>, Error> {
    let layout = fleet.context.layout().clone();
    let image = match &wanted.image {
        Some(image) => Some(image.copy_to(&layout.image(&image.digest))?),
        None => None,
    };
    let syslog = wanted.deployment.syslog.clone();
    let mut steps: Vec<Step> = vec![Step::Change(Box::new(move |fleet| {
        fleet.logs.turn_to(fleet.context.layout(), &syslog)
    }))];
    for share in changes.shares_added.iter().cloned() {
        let (layout, what) =
            (layout.clone(), format!("take a snapshot for dataset {}", share.name));
        steps.push(Step::Run(what, Box::new(move |_| vm::snapshot(&layout, &share))));
    }
    steps.extend(stop(changes.first_down));
    // Who is to come is known before it comes, and what is to go is named no more before it goes.
    let (added, gone) = (changes.shares_added, changes.shares_removed.clone());
    let names: Vec<String> = changes.added.iter().map(|guest| guest.vm.name.clone()).collect();
    let known = names.clone();
    steps.push(Step::Change(Box::new(move |fleet| {
        let Context::Vms(context, _) = &mut fleet.context else { return Ok(()) };
        context.shares.extend(added);
        context.leaving.extend(gone);
        fleet.publish(&known)
    })));
    steps.extend(tell_controller(fleet));
    for guest in changes.added {
        let image = image.clone();
        steps.push(Step::Change(Box::new(move |fleet| add(fleet, guest, image))));
    }
    if !names.is_empty() {
        steps.push(Step::Start(names.clone()));
        steps.extend(names.into_iter().map(Step::Tell));
    }
    for guest in changes.changed.iter().filter(|guest| guest.vm.role == Role::Worker) {
        steps.extend(replace(guest, image.as_ref()));
    }
    for guest in changes.retuned {
        steps.push(Step::Change(Box::new(move |fleet| fleet.put(guest, None))));
    }
    for name in changes.removed {
        steps.extend(stop(vec![name.clone()]));
        steps.push(Step::Change(Box::new(move |fleet| remove(fleet, &name))));
    }
    let gone = changes.shares_removed;
    steps.push(Step::Change(Box::new(move |fleet| {
        let Context::Vms(context, _) = &mut fleet.context else { return Ok(()) };
        context.shares.retain(|share| !gone.contains(&share.number));
        context.leaving.retain(|number| !gone.contains(number));
        fleet.publish(&[])
    })));
    steps.extend(tell_controller(fleet));
    for guest in changes.changed.iter().filter(|guest| guest.vm.role == Role::Controller) {
        steps.extend(replace(guest, image.as_ref()));
    }
    steps.push(Step::Change(Box::new(move |fleet| {
        settle(fleet, &wanted, options);
        let used: Vec<&Image> = fleet.machines.iter().filter_map(|m| m.image.as_ref()).collect();
        vm::drop_images(fleet.context.layout(), &used);
        Ok(())
    })));
    Ok(steps)
}

/// A drained restart of one VM, which then is what `guest` says.
fn replace(guest: &Guest, image: Option<&Image>) -> impl Iterator<Item = Step> {
    let (name, guest, image) = (guest.vm.name.clone(), guest.clone(), image.cloned());
    let steps = Step::renew(&name, Box::new(move |fleet| fleet.put(guest, image)));
    steps.into_iter().chain([Step::Tell(name)])
}

/// The end of workers that hold no leases by then.
fn stop(names: Vec<String>) -> impl Iterator<Item = Step> {
    let drains: Vec<Step> = names.iter().cloned().map(Step::Drain).collect();
    let undrains: Vec<Step> = names.iter().cloned().map(Step::Undrain).collect();
    drains.into_iter().chain([Step::Stop(names)]).chain(undrains)
}

fn add(fleet: &mut Fleet, guest: Guest, image: Option<Image>) -> Result<(), Error> {
    let image = image.or_else(|| fleet.machines[0].image.clone());
    let member = guest.vm.member();
    let Context::Vms(_, guests) = &mut fleet.context else { return Ok(()) };
    guests.push(guest);
    fleet.machines.push(Machine::new(member, image));
    fleet.members_changed();
    fleet.publish(&[])
}

fn remove(fleet: &mut Fleet, name: &str) -> Result<(), Error> {
    let i = fleet.find(name)?;
    let Context::Vms(_, guests) = &mut fleet.context else { return Ok(()) };
    guests.remove(i);
    fleet.machines.remove(i);
    vm::forget(fleet.context.layout(), name).map_err(Error::step(format!("remove {name}")))?;
    fleet.members_changed();
    fleet.publish(&[])
}

/// Hands tokens and names of datasets to a controller that runs; one that boots later reads them then.
fn tell_controller(fleet: &Fleet) -> Vec<Step> {
    let name = fleet.machines[0].member.name.clone();
    let step = |send: fn(&vm::Layout, &str) -> crate::supervise::Program| {
        let (what, name) = (format!("tell {name} of workers and datasets"), name.clone());
        Step::Run(
            what,
            Box::new(move |fleet| {
                let is_up = fleet.machines[0].phase == Phase::Healthy;
                is_up.then(|| send(fleet.context.layout(), &name))
            }),
        )
    };
    vec![step(vm::send_tokens), step(vm::send_names)]
}

/// Makes `options` those that count from now on.
fn settle(fleet: &mut Fleet, wanted: &DescribedCluster, options: VmOptions) {
    fleet.limits.strategy = wanted.deployment.strategy;
    fleet.limits.startup_timeout = wanted.deployment.startup_timeout;
    if let Context::Vms(context, _) = &mut fleet.context {
        context.tools = wanted.tools.clone();
    }
    fleet.declare(Declared::Vms(options));
}
