//! The rounds of SHA-2 (FIPS 180-4, sections 6.2.2 and 6.4.2) over vectors that hold the same word of
//! every lane: one text for both word lengths and both vector widths.

/// Defines `compress_block`, which absorbs a block in each lane, and `rounds` below it. The module that
/// invokes it has `words`, the operations of its vectors, `Block` and `LANES`; `load` gives the 16 words
/// of the blocks. The four rotations are those of section 4.1.2 or 4.1.3; the last of each small sigma
/// is a shift.
macro_rules! sha2_rounds {
    (
        $features:literal, $vector:ty, $word:ty, $constants:ident,
        load: |$blocks:ident| $load:expr,
        big_sigma_0: $big_0:tt, big_sigma_1: $big_1:tt,
        small_sigma_0: $small_0:tt, small_sigma_1: $small_1:tt $(,)?
    ) => {
        /// Absorbs a block in each lane.
        ///
        /// Never inline: between blocks the hash is in memory, so that the rounds have the registers.
        #[inline(never)]
        #[target_feature(enable = $features)]
        fn compress_block(columns: &mut Columns<$word, LANES>, $blocks: &[&Block; LANES]) {
            let mut message = $load;
            let mut hash = columns.0.each_ref().map(|column| load(column));
            let [first @ .., last] = &$constants;
            for constants in first {
                rounds::<true>(&mut hash, &mut message, constants);
            }
            rounds::<false>(&mut hash, &mut message, last);
            for (column, hash) in columns.0.iter_mut().zip(hash) {
                store(column, words::add(load(column), hash));
            }
        }

        /// Does 16 rounds and, to `EXTEND`, replaces `message` by the 16 words that follow.
        #[inline]
        #[target_feature(enable = $features)]
        fn rounds<const EXTEND: bool>(
            hash: &mut [$vector; 8],
            message: &mut [$vector; 16],
            constants: &[$word; 16],
        ) {
            // Four at a time, which the compiler unrolls: then all words are in registers.
            four_rounds::<0, EXTEND>(hash, message, constants);
            four_rounds::<4, EXTEND>(hash, message, constants);
            four_rounds::<8, EXTEND>(hash, message, constants);
            four_rounds::<12, EXTEND>(hash, message, constants);
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn four_rounds<const FROM: usize, const EXTEND: bool>(
            hash: &mut [$vector; 8],
            message: &mut [$vector; 16],
            constants: &[$word; 16],
        ) {
            for i in FROM..FROM + 4 {
                let [a, b, c, d, e, f, g, h] = *hash;
                let constant = words::splat(constants[i]);
                let sum = words::add(words::add(message[i], constant), h);
                let sum = words::add(sum, words::choose(e, f, g));
                let sum = words::add(sum, sha2_rounds!(xor e $big_1));
                let other = words::add(sha2_rounds!(xor a $big_0), words::majority(a, b, c));
                *hash = [words::add(sum, other), a, b, c, words::add(d, sum), e, f, g];
                if EXTEND {
                    let [w0, w1, w9, w14] = [0, 1, 9, 14].map(|at| message[(i + at) % 16]);
                    let sum = words::add(words::add(w0, w9), sha2_rounds!(shift w1 $small_0));
                    message[i] = words::add(sum, sha2_rounds!(shift w14 $small_1));
                }
            }
        }
    };
    (xor $x:ident [$r0:literal, $r1:literal, $r2:literal]) => {
        words::xor3(
            words::rotate_right::<$r0, { words::BITS - $r0 }>($x),
            words::rotate_right::<$r1, { words::BITS - $r1 }>($x),
            words::rotate_right::<$r2, { words::BITS - $r2 }>($x),
        )
    };
    (shift $x:ident [$r0:literal, $r1:literal, $shift:literal]) => {
        words::xor3(
            words::rotate_right::<$r0, { words::BITS - $r0 }>($x),
            words::rotate_right::<$r1, { words::BITS - $r1 }>($x),
            words::shift_right::<$shift>($x),
        )
    };
}
