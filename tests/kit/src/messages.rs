//! A job of messages on a connection of its own, sent and received by one thread.

use crate::Cluster;
use client::{Address, Client, Event, Job, JobOptions, Replies};
use ipc_proto::Algorithm;

/// Sends messages of a job and takes their results.
///
/// [`MessageJob::send`] as long as [`MessageJob::fits`], then [`MessageJob::receive`].
#[derive(Debug)]
pub struct MessageJob {
    job: Job,
    replies: Replies,
    sent: u64,
    resolved: u64,
}

impl MessageJob {
    /// Opens a job of SHA-256.
    pub fn open(address: &Address) -> Self {
        let connected = Client::connect(address);
        let client = connected.unwrap_or_else(|error| panic!("{}: {error}", address.endpoint));
        let (submitter, mut replies) = client.split();
        let job =
            submitter.open(Algorithm::Sha256, JobOptions::default()).expect("the controller lives");
        let opened = replies.receive().expect("the controller lives");
        assert!(matches!(opened, Some(Event::Opened { .. })), "{opened:?}");
        Self { job, replies, sent: 0, resolved: 0 }
    }

    /// Opens a job on `cluster`.
    pub fn on(cluster: &Cluster) -> Self {
        Self::open(&cluster.address())
    }

    /// Items that the window holds, of `len` bytes each.
    pub fn window(&self, len: u32) -> u64 {
        let window = self.job.window().expect("the controller lives");
        u64::from(window.items).min(window.bytes / u64::from(len.max(1)))
    }

    /// True if `count` more messages of `len` bytes can be sent without waiting, or if there is nothing to
    /// wait for.
    pub fn fits(&self, count: u64, len: u32) -> bool {
        let in_flight = self.sent - self.resolved;
        in_flight == 0 || in_flight + count <= self.window(len)
    }

    /// Messages that have their results.
    pub const fn resolved(&self) -> u64 {
        self.resolved
    }

    /// Sends `count` messages of `len` bytes in one frame, or in several while the window is small: it
    /// grows when it is used.
    pub fn send(&mut self, count: u64, len: u32) {
        let mut left = count;
        while left > 0 {
            let room = self.window(len).saturating_sub(self.sent - self.resolved);
            if room == 0 {
                self.receive();
                continue;
            }
            self.send_frame(left.min(room), len);
            left -= left.min(room);
        }
    }

    fn send_frame(&mut self, count: u64, len: u32) {
        let messages = usize::try_from(count).expect("messages of a frame");
        let tags: Vec<u64> = (self.sent..self.sent + count).collect();
        let data = vec![7; messages * len as usize];
        self.job.send_messages(vec![len; messages], data, &tags).expect("the controller lives");
        self.sent += count;
    }

    /// Waits until some messages are resolved, or the window changes; how many have been so far.
    pub fn receive(&mut self) -> u64 {
        match self.replies.receive().expect("the controller lives") {
            Some(Event::Results(results)) => {
                for (tag, outcome) in results.iter() {
                    let len = outcome.unwrap_or_else(|failure| panic!("{tag}: {failure:?}")).len();
                    assert_eq!(len, Algorithm::Sha256.digest_len());
                    self.resolved += 1;
                }
            }
            Some(Event::Window { .. }) => {}
            other => panic!("unexpected {other:?}"),
        }
        self.resolved
    }

    /// One empty message there and back.
    pub fn round_trip(&mut self) {
        self.send(1, 0);
        while self.resolved < self.sent {
            self.receive();
        }
    }

    /// Ends the job when all of it is resolved; the number of its messages.
    pub fn finish(mut self) -> u64 {
        while self.resolved < self.sent {
            self.receive();
        }
        self.job.finish().expect("the controller lives");
        let finished = self.replies.receive().expect("the controller lives");
        assert!(matches!(finished, Some(Event::Finished { .. })), "{finished:?}");
        self.resolved
    }
}
