//! `hashctl status` and `hashctl version`: what the controller says of itself and its workers.

mod table;

use crate::cli::print;
use crate::config::Config;
use crate::engine::connect;
use crate::exit::Exit;
use crate::say::{io_text, say};
use client::{Client, ClientError, ConnectError};
use ipc_proto::message::Welcome;
use overview::{one_line, status_json};
use std::thread;
use std::time::{Duration, Instant};

/// Between two attempts to reach a controller that is waited for.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);

/// Prints the controller's status, as tables or as one JSON object.
pub(crate) fn status(config: &Config, as_json: bool) -> Exit {
    let status = match ask(config, |client| client.status()) {
        Ok(status) => status,
        Err(exit) => return exit,
    };
    let text = if as_json { format!("{}\n", status_json(&status)) } else { table::render(&status) };
    print(config.stdio, &text)
}

/// Waits until N workers are ready, and before that for the controller to start.
pub(crate) fn wait_ready(config: &Config, workers: u32, timeout_s: u32) -> Exit {
    let deadline = Instant::now() + Duration::from_secs(timeout_s.into());
    let mut client = loop {
        match Client::connect(&config.address) {
            Ok(client) => break client,
            Err(ConnectError::Io(_) | ConnectError::Wire(_)) if Instant::now() < deadline => {
                thread::sleep(RECONNECT_PAUSE);
            }
            // The last attempt says what is wrong.
            Err(_) => match connect(config) {
                Ok(client) => break client,
                Err(exit) => return exit,
            },
        }
    };
    let left = deadline.saturating_duration_since(Instant::now());
    match client.wait_ready(workers, left) {
        Ok(readiness) if readiness.enough => Exit::Success,
        Ok(readiness) => {
            let ready = readiness.workers;
            say(format_args!("{ready} of {workers} workers are ready after {timeout_s} s"));
            Exit::Failure
        }
        Err(error) => lost(config, &error),
    }
}

/// Prints our version and, if there is a controller, its.
pub(crate) fn version(config: &Config) -> Exit {
    let place = config.endpoint_text();
    let controller = match Client::connect(&config.address) {
        Ok(client) => {
            let welcome = client.welcome();
            let Welcome { software, version, image, .. } = welcome;
            let image = if image.is_empty() { String::new() } else { format!(", image {image}") };
            format!("{software} at {place}, protocol {version}{image}")
        }
        Err(ConnectError::Io(error)) => {
            format!("not reached at {place} ({})", io_text(&error))
        }
        Err(error) => format!("not reached at {place} ({error})"),
    };
    let controller = one_line(&controller);
    let text = format!("hashctl {}\ncontroller {controller}\n", env!("CARGO_PKG_VERSION"));
    print(config.stdio, &text)
}

/// Puts a question to the controller.
pub(crate) fn ask<T>(
    config: &Config,
    question: impl FnOnce(&mut Client) -> Result<T, ClientError>,
) -> Result<T, Exit> {
    let mut client = connect(config)?;
    question(&mut client).map_err(|error| lost(config, &error))
}

fn lost(config: &Config, error: &ClientError) -> Exit {
    say(format_args!("lost the controller at {}: {error}", config.endpoint_text()));
    Exit::Unreachable
}
