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
        let mut codes = used.codes();
        codes.sort_unstable_by(|a, b| strings.get(*a).cmp(strings.get(*b)));
        Self::numbered(strings, codes)
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
