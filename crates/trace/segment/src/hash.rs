//! Hashes of short byte strings, in the manner of wyhash: two multiplications up to 16 bytes.

const K0: u64 = 0xa076_1d64_78bd_642f;
const K1: u64 = 0xe703_7ed1_a0b4_28db;

/// The product's halves, folded: each bit of the result depends on all bits of both.
#[inline]
const fn mix(a: u64, b: u64) -> u64 {
    let product = (a as u128).wrapping_mul(b as u128);
    product as u64 ^ (product >> 64) as u64
}

#[inline]
fn read8(bytes: &[u8]) -> u64 {
    match bytes.first_chunk() {
        Some(chunk) => u64::from_le_bytes(*chunk),
        None => 0,
    }
}

#[inline]
fn read4(bytes: &[u8]) -> u64 {
    match bytes.first_chunk() {
        Some(chunk) => u64::from(u32::from_le_bytes(*chunk)),
        None => 0,
    }
}

/// Whether two byte strings are the same. Most that are compared are short and are the same: to call
/// a function for it would take longer than to do it.
#[inline]
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    match a.len() {
        0..4 => a.iter().zip(b).all(|(a, b)| a == b),
        4..8 => a.first_chunk::<4>() == b.first_chunk() && a.last_chunk::<4>() == b.last_chunk(),
        8..=64 => {
            let (words_of_a, _) = a.as_chunks::<8>();
            let (words_of_b, _) = b.as_chunks::<8>();
            (words_of_a.iter().zip(words_of_b)).all(|(a, b)| a == b)
                && a.last_chunk::<8>() == b.last_chunk()
        }
        _ => a == b,
    }
}

/// The hash of bytes; tables in memory use it.
#[inline]
pub(crate) fn hash(seed: u64, bytes: &[u8]) -> u64 {
    let length = bytes.len();
    let mut seed = seed ^ K0;
    let (a, b) = match length {
        0 => (0, 0),
        1..4 => {
            let middle = u64::from(bytes[length / 2]) << 8;
            let last = u64::from(bytes[length - 1]);
            (u64::from(bytes[0]) << 16 | middle | last, 0)
        }
        4..8 => (read4(bytes), read4(&bytes[length - 4..])),
        8..=16 => (read8(bytes), read8(&bytes[length - 8..])),
        _ => {
            let mut rest = bytes;
            while rest.len() > 16 {
                seed = mix(read8(rest) ^ K1, read8(&rest[8..]) ^ seed);
                rest = &rest[16..];
            }
            (read8(&bytes[length - 16..]), read8(&bytes[length - 8..]))
        }
    };
    mix(K0 ^ length as u64, mix(a ^ K1, b ^ seed))
}

/// The hash of a number.
#[inline]
pub(crate) const fn hash_u64(seed: u64, value: u64) -> u64 {
    mix(value ^ K1, seed ^ K0)
}

/// The hash of a trace's id, by which the index and the filter know it.
#[inline]
pub(crate) const fn hash_trace(id: u128) -> u64 {
    mix(id as u64 ^ K0, (id >> 64) as u64 ^ K1)
}

/// How many bytes of a text its hash is taken of.
const HASHED_TEXT: usize = 256;

const FNV: u64 = 0xcbf2_9ce4_8422_2325;

#[inline]
const fn fnv(hash: u64, byte: u8) -> u64 {
    (hash ^ byte as u64).wrapping_mul(0x0000_0100_0000_01b3)
}

/// The hash of a text, by which filters of texts know it: of its first bytes FNV-1a, mixed with its
/// length.
#[inline]
pub(crate) fn hash_text(text: &[u8]) -> u64 {
    let [hash] = hash_texts([text]);
    hash
}

/// The hashes of texts. FNV-1a waits for a multiplication at each byte: several texts wait together.
#[inline]
pub(crate) fn hash_texts<const N: usize>(texts: [&[u8]; N]) -> [u64; N] {
    let hashed = texts.map(|text| &text[..text.len().min(HASHED_TEXT)]);
    let shared = hashed.iter().map(|text| text.len()).min().unwrap_or(0);
    let begins = hashed.map(|text| &text[..shared]);
    let mut hashes = [FNV; N];
    for at in 0..shared {
        for (hash, begin) in hashes.iter_mut().zip(&begins) {
            *hash = fnv(*hash, begin[at]);
        }
    }
    for ((hash, hashed), text) in hashes.iter_mut().zip(hashed).zip(texts) {
        let whole = hashed[shared..]
            .iter()
            .fold(*hash, |hash, byte| fnv(hash, *byte));
        *hash = mix(whole ^ K0, text.len() as u64 ^ K1);
    }
    hashes
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn hashes_differ_by_each_byte_and_by_length() {
        let mut seen = HashSet::new();
        for length in 0..64 {
            let mut bytes = vec![0; length];
            assert!(seen.insert(hash(1, &bytes)), "{length}");
            for at in 0..length {
                bytes[at] = 1;
                assert!(seen.insert(hash(1, &bytes)), "{length} {at}");
                bytes[at] = 0;
            }
        }
        assert_ne!(hash(1, b"a"), hash(2, b"a"));
    }

    #[test]
    fn strings_are_the_same_if_all_their_bytes_are() {
        let text: Vec<u8> = (0..100).collect();
        for length in 0..text.len() {
            let text = &text[..length];
            let mut other = text.to_vec();
            assert!(same(text, &other), "{length}");
            for at in 0..length {
                other[at] ^= 0x80;
                assert!(!same(text, &other), "{length} {at}");
                other[at] ^= 0x80;
            }
            other.push(0);
            assert!(!same(text, &other), "{length}");
        }
    }

    /// The filters of written segments depend on it.
    #[test]
    fn the_hash_of_texts_stays_as_it_is() {
        // FNV-1a's own test vectors, mixed.
        assert_eq!(hash_text(b""), mix(0xcbf2_9ce4_8422_2325 ^ K0, K1));
        assert_eq!(
            hash_text(b"foobar"),
            mix(0x8594_4171_f739_67e8 ^ K0, 6 ^ K1)
        );
        let long = [7; 300];
        assert_ne!(hash_text(&long), hash_text(&long[..299]));
        let texts = [b"foobar", &b""[..], &long, &long[..299]];
        assert_eq!(hash_texts(texts), texts.map(hash_text));
    }

    /// The trace index and filter of written segments depend on it.
    #[test]
    fn the_hash_of_traces_stays_as_it_is() {
        assert_eq!(hash_trace(0), 0x1ff5_c292_3a78_8d2c);
        assert_eq!(
            hash_trace(0x463a_c35c_9f64_13ad_4848_5a39_53bb_6124),
            0xecae_38b8_9f71_6ca0
        );
    }
}
