//! Lengths for people.

/// A size with three digits at least and a binary unit.
pub(crate) fn bytes(len: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if len < 1024 {
        return format!("{len} B");
    }
    let unit = usize::try_from(len.ilog2() / 10 - 1).expect("at most five");
    let tenths = u128::from(len) * 10 / (1_u128 << (10 * (unit + 1)));
    match tenths {
        1000.. => format!("{} {}", tenths / 10, units[unit]),
        _ => format!("{}.{} {}", tenths / 10, tenths % 10, units[unit]),
    }
}
