//! The rounds of MD5 (RFC 1321, section 3.4) over vectors that hold the same word of every lane.

/// The constants of the 64 steps, 16 per round: 2^32 times the sine of the step's number.
#[rustfmt::skip]
pub(super) static K_MD5: [[u32; 16]; 4] = [
    [
        0xd76a_a478, 0xe8c7_b756, 0x2420_70db, 0xc1bd_ceee, 0xf57c_0faf, 0x4787_c62a, 0xa830_4613, 0xfd46_9501,
        0x6980_98d8, 0x8b44_f7af, 0xffff_5bb1, 0x895c_d7be, 0x6b90_1122, 0xfd98_7193, 0xa679_438e, 0x49b4_0821,
    ],
    [
        0xf61e_2562, 0xc040_b340, 0x265e_5a51, 0xe9b6_c7aa, 0xd62f_105d, 0x0244_1453, 0xd8a1_e681, 0xe7d3_fbc8,
        0x21e1_cde6, 0xc337_07d6, 0xf4d5_0d87, 0x455a_14ed, 0xa9e3_e905, 0xfcef_a3f8, 0x676f_02d9, 0x8d2a_4c8a,
    ],
    [
        0xfffa_3942, 0x8771_f681, 0x6d9d_6122, 0xfde5_380c, 0xa4be_ea44, 0x4bde_cfa9, 0xf6bb_4b60, 0xbebf_bc70,
        0x289b_7ec6, 0xeaa1_27fa, 0xd4ef_3085, 0x0488_1d05, 0xd9d4_d039, 0xe6db_99e5, 0x1fa2_7cf8, 0xc4ac_5665,
    ],
    [
        0xf429_2244, 0x432a_ff97, 0xab94_23a7, 0xfc93_a039, 0x655b_59c3, 0x8f0c_cc92, 0xffef_f47d, 0x8584_5dd1,
        0x6fa8_7e4f, 0xfe2c_e6e0, 0xa301_4314, 0x4e08_11a1, 0xf753_7e82, 0xbd3a_f235, 0x2ad7_d2bb, 0xeb86_d391,
    ],
];

/// Defines `compress_block`, as `sha2_rounds` does.
macro_rules! md5_rounds {
    ($features:literal, $vector:ty) => {
        /// Absorbs a block in each lane. Never inline: between blocks the hash is in memory.
        #[inline(never)]
        #[target_feature(enable = $features)]
        fn compress_block(columns: &mut Columns<u32, LANES>, blocks: &[&Block; LANES]) {
            let message = words::load_little_endian(blocks);
            let mut hash = [0, 1, 2, 3].map(|i| load(&columns.0[i]));
            for i in [0, 4, 8, 12] {
                md5_rounds!(steps hash message i 0: 25 7, 20 12, 15 17, 10 22);
            }
            for i in [0, 4, 8, 12] {
                md5_rounds!(steps hash message i 1: 27 5, 23 9, 18 14, 12 20);
            }
            for i in [0, 4, 8, 12] {
                md5_rounds!(steps hash message i 2: 28 4, 21 11, 16 16, 9 23);
            }
            for i in [0, 4, 8, 12] {
                md5_rounds!(steps hash message i 3: 26 6, 22 10, 17 15, 11 21);
            }
            for (column, hash) in columns.0.iter_mut().zip(hash) {
                store(column, words::add(load(column), hash));
            }
        }

        /// One step, with a rotation by `LEFT` bits, which is right by `RIGHT`.
        #[inline]
        #[target_feature(enable = $features)]
        fn step<const ROUND: usize, const RIGHT: i32, const LEFT: i32>(
            [a, b, c, d]: [$vector; 4],
            message: &[$vector; 16],
            i: usize,
        ) -> [$vector; 4] {
            let (mixed, word) = match ROUND {
                0 => (words::choose(b, c, d), i),
                1 => (words::choose(d, b, c), 5 * i + 1),
                2 => (words::xor3(b, c, d), 3 * i + 5),
                _ => (words::xor(c, words::choose(d, b, words::splat(!0))), 7 * i),
            };
            let constant = words::splat(K_MD5[ROUND][i]);
            let sum = words::add(words::add(a, constant), message[word % 16]);
            let rotated = words::rotate_right::<RIGHT, LEFT>(words::add(sum, mixed));
            [d, words::add(b, rotated), b, c]
        }
    };
    (steps $hash:ident $message:ident $i:ident $round:literal:
        $r0:literal $l0:literal, $r1:literal $l1:literal,
        $r2:literal $l2:literal, $r3:literal $l3:literal
    ) => {
        $hash = step::<$round, $r0, $l0>($hash, &$message, $i);
        $hash = step::<$round, $r1, $l1>($hash, &$message, $i + 1);
        $hash = step::<$round, $r2, $l2>($hash, &$message, $i + 2);
        $hash = step::<$round, $r3, $l3>($hash, &$message, $i + 3);
    };
}
