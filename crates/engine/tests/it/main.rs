//! The kernels against each other.

mod fuzz;
mod kernels;
mod lanes;
mod quiet;
