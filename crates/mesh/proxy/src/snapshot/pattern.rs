//! Regular expressions, and how the conditions of a route compare.

use periplus_cel::re2::translated;
use regex::bytes::{Regex, RegexBuilder};

use super::{HeaderMatch, PathMatch, ValueMatch};

/// The most memory that one compiled expression may take.
const SIZE_LIMIT: usize = 256 * 1024;

/// A regular expression that must match a whole text, as Envoy's `safe_regex` does.
#[derive(Clone, Debug)]
pub struct Pattern {
    source: String,
    compiled: Regex,
}

impl Pattern {
    /// The expression as it was written.
    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    /// The text that whatever matches begins with, as far as that is plain to see.
    pub(crate) fn prefix(&self) -> String {
        let source = self.source.strip_prefix('^').unwrap_or(&self.source);
        if has_alternatives(source) {
            return String::new();
        }
        let mut text = String::new();
        let mut rest = source.chars();
        while let Some(next) = rest.next() {
            let literal = match next {
                '\\' => rest.next().filter(char::is_ascii_punctuation),
                '.' | '+' | '*' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '^' | '$' | '|' => None,
                plain => Some(plain),
            };
            let Some(literal) = literal else { break };
            // What may be there no time at all is no part of it.
            let times = rest.as_str().trim_start_matches('+');
            if times.starts_with(['*', '?', '{']) {
                break;
            }
            text.push(literal);
            if rest.as_str().starts_with('+') {
                break;
            }
        }
        text
    }

    /// Compiles an expression; the error says what is wrong with it.
    pub fn new(source: &str) -> Result<Self, String> {
        let compiled = RegexBuilder::new(&whole(source)?)
            .size_limit(SIZE_LIMIT)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self {
            source: source.to_owned(),
            compiled,
        })
    }

    /// Whether it matches all of the text.
    pub fn matches(&self, text: &[u8]) -> bool {
        self.compiled.is_match(text)
    }
}

/// An expression that matches a whole text where this one does, as RE2 does for Envoy; the error says what is wrong with it.
pub(crate) fn whole(source: &str) -> Result<String, String> {
    Ok(format!(r"\A(?:{})\z", translated(source)?))
}

/// Whether an expression may be one of several: whoever is in doubt says so.
fn has_alternatives(source: &str) -> bool {
    // Parentheses within brackets are none.
    if source.contains('[') && source.contains('|') {
        return true;
    }
    let (mut depth, mut escaped) = (0_usize, false);
    for next in source.chars() {
        match next {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            '|' if depth == 0 => return true,
            _ => {}
        }
    }
    false
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Pattern {}

/// `RegexMatchAndSubstitute`: each match of an expression becomes something else.
#[derive(Clone, Debug)]
pub struct Replacement {
    source: String,
    compiled: Regex,
    /// With `${1}` for Envoy's `\\1`.
    substitution: String,
}

impl Replacement {
    /// Compiles an expression and what replaces its matches, in RE2's notation (`\\1` is the first group, `\\\\`
    /// a backslash); the error says what is wrong.
    pub fn new(source: &str, substitution: &str) -> Result<Self, String> {
        let compiled = RegexBuilder::new(&translated(source)?)
            .size_limit(SIZE_LIMIT)
            .build()
            .map_err(|error| error.to_string())?;
        let mut translated = String::new();
        let mut characters = substitution.chars();
        while let Some(character) = characters.next() {
            match character {
                '$' => translated.push_str("$$"),
                '\\' => match characters.next() {
                    Some('\\') => translated.push('\\'),
                    Some(digit @ '0'..='9') => {
                        let group = digit as usize - '0' as usize;
                        if group >= compiled.captures_len() {
                            return Err(format!("there is no group {group}"));
                        }
                        translated.push_str(&format!("${{{group}}}"));
                    }
                    _ => {
                        return Err("a backslash must be followed by a digit or another one".into());
                    }
                },
                other => translated.push(other),
            }
        }
        Ok(Self {
            source: format!("{source} -> {substitution}"),
            compiled,
            substitution: translated,
        })
    }

    /// The text with all matches replaced.
    pub fn apply(&self, text: &[u8]) -> Vec<u8> {
        self.compiled
            .replace_all(text, self.substitution.as_bytes())
            .into_owned()
    }
}

impl PartialEq for Replacement {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Replacement {}

impl PathMatch {
    /// How many bytes of a path that matches are what `prefix_rewrite` replaces.
    pub(crate) fn matched(&self, path: &[u8]) -> usize {
        match self {
            Self::Prefix(prefix) | Self::PathSeparatedPrefix(prefix) => prefix.len(),
            Self::IgnoringCase(inner) => inner.matched(path),
            Self::Exact(_) | Self::Regex(_) | Self::Connect => path.len(),
        }
    }

    /// Whether a path, without its query, meets the condition.
    pub fn matches(&self, path: &[u8]) -> bool {
        match self {
            Self::Prefix(prefix) => path.starts_with(prefix.as_bytes()),
            Self::Exact(exact) => path == exact.as_bytes(),
            Self::PathSeparatedPrefix(prefix) => path
                .strip_prefix(prefix.as_bytes())
                .is_some_and(|rest| rest.is_empty() || rest[0] == b'/'),
            Self::Regex(pattern) => pattern.matches(path),
            Self::Connect => false,
            Self::IgnoringCase(inner) => match &**inner {
                Self::Exact(exact) => path.eq_ignore_ascii_case(exact.as_bytes()),
                Self::Prefix(prefix) => starts_with_ignoring_case(path, prefix),
                Self::PathSeparatedPrefix(prefix) => {
                    starts_with_ignoring_case(path, prefix)
                        && matches!(path.get(prefix.len()), None | Some(b'/'))
                }
                other => other.matches(path),
            },
        }
    }
}

fn starts_with_ignoring_case(text: &[u8], prefix: &str) -> bool {
    text.get(..prefix.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
}

fn is_in_ignoring_case(text: &str, value: &[u8]) -> bool {
    text.is_empty()
        || value
            .windows(text.len())
            .any(|part| part.eq_ignore_ascii_case(text.as_bytes()))
}

impl ValueMatch {
    /// Whether the value of a header that is there meets the condition.
    #[inline(always)]
    pub fn matches(&self, value: &[u8]) -> bool {
        match self {
            Self::Present => true,
            Self::Exact(exact) => value == exact.as_bytes(),
            Self::Prefix(prefix) => value.starts_with(prefix.as_bytes()),
            _ => self.matches_rarely(value),
        }
    }

    fn matches_rarely(&self, value: &[u8]) -> bool {
        match self {
            Self::Present | Self::Exact(_) | Self::Prefix(_) => self.matches(value),
            Self::Suffix(suffix) => value.ends_with(suffix.as_bytes()),
            Self::Contains(text) => memchr::memmem::find(value, text.as_bytes()).is_some(),
            Self::Regex(pattern) => pattern.matches(value),
            Self::Range(from, to) => std::str::from_utf8(value)
                .ok()
                .and_then(|value| value.parse().ok())
                .is_some_and(|value: i64| (*from..*to).contains(&value)),
            Self::IgnoringCase(inner) => match &**inner {
                Self::Exact(exact) => value.eq_ignore_ascii_case(exact.as_bytes()),
                Self::Prefix(prefix) => starts_with_ignoring_case(value, prefix),
                Self::Suffix(suffix) => value
                    .len()
                    .checked_sub(suffix.len())
                    .is_some_and(|at| value[at..].eq_ignore_ascii_case(suffix.as_bytes())),
                Self::Contains(text) => is_in_ignoring_case(text, value),
                other => other.matches(value),
            },
        }
    }
}

impl HeaderMatch {
    /// Whether the condition holds, given the values of the header's lines: one of them must be what is asked for, and if
    /// it is inverted none. As one list they would hide each other, so that a client could add a line to get by
    /// (Envoy's since 1.39, `match_headers_individually`).
    #[inline]
    pub fn matches_lines<'a>(&self, mut values: impl Iterator<Item = &'a [u8]>) -> bool {
        match values.next() {
            None => self.matches(None),
            Some(first) => {
                let any =
                    self.value.matches(first) || values.any(|value| self.value.matches(value));
                any != self.invert
            }
        }
    }

    /// Whether the condition holds, given the header's one value.
    ///
    /// As in Envoy, an absent header never meets a condition on a value, inverted or not; it does meet
    /// the inverted condition that it be there.
    pub fn matches(&self, value: Option<&[u8]>) -> bool {
        let value = match value {
            None if self.missing_is_empty => Some(&b""[..]),
            value => value,
        };
        match (value, &self.value) {
            (Some(value), condition) => condition.matches(value) != self.invert,
            (None, ValueMatch::Present) => self.invert,
            (None, _) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let any_case = |inner| PathMatch::IgnoringCase(Box::new(inner));
        let regex = PathMatch::Regex(Pattern::new("/v[12]|/x").expect("valid"));
        let cases = [
            (PathMatch::Prefix("/a".into()), "/ab", true),
            (PathMatch::Prefix("/a".into()), "/b", false),
            (PathMatch::Exact("/a".into()), "/a", true),
            (PathMatch::Exact("/a".into()), "/a/", false),
            (PathMatch::PathSeparatedPrefix("/a".into()), "/a", true),
            (PathMatch::PathSeparatedPrefix("/a".into()), "/a/b", true),
            (PathMatch::PathSeparatedPrefix("/a".into()), "/ab", false),
            (regex.clone(), "/v1", true),
            (regex.clone(), "/x", true),
            (regex.clone(), "/v1/more", false),
            (regex, "more/x", false),
            (any_case(PathMatch::Prefix("/A".into())), "/ab", true),
            (any_case(PathMatch::Prefix("/ab".into())), "/a", false),
            (any_case(PathMatch::Exact("/a".into())), "/A", true),
            (
                any_case(PathMatch::PathSeparatedPrefix("/a".into())),
                "/A/b",
                true,
            ),
            (
                any_case(PathMatch::PathSeparatedPrefix("/a".into())),
                "/Ab",
                false,
            ),
        ];
        for (condition, path, expected) in cases {
            assert_eq!(
                condition.matches(path.as_bytes()),
                expected,
                "{condition:?} on {path}"
            );
        }
    }

    #[test]
    fn headers() {
        let header = |value, invert| HeaderMatch {
            name: "end-user".into(),
            value,
            invert,
            missing_is_empty: false,
        };
        let jason = || ValueMatch::Exact("jason".into());
        let cases = [
            (header(jason(), false), Some("jason"), true),
            (header(jason(), false), Some("jasons"), false),
            (header(jason(), false), None, false),
            (header(jason(), true), Some("jason"), false),
            (header(jason(), true), Some("other"), true),
            (header(jason(), true), None, false),
            (header(ValueMatch::Present, false), Some(""), true),
            (header(ValueMatch::Present, false), None, false),
            (header(ValueMatch::Present, true), None, true),
            (header(ValueMatch::Present, true), Some("x"), false),
            (
                header(ValueMatch::Prefix("ja".into()), false),
                Some("jason"),
                true,
            ),
            (
                header(ValueMatch::Suffix("on".into()), false),
                Some("jason"),
                true,
            ),
            (
                header(ValueMatch::Contains("aso".into()), false),
                Some("jason"),
                true,
            ),
            (
                header(ValueMatch::Contains("asx".into()), false),
                Some("jason"),
                false,
            ),
        ];
        for (condition, value, expected) in cases {
            let holds = condition.matches(value.map(str::as_bytes));
            assert_eq!(holds, expected, "{condition:?} on {value:?}");
        }
    }

    #[test]
    fn values_of_any_case_and_numbers() {
        let any_case = |inner| ValueMatch::IgnoringCase(Box::new(inner));
        for (condition, value, expected) in [
            (any_case(ValueMatch::Exact("Jason".into())), "jASON", true),
            (any_case(ValueMatch::Exact("Jason".into())), "jASONs", false),
            (any_case(ValueMatch::Prefix("JA".into())), "jason", true),
            (any_case(ValueMatch::Suffix("ON".into())), "jason", true),
            (
                any_case(ValueMatch::Suffix("a jason".into())),
                "jason",
                false,
            ),
            (any_case(ValueMatch::Contains("ASO".into())), "jason", true),
            (any_case(ValueMatch::Contains("ASX".into())), "jason", false),
            (ValueMatch::Range(-1, 3), "-1", true),
            (ValueMatch::Range(-1, 3), "3", false),
            (ValueMatch::Range(-1, 3), "2x", false),
        ] {
            assert_eq!(
                condition.matches(value.as_bytes()),
                expected,
                "{condition:?}"
            );
        }
    }

    #[test]
    fn replacements_are_in_the_notation_of_re2() {
        for (regex, substitution, text, expected) in [
            (
                "^/service/([^/]+)(/.*)$",
                r"\2/instance/\1",
                "/service/foo/v1/api",
                "/v1/api/instance/foo",
            ),
            ("one", "two", "/xxx/one/yyy/one/zzz", "/xxx/two/yyy/two/zzz"),
            ("a", r"$1\\", "a", r"$1\"),
            ("x", "y", "abc", "abc"),
        ] {
            let replacement = Replacement::new(regex, substitution).expect("valid");
            let made = replacement.apply(text.as_bytes());
            assert_eq!(String::from_utf8_lossy(&made), expected);
        }
        assert!(Replacement::new("a", r"\1").is_err());
        assert!(Replacement::new("a", r"\x").is_err());
        assert!(Replacement::new("(", "").is_err());
    }

    #[test]
    fn expressions_that_do_not_compile_or_are_too_large_are_errors() {
        assert!(Pattern::new("(").is_err());
        assert!(Pattern::new("a)?(").is_err());
        assert!(Pattern::new("(a{1000}){1000}").is_err());
    }

    #[test]
    fn expressions_are_those_of_re2() {
        for (source, text, expected) in [
            (r"\d+", "42", true),
            (r"\d", "٣", false),
            (r"\D", "٣", true),
            (r"\w", "é", false),
            (r"[^\w]", "é", true),
            (r"[\w\s-]+", "a b-c", true),
            (r"[\W]", "é", true),
            (r"\s", "\u{b}", false),
            (r"\S", "\u{a0}", true),
            (r"a\bé", "aé", true),
            (r"a\B.", "aé", false),
            (r"\<a\>", "<a>", true),
            (r"\<+", "<<", true),
            // Texts are characters all the same.
            ("é.", "é€", true),
            ("[é-ï]", "ê", true),
            (r"\pL", "é", true),
        ] {
            let pattern = Pattern::new(source).expect("valid");
            assert_eq!(
                pattern.matches(text.as_bytes()),
                expected,
                "{source} {text}"
            );
        }
        let replacement = Replacement::new(r"\w", "x").expect("valid");
        assert_eq!(replacement.apply("aé".as_bytes()), "xé".as_bytes());
    }
}
