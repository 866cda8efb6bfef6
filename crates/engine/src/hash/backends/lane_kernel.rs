//! Kernels that hash one message per lane of a vector and leave the last one to the portable backend:
//! each absorbs the next block of every lane by the rounds of its hash.

/// Defines a module with the `row` of a kernel, by rounds that define its `compress_block`. What the rounds
/// use, and the module of the vectors with its proof, is in scope where it is invoked.
macro_rules! lane_kernel {
    (
        $(#[$doc:meta])*
        $name:ident: $family:ident, $vectors:ident::$proof:ident, $words:ident,
        [[$word:ty; $block_len:ident]; $lanes:literal], $compress_one:expr,
        $rounds:ident! $rounds_of:tt
    ) => {
        $(#[$doc])*
        pub(super) mod $name {
            use super::$vectors::{$proof, $words as words, load, store};
            use super::*;

            const LANES: usize = $lanes;

            type Block = [u8; $block_len];

            pub(in super::super) fn row(_proof: $proof) -> Row {
                let compress = |columns: &mut Columns<$word, LANES>, blocks: &Blocks<'_, _, LANES>| {
                    each_block(columns, blocks, |columns, blocks| {
                        // SAFETY: a proof exists only after `detect` saw every feature that is
                        // enabled below.
                        unsafe { compress_block(columns, blocks) }
                    });
                };
                lanes_row(stringify!($name), Family::$family, compress, $compress_one)
            }

            $rounds! $rounds_of
        }
    };
}
