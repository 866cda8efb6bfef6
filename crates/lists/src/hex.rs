//! Bytes as lower-case hexadecimal, by table, and back.

const PAIRS: [[u8; 2]; 256] = pairs();

const fn pairs() -> [[u8; 2]; 256] {
    let digits = b"0123456789abcdef";
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [digits[byte >> 4], digits[byte & 15]];
        byte += 1;
    }
    pairs
}

/// Appends `bytes` to `out`.
pub fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    // One growth and one bounds check for all of them: this runs for every digest that is printed.
    let start = out.len();
    out.resize(start + 2 * bytes.len(), 0);
    let (pairs, _) = out[start..].as_chunks_mut::<2>();
    for (pair, &byte) in pairs.iter_mut().zip(bytes) {
        *pair = PAIRS[usize::from(byte)];
    }
}

/// `bytes` as text.
pub fn text(bytes: &[u8]) -> String {
    let mut text = Vec::new();
    encode(bytes, &mut text);
    String::from_utf8(text).expect("digits are ASCII")
}

/// The bytes of `text`, digits of either case, if it is nothing else.
pub fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let (pairs, []) = text.as_chunks::<2>() else { return None };
    pairs.iter().map(|&[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect()
}

fn digit(text: u8) -> Option<u8> {
    match text {
        b'0'..=b'9' => Some(text - b'0'),
        b'a'..=b'f' => Some(text - b'a' + 10),
        b'A'..=b'F' => Some(text - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_round_trips() {
        let bytes: Vec<u8> = (0..=255).collect();
        let mut text = Vec::new();
        encode(&bytes, &mut text);
        assert!(text.starts_with(b"000102") && text.ends_with(b"fdfeff"));
        assert_eq!(decode(&text), Some(bytes.clone()));
        assert_eq!(decode(&text.to_ascii_uppercase()), Some(bytes));
    }

    #[test]
    fn rejects_text_that_is_not_hexadecimal() {
        for text in ["0", "0g", "g0", " 0", "00 ", "+1"] {
            assert_eq!(decode(text.as_bytes()), None, "{text}");
        }
        assert_eq!(decode(b""), Some(vec![]));
    }
}
