//! Clusters of real VMs, by the scripts that users have. What a test boots runs without KVM where
//! KVM does not run guests; one test boots at a time.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]
#![expect(clippy::print_stderr, reason = "a failed test shows the logs")]

mod changes;
mod crashes;
mod guest;
mod main_job;
mod refusals;
mod scripts;
mod site;
mod start_up;
