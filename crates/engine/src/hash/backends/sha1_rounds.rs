//! The rounds of SHA-1 (FIPS 180-4, section 6.1.2) over vectors that hold the same word of every lane.

/// The constants of 20 rounds each (section 4.2.1).
pub(super) static K_SHA1: [u32; 4] = [0x5a82_7999, 0x6ed9_eba1, 0x8f1b_bcdc, 0xca62_c1d6];

/// Defines `compress_block`, as `sha2_rounds` does.
macro_rules! sha1_rounds {
    ($features:literal, $vector:ty) => {
        /// Absorbs a block in each lane. Never inline: between blocks the hash is in memory.
        #[inline(never)]
        #[target_feature(enable = $features)]
        fn compress_block(columns: &mut Columns<u32, LANES>, blocks: &[&Block; LANES]) {
            let mut message = words::load_big_endian(blocks);
            let mut hash = [0, 1, 2, 3, 4].map(|i| load(&columns.0[i]));
            twenty_rounds::<0>(&mut hash, &mut message);
            twenty_rounds::<1>(&mut hash, &mut message);
            twenty_rounds::<2>(&mut hash, &mut message);
            twenty_rounds::<3>(&mut hash, &mut message);
            for (column, hash) in columns.0.iter_mut().zip(hash) {
                store(column, words::add(load(column), hash));
            }
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn twenty_rounds<const PART: usize>(hash: &mut [$vector; 5], message: &mut [$vector; 16]) {
            // Five at a time, which the compiler unrolls: then all words are in registers.
            five_rounds::<PART, 0>(hash, message);
            five_rounds::<PART, 5>(hash, message);
            five_rounds::<PART, 10>(hash, message);
            five_rounds::<PART, 15>(hash, message);
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn five_rounds<const PART: usize, const FROM: usize>(
            hash: &mut [$vector; 5],
            message: &mut [$vector; 16],
        ) {
            for i in 20 * PART + FROM..20 * PART + FROM + 5 {
                if i >= 16 {
                    let [w0, w2, w8, w13] = [0, 2, 8, 13].map(|at| message[(i + at) % 16]);
                    let word = words::xor(words::xor3(w0, w2, w8), w13);
                    message[i % 16] = words::rotate_right::<31, 1>(word);
                }
                let [a, b, c, d, e] = *hash;
                let mixed = match PART {
                    0 => words::choose(b, c, d),
                    2 => words::majority(b, c, d),
                    _ => words::xor3(b, c, d),
                };
                let sum = words::add(words::add(e, words::splat(K_SHA1[PART])), message[i % 16]);
                let sum = words::add(words::add(sum, mixed), words::rotate_right::<27, 5>(a));
                *hash = [sum, a, words::rotate_right::<2, 30>(b), c, d];
            }
        }
    };
}
