//! Names and files: walking trees, opening, datasets, and how files reach the workers.

pub(crate) mod datasets;
pub(crate) mod open;
pub(crate) mod plane;
mod sys;
pub(crate) mod walk;

pub(crate) use sys::is_ignored;
