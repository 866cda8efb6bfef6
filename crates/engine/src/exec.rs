//! Carrying out orders: many small files, parts of large ones, long ones interleaved.

pub mod checkpointed;
mod interleave;
pub mod local;
mod long_file;
pub mod order;
pub mod relay;
pub mod run;
mod small_files;
