//! The description of a running cluster as its files are now, read again and again in a thread of its own,
//! as a directory that it names may be on a file system that does not answer.

use super::preflight::{DescribedCluster, wanted};
use crate::args::VmOptions;
use std::io;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Interval between two readings.
const INTERVAL: Duration = Duration::from_secs(3);

#[derive(Debug, Default)]
struct Shared {
    /// The command line that counts; nothing is read without one.
    options: Option<VmOptions>,
    /// The description as it was read, or its faults, for a person.
    found: Option<Result<DescribedCluster, String>>,
}

/// The supervisor's end.
#[derive(Debug)]
pub(crate) struct Description {
    shared: Arc<Mutex<Shared>>,
    /// The thread ends when it is dropped.
    _end: mpsc::Sender<()>,
}

impl Description {
    pub(crate) fn start() -> io::Result<Self> {
        let (end, ended) = mpsc::channel::<()>();
        let shared = Arc::new(Mutex::new(Shared::default()));
        let own = Arc::clone(&shared);
        thread::Builder::new().name("description".to_owned()).spawn(move || {
            while ended.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                read(&own);
            }
        })?;
        Ok(Self { shared, _end: end })
    }

    /// Reads by these options from now on.
    pub(crate) fn follow(&self, options: Option<VmOptions>) {
        *self.shared.lock().expect("no holder panics") = Shared { options, found: None };
    }

    /// Looks at what was read last; nothing if nothing was read.
    pub(crate) fn look<T>(
        &self,
        look: impl FnOnce(&Result<DescribedCluster, String>) -> T,
    ) -> Option<T> {
        self.shared.lock().expect("no holder panics").found.as_ref().map(look)
    }
}

fn read(shared: &Mutex<Shared>) {
    let options = shared.lock().expect("no holder panics").options.clone();
    let Some(options) = options else { return };
    let found = wanted(&options).map_err(|error| error.to_string());
    let mut shared = shared.lock().expect("no holder panics");
    // Others may count by now.
    if shared.options.as_ref().is_some_and(|own| own.to_line() == options.to_line()) {
        shared.found = Some(found);
    }
}
