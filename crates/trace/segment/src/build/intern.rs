use crate::hash::{hash, same};

/// Numbers by the hash of what they stand for, in open addressing. What that is, the owner knows.
#[derive(Clone, Debug, Default)]
pub(super) struct HashIndex {
    /// The upper half of an entry is the hash, the lower half the number plus one. Zero is free.
    table: Vec<u64>,
    /// How many there are.
    len: usize,
}

/// What is found under a hash.
pub(crate) enum Entry {
    /// It is there.
    Known(u32),
    /// It is not; [`HashIndex::insert`] would put it here.
    Vacant(Slot),
}

/// A free place of the table, until the next change.
#[derive(Clone, Copy)]
pub(crate) struct Slot {
    at: usize,
    hash: u64,
}

impl HashIndex {
    /// Looks for a number with this hash; `is` says whether it is the one.
    #[inline]
    pub(super) fn find(&self, hash: u64, is: impl Fn(u32) -> bool) -> Entry {
        let hash = hash & UPPER;
        let Some(mask) = self.table.len().checked_sub(1) else {
            return Entry::Vacant(Slot { at: 0, hash });
        };
        let mut at = (hash >> 32) as usize & mask;
        loop {
            let entry = self.table[at];
            if entry == 0 {
                return Entry::Vacant(Slot { at, hash });
            }
            if entry & UPPER == hash {
                let number = (entry as u32) - 1;
                if is(number) {
                    return Entry::Known(number);
                }
            }
            at = (at + 1) & mask;
        }
    }

    /// Puts the next number where [`Self::find`] has found none.
    pub(super) fn insert(&mut self, mut slot: Slot) -> u32 {
        if (self.len + 1) * 2 > self.table.len() {
            self.fill((self.table.len() * 2).max(16), self.len);
            slot.at = self.free(slot.hash);
        }
        let number = self.len as u32;
        self.len += 1;
        self.table[slot.at] = slot.hash | u64::from(number + 1);
        number
    }

    /// Forgets all numbers from this one on.
    pub(super) fn truncate(&mut self, len: usize) {
        if len < self.len {
            self.fill(self.table.len(), len);
            self.len = len;
        }
    }

    /// A table of this size, with the numbers below this one.
    fn fill(&mut self, size: usize, len: usize) {
        let entries = std::mem::replace(&mut self.table, vec![0; size]);
        for entry in entries {
            if entry != 0 && entry as u32 as usize <= len {
                let at = self.free(entry & UPPER);
                self.table[at] = entry;
            }
        }
    }

    fn free(&self, hash: u64) -> usize {
        let mask = self.table.len() - 1;
        let mut at = (hash >> 32) as usize & mask;
        while self.table[at] != 0 {
            at = (at + 1) & mask;
        }
        at
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.table.capacity() * 8
    }
}

/// Byte strings, each kept once under a running number.
#[derive(Clone, Debug)]
pub(crate) struct Interner {
    seed: u64,
    arena: Vec<u8>,
    /// Where each string ends; one more than there are strings.
    ends: Vec<u32>,
    numbers: HashIndex,
}

impl Interner {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seed,
            arena: Vec::new(),
            ends: vec![0],
            numbers: HashIndex::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len() - 1
    }

    /// All bytes of all strings.
    pub(crate) fn text_bytes(&self) -> usize {
        self.arena.len()
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.arena.capacity() + self.ends.capacity() * 4 + self.numbers.heap_bytes()
    }

    #[inline]
    pub(crate) fn get(&self, code: u32) -> &[u8] {
        let code = code as usize;
        &self.arena[self.ends[code] as usize..self.ends[code + 1] as usize]
    }

    /// A string that is known to be text.
    pub(crate) fn text(&self, code: u32) -> &str {
        str::from_utf8(self.get(code)).unwrap_or_default()
    }

    #[inline]
    pub(crate) fn find(&self, bytes: &[u8]) -> Entry {
        let hash = hash(self.seed, bytes);
        (self.numbers).find(hash, |code| same(self.get(code), bytes))
    }

    /// Whether these bytes can be added: places in the arena are 32-bit numbers.
    #[inline]
    pub(crate) fn has_room(&self, bytes: &[u8]) -> bool {
        fits(&self.arena, bytes)
    }

    /// Puts a string where [`Self::find`] has not found it. There must be room for it.
    pub(crate) fn insert(&mut self, slot: Slot, bytes: &[u8]) -> u32 {
        self.arena.extend_from_slice(bytes);
        self.ends.push(self.arena.len() as u32);
        self.numbers.insert(slot)
    }

    /// The number of bytes that need not be text.
    #[inline]
    pub(crate) fn intern(&mut self, bytes: &[u8]) -> Result<u32, Reject> {
        match self.find(bytes) {
            Entry::Known(code) => Ok(code),
            Entry::Vacant(_) if !self.has_room(bytes) => Err(Reject::Full),
            Entry::Vacant(slot) => Ok(self.insert(slot, bytes)),
        }
    }

    /// The number of a text; what is new is checked for being one, unless the caller knows.
    #[inline]
    pub(crate) fn intern_text<const CHECK: bool>(&mut self, bytes: &[u8]) -> Result<u32, Reject> {
        match self.find(bytes) {
            Entry::Known(code) => Ok(code),
            Entry::Vacant(_) if !self.has_room(bytes) => Err(Reject::Full),
            Entry::Vacant(slot) => {
                check_text::<CHECK>(bytes)?;
                Ok(self.insert(slot, bytes))
            }
        }
    }

    /// Forgets all strings from this number on.
    pub(crate) fn truncate(&mut self, len: usize) {
        if len >= self.len() {
            return;
        }
        self.ends.truncate(len + 1);
        self.arena
            .truncate(self.ends.last().map_or(0, |end| *end as usize));
        self.numbers.truncate(len);
    }
}

/// Why something cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reject {
    /// A text is not UTF-8.
    NotUtf8,
    /// There is no room left.
    Full,
    /// A value lies in too many arrays and maps.
    TooDeep,
}

#[inline]
pub(crate) fn check_text<const CHECK: bool>(bytes: &[u8]) -> Result<(), Reject> {
    if CHECK && str::from_utf8(bytes).is_err() {
        return Err(Reject::NotUtf8);
    }
    Ok(())
}

/// Whether an arena can take these bytes.
#[inline]
pub(crate) const fn fits(arena: &[u8], bytes: &[u8]) -> bool {
    bytes.len() <= u32::MAX as usize - arena.len()
}

const UPPER: u64 = 0xffff_ffff_0000_0000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_string_has_one_number() {
        let mut strings = Interner::new(7);
        for round in 0..2 {
            for n in 0..10_000_u32 {
                let code = strings.intern(n.to_string().as_bytes());
                assert_eq!(code, Ok(n), "round {round}");
            }
        }
        assert_eq!(strings.len(), 10_000);
        assert_eq!(strings.get(77), b"77");
    }

    #[test]
    fn what_is_truncated_is_forgotten() {
        let mut strings = Interner::new(7);
        for n in 0..1_000_u32 {
            strings.intern(n.to_string().as_bytes()).expect("room");
        }
        strings.truncate(10);
        assert_eq!(strings.len(), 10);
        assert_eq!(strings.text_bytes(), 10);
        assert_eq!(strings.intern(b"3"), Ok(3));
        assert_eq!(strings.intern(b"500"), Ok(10));
        assert_eq!(strings.intern_text::<true>(b""), Ok(11));
        assert_eq!(strings.intern_text::<true>(b"\xff"), Err(Reject::NotUtf8));
    }
}
