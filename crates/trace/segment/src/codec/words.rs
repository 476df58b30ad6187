//! Numbers: the offset from the least one, byte by byte.

use crate::bytes::{Cursor, put_varint};
use crate::codec::plane::{Squeeze, read_plane};

/// All values are this one.
const SAME: u8 = 0;
/// The base, the factor and the planes, the lowest first.
const PLANES: u8 = 1;
/// Few values: each of them, then which one each is.
const PALETTE: u8 = 2;

/// The most numbers of a column: a wrong count must not ask for all of the memory.
const MAX_COUNT: usize = 1 << 28;

/// A value of a column of numbers.
pub(crate) trait Word: Copy + Ord {
    fn to_u64(self) -> u64;
    /// `None`: too large.
    fn from_u64(value: u64) -> Option<Self>;
    /// Of a number that is not too large.
    fn wrap(value: u64) -> Self;
}

macro_rules! word {
    ($($ty:ty)*) => {
        $(impl Word for $ty {
            #[inline]
            fn to_u64(self) -> u64 {
                u64::from(self)
            }

            #[inline]
            fn from_u64(value: u64) -> Option<Self> {
                Self::try_from(value).ok()
            }

            #[inline]
            fn wrap(value: u64) -> Self {
                value as Self
            }
        })*
    };
}

word! { u8 u32 u64 }

/// Appends numbers; the reader knows how many they are.
pub(crate) fn put_words<T: Word>(out: &mut Vec<u8>, squeeze: &mut Squeeze, values: &[T]) {
    let Some(&first) = values.first() else {
        return;
    };
    let (least, most) = (values.iter()).fold((first, first), |(least, most), value| {
        (least.min(*value), most.max(*value))
    });
    let (base, most) = (least.to_u64(), most.to_u64());
    if base == most {
        out.push(SAME);
        put_varint(out, base);
        return;
    }
    if width_of(most - base) > 1
        && let Some(palette) = Palette::of(values, base, most)
    {
        palette.put(out, squeeze, values);
        return;
    }
    let factor = factor(values, base, most);
    let width = width_of((most - base) / factor);
    out.push(PLANES);
    put_varint(out, base);
    put_varint(out, factor);
    out.push(width as u8);
    let quotients = quotients(values, base, factor);
    let mut plane = std::mem::take(&mut squeeze.plane);
    for k in 0..width {
        let shift = 8 * k;
        plane.clear();
        match &quotients {
            None => plane.extend(
                values
                    .iter()
                    .map(|value| ((value.to_u64() - base) >> shift) as u8),
            ),
            Some(quotients) => plane.extend(quotients.iter().map(|value| (value >> shift) as u8)),
        }
        squeeze.put_plane(out, &plane);
    }
    squeeze.plane = plane;
}

/// Reads numbers.
pub(crate) fn read_words<T: Word>(cursor: &mut Cursor<'_>, count: usize) -> Option<Vec<T>> {
    if count == 0 {
        return Some(Vec::new());
    }
    if count > MAX_COUNT {
        return None;
    }
    match cursor.byte()? {
        SAME => Some(vec![T::from_u64(cursor.varint()?)?; count]),
        PLANES => {
            let base = cursor.varint()?;
            let factor = cursor.varint()?;
            let width = cursor.byte()?;
            if !(1..=8).contains(&width) {
                return None;
            }
            let most = u64::MAX >> (64 - 8 * u32::from(width));
            let in_bounds = (most.checked_mul(factor))
                .and_then(|most| most.checked_add(base))
                .is_some_and(|most| T::from_u64(most).is_some());
            let first = read_plane(cursor, count)?;
            if width == 1 && in_bounds {
                let value = |byte: &u8| T::wrap(u64::from(*byte) * factor + base);
                return Some(first.iter().map(value).collect());
            }
            let mut sums: Vec<u64> = first.iter().map(|byte| u64::from(*byte)).collect();
            for k in 1..u32::from(width) {
                let plane = read_plane(cursor, count)?;
                for (sum, byte) in sums.iter_mut().zip(plane.iter()) {
                    *sum |= u64::from(*byte) << (8 * k);
                }
            }
            if in_bounds {
                let value = |sum: u64| T::wrap(sum * factor + base);
                return Some(sums.into_iter().map(value).collect());
            }
            // The largest ones come here, and numbers that nobody has written.
            (sums.into_iter())
                .map(|sum| T::from_u64(sum.checked_mul(factor)?.checked_add(base)?))
                .collect()
        }
        PALETTE => {
            let colours = Palette::read::<T>(cursor)?;
            let plane = read_plane(cursor, count)?;
            (plane.iter())
                .map(|index| colours.get(*index as usize).copied())
                .collect()
        }
        _ => None,
    }
}

/// How many bytes a number needs.
const fn width_of(value: u64) -> u32 {
    (64 - value.leading_zeros()).div_ceil(8)
}

/// Clocks that tick in micro- or milliseconds make all offsets multiples of a power of ten.
fn factor<T: Word>(values: &[T], base: u64, most: u64) -> u64 {
    match most - base {
        MILLION.. if are_multiples::<MILLION, T>(values, base) => MILLION,
        THOUSAND.. if are_multiples::<THOUSAND, T>(values, base) => THOUSAND,
        _ => 1,
    }
}

const THOUSAND: u64 = 1_000;
const MILLION: u64 = 1_000_000;

/// To divide by a number that the compiler knows takes a tenth of the time.
fn are_multiples<const FACTOR: u64, T: Word>(values: &[T], base: u64) -> bool {
    (values.iter()).all(|value| (value.to_u64() - base).is_multiple_of(FACTOR))
}

/// The offsets from the base by the factor; none if that is one.
fn quotients<T: Word>(values: &[T], base: u64, factor: u64) -> Option<Vec<u64>> {
    let offsets = values.iter().map(|value| value.to_u64() - base);
    match factor {
        THOUSAND => Some(offsets.map(|offset| offset / THOUSAND).collect()),
        MILLION => Some(offsets.map(|offset| offset / MILLION).collect()),
        _ => None,
    }
}

/// The values of a column that has at most 256.
struct Palette {
    /// Ascending.
    colours: Vec<u64>,
    places: Places,
}

/// Where a value's index in [`Palette::colours`] stands; [`FREE`] where nothing is.
enum Places {
    /// By the distance from the least value: codes of dictionaries lie close together.
    Direct { base: u64, indices: Vec<u16> },
    /// Open addressing: a value and its index.
    Hashed(Vec<(u64, u16)>),
}

const TABLE_SIZE: usize = 1024;
const FREE: u16 = 256;
/// Values that lie further apart are hashed.
const MAX_DIRECT: u64 = 1 << 15;

impl Palette {
    /// Of values from `base` to `last`. `None` if there are too many, or too many for so few rows.
    fn of<T: Word>(values: &[T], base: u64, last: u64) -> Option<Self> {
        let most = 256.min(values.len() / 4);
        let mut places = match last - base {
            range if range < MAX_DIRECT => Places::Direct {
                base,
                indices: vec![FREE; range as usize + 1],
            },
            _ => Places::Hashed(vec![(0, FREE); TABLE_SIZE]),
        };
        let mut colours = Vec::new();
        let mut before = None;
        for &value in values {
            if before == Some(value) {
                continue;
            }
            before = Some(value);
            let value = value.to_u64();
            if places.index(value) == FREE {
                if colours.len() == most {
                    return None;
                }
                places.set(value, 0);
                colours.push(value);
            }
        }
        colours.sort_unstable();
        for (index, &colour) in colours.iter().enumerate() {
            places.set(colour, index as u16);
        }
        Some(Self { colours, places })
    }

    fn put<T: Word>(&self, out: &mut Vec<u8>, squeeze: &mut Squeeze, values: &[T]) {
        out.push(PALETTE);
        put_varint(out, self.colours.len() as u64);
        let mut before = 0;
        for &colour in &self.colours {
            put_varint(out, colour - before);
            before = colour;
        }
        let mut plane = std::mem::take(&mut squeeze.plane);
        plane.clear();
        let index = |value: &T| self.places.index(value.to_u64()) as u8;
        plane.extend(values.iter().map(index));
        squeeze.put_plane(out, &plane);
        squeeze.plane = plane;
    }

    fn read<T: Word>(cursor: &mut Cursor<'_>) -> Option<Vec<T>> {
        let count = cursor.count()?;
        let mut before = 0_u64;
        (0..count)
            .map(|_| {
                before = before.checked_add(cursor.varint()?)?;
                T::from_u64(before)
            })
            .collect()
    }
}

impl Places {
    #[inline]
    fn index(&self, value: u64) -> u16 {
        match self {
            Self::Direct { base, indices } => indices[(value - base) as usize],
            Self::Hashed(table) => table[place(table, value)].1,
        }
    }

    fn set(&mut self, value: u64, index: u16) {
        match self {
            Self::Direct { base, indices } => indices[(value - *base) as usize] = index,
            Self::Hashed(table) => {
                let at = place(table, value);
                table[at] = (value, index);
            }
        }
    }
}

fn place(table: &[(u64, u16)], value: u64) -> usize {
    let mut at = crate::hash::hash_u64(0, value) as usize % TABLE_SIZE;
    while table[at].1 != FREE && table[at].0 != value {
        at = (at + 1) % TABLE_SIZE;
    }
    at
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn round_trip<T: Word + std::fmt::Debug>(values: &[T]) -> usize {
        let mut out = Vec::new();
        put_words(&mut out, &mut Squeeze::new(1), values);
        let mut cursor = Cursor(&out);
        let read = read_words(&mut cursor, values.len()).expect("what was written");
        assert_eq!(values, read);
        assert!(cursor.is_empty());
        out.len()
    }

    #[test]
    fn regular_numbers_take_little() {
        let noise = |i: u64| crate::hash::hash_u64(1, i);
        assert_eq!(round_trip(&[u64::MAX; 10_000]), 11);
        let ports: Vec<u64> = (0..10_000).map(|i| 8_000 + noise(i) % 3 * 80).collect();
        assert!(round_trip(&ports) < 10_000 / 3);
        let millis: Vec<u64> = (0..10_000)
            .map(|i| 1_760_000_000_000_000_000 + noise(i) % 60_000 * 1_000_000)
            .collect();
        assert!(round_trip(&millis) < 2 * 10_000 + 40);
        let extremes = [0, u64::MAX, 1, u64::MAX - 1, 1 << 63];
        round_trip(&extremes);
    }

    proptest! {
        #[test]
        fn all_numbers_round_trip(
            values in vec(any::<u64>(), 0..200),
            shift in 0..64_u32,
            repeat in 1..40_usize,
        ) {
            let values: Vec<u64> = values.iter().map(|value| value >> shift).collect();
            round_trip(&values);
            round_trip(&values.repeat(repeat));
            let small: Vec<u32> = values.iter().map(|value| *value as u32).collect();
            round_trip(&small);
        }

        #[test]
        fn damaged_numbers_never_panic(bytes in vec(any::<u8>(), 0..60), count in 0..100_usize) {
            let _numbers = read_words::<u32>(&mut Cursor(&bytes), count);
            let _numbers = read_words::<u64>(&mut Cursor(&bytes), count);
        }
    }
}
