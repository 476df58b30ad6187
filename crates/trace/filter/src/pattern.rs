use std::fmt;
use std::sync::Arc;

use regex::{Regex, RegexBuilder};
use thiserror::Error;

/// The most memory that a compiled pattern may take, in bytes.
const MAX_PROGRAM_BYTES: usize = 1 << 20;

/// The longest pattern, in bytes.
const MAX_PATTERN_BYTES: usize = 4 << 10;

/// A regular expression that must match all of a text, as in TraceQL: `GET` does not match `GET /`,
/// `GET.*` does.
///
/// The syntax is that of the `regex` crate, nearly RE2's: `(?i)` ignores case, there are neither
/// look-around nor back references, and the time to match is linear in the text. It is compiled
/// once, when it is made; copies share it.
#[derive(Clone)]
pub struct Pattern {
    text: Arc<str>,
    regex: Regex,
}

/// A pattern that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PatternError {
    /// It is no regular expression.
    #[error("'{pattern}' is no regular expression: {reason}")]
    Invalid {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It is too long, or takes too much memory.
    #[error(
        "the regular expression '{pattern}…' is too large: use a shorter one, or fewer repetitions"
    )]
    TooLarge {
        /// How the pattern begins.
        pattern: String,
    },
}

impl Pattern {
    /// Compiles a pattern.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        let too_large = || PatternError::TooLarge {
            pattern: text.chars().take(40).collect(),
        };
        if text.len() > MAX_PATTERN_BYTES {
            return Err(too_large());
        }
        let compile = |text: &str| {
            let mut builder = RegexBuilder::new(text);
            builder
                .size_limit(MAX_PROGRAM_BYTES)
                .dfa_size_limit(MAX_PROGRAM_BYTES);
            builder.build()
        };
        let failed = |error| match error {
            regex::Error::CompiledTooBig(_) => too_large(),
            error => PatternError::Invalid {
                pattern: text.to_owned(),
                reason: last_line(&error.to_string()),
            },
        };
        // By itself first: with the anchors around it `a)(b` would be one.
        compile(text).map_err(failed)?;
        let regex = compile(&format!(r"\A(?:{text})\z")).map_err(failed)?;
        Ok(Self {
            text: text.into(),
            regex,
        })
    }

    /// Where `*` stands for any text, as in `GET*`, and everything else for itself.
    pub fn wildcard(text: &str) -> Result<Self, PatternError> {
        let parts: Vec<String> = text.split('*').map(regex::escape).collect();
        Self::new(&format!("(?s){}", parts.join(".*")))
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it matches all of the text.
    pub fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }
}

/// The parser draws the pattern with a caret below it; what is wrong is said at the end.
fn last_line(error: &str) -> String {
    let line = error.lines().last().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_all_of_a_text() {
        let cases = [
            ("GET", "GET /", false),
            ("GET.*", "GET /", true),
            ("a|ab", "ab", true),
            ("a|b", "ab", false),
            ("get /", "GET /", false),
            ("(?i)get /", "GET /", true),
            ("a$|b", "a", true),
            ("", "", true),
            ("", "a", false),
            ("a", "a\n", false),
            ("ä+", "ää", true),
        ];
        for (pattern, text, expected) in cases {
            let matched = Pattern::new(pattern).unwrap().is_match(text);
            assert_eq!(matched, expected, "{pattern} {text}");
        }
        let wildcard = Pattern::wildcard("a.*b*").unwrap();
        assert!(wildcard.is_match("a.\nb!"));
        assert!(!wildcard.is_match("axb"));
    }

    #[test]
    fn what_is_no_pattern_is_named() {
        let error = |pattern: &str| Pattern::new(pattern).unwrap_err().to_string();
        assert_eq!(
            error("a(b"),
            "'a(b' is no regular expression: unclosed group"
        );
        assert_eq!(
            error("a)(b"),
            "'a)(b' is no regular expression: unopened group"
        );
        assert_eq!(
            error("(?=a)"),
            "'(?=a)' is no regular expression: look-around, including look-ahead and look-behind, is not supported"
        );
        assert!(error("(a{1000}){1000}").contains("too large"));
        assert!(error(&"a".repeat(5_000)).contains("too large"));
    }
}
