//! The description of a running cluster as its files are now, read again and again in a thread of its own,
//! as a directory that it names may be on a file system that does not answer.

use super::apply;
use crate::args::{LocalOptions, VmOptions};
use crate::local::LocalContext;
use crate::vm::{self, DescribedCluster};
use std::io;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Interval between two readings.
const INTERVAL: Duration = Duration::from_secs(3);

/// The command line that counts, where a cluster can be changed.
#[derive(Clone, Debug)]
pub(super) enum Declared {
    Vms(VmOptions),
    Local(LocalOptions),
}

/// A cluster that files and command line describe.
#[derive(Debug)]
pub(super) enum Described {
    Vms(DescribedCluster),
    Local(LocalContext),
}

impl Declared {
    /// As [`vm::OPTIONS_FILE`] has it.
    pub(super) fn to_line(&self) -> String {
        match self {
            Self::Vms(options) => options.to_line(),
            Self::Local(options) => options.to_file(),
        }
    }

    fn read(&self) -> Result<Described, String> {
        match self {
            Self::Vms(options) => vm::wanted(options).map(Described::Vms),
            Self::Local(options) => apply::wanted_local(options).map(Described::Local),
        }
        .map_err(|error| error.to_string())
    }
}

#[derive(Debug, Default)]
struct Shared {
    /// Nothing is read without one.
    options: Option<Declared>,
    /// The description as it was read, or its faults, for a person.
    found: Option<Result<Described, String>>,
}

/// The supervisor's end.
#[derive(Debug)]
pub(super) struct Description {
    shared: Arc<Mutex<Shared>>,
    /// The thread ends when it is dropped.
    _end: mpsc::Sender<()>,
}

impl Description {
    pub(super) fn start() -> io::Result<Self> {
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
    pub(super) fn follow(&self, options: Option<Declared>) {
        *self.shared.lock().expect("no holder panics") = Shared { options, found: None };
    }

    /// Looks at what was read last; nothing if nothing was read.
    pub(super) fn look<T>(&self, look: impl FnOnce(&Result<Described, String>) -> T) -> Option<T> {
        self.shared.lock().expect("no holder panics").found.as_ref().map(look)
    }
}

fn read(shared: &Mutex<Shared>) {
    let options = shared.lock().expect("no holder panics").options.clone();
    let Some(options) = options else { return };
    let found = options.read();
    let mut shared = shared.lock().expect("no holder panics");
    // Others may count by now.
    if shared.options.as_ref().is_some_and(|own| own.to_line() == options.to_line()) {
        shared.found = Some(found);
    }
}
