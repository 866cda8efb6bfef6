//! Constants of the standards for hashes that absorb one block after the other: initial values, byte
//! order and the constants of SHA-2 (FIPS 180-4 for SHA, RFC 1321 for MD5).
//!
//! Words have 32 bits in blocks of [`BLOCK_LEN_32`] bytes, or 64 bits in blocks of [`BLOCK_LEN_64`].
//! Algorithms of a family differ in the initial value, and in how much of the last value is the
//! digest. A value has eight words; those that MD5 and SHA-1 do not have stay zero.

use ipc_proto::Algorithm;

/// Bytes of a block where words have 32 bits: SHA-256, SHA-224, SHA-1, MD5.
pub(super) const BLOCK_LEN_32: usize = 64;

/// Bytes of a block where words have 64 bits: SHA-512, SHA-384 and SHA-512/256.
pub(super) const BLOCK_LEN_64: usize = 128;

/// Byte order of words in the digest, and of the message's length in its last block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ByteOrder {
    /// The most significant byte first.
    Big,
    /// The least significant byte first.
    Little,
}

impl ByteOrder {
    pub(super) const fn of(algorithm: Algorithm) -> Self {
        if matches!(algorithm, Algorithm::Md5) { Self::Little } else { Self::Big }
    }
}

/// A word of either length.
pub(super) trait Word: Copy + Default + PartialEq {
    /// The initial hash value of an algorithm with such words.
    fn initial(algorithm: Algorithm) -> Option<[Self; 8]>;
    /// Writes its bytes to the start of `bytes`.
    fn put(self, order: ByteOrder, bytes: &mut [u8]);
    /// The word at the start of `bytes`, the least significant byte first.
    fn from_le(bytes: &[u8]) -> Self;
}

macro_rules! word {
    ($word:ty, $initial:path) => {
        impl Word for $word {
            fn initial(algorithm: Algorithm) -> Option<[Self; 8]> {
                $initial(algorithm)
            }

            fn put(self, order: ByteOrder, bytes: &mut [u8]) {
                let value = match order {
                    ByteOrder::Big => self.to_be_bytes(),
                    ByteOrder::Little => self.to_le_bytes(),
                };
                bytes[..value.len()].copy_from_slice(&value);
            }

            fn from_le(bytes: &[u8]) -> Self {
                Self::from_le_bytes(*bytes.first_chunk().expect("the bytes of a word"))
            }
        }
    };
}

word!(u32, initial_32);
word!(u64, initial_64);

/// The initial hash value where words have 32 bits (FIPS 180-4, sections 5.3.1 to 5.3.3; RFC 1321,
/// section 3.3).
#[rustfmt::skip]
pub(super) const fn initial_32(algorithm: Algorithm) -> Option<[u32; 8]> {
    match algorithm {
        Algorithm::Sha224 => Some([
            0xc105_9ed8, 0x367c_d507, 0x3070_dd17, 0xf70e_5939,
            0xffc0_0b31, 0x6858_1511, 0x64f9_8fa7, 0xbefa_4fa4,
        ]),
        Algorithm::Sha256 => Some([
            0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a,
            0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19,
        ]),
        Algorithm::Md5 => Some([0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0, 0, 0, 0]),
        Algorithm::Sha1 => {
            Some([0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0, 0, 0, 0])
        }
        Algorithm::Sha384
        | Algorithm::Sha512
        | Algorithm::Sha512_256
        | Algorithm::Blake3
        | Algorithm::Blake2b => None,
    }
}

/// The initial hash value where words have 64 bits (FIPS 180-4, sections 5.3.4, 5.3.5 and 5.3.6.2).
#[rustfmt::skip]
pub(super) const fn initial_64(algorithm: Algorithm) -> Option<[u64; 8]> {
    match algorithm {
        Algorithm::Sha384 => Some([
            0xcbbb_9d5d_c105_9ed8, 0x629a_292a_367c_d507, 0x9159_015a_3070_dd17, 0x152f_ecd8_f70e_5939,
            0x6733_2667_ffc0_0b31, 0x8eb4_4a87_6858_1511, 0xdb0c_2e0d_64f9_8fa7, 0x47b5_481d_befa_4fa4,
        ]),
        Algorithm::Sha512 => Some([
            0x6a09_e667_f3bc_c908, 0xbb67_ae85_84ca_a73b, 0x3c6e_f372_fe94_f82b, 0xa54f_f53a_5f1d_36f1,
            0x510e_527f_ade6_82d1, 0x9b05_688c_2b3e_6c1f, 0x1f83_d9ab_fb41_bd6b, 0x5be0_cd19_137e_2179,
        ]),
        Algorithm::Sha512_256 => Some([
            0x2231_2194_fc2b_f72c, 0x9f55_5fa3_c84c_64c2, 0x2393_b86b_6f53_b151, 0x9638_7719_5940_eabd,
            0x9628_3ee2_a88e_ffe3, 0xbe5e_1e25_5386_3992, 0x2b01_99fc_2c85_b8aa, 0x0eb7_2ddc_81c5_2ca2,
        ]),
        Algorithm::Sha224
        | Algorithm::Sha256
        | Algorithm::Blake3
        | Algorithm::Md5
        | Algorithm::Sha1
        | Algorithm::Blake2b => None,
    }
}

/// The constants of the 64 rounds (section 4.2.2), 16 in a row: the first halves of those that the
/// others have.
pub(super) static K_256: [[u32; 16]; 4] = {
    let mut halves = [[0; 16]; 4];
    let mut round = 0;
    while round < 64 {
        halves[round / 16][round % 16] = (K_512[round / 16][round % 16] >> 32) as u32;
        round += 1;
    }
    halves
};

/// The same, with the words of the block that pads a message of one block added (sections 5.1.1 and
/// 6.2.2).
#[cfg(target_arch = "x86_64")]
pub(super) static PADDING_256: [[u32; 16]; 4] = {
    let mut words = [0_u32; 64];
    words[0] = 1 << 31;
    // The length of such a message, in bits.
    words[15] = 16 * u32::BITS;
    let mut sums = K_256;
    let mut round = 0;
    while round < 64 {
        if round >= 16 {
            let (w2, w15) = (words[round - 2], words[round - 15]);
            let sigma_0 = w15.rotate_right(7) ^ w15.rotate_right(18) ^ w15 >> 3;
            let sigma_1 = w2.rotate_right(17) ^ w2.rotate_right(19) ^ w2 >> 10;
            let sum = words[round - 16].wrapping_add(words[round - 7]);
            words[round] = sum.wrapping_add(sigma_0).wrapping_add(sigma_1);
        }
        let sum = &mut sums[round / 16][round % 16];
        *sum = sum.wrapping_add(words[round]);
        round += 1;
    }
    sums
};

/// The constants of the 80 rounds (section 4.2.3), 16 in a row.
#[rustfmt::skip]
pub(super) static K_512: [[u64; 16]; 5] = [
    [
        0x428a_2f98_d728_ae22, 0x7137_4491_23ef_65cd, 0xb5c0_fbcf_ec4d_3b2f, 0xe9b5_dba5_8189_dbbc,
        0x3956_c25b_f348_b538, 0x59f1_11f1_b605_d019, 0x923f_82a4_af19_4f9b, 0xab1c_5ed5_da6d_8118,
        0xd807_aa98_a303_0242, 0x1283_5b01_4570_6fbe, 0x2431_85be_4ee4_b28c, 0x550c_7dc3_d5ff_b4e2,
        0x72be_5d74_f27b_896f, 0x80de_b1fe_3b16_96b1, 0x9bdc_06a7_25c7_1235, 0xc19b_f174_cf69_2694,
    ],
    [
        0xe49b_69c1_9ef1_4ad2, 0xefbe_4786_384f_25e3, 0x0fc1_9dc6_8b8c_d5b5, 0x240c_a1cc_77ac_9c65,
        0x2de9_2c6f_592b_0275, 0x4a74_84aa_6ea6_e483, 0x5cb0_a9dc_bd41_fbd4, 0x76f9_88da_8311_53b5,
        0x983e_5152_ee66_dfab, 0xa831_c66d_2db4_3210, 0xb003_27c8_98fb_213f, 0xbf59_7fc7_beef_0ee4,
        0xc6e0_0bf3_3da8_8fc2, 0xd5a7_9147_930a_a725, 0x06ca_6351_e003_826f, 0x1429_2967_0a0e_6e70,
    ],
    [
        0x27b7_0a85_46d2_2ffc, 0x2e1b_2138_5c26_c926, 0x4d2c_6dfc_5ac4_2aed, 0x5338_0d13_9d95_b3df,
        0x650a_7354_8baf_63de, 0x766a_0abb_3c77_b2a8, 0x81c2_c92e_47ed_aee6, 0x9272_2c85_1482_353b,
        0xa2bf_e8a1_4cf1_0364, 0xa81a_664b_bc42_3001, 0xc24b_8b70_d0f8_9791, 0xc76c_51a3_0654_be30,
        0xd192_e819_d6ef_5218, 0xd699_0624_5565_a910, 0xf40e_3585_5771_202a, 0x106a_a070_32bb_d1b8,
    ],
    [
        0x19a4_c116_b8d2_d0c8, 0x1e37_6c08_5141_ab53, 0x2748_774c_df8e_eb99, 0x34b0_bcb5_e19b_48a8,
        0x391c_0cb3_c5c9_5a63, 0x4ed8_aa4a_e341_8acb, 0x5b9c_ca4f_7763_e373, 0x682e_6ff3_d6b2_b8a3,
        0x748f_82ee_5def_b2fc, 0x78a5_636f_4317_2f60, 0x84c8_7814_a1f0_ab72, 0x8cc7_0208_1a64_39ec,
        0x90be_fffa_2363_1e28, 0xa450_6ceb_de82_bde9, 0xbef9_a3f7_b2c6_7915, 0xc671_78f2_e372_532b,
    ],
    [
        0xca27_3ece_ea26_619c, 0xd186_b8c7_21c0_c207, 0xeada_7dd6_cde0_eb1e, 0xf57d_4f7f_ee6e_d178,
        0x06f0_67aa_7217_6fba, 0x0a63_7dc5_a2c8_98a6, 0x113f_9804_bef9_0dae, 0x1b71_0b35_131c_471b,
        0x28db_77f5_2304_7d84, 0x32ca_ab7b_40c7_2493, 0x3c9e_be0a_15c9_bebc, 0x431d_67c4_9c10_0d4c,
        0x4cc5_d4be_cb3e_42b6, 0x597f_299c_fc65_7e2a, 0x5fcb_6fab_3ad6_faec, 0x6c44_198c_4a47_5817,
    ],
];
