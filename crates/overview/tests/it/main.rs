//! Tests of the overview.

mod history;
mod workers;
