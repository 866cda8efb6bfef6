//! Files as they reach the engine, and how they are read.

pub mod dataset;
pub mod descriptor;
mod io_limit;
pub(crate) mod page_cache;
pub mod reader;
pub(crate) mod sys;
