//! Limits of messages about schedules.

use super::{check, check_taken, text, u16_of};
use crate::samples_schedules::{run_row, schedule_row, step_row};
use ipc_proto::limits::{
    NAME_LEN_MAX, REASON_LEN_MAX, SCHEDULE_ROWS_MAX, SCHEDULE_TEXT_LEN_MAX, STEP_NAME_LEN_MAX,
};
use ipc_proto::message::{
    ClientReply, ClientRequest, ScheduleAct, ScheduleReply, ScheduleRequest, ScheduleRow,
    ServiceReply, ServiceRequest, StepEnd, StepRow,
};

fn asked(request: ScheduleRequest) -> ClientRequest {
    ClientRequest::Service { tag: 1, request: ServiceRequest::Schedule(request) }
}

fn told(reply: ScheduleReply) -> ClientReply {
    ClientReply::Service { tag: 1, reply: ServiceReply::Schedule(reply) }
}

#[test]
fn requests_about_schedules_keep_their_limits() {
    check("text", 0, SCHEDULE_TEXT_LEN_MAX, |n| asked(ScheduleRequest::Apply { text: text(n) }));
    check("after", 0, NAME_LEN_MAX, |n| asked(ScheduleRequest::List { after: text(n), limit: 1 }));
    check("limit", 1, SCHEDULE_ROWS_MAX, |n| {
        asked(ScheduleRequest::List { after: String::new(), limit: u16_of(n) })
    });
    check("name", 1, NAME_LEN_MAX, |n| asked(ScheduleRequest::Show { name: text(n) }));
    check("name", 1, NAME_LEN_MAX, |n| {
        asked(ScheduleRequest::Act { name: text(n), act: ScheduleAct::Run })
    });
    let runs = |name, limit| asked(ScheduleRequest::Runs { name: text(name), before: None, limit });
    check("name", 1, NAME_LEN_MAX, |n| runs(n, 1));
    check("limit", 1, SCHEDULE_ROWS_MAX, |n| runs(1, u16_of(n)));
    let run =
        |name, limit| asked(ScheduleRequest::Run { name: text(name), run: 1, from: 0, limit });
    check("name", 1, NAME_LEN_MAX, |n| run(n, 1));
    check("limit", 1, SCHEDULE_ROWS_MAX, |n| run(1, u16_of(n)));
}

#[test]
fn answers_about_schedules_keep_their_limits() {
    let one = |change: &dyn Fn(&mut ScheduleRow)| {
        let mut row = schedule_row();
        change(&mut row);
        told(ScheduleReply::Changed(Box::new(row)))
    };
    check("name", 1, NAME_LEN_MAX, |n| one(&|row| row.name = text(n)));
    check("principal", 0, NAME_LEN_MAX, |n| one(&|row| row.principal = text(n)));
    check("zone", 0, NAME_LEN_MAX, |n| one(&|row| row.zone = text(n)));
    check("text", 0, SCHEDULE_TEXT_LEN_MAX, |n| {
        told(ScheduleReply::Schedule { row: Box::new(schedule_row()), text: text(n) })
    });
    check("rows", 0, SCHEDULE_ROWS_MAX, |n| {
        told(ScheduleReply::Schedules { rows: vec![schedule_row(); n], more: false })
    });
    check("rows", 0, SCHEDULE_ROWS_MAX, |n| {
        told(ScheduleReply::Runs { rows: vec![run_row(None); n], more: false })
    });
    let run = |steps| told(ScheduleReply::Run { row: run_row(None), steps, more: false });
    check("steps", 0, SCHEDULE_ROWS_MAX, |n| run(vec![step_row(None); n]));
    let step = |change: &dyn Fn(&mut StepRow)| {
        let mut row = step_row(None);
        change(&mut row);
        run(vec![row])
    };
    check("name of a task", 1, STEP_NAME_LEN_MAX, |n| step(&|row| row.name = text(n)));
    check("reason", 0, REASON_LEN_MAX, |n| step(&|row| row.end = Some(StepEnd::Failed(text(n)))));
}

#[test]
fn the_longest_answers_about_schedules_fit_a_frame() {
    let long = ScheduleRow {
        name: text(NAME_LEN_MAX),
        principal: text(NAME_LEN_MAX),
        zone: text(NAME_LEN_MAX),
        ..schedule_row()
    };
    let rows = vec![long; SCHEDULE_ROWS_MAX];
    check_taken(told(ScheduleReply::Schedules { rows, more: true }).into(), "schedules");
    let end = Some(StepEnd::Failed(text(REASON_LEN_MAX)));
    let step = StepRow { name: text(STEP_NAME_LEN_MAX), ..step_row(end) };
    let steps = vec![step; SCHEDULE_ROWS_MAX];
    let run = ScheduleReply::Run { row: run_row(None), steps, more: true };
    check_taken(told(run).into(), "tasks of a run");
}
