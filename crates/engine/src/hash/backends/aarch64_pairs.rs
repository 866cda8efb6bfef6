//! SHA-2 by the instructions of ARMv8, two messages at once: the second is hashed in the gaps of the
//! first, as each of these instructions waits for the one before it.
//!
//! Invariant: a lane reads only its blocks.

/// Defines the `row` of a kernel. The module that invokes it has its `rounds`, over the parts of the hash
/// and the words of both lanes.
macro_rules! aarch64_pairs {
    (
        $name:literal: $family:ident, $proof:ty, $features:literal, $compress_one:expr,
        [$word:ty; $per_vector:literal], [$vector:ident; $parts:literal], $constants:ident,
        $add:ident, $load:ident, $store:ident, $from_bytes:expr
    ) => {
        const LANES: usize = 2;

        type Block = [u8; BLOCK_LEN];

        pub(super) fn row(_proof: $proof) -> Row {
            let compress = |columns: &mut Columns<$word, LANES>, blocks: &Blocks<'_, _, LANES>| {
                // SAFETY: a proof exists only after `detect` saw every feature that is enabled below.
                unsafe { compress(columns, blocks) }
            };
            lanes_row($name, Family::$family, compress, $compress_one)
        }

        /// Absorbs the blocks of both lanes, equally many of each.
        #[target_feature(enable = $features)]
        fn compress(columns: &mut Columns<$word, LANES>, blocks: &Blocks<'_, BLOCK_LEN, LANES>) {
            let mut states = [columns.state(0), columns.state(1)];
            let mut hash = states.each_ref().map(|state| {
                let (parts, _) = state.as_chunks();
                array::from_fn(|part| load(&parts[part]))
            });
            let blocks_len = blocks.iter().map(|blocks| blocks.len()).min().unwrap_or(0);
            for i in 0..blocks_len {
                let before = hash;
                let mut words = blocks.map(|blocks| load_words(&blocks[i]));
                let [first @ .., last] = &$constants;
                for constants in first {
                    rounds::<true>(&mut hash, &mut words, constants);
                }
                rounds::<false>(&mut hash, &mut words, last);
                for (hash, before) in hash.as_flattened_mut().iter_mut().zip(before.as_flattened())
                {
                    *hash = $add(*hash, *before);
                }
            }
            for (lane, (state, hash)) in states.iter_mut().zip(hash).enumerate() {
                state.as_chunks_mut().0.iter_mut().zip(hash).for_each(|(to, part)| store(to, part));
                columns.set_state(lane, *state);
            }
        }

        /// The 16 words of a block.
        #[inline]
        #[target_feature(enable = $features)]
        fn load_words(block: &Block) -> [$vector; 2 * $parts] {
            let (vectors, _) = block.as_chunks::<16>();
            array::from_fn(|at| {
                // SAFETY: each of them is 16 bytes that can be read, at any alignment.
                let bytes = unsafe { vld1q_u8(vectors[at].as_ptr()) };
                $from_bytes(bytes)
            })
        }

        #[inline]
        #[target_feature(enable = "neon")]
        fn load(from: &[$word; $per_vector]) -> $vector {
            // SAFETY: `from` is 16 bytes that can be read.
            unsafe { $load(from.as_ptr()) }
        }

        #[inline]
        #[target_feature(enable = "neon")]
        fn store(to: &mut [$word; $per_vector], register: $vector) {
            // SAFETY: `to` is 16 bytes that can be written.
            unsafe { $store(to.as_mut_ptr(), register) }
        }
    };
}
