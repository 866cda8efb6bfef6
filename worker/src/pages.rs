//! Pages of the worker over HTTP: `/metrics`, `/healthz`, `/readyz`, served by a thread of their own.

use crate::link::hang::HangDetector;
use crate::link::shutdown::Shutdown;
use crate::log::{Event, LOG};
use crate::metrics::{self, Threads, instruments};
use crate::pool::Pool;
use crate::sandbox::{Role, Sandbox};
use ipc_proto::message::SandboxLayers;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use telemetry::http::{HttpAddress, HttpListener, Page, ReadyReport};
use telemetry::metrics::CONTENT_TYPE;
use tokio::runtime::{Builder, Runtime};
use tokio::task::LocalSet;

/// Interval in which durations are sorted into buckets, if nobody asks.
const FOLD_INTERVAL: Duration = Duration::from_secs(10);

/// A listener, made before the sandbox, which opens no socket.
#[derive(Debug)]
pub struct PageServer {
    runtime: Runtime,
    listener: HttpListener,
}

impl PageServer {
    /// Listens at `address`, for a worker from `image`. Work is done without it, too.
    #[must_use]
    pub fn prepare(address: &HttpAddress, image: &str) -> Option<Self> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let bound = runtime.map_err(|error| error.to_string()).and_then(|runtime| {
            let entered = runtime.enter();
            let listener = HttpListener::bind(address).map_err(|error| error.to_string())?;
            drop(entered);
            Ok(Self { runtime, listener })
        });
        match bound {
            Ok(pages) => {
                metrics::start(image);
                LOG.log(&Event::Shows { address });
                Some(pages)
            }
            Err(error) => {
                LOG.log(&Event::NoHttp { address, error: &error });
                None
            }
        }
    }

    /// Starts the thread that serves.
    ///
    /// # Errors
    /// The system refused another thread.
    pub fn start(
        self,
        sandbox: Sandbox,
        layers: SandboxLayers,
        pool: &Pool,
        detector: HangDetector,
        shutdown: Arc<Shutdown>,
    ) -> io::Result<()> {
        let idle = pool.idle_probe();
        let threads = move || Threads {
            all: detector.threads(),
            idle: u16::try_from(idle.idle()).unwrap_or(u16::MAX),
            stuck: detector.hung_threads(),
        };
        thread::Builder::new().name("pages".to_owned()).spawn(move || {
            sandbox.narrow(Role::Pages).expect("the kernel took a filter before");
            let pages = move |path: &str| answer(path, threads(), layers, &shutdown);
            let Self { runtime, listener } = self;
            LocalSet::new().block_on(&runtime, async {
                tokio::task::spawn_local(fold());
                listener.serve(Rc::new(pages)).await;
            });
        })?;
        Ok(())
    }
}

async fn fold() {
    let mut interval = tokio::time::interval(FOLD_INTERVAL);
    loop {
        interval.tick().await;
        instruments().into_iter().for_each(metrics::WorkerInstruments::fold);
    }
}

fn answer(
    path: &str,
    threads: Threads,
    layers: SandboxLayers,
    shutdown: &Shutdown,
) -> Option<Page> {
    let instruments = instruments()?;
    match path {
        "/metrics" => {
            let body = instruments.render(threads, shutdown.leases_len(), layers);
            Some(Page { status: 200, content_type: CONTENT_TYPE, body })
        }
        "/healthz" => Some(Page::text(200, "ok\n")),
        "/readyz" => {
            let mut readiness = ReadyReport::default();
            // The backends were tested before the listener was there, or the process has ended.
            readiness.require(instruments.is_connected(), "not connected to a controller");
            readiness.require(threads.stuck < threads.all, "every hashing thread hangs");
            Some(readiness.page())
        }
        _ => None,
    }
}
