//! Limits on what a worker says of its host.

use super::{check, text, worker};
use ipc_proto::Algorithm;
use ipc_proto::limits::{BACKENDS_MAX, NAME_LEN_MAX};
use ipc_proto::message::{AlgorithmSpeed, ClientReply, Status, WorkerStatus};

#[test]
fn names_of_hosts_and_processors_and_speeds_keep_their_limits() {
    check("host", 0, NAME_LEN_MAX, |n| worker(|w| w.host = text(n)));
    check("cpu", 0, NAME_LEN_MAX, |n| worker(|w| w.cpu = text(n)));
    let row = |change: &dyn Fn(&mut WorkerStatus)| {
        let mut worker = WorkerStatus::default();
        change(&mut worker);
        ClientReply::Status(Box::new(Status { workers: vec![worker], ..Status::default() }))
    };
    check("image of a worker", 0, NAME_LEN_MAX, |n| row(&|w| w.image = text(n)));
    check("host of a worker", 0, NAME_LEN_MAX, |n| row(&|w| w.host = text(n)));
    check("cpu of a worker", 0, NAME_LEN_MAX, |n| row(&|w| w.cpu = text(n)));
    let speed = AlgorithmSpeed { algorithm: Algorithm::Md5, bytes_per_s: 1 };
    check("speeds of a worker", 0, BACKENDS_MAX, |n| row(&|w| w.speeds = vec![speed; n]));
}
