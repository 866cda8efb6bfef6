//! Files as they reach the engine, and how they are read.

mod claims;
pub mod dataset;
pub mod dirents;
pub(crate) mod io_limit;
mod listing;
pub(crate) mod open_file;
pub(crate) mod page_cache;
pub(crate) mod quiet;
pub mod reader;
pub(crate) mod sys;
