//! Jobs whose owner is the book of durable jobs.

use crate::tables::{CLIENT, JOB, Table, job};
use hashcluster_controller::core::{Action, BookRequest, Event, Limits, Principal, Quota};
use ipc_proto::message::{
    ClientReply, ClientRequest, FileSource, Items, Planes, RejectReason, Run, Stamp,
};
use ipc_proto::{Algorithm, Blob};

fn open(quota: Quota) -> Event<u64> {
    Event::BookSaid(BookRequest::Open {
        tag: 9,
        principal: Principal::Uid(7),
        quota,
        algorithms: Algorithm::Sha256.into(),
        cross_check: 0,
        strict_reads: false,
    })
}

/// Messages to the book since the last call.
fn told(table: &mut Table) -> Vec<ClientReply> {
    let mut told = Vec::new();
    table.actions.retain(|action| {
        let Action::ToBook(reply) = action else { return true };
        told.push(reply.clone());
        false
    });
    told
}

fn named(path: &[u8]) -> Items {
    let source = FileSource::Dataset { name: "d".to_owned(), paths: vec![path.into()] };
    Items::Files { source, files: vec![Stamp::default().into()] }
}

#[test]
fn results_of_a_durable_job_go_to_the_book_and_no_client_can_touch_it() {
    let mut table = Table::with_datasets(Limits::default(), &["d"]);
    table.step(open(Quota::MAX));
    assert!(matches!(told(&mut table)[..], [ClientReply::Opened { tag: 9, job: JOB, .. }]));
    let inline = Items::Inline { lens: vec![3], data: Blob(b"abc".to_vec()) };
    table.step(Event::BookSaid(BookRequest::Items { job: JOB, first: 0, items: inline }));
    let items = named(b"f");
    table.step(Event::BookSaid(BookRequest::Items { job: JOB, first: 1, items }));
    table.step(Event::BookSaid(BookRequest::Finish { job: JOB }));
    table.say(ClientRequest::Cancel { job: JOB }, &[]);
    assert_eq!(table.told(), [], "a client's cancel of a job that is not its own says nothing");
    let planes = Planes { descriptors: false, inline: true, datasets: vec!["d".to_owned()] };
    table.join_with(1, 2, planes);
    let leases: Vec<_> = table.leased().iter().map(|leased| leased.lease).collect();
    assert_eq!(leases.len(), 2);
    for lease in leases {
        table.done(1, lease, 1, vec![]);
    }
    let told = told(&mut table);
    let runs: Vec<Run> = told
        .iter()
        .filter_map(|reply| {
            let ClientReply::Results { job: JOB, runs, .. } = reply else { return None };
            Some(runs[0])
        })
        .collect();
    assert_eq!(runs, [Run { first: 0, len: 1 }, Run { first: 1, len: 1 }]);
    assert_eq!(told.last(), Some(&ClientReply::Finished { job: JOB, items: 2, failed: 0 }));
    assert_eq!(table.told(), []);
}

#[test]
fn a_durable_job_survives_every_client_and_takes_up_its_principals_jobs() {
    let mut table = Table::new(Limits::default());
    table.step(open(Quota::MAX));
    told(&mut table);
    table.step(Event::ClientLeft(CLIENT));
    let one = Quota { jobs: 1, ..Quota::MAX };
    table.step(open(one));
    let text = String::new();
    let rejected = ClientReply::Rejected { tag: 9, reason: RejectReason::TooManyJobs, text };
    assert_eq!(told(&mut table), [rejected]);
    table.step(Event::BookSaid(BookRequest::Cancel { job: JOB }));
    assert_eq!(told(&mut table), [ClientReply::Cancelled { job: JOB, unresolved: 0 }]);
    table.step(Event::BookSaid(BookRequest::Cancel { job: JOB }));
    assert_eq!(told(&mut table), [], "a job that has just ended");
    table.step(open(one));
    assert!(matches!(told(&mut table)[..], [ClientReply::Opened { job: id, .. }] if id == job(1)));
}
