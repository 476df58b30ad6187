use crate::hash::same;
use crate::schema::Type;

use super::intern::{Entry, Interner, Reject, check_text, fits};

/// The values of one attribute key and type, in the order of arrival.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    /// The key's number.
    pub(crate) key: u32,
    pub(crate) ty: Type,
    pub(crate) values: Values,
}

#[derive(Clone, Debug)]
pub(crate) enum Values {
    /// Values that say nothing but that they are there: how many.
    Nothing(u32),
    Bools(Vec<u8>),
    Words(Vec<u64>),
    Bytes(Strings),
}

impl Values {
    pub(crate) fn new(ty: Type, seed: u64) -> Self {
        match ty {
            Type::Empty => Self::Nothing(0),
            Type::Bool => Self::Bools(Vec::new()),
            Type::Int | Type::Double => Self::Words(Vec::new()),
            Type::Text | Type::Bytes | Type::Nested | Type::Residual => {
                Self::Bytes(Strings::new(seed))
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Nothing(count) => *count as usize,
            Self::Bools(values) => values.len(),
            Self::Words(values) => values.len(),
            Self::Bytes(values) => values.len(),
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            Self::Nothing(_) => 0,
            Self::Bools(values) => values.capacity(),
            Self::Words(values) => values.capacity() * 8,
            Self::Bytes(values) => values.heap_bytes(),
        }
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        match self {
            Self::Nothing(count) => *count = (*count).min(len as u32),
            Self::Bools(values) => values.truncate(len),
            Self::Words(values) => values.truncate(len),
            Self::Bytes(values) => values.truncate(len),
        }
    }
}

/// Byte strings: by a dictionary while they repeat, one after the other when most are new.
#[derive(Clone, Debug)]
pub(crate) enum Strings {
    Dictionary { words: Interner, codes: Vec<u32> },
    Plain { arena: Vec<u8>, ends: Vec<u32> },
}

/// A column is looked at again each time that it has this many values more.
const LOOK_EVERY: usize = 8192;

/// What a column's last value was, as a guess for the next one.
pub(crate) const NO_GUESS: u32 = u32::MAX;

impl Strings {
    fn new(seed: u64) -> Self {
        Self::Dictionary {
            words: Interner::new(seed),
            codes: Vec::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Dictionary { codes, .. } => codes.len(),
            Self::Plain { ends, .. } => ends.len() - 1,
        }
    }

    #[inline]
    pub(crate) fn get(&self, at: u32) -> &[u8] {
        match self {
            Self::Dictionary { words, codes } => words.get(codes[at as usize]),
            Self::Plain { arena, ends } => {
                let at = at as usize;
                &arena[ends[at] as usize..ends[at + 1] as usize]
            }
        }
    }

    /// Adds a value and returns its place. The guess is a code that the value may have.
    #[inline]
    pub(crate) fn push<const CHECK: bool>(
        &mut self,
        bytes: &[u8],
        guess: &mut u32,
    ) -> Result<u32, Reject> {
        match self {
            Self::Dictionary { words, codes } => {
                let code = if *guess != NO_GUESS && same(words.get(*guess), bytes) {
                    *guess
                } else {
                    match words.find(bytes) {
                        Entry::Known(code) => code,
                        Entry::Vacant(_) if !words.has_room(bytes) => return Err(Reject::Full),
                        Entry::Vacant(slot) => {
                            check_text::<CHECK>(bytes)?;
                            words.insert(slot, bytes)
                        }
                    }
                };
                *guess = code;
                let at = codes.len() as u32;
                codes.push(code);
                if codes.len() % LOOK_EVERY == 0 && words.len() * 2 > codes.len() {
                    self.make_plain();
                }
                Ok(at)
            }
            Self::Plain { arena, ends } => {
                if !fits(arena, bytes) {
                    return Err(Reject::Full);
                }
                check_text::<CHECK>(bytes)?;
                arena.extend_from_slice(bytes);
                ends.push(arena.len() as u32);
                Ok(ends.len() as u32 - 2)
            }
        }
    }

    /// Gives the dictionary up, if all values one after the other have room.
    fn make_plain(&mut self) {
        let Self::Dictionary { words, codes } = self else {
            return;
        };
        let mut arena = Vec::new();
        let mut ends = Vec::with_capacity(codes.len() * 2);
        ends.push(0);
        for &code in codes.iter() {
            let bytes = words.get(code);
            if !fits(&arena, bytes) {
                return;
            }
            arena.extend_from_slice(bytes);
            ends.push(arena.len() as u32);
        }
        *self = Self::Plain { arena, ends };
    }

    fn truncate(&mut self, len: usize) {
        match self {
            Self::Dictionary { words, codes } => {
                codes.truncate(len);
                // Codes are given in the order of first use.
                let used = codes.iter().max().map_or(0, |code| *code as usize + 1);
                words.truncate(used);
            }
            Self::Plain { arena, ends } => {
                ends.truncate(len + 1);
                arena.truncate(ends.last().map_or(0, |end| *end as usize));
            }
        }
    }

    fn heap_bytes(&self) -> usize {
        match self {
            Self::Dictionary { words, codes } => words.heap_bytes() + codes.capacity() * 4,
            Self::Plain { arena, ends } => arena.capacity() + ends.capacity() * 4,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(strings: &mut Strings, bytes: &[u8]) -> u32 {
        strings
            .push::<true>(bytes, &mut { NO_GUESS })
            .expect("room")
    }

    #[test]
    fn values_keep_their_places_when_the_dictionary_goes() {
        let mut strings = Strings::new(1);
        for n in 0..3 * LOOK_EVERY as u32 {
            assert_eq!(push(&mut strings, format!("v{n}").as_bytes()), n);
        }
        assert!(matches!(strings, Strings::Plain { .. }));
        for n in [0, 1, 8191, 8192, 20_000] {
            assert_eq!(strings.get(n), format!("v{n}").as_bytes());
        }
        strings.truncate(100);
        assert_eq!(strings.len(), 100);
        assert_eq!(push(&mut strings, b"next"), 100);
        assert_eq!(strings.get(99), b"v99");
    }

    #[test]
    fn a_truncated_dictionary_has_only_what_is_used() {
        let mut strings = Strings::new(1);
        for word in [b"a", b"b", b"a", b"c"] {
            push(&mut strings, word);
        }
        strings.truncate(3);
        assert_eq!(push(&mut strings, b"d"), 3);
        let Strings::Dictionary { words, codes } = &strings else {
            panic!("few values stay in a dictionary");
        };
        assert_eq!(words.len(), 3);
        assert_eq!(codes, &[0, 1, 0, 2]);
    }

    #[test]
    fn only_text_is_taken_as_text() {
        let mut strings = Strings::new(1);
        let bad = strings.push::<true>(b"\xff", &mut { NO_GUESS });
        assert_eq!(bad, Err(Reject::NotUtf8));
        assert_eq!(strings.push::<false>(b"\xff", &mut { NO_GUESS }), Ok(0));
    }
}
