//! Lists of system calls, compiled to filters (seccomp(2)).

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, apply_filter,
};
use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::error::Error;

/// One system call that a thread can make.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// Its number, as `libc::SYS_read`.
    pub number: libc::c_long,
    /// All of these are true of its arguments. The same call may be listed again with others, or with
    /// none, which allows it with any.
    pub conditions: &'static [Condition],
}

impl Call {
    /// A call with any arguments.
    #[must_use]
    pub const fn any(number: libc::c_long) -> Self {
        Self { number, conditions: &[] }
    }

    /// A call for which all of `conditions` are true.
    #[must_use]
    pub const fn only(number: libc::c_long, conditions: &'static [Condition]) -> Self {
        Self { number, conditions }
    }
}

/// Something that is true of one argument, of which the lower 32 bits count.
#[derive(Clone, Copy, Debug)]
pub enum Condition {
    /// Argument number `.0`, from 0, is `.1`.
    Is(u8, u32),
    /// Argument number `.0` is not `.1`.
    IsNot(u8, u32),
    /// Argument number `.0` has none of the bits `.1`.
    Lacks(u8, u32),
    /// Argument number `.0` has all of the bits `.1`.
    Has(u8, u32),
}

impl Condition {
    fn compiled(self) -> Result<SeccompCondition, BackendError> {
        let (index, operator, value) = match self {
            Self::Is(index, value) => (index, SeccompCmpOp::Eq, value),
            Self::IsNot(index, value) => (index, SeccompCmpOp::Ne, value),
            Self::Lacks(index, bits) => (index, SeccompCmpOp::MaskedEq(bits.into()), 0),
            Self::Has(index, bits) => (index, SeccompCmpOp::MaskedEq(bits.into()), bits),
        };
        SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, value.into())
    }
}

/// Denies this thread, and those that it starts from now on, all system calls but `calls`; what was
/// denied before stays so. A denied call fails with `EPERM`.
///
/// # Errors
/// The kernel has no filters, or did not take this one.
///
/// # Panics
/// If a condition names an argument that no call has.
pub fn narrow(calls: &[Call]) -> Result<(), Box<dyn Error + Send + Sync>> {
    let denied = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter = filter(calls, denied, SeccompAction::Allow)?;
    Ok(apply_filter(&filter)?)
}

/// Makes `clone3` unknown: its arguments are in memory, where no filter can look, and libraries go
/// back to `clone`.
pub(crate) fn hide_clone3() -> Result<(), Box<dyn Error + Send + Sync>> {
    let unknown = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let filter = filter(&[Call::any(libc::SYS_clone3)], SeccompAction::Allow, unknown)?;
    Ok(apply_filter(&filter)?)
}

fn filter(
    calls: &[Call],
    otherwise: SeccompAction,
    listed: SeccompAction,
) -> Result<BpfProgram, BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for call in calls {
        let conditions: Result<Vec<_>, _> = call.conditions.iter().map(|c| c.compiled()).collect();
        let of_call = rules.entry(call.number).or_default();
        if !call.conditions.is_empty() {
            of_call.push(SeccompRule::new(conditions?)?);
        }
    }
    // A call without any rule is one with any arguments, which the kernel allows without a run of the filter.
    for call in calls.iter().filter(|call| call.conditions.is_empty()) {
        rules.insert(call.number, Vec::new());
    }
    SeccompFilter::new(rules, otherwise, listed, TargetArch::try_from(ARCH)?)?.try_into()
}
