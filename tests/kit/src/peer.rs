//! Peers made by hand.

use ipc_proto::endpoint::Endpoint;
use ipc_proto::message::{Backend, ClientIntro, Planes, Role, WorkerIntro};
use ipc_proto::{Algorithm, Blob};
use ipc_socket::Connection;
use std::path::Path;

/// A client connection to the socket at `path`.
///
/// # Panics
/// If there is none to be had.
#[must_use]
pub fn client(path: &Path) -> Connection {
    Connection::open(&Endpoint::Unix(path.to_owned()), client_role())
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What a client made by hand says of itself.
#[must_use]
pub fn client_role() -> Role {
    Role::Client(ClientIntro { software: "test".to_owned(), token: Blob::default() })
}

/// What a worker made by hand says of itself.
#[must_use]
pub fn worker_role(name: &str) -> Role {
    let backend = |algorithm| Backend { algorithm, backend: "test".to_owned(), lanes: 1 };
    Role::Worker(WorkerIntro {
        name: name.to_owned(),
        software: "test".to_owned(),
        image: String::new(),
        pid: 1,
        threads: 1,
        memory_bytes: 0,
        backends: Algorithm::ALL.map(backend).to_vec(),
        planes: Planes { descriptors: true, inline: true, datasets: Vec::new() },
        reading: "test".to_owned(),
    })
}
