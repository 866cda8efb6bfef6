//! The listener for HTTP under good and bad clients.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod http;
mod metrics;
