//! Base64 (RFC 4648) of the values that JSON carries as text.

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Appends `bytes` in the standard alphabet, padded.
pub(crate) fn push(out: &mut Vec<u8>, bytes: &[u8]) {
    for chunk in bytes.chunks(3) {
        let word = chunk
            .iter()
            .fold(0_u32, |word, &byte| (word << 8) | u32::from(byte));
        let word = word << (8 * (3 - chunk.len()));
        let digits = [18, 12, 6, 0].map(|shift| STANDARD[(word >> shift) as usize & 63]);
        let used = chunk.len() + 1;
        out.extend_from_slice(&digits[..used]);
        out.extend_from_slice(&b"=="[..4 - used]);
    }
}

/// Decodes either alphabet, padded or not. None if the text is not base64.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=').as_bytes();
    if text.len() - digits.len() > 2 || digits.len() % 4 == 1 {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    for chunk in digits.chunks(4) {
        let mut word = 0_u32;
        for &digit in chunk {
            word = (word << 6) | u32::from(value(digit)?);
        }
        let word = (word << (6 * (4 - chunk.len()))).to_be_bytes();
        bytes.extend_from_slice(&word[1..chunk.len()]);
    }
    Some(bytes)
}

const fn value(digit: u8) -> Option<u8> {
    match digit {
        b'A'..=b'Z' => Some(digit - b'A'),
        b'a'..=b'z' => Some(digit - b'a' + 26),
        b'0'..=b'9' => Some(digit - b'0' + 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_vectors_of_rfc_4648() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            let mut out = Vec::new();
            push(&mut out, bytes.as_bytes());
            assert_eq!(out, text.as_bytes());
            assert_eq!(decode(text), Some(bytes.into()));
            assert_eq!(decode(text.trim_end_matches('=')), Some(bytes.into()));
        }
        assert_eq!(decode("-_-_"), decode("+/+/"));
        for bad in ["A", "AAAAA", "AA===", "AA A", "A=AA", "é="] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_read_back(bytes: Vec<u8>) {
            let mut out = Vec::new();
            push(&mut out, &bytes);
            let text = String::from_utf8(out).expect("base64 is ASCII");
            prop_assert_eq!(decode(&text), Some(bytes));
        }
    }
}
