//! Workers that finish what they have before somebody stops them: asked of the controller in threads of their
//! own, as a drain takes as long as the work.

use crate::vm::Layout;
use client::{Address, Client};
use ipc_proto::message::DrainOutcome;
use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;
use std::time::Duration;

/// Time after which a worker's leases go to others; a long file goes on there from its last checkpoint.
const DEADLINE: Duration = Duration::from_secs(30);

/// Time limit for the answer to an undrain, and for a connection.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// A line to tell, if there is one, or the reason why it was not done.
type Answer<E> = Result<Option<String>, E>;

/// A worker of which the controller was asked something.
pub(super) struct Drain {
    worker: String,
    answer: Receiver<Answer<String>>,
}

impl Drain {
    /// Has a worker given no more work, and waits until it has none.
    pub(super) fn start(layout: &Layout, worker: &str) -> io::Result<Self> {
        Self::ask(layout, worker, |dir, worker| {
            // Should this process not come to undrain it, the end of the controller does.
            match connect(dir)?.drain(worker, DEADLINE, false)? {
                DrainOutcome::Drained { passed_on: 0 } => Ok(None),
                DrainOutcome::Drained { passed_on } => {
                    let limit = DEADLINE.as_secs();
                    Ok(Some(format!("{passed_on} batches went to others after {limit} s")))
                }
                // It has gone: it holds nothing.
                DrainOutcome::Unknown => Ok(None),
                DrainOutcome::Undrained => Err("somebody undrained it".into()),
                DrainOutcome::TooMany => Err("too many workers are drained".into()),
                DrainOutcome::NotDraining | DrainOutcome::Forbidden => {
                    Err("the controller does not permit it".into())
                }
            }
        })
    }

    /// Has a worker given work again, or whoever comes under its name.
    pub(super) fn end(layout: &Layout, worker: &str) -> io::Result<Self> {
        Self::ask(layout, worker, |dir, worker| {
            // One that restarted meanwhile has forgotten it.
            connect(dir)?.undrain(worker)?;
            Ok(None)
        })
    }

    fn ask(
        layout: &Layout,
        worker: &str,
        question: fn(&Path, &str) -> Answer<Box<dyn Error>>,
    ) -> io::Result<Self> {
        let (sender, answer) = mpsc::channel();
        let (dir, name) = (layout.run().to_owned(), worker.to_owned());
        thread::Builder::new().name("drain".to_owned()).spawn(move || {
            // Whoever asked may have given up.
            let _ = sender.send(question(&dir, &name).map_err(|error| error.to_string()));
        })?;
        Ok(Self { worker: worker.to_owned(), answer })
    }

    pub(super) fn worker(&self) -> &str {
        &self.worker
    }

    /// The answer, once it is known.
    pub(super) fn said(&self) -> Option<Answer<String>> {
        match self.answer.try_recv() {
            Ok(said) => Some(said),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err("its thread ended".to_owned())),
        }
    }
}

fn connect(dir: &Path) -> Result<Client, Box<dyn Error>> {
    let client = Client::connect(&Address::in_dir(dir)?)?;
    client.set_timeout(Some(ANSWER_LIMIT))?;
    Ok(client)
}
