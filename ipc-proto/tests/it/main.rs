//! The protocol from outside: the bytes of every message, its limits, and what rubbish gets.

mod fuzz;
mod golden;
mod limits;
mod memory;
mod properties;
mod protocol_doc;
mod samples;
mod samples_schedules;
mod samples_service;
mod targets;
mod variants;
