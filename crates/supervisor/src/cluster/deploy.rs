//! A new image for the VMs that run, one after the other, the controller last. A worker is drained first, so
//! that nobody's work is lost. If one VM does not become healthy, all return to the image of before.

use super::context::Context;
use super::control::{self, Request};
use super::description::Declared;
use super::error::Error;
use super::fleet::Fleet;
use super::machine::Phase;
use super::operation::{Operation, OperationStep};
use crate::args::VmOptions;
use crate::vm::{self, Image};
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;

/// VMs that have the new image, with that of before.
type Done = Rc<RefCell<Vec<(String, Image)>>>;

/// Has an image put into the VMs.
pub(crate) fn deploy(asked: Option<&Path>, image: &Path) -> Result<ExitCode, Error> {
    let image = std::path::absolute(image).unwrap_or_else(|_| image.to_owned());
    match image.to_str().filter(|text| !text.contains('\n')) {
        Some(image) => control::command(asked, "deploy", &[image.to_owned()]),
        None => Err(Error::Refused(format!(
            "{} is no path for an image: it has to be one line of UTF-8",
            image.display()
        ))),
    }
}

/// Serves the command `deploy`: verifies the image in `dir`, and begins to put it into the VMs.
pub(super) fn serve(request: Request, fleet: &mut Fleet, dir: &Path) {
    match steps(fleet, dir) {
        Ok(steps) => fleet.operate(Operation::exclusive(request, steps)),
        Err(error) => request.finish(Err(error)),
    }
}

fn steps(fleet: &Fleet, dir: &Path) -> Result<Vec<OperationStep>, Error> {
    let Context::Vms(context, _) = &fleet.context else {
        return Err(Error::Refused("a cluster without VMs has no images".to_owned()));
    };
    let fresh = Image::open(dir)?;
    context.check_arch(&fresh)?;
    let layout = &context.layout;
    let fresh = fresh.copy_to(&layout.image(&fresh.digest)).inspect_err(|_| drop_unused(fleet))?;
    let order = fleet.machines[1..].iter().chain(&fleet.machines[..1]);
    let done = Done::default();
    let renewed = order.map(|machine| renew(&machine.member.name, &fresh, &done)).collect();
    let taken_back = Rc::clone(&done);
    Ok(vec![
        OperationStep::Guarded(renewed, Box::new(move |error| take_back(error, &taken_back))),
        OperationStep::Change(Box::new({
            let dir = dir.to_owned();
            move |fleet| {
                settle(fleet, dir);
                Ok(())
            }
        })),
    ])
}

/// One VM gets the image; one that is stopped stays so, and starts from it later.
fn renew(name: &str, fresh: &Image, done: &Done) -> OperationStep {
    let (name, fresh, done) = (name.to_owned(), fresh.clone(), Rc::clone(done));
    OperationStep::Plan(Box::new(move |fleet| {
        let digest = &fresh.digest;
        let old = fleet.machines[fleet.find(&name)?].image.clone();
        let Some(old) = old.filter(|old| old.digest != *digest) else {
            return Ok(vec![OperationStep::Say(format!("{name}: has {digest} already"))]);
        };
        done.borrow_mut().push((name.clone(), old));
        put(fleet, &name, &fresh, &format!("{name}: runs {digest}"))
    }))
}

/// The steps that give a VM an image, and what is told at their end.
fn put(fleet: &Fleet, name: &str, image: &Image, end: &str) -> Result<Vec<OperationStep>, Error> {
    let (digest, own, image) = (image.digest.clone(), name.to_owned(), image.clone());
    let change = Box::new(move |fleet: &mut Fleet| {
        let i = fleet.find(&own)?;
        fleet.machines[i].image = Some(image);
        Ok(())
    });
    if fleet.machines[fleet.find(name)?].phase == Phase::Down {
        let text = format!("{name}: is stopped, and starts from {digest}");
        return Ok(vec![OperationStep::Change(change), OperationStep::Say(text)]);
    }
    let mut steps = vec![OperationStep::Say(format!("{name}: restarts with {digest}"))];
    steps.extend(OperationStep::renew(name, change));
    steps.push(OperationStep::Say(end.to_owned()));
    Ok(steps)
}

/// The steps after a failure, which is that of the last VM of `done`. One that does not return is no reason
/// to leave the others.
fn take_back(error: &Error, done: &Done) -> Vec<OperationStep> {
    let done = done.borrow();
    let Some((failed, _)) = done.last() else {
        return vec![OperationStep::Fail(Error::Refused(error.to_string()))];
    };
    let mut steps = vec![OperationStep::Say(format!("{failed}: {error}"))];
    for (name, old) in done.iter().rev() {
        let (own, old, digest) = (name.clone(), old.clone(), old.digest.clone());
        let back = OperationStep::Plan(Box::new(move |fleet| {
            put(fleet, &own, &old, &format!("{own}: back to {}", old.digest))
        }));
        let name = name.clone();
        let on_error = Box::new(move |error: &Error| {
            vec![OperationStep::Say(format!("{name}: not back to {digest}: {error}"))]
        });
        steps.push(OperationStep::Guarded(vec![back], on_error));
    }
    steps.push(OperationStep::Change(Box::new(|fleet| {
        drop_unused(fleet);
        Ok(())
    })));
    steps.push(OperationStep::Fail(Error::Refused(format!("{failed} did not take the new image"))));
    steps
}

/// The image is that of the cluster from now on: else the next command would put back what it replaced.
fn settle(fleet: &mut Fleet, dir: PathBuf) {
    if let Some(Declared::Vms(options)) = fleet.declared.clone() {
        fleet.declare(Declared::Vms(VmOptions { image: Some(dir), ..options }));
    }
    drop_unused(fleet);
}

fn drop_unused(fleet: &Fleet) {
    let used: Vec<&Image> = fleet.machines.iter().filter_map(|m| m.image.as_ref()).collect();
    vm::drop_images(fleet.context.layout(), &used);
}
