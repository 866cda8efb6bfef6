//! Reads and hashes files in one process: what a worker has behind its link, without sockets.
//!
//! [`hash`] has the kernels and the choice between them, [`input`] opens and reads files and judges
//! whether they held still, [`exec`] carries out a whole order with the memory of one thread.
//!
//! Invariants: nothing here opens a file by name except below the root of a dataset
//! ([`input::dataset`]); everything else that is hashed arrives as a descriptor or as bytes; nothing
//! maps a file, so that one that shrinks cannot kill the process; only `clock` reads a clock.

pub mod clock;
pub mod exec;
pub mod hash;
pub mod input;
