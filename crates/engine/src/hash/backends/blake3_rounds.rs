//! BLAKE3 (paper, section 2.2) over vectors that hold the same word of every lane: the rounds, and what is
//! around them for vectors without mask registers.

/// Defines `state` and `rounds`. The module that invokes it has `words32`, the operations of its vectors,
/// `Operands` with the `words` of the blocks, and `rotate_d` and `rotate_b` for the two halves of the
/// quarter-round.
macro_rules! blake3_rounds {
    ($features:literal, $vector:ty) => {
        /// The state before the rounds. The last three are its end.
        #[inline]
        #[target_feature(enable = $features)]
        fn state(value: &[$vector; 8], [counters, lens, flags]: [$vector; 3]) -> [[$vector; 4]; 4] {
            let [h0, h1, h2, h3, h4, h5, h6, h7] = *value;
            let [iv0, iv1, iv2, iv3, ..] = IV.map(|word| splat(word));
            [
                [h0, h1, h2, h3],
                [h4, h5, h6, h7],
                [iv0, iv1, iv2, iv3],
                [counters, splat(0), lens, flags],
            ]
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn rounds(state: &mut [[$vector; 4]; 4], operands: &Operands) {
            round::<0>(state, operands);
            round::<1>(state, operands);
            round::<2>(state, operands);
            round::<3>(state, operands);
            round::<4>(state, operands);
            round::<5>(state, operands);
            round::<6>(state, operands);
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn round<const ROUND: usize>(state: &mut [[$vector; 4]; 4], operands: &Operands) {
            let schedule = &SCHEDULE[ROUND];
            // In memory from round to round: there are too few registers for the state and all of them.
            // Besides, a rotation that the compiler knows is moved before the exclusive or, to both
            // operands.
            let operands = black_box(operands);
            let words = |from: usize| array::from_fn(|i| operands.words[schedule[from + 2 * i]]);
            half::<0, true>(state, operands, words(0));
            half::<0, false>(state, operands, words(1));
            half::<1, true>(state, operands, words(8));
            half::<1, false>(state, operands, words(9));
        }

        /// Half of the quarter-round, on the four columns, or with `DIAGONAL` 1 on the diagonals:
        /// interleaved, because each step waits for the one before it.
        #[inline]
        #[target_feature(enable = $features)]
        fn half<const DIAGONAL: usize, const IS_FIRST: bool>(
            [a, b, c, d]: &mut [[$vector; 4]; 4],
            operands: &Operands,
            words: [$vector; 4],
        ) {
            for i in 0..4 {
                a[i] = words32::add(words32::add(a[i], words[i]), b[(i + DIAGONAL) % 4]);
            }
            for i in 0..4 {
                let d = &mut d[(i + 3 * DIAGONAL) % 4];
                *d = rotate_d::<IS_FIRST>(words32::xor(*d, a[i]), operands);
            }
            for i in 0..4 {
                let c = &mut c[(i + 2 * DIAGONAL) % 4];
                *c = words32::add(*c, d[(i + 3 * DIAGONAL) % 4]);
            }
            for i in 0..4 {
                let b = &mut b[(i + DIAGONAL) % 4];
                *b = rotate_b::<IS_FIRST>(words32::xor(*b, c[(i + 2 * DIAGONAL) % 4]));
            }
        }
    };
}

/// Defines `hash_chunks` and `hash_parents`. The module that invokes it has, besides the rounds, `operands` of
/// some blocks, `values`, which takes the lanes apart, and the operations of vectors that it names alone.
macro_rules! blake3_lanes {
    ($features:literal, $vector:ty) => {
        #[target_feature(enable = $features)]
        fn hash_chunks(chunks: &mut Chunks<'_, LANES>) -> [Value; LANES] {
            let Chunks { bodies, rests, lens, counters, ends, tails } = chunks;
            for ((tail, body), rest) in tails.iter_mut().zip(&*bodies).zip(rests) {
                if body.is_empty() || !rest.is_empty() {
                    *tail = [0; BLOCK_LEN];
                    tail[..rest.len()].copy_from_slice(rest);
                }
            }
            let lasts = lens.map(|len| len.div_ceil(64).max(1) - 1);
            let last_lens = array::from_fn(|lane| lens[lane] - 64 * lasts[lane]);
            let longest = lasts.iter().max().map_or(0, |&last| last);
            let words: [&[u32; LANES]; 4] = [&lasts, &last_lens, counters, ends];
            let [lasts, last_lens, counters, ends] = words.map(|words| load(words));
            let mut value = IV.map(|word| splat(word));
            let mut flags = splat(CHUNK_START);
            for at in 0..=longest {
                let blocks =
                    array::from_fn(|lane| bodies[lane].get(at as usize).unwrap_or(&tails[lane]));
                let now = splat(at);
                let is_last = is_equal(lasts, now);
                let is_done = is_greater(now, lasts);
                let lens = select(is_last, last_lens, splat(64));
                flags = or(flags, and(ends, is_last));
                compress(&mut value, is_done, &blocks, [counters, lens, flags]);
                flags = splat(0);
            }
            values(value)
        }

        #[target_feature(enable = $features)]
        fn hash_parents(Parents { blocks, flags }: &Parents<'_, LANES>) -> [Value; LANES] {
            let mut value = IV.map(|word| splat(word));
            compress(&mut value, splat(0), blocks, [splat(0), splat(64), load(flags)]);
            values(value)
        }

        /// Absorbs a block in the lanes that are not done. The last three are the end of the state.
        ///
        /// Never inline: with the value in memory, the state has the registers for itself.
        #[inline(never)]
        #[target_feature(enable = $features)]
        fn compress(
            value: &mut [$vector; 8],
            is_done: $vector,
            blocks: &[&Block; LANES],
            ends: [$vector; 3],
        ) {
            let operands = operands(blocks);
            let mut state = state(value, ends);
            rounds(&mut state, &operands);
            let [a, b, c, d] = state;
            for i in 0..4 {
                value[i] = select(is_done, value[i], xor(a[i], c[i]));
                value[i + 4] = select(is_done, value[i + 4], xor(b[i], d[i]));
            }
        }
    };
}
