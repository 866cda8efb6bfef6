//! Tests of the overview.

mod history;
