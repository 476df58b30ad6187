/// A set of rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bits {
    words: Vec<u64>,
    len: usize,
}

impl Bits {
    pub(crate) fn none(len: usize) -> Self {
        Self {
            words: vec![0; len.div_ceil(64)],
            len,
        }
    }

    pub(crate) fn all(len: usize) -> Self {
        let mut all = Self {
            words: vec![u64::MAX; len.div_ceil(64)],
            len,
        };
        if let (Some(last), rest @ 1..) = (all.words.last_mut(), len % 64) {
            *last = (1 << rest) - 1;
        }
        all
    }

    /// The rows for which it holds.
    pub(crate) fn of<T: Copy>(values: &[T], holds: impl Fn(T) -> bool) -> Self {
        let word = |values: &[T]| {
            (values.iter().enumerate()).fold(0_u64, |word, (i, value)| {
                word | u64::from(holds(*value)) << i
            })
        };
        Self {
            words: values.chunks(64).map(word).collect(),
            len: values.len(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn set(&mut self, row: usize) {
        if let Some(word) = self.words.get_mut(row / 64) {
            *word |= 1 << (row % 64);
        }
    }

    pub(crate) fn has(&self, row: usize) -> bool {
        (self.words.get(row / 64)).is_some_and(|word| word >> (row % 64) & 1 == 1)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    pub(crate) fn and(&mut self, other: &Self) {
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word &= other;
        }
    }

    pub(crate) fn or(&mut self, other: &Self) {
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word |= other;
        }
    }

    pub(crate) fn without(&mut self, other: &Self) {
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word &= !other;
        }
    }

    /// How many rows.
    pub(crate) fn count(&self) -> u64 {
        (self.words.iter())
            .map(|word| u64::from(word.count_ones()))
            .sum()
    }

    /// The rows, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> {
        self.words.iter().enumerate().flat_map(|(at, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
                rest &= rest - 1;
                Some(at * 64 + bit)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_any_length_behave() {
        for len in [0, 1, 63, 64, 65, 200] {
            let rows: Vec<usize> = (0..len).collect();
            let even = Bits::of(&rows, |row| row % 2 == 0);
            assert_eq!(
                even.iter().collect::<Vec<_>>(),
                (0..len).step_by(2).collect::<Vec<_>>()
            );
            let mut odd = Bits::all(len);
            odd.without(&even);
            assert!((0..len).all(|row| odd.has(row) == (row % 2 == 1)));
            let mut both = odd.clone();
            both.or(&even);
            assert_eq!(both, Bits::all(len));
            both.and(&odd);
            assert_eq!(both, odd);
            odd.and(&even);
            assert!(odd.is_empty());
            assert_eq!(odd, Bits::none(len));
        }
    }
}
