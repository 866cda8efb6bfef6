//! Frames and descriptors over real sockets: what arrives, what is refused, and that nothing leaks.

mod alone;
mod backlog;
mod closing;
mod descriptors;
mod example;
mod leaks;
mod open;
mod support;
mod wire;
