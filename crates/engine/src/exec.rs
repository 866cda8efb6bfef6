//! Carrying out orders: many small files, parts of large ones, long ones beside each other.

pub mod checkpointed;
mod interleave;
pub mod run;
mod small_files;
