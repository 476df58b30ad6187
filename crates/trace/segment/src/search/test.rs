//! Conditions on one value, prepared so that they cost little for each.

use periplus_filter::{Comparison, Literal, Scalar};

use super::bits::Bits;
use crate::ReadError;
use crate::hash::hash_text;

/// A comparison with a literal.
#[derive(Clone, Debug)]
pub(crate) struct Test {
    pub(crate) comparison: Comparison,
    pub(crate) literal: Literal,
}

impl Test {
    pub(crate) fn passes(&self, value: Scalar<'_>) -> bool {
        value.compares(self.comparison, &self.literal)
    }

    /// The only text that can pass, if there is only one.
    fn only_text(&self) -> Option<&str> {
        match (self.comparison, &self.literal) {
            (Comparison::Equal, Literal::String(text) | Literal::Untyped(text)) => Some(text),
            _ => None,
        }
    }

    /// The hash of the only text that can pass, if there is only one.
    pub(crate) fn only_hash(&self) -> Option<u64> {
        Some(hash_text(self.only_text()?.as_bytes()))
    }

    /// Whether these bytes, which are text, pass.
    pub(crate) fn passes_bytes(&self, bytes: &[u8]) -> bool {
        match self.only_text() {
            Some(text) => text.as_bytes() == bytes,
            None => str::from_utf8(bytes).is_ok_and(|text| self.passes(Scalar::Text(text))),
        }
    }

    /// The code that passes, if only one text can; looked up by `find`.
    pub(crate) fn only_code(&self, find: impl FnOnce(&[u8]) -> Option<u32>) -> Option<CodeSet> {
        let text = self.only_text()?;
        Some(find(text.as_bytes()).map_or(CodeSet::None, CodeSet::One))
    }

    /// The strings that pass.
    pub(crate) fn codes(&self, texts: &impl Texts) -> Result<CodeSet, ReadError> {
        if let Some(text) = self.only_text() {
            return Ok(match texts.find(text.as_bytes())? {
                Some(code) => CodeSet::One(code),
                None => CodeSet::None,
            });
        }
        CodeSet::of(texts.len(), |code| {
            Ok(self.passes(Scalar::Text(texts.text(code)?)))
        })
    }
}

/// Numbered strings that can be looked up.
pub(crate) trait Texts {
    fn len(&self) -> u32;
    fn find(&self, bytes: &[u8]) -> Result<Option<u32>, ReadError>;
    fn text(&self, code: u32) -> Result<&str, ReadError>;
}

/// A set of numbers of strings.
#[derive(Clone, Debug)]
pub(crate) enum CodeSet {
    None,
    All,
    One(u32),
    Some(Box<[bool]>),
}

impl CodeSet {
    /// Those of the numbers below `len` for which it holds.
    pub(crate) fn of(
        len: u32,
        mut holds: impl FnMut(u32) -> Result<bool, ReadError>,
    ) -> Result<Self, ReadError> {
        let set: Box<[bool]> = (0..len).map(&mut holds).collect::<Result<_, _>>()?;
        let mut members = set.iter().enumerate().filter(|(_, is)| **is);
        Ok(match (members.next(), members.next()) {
            (None, _) => Self::None,
            (Some((code, _)), None) if len > 1 => Self::One(code as u32),
            _ if set.iter().all(|is| *is) => Self::All,
            _ => Self::Some(set),
        })
    }

    /// Those of these codes, all below `len`, for which it holds; nothing is said of others.
    pub(crate) fn among(
        len: usize,
        codes: impl Iterator<Item = u32>,
        mut holds: impl FnMut(u32) -> bool,
    ) -> Self {
        let mut set = vec![false; len].into_boxed_slice();
        let mut asked = Bits::none(len);
        let mut any = false;
        for code in codes {
            let at = code as usize;
            if !asked.has(at) {
                asked.set(at);
                set[at] = holds(code);
                any |= set[at];
            }
        }
        if any { Self::Some(set) } else { Self::None }
    }

    #[inline]
    pub(crate) fn has(&self, code: u32) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::One(one) => *one == code,
            Self::Some(set) => set.get(code as usize).copied().unwrap_or_default(),
        }
    }
}

/// A condition on an integer.
#[derive(Clone, Debug)]
pub(crate) enum IntTest {
    Never,
    Always,
    /// From the first up to the second, both included.
    Within(i64, i64),
    AllBut(i64),
    /// Anything else.
    Each(Test),
}

impl IntTest {
    pub(crate) fn of(test: &Test) -> Self {
        let passes = |value: i64| test.passes(Scalar::Int(value));
        // The one integer that can be equal to the literal.
        let nearest = match &test.literal {
            Literal::Int(value) => Some(*value),
            Literal::Double(value) => Some(*value as i64),
            Literal::Untyped(text) => text.parse().ok(),
            _ => None,
        };
        match (test.comparison, nearest) {
            (Comparison::Equal, Some(value)) if passes(value) => Self::Within(value, value),
            (Comparison::Equal, _) => Self::Never,
            (Comparison::NotEqual, Some(value)) => {
                match (passes(value), passes(value.wrapping_add(1))) {
                    (_, false) => Self::Never,
                    (true, true) => Self::Always,
                    (false, true) => Self::AllBut(value),
                }
            }
            (Comparison::NotEqual, None) if passes(0) => Self::Always,
            (Comparison::NotEqual, None) => Self::Never,
            (Comparison::Less | Comparison::LessOrEqual, _) => match passes(i64::MIN) {
                true => Self::Within(i64::MIN, last(passes)),
                false => Self::Never,
            },
            (Comparison::Greater | Comparison::GreaterOrEqual, _) => match passes(i64::MAX) {
                // Turned around, what is greater is less.
                true => Self::Within(!last(|value| passes(!value)), i64::MAX),
                false => Self::Never,
            },
            _ => Self::Each(test.clone()),
        }
    }

    /// Whether some integer of these may pass.
    pub(crate) fn may_pass(&self, (first, last): (i64, i64)) -> bool {
        match self {
            Self::Never => false,
            Self::Always | Self::Each(_) => true,
            Self::Within(least, most) => *least <= last && first <= *most,
            Self::AllBut(other) => (first, last) != (*other, *other),
        }
    }

    #[inline]
    pub(crate) fn passes(&self, value: i64) -> bool {
        match self {
            Self::Never => false,
            Self::Always => true,
            Self::Within(least, most) => (*least..=*most).contains(&value),
            Self::AllBut(other) => value != *other,
            Self::Each(test) => test.passes(Scalar::Int(value)),
        }
    }
}

/// The last integer that passes, where the least one does and none does behind one that does not.
fn last(passes: impl Fn(i64) -> bool) -> i64 {
    let (mut low, mut high) = (i64::MIN, i64::MAX);
    while low < high {
        // Rounded up.
        let middle = (i128::from(low) + (i128::from(high) - i128::from(low) + 1) / 2) as i64;
        match passes(middle) {
            true => low = middle,
            false => high = middle - 1,
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn comparison() -> impl Strategy<Value = Comparison> {
        prop_oneof![
            Just(Comparison::Equal),
            Just(Comparison::NotEqual),
            Just(Comparison::Less),
            Just(Comparison::LessOrEqual),
            Just(Comparison::Greater),
            Just(Comparison::GreaterOrEqual),
            Just(Comparison::Contains),
        ]
    }

    fn int() -> impl Strategy<Value = i64> {
        prop_oneof![
            -3..3_i64,
            any::<i64>(),
            (0..3_i64).prop_map(|n| i64::MAX - n),
            (0..3_i64).prop_map(|n| i64::MIN + n),
            (-3..3_i64).prop_map(|n| (1 << 53) + n),
        ]
    }

    fn double() -> impl Strategy<Value = f64> {
        prop_oneof![
            int().prop_map(|int| int as f64),
            (-3..3_i64).prop_map(|int| int as f64 + 0.5),
            any::<u64>().prop_map(f64::from_bits),
            Just(f64::NAN),
            Just(f64::INFINITY),
        ]
    }

    fn literal() -> impl Strategy<Value = Literal> {
        prop_oneof![
            int().prop_map(Literal::Int),
            double().prop_map(Literal::Double),
            int().prop_map(|int| Literal::Untyped(int.to_string())),
            double().prop_map(|double| Literal::Untyped(double.to_string())),
            any::<bool>().prop_map(Literal::Bool),
            Just(Literal::Untyped("x".to_owned())),
            Just(Literal::String("1".to_owned())),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn a_prepared_condition_is_the_condition(
            comparison in comparison(),
            literal in literal(),
            values in proptest::collection::vec(int(), 20),
        ) {
            let test = Test { comparison, literal };
            let prepared = IntTest::of(&test);
            for value in values {
                let expected = test.passes(Scalar::Int(value));
                prop_assert_eq!(prepared.passes(value), expected, "{:?} {:?}", test, prepared);
            }
        }
    }
}
