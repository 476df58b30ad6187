use crate::build::Interner;
use crate::codec::Squeeze;
use crate::codec::chunk::Chunk;
use crate::codec::dictionary::put_dictionary;

/// New numbers for the strings of a builder that a segment uses.
pub(super) struct Codes {
    /// The builder's numbers of the used strings, in the order of their new ones.
    used: Vec<u32>,
    /// From the builder's number to the new one.
    new: Vec<u32>,
}

impl Codes {
    /// Numbers in the order of the strings, so that a reader can look them up.
    pub(super) fn sorted(strings: &Interner, used: &Used) -> Self {
        Self::numbered(strings, sorted(strings, used.codes()))
    }

    /// Numbers in the order in which the strings came.
    pub(super) fn in_order(strings: &Interner, used: &Used) -> Self {
        Self::numbered(strings, used.codes())
    }

    fn numbered(strings: &Interner, used: Vec<u32>) -> Self {
        let mut new = vec![0; strings.len()];
        for (number, code) in (0..).zip(&used) {
            new[*code as usize] = number;
        }
        Self { used, new }
    }

    #[inline]
    pub(super) fn of(&self, code: u32) -> u32 {
        self.new[code as usize]
    }

    /// Writes the strings.
    pub(super) fn put(&self, file: &mut Vec<u8>, squeeze: &mut Squeeze, from: &Interner) -> Chunk {
        put_dictionary(file, squeeze, self.used.iter().map(|code| from.get(*code)))
    }
}

/// Which strings are used.
pub(super) struct Used(Vec<bool>);

impl Used {
    /// All of them.
    pub(super) fn all(strings: &Interner) -> Self {
        Self(vec![true; strings.len()])
    }

    pub(super) fn none(strings: &Interner) -> Self {
        Self(vec![false; strings.len()])
    }

    #[inline]
    pub(super) fn mark(&mut self, code: u32) {
        self.0[code as usize] = true;
    }

    pub(super) fn count(&self) -> usize {
        self.0.iter().filter(|used| **used).count()
    }

    fn codes(&self) -> Vec<u32> {
        (0..)
            .zip(&self.0)
            .filter(|(_, used)| **used)
            .map(|(code, _)| code)
            .collect()
    }
}

/// The numbers of strings, each of which is there once, in the order of the strings.
fn sorted(strings: &Interner, codes: Vec<u32>) -> Vec<u32> {
    let mut keyed: Vec<(u64, u32)> = codes.into_iter().map(|code| (0, code)).collect();
    sort(strings, &mut keyed, 0);
    keyed.into_iter().map(|(_, code)| code).collect()
}

/// Sorts strings that are the same up to a depth. Strings of one column begin alike, and lie far from
/// each other in memory: a few bytes of each are fetched once, and those compared.
fn sort(strings: &Interner, keyed: &mut [(u64, u32)], depth: usize) {
    if keyed.len() <= FEW || depth >= MAX_DEPTH {
        keyed.sort_unstable_by(|(_, a), (_, b)| strings.get(*a).cmp(strings.get(*b)));
        return;
    }
    for (key, code) in keyed.iter_mut() {
        *key = key_at(strings.get(*code), depth);
    }
    keyed.sort_unstable();
    for same in keyed.chunk_by_mut(|(a, _), (b, _)| a == b) {
        if same.len() > 1 {
            sort(strings, same, depth + KEY_BYTES);
        }
    }
}

/// So few strings are compared as they are.
const FEW: usize = 8;

/// Strings that are the same up to here are compared as they are: each level is a call in the one
/// before.
const MAX_DEPTH: usize = 64 * KEY_BYTES;

const KEY_BYTES: usize = 7;

/// The next bytes of a string, and how many they are, or that there are more: in this order a string
/// comes before those that it is the beginning of, whatever bytes follow.
fn key_at(string: &[u8], depth: usize) -> u64 {
    let rest = string.get(depth..).unwrap_or_default();
    let mut bytes = [0; 8];
    let count = rest.len().min(KEY_BYTES);
    bytes[..count].copy_from_slice(&rest[..count]);
    bytes[KEY_BYTES] = rest.len().min(KEY_BYTES + 1) as u8;
    u64::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;

    use super::*;

    fn is_sorted(strings: &[Vec<u8>]) {
        let mut interner = Interner::new(1);
        for string in strings {
            interner.intern(string).expect("room");
        }
        let codes = sorted(&interner, (0..strings.len() as u32).collect());
        let found: Vec<&[u8]> = codes.iter().map(|code| interner.get(*code)).collect();
        let mut expected: Vec<&[u8]> = strings.iter().map(|string| &string[..]).collect();
        expected.sort_unstable();
        assert_eq!(found, expected);
    }

    #[test]
    fn strings_that_begin_alike_are_sorted_at_any_depth() {
        for shared in [0, 6, 7, 8, 447, 448, 449, 10_000] {
            let strings: Vec<Vec<u8>> = (0..40_u8)
                .map(|n| {
                    [
                        &vec![7; shared][..],
                        &vec![0; usize::from(n % 20)],
                        &[n; 1][..usize::from(n / 20)],
                    ]
                    .concat()
                })
                .collect();
            is_sorted(&strings);
        }
    }

    proptest! {
        #[test]
        fn strings_are_sorted(strings in btree_set(vec(0..3_u8, 0..30), 0..200)) {
            let strings: Vec<Vec<u8>> = strings.into_iter().collect();
            is_sorted(&strings.into_iter().rev().collect::<Vec<_>>());
        }
    }
}
