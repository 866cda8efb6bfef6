//! The commands.

pub(crate) mod check;
pub(crate) mod release;
pub(crate) mod status;
pub(crate) mod sum;
