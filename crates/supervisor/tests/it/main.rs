//! The real supervisor with stand-ins for controller, workers and command (`tests/fake`).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod autostart;
mod changes;
mod config;
mod doctor;
mod harness;
mod lifecycle;
mod monitoring;
mod refusals;
mod service_manager;
