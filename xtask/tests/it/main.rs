//! House rules that no compiler checks, each with its reason in its message.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod documents;
mod manifests;
mod moved;
mod sbom;
mod scripts;
mod sources;
mod texts;
mod tree;
mod words;
