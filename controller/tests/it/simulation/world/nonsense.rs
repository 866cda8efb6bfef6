//! Peers that repeat themselves, or say what makes no sense.

use super::{EPOCH, World};
use hashcluster_controller::core::Event;
use ipc_proto::message::{ClientRequest, FileItem, FileSource, Items, JobId, Message, WorkerReply};

impl World {
    pub(super) fn answer_again(&mut self) {
        let Some(id) = Self::pick(&mut self.random, &self.workers) else { return };
        let Some(mut reply) = self.workers[&id].given.last().cloned() else { return };
        if let WorkerReply::Done { attempt, credit, .. } = &mut reply {
            *attempt -= u32::try_from(self.random.below(2)).expect("small").min(*attempt);
            *credit = 0;
        }
        self.step(Event::WorkerSaid(id, reply));
    }

    pub(super) fn say_nonsense(&mut self) {
        let Some(id) = Self::pick(&mut self.random, &self.clients) else { return };
        let job = JobId { epoch: EPOCH, number: u64::MAX };
        let request = if self.random.chance(50) {
            ClientRequest::Finish { job }
        } else {
            let (source, files) = (FileSource::Descriptors, vec![FileItem::default()]);
            ClientRequest::Items { job, first: 0, items: Items::Files { source, files } }
        };
        let files = vec![1; request.descriptors_len()];
        self.step(Event::ClientSaid(id, request, files));
        assert!(!self.clients.contains_key(&id), "seed {}: nonsense closes its peer", self.seed);
    }
}
