//! The strings of several dictionaries, each once.

use super::error::MergeError;
use crate::ReadError;
use crate::build::{Entry, Interner};
use crate::codec::Squeeze;
use crate::codec::chunk::Chunk;
use crate::codec::dictionary::{Dictionary, put_dictionary};
use crate::encode::weight::LARGE;
use crate::read::Bytes;

/// The most bytes of the strings of one dictionary.
const MAX_TEXT_BYTES: usize = 64 << 20;

/// Strings that are being united.
pub(super) struct Uniting {
    strings: Interner,
    /// For each input, if it has a dictionary, for each of its codes the string's number.
    codes: Vec<Vec<u32>>,
    has_large: bool,
}

/// Strings with their new codes.
pub(super) struct United {
    strings: Interner,
    /// The strings' numbers, in the order of their codes.
    order: Vec<u32>,
    /// The code of each string's number.
    new: Vec<u32>,
    /// For each input, if it has a dictionary, the new code of each of its codes.
    codes: Vec<Vec<u32>>,
    /// Whether some strings are so large that they are weighed.
    pub(super) has_large: bool,
}

enum Fault {
    Read(ReadError),
    TooLarge,
}

impl From<ReadError> for Fault {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl Uniting {
    pub(super) fn new(inputs: usize) -> Self {
        Self {
            strings: Interner::new(0),
            codes: vec![Vec::new(); inputs],
            has_large: false,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.strings.len()
    }

    pub(super) fn text_bytes(&self) -> usize {
        self.strings.text_bytes()
    }

    pub(super) fn has_large(&self) -> bool {
        self.has_large
    }

    /// Adds the dictionary of an input; `check` says whether a string may be in it.
    pub(super) fn add(
        &mut self,
        input: usize,
        (dictionary, bytes): (&Dictionary, &Bytes),
        check: impl Fn(&[u8]) -> bool,
    ) -> Result<(), MergeError> {
        let mut codes = Vec::with_capacity(dictionary.len() as usize);
        let added = dictionary.each(bytes, |string| {
            if !check(string) {
                return Err(dictionary.nonsense().into());
            }
            codes.push(self.push(string).ok_or(Fault::TooLarge)?);
            Ok(())
        });
        added.map_err(|fault| match fault {
            Fault::Read(source) => MergeError::Read { input, source },
            Fault::TooLarge => MergeError::TooLarge,
        })?;
        self.codes[input] = codes;
        Ok(())
    }

    /// Adds a string; its number, if there is room.
    pub(super) fn push(&mut self, string: &[u8]) -> Option<u32> {
        self.has_large |= string.len() >= LARGE;
        match self.strings.find(string) {
            Entry::Known(number) => Some(number),
            Entry::Vacant(_) if string.len() + self.strings.text_bytes() > MAX_TEXT_BYTES => None,
            Entry::Vacant(slot) => Some(self.strings.insert(slot, string)),
        }
    }

    /// Codes in the order of the strings, so that a reader can look them up.
    pub(super) fn sorted(self) -> United {
        let mut order: Vec<u32> = (0..self.strings.len() as u32).collect();
        // Stable, since that is fast where each input brings strings that are sorted already.
        order.sort_by(|a, b| self.strings.get(*a).cmp(self.strings.get(*b)));
        self.with_order(order)
    }

    /// Codes in the order in which the strings came.
    pub(super) fn in_order(self) -> United {
        let order = (0..self.strings.len() as u32).collect();
        self.with_order(order)
    }

    fn with_order(self, order: Vec<u32>) -> United {
        let mut new = vec![0; order.len()];
        for (code, number) in (0..).zip(&order) {
            new[*number as usize] = code;
        }
        let mut codes = self.codes;
        for code in codes.iter_mut().flatten() {
            *code = new[*code as usize];
        }
        United {
            strings: self.strings,
            order,
            new,
            codes,
            has_large: self.has_large,
        }
    }
}

impl United {
    /// The new code of each code of an input's dictionary.
    pub(super) fn codes_of(&self, input: usize) -> &[u32] {
        &self.codes[input]
    }

    /// The code of a string that an input without a dictionary has.
    pub(super) fn find(&self, string: &[u8]) -> Option<u32> {
        match self.strings.find(string) {
            Entry::Known(number) => Some(self.new[number as usize]),
            Entry::Vacant(_) => None,
        }
    }

    /// The string of a code.
    pub(super) fn get(&self, code: u32) -> &[u8] {
        self.strings.get(self.order[code as usize])
    }

    /// How many strings there are.
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) fn put(&self, file: &mut Vec<u8>, squeeze: &mut Squeeze) -> Chunk {
        let strings = self.order.iter().map(|number| self.strings.get(*number));
        put_dictionary(file, squeeze, strings)
    }
}
