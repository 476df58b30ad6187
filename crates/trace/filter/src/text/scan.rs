//! Words, strings and signs of a query line.

use super::parse::ParseError;

/// Reads a line from left to right.
#[derive(Clone)]
pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

/// Whether a character may stand in an unquoted key.
pub(super) fn is_key(c: char) -> bool {
    !c.is_whitespace() && !c.is_control() && !"=!<>~(){}\"?,".contains(c)
}

/// Whether a character may stand in an unquoted value.
pub(super) fn is_value(c: char) -> bool {
    !c.is_whitespace() && !c.is_control() && !"(){}\"".contains(c)
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// Where it is, in bytes.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn go_back(&mut self, at: usize) {
        self.at = at;
    }

    pub(super) fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    pub(super) fn skip_space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.rest().is_empty()
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// Steps over the sign, if it stands here.
    pub(super) fn take(&mut self, sign: &str) -> bool {
        let here = self.rest().starts_with(sign);
        if here {
            self.at += sign.len();
        }
        here
    }

    /// Steps over the keyword, if it stands here as a word of its own.
    pub(super) fn take_word(&mut self, word: &str) -> bool {
        let here = self.rest().strip_prefix(word).is_some_and(|rest| {
            let next = rest.chars().next();
            next.is_none_or(|c| c.is_whitespace() || "(){}!\"".contains(c))
        });
        if here {
            self.at += word.len();
        }
        here
    }

    pub(super) fn take_while(&mut self, is_part: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    /// A quoted text, if one stands here: `\"` and `\\` are a quote and a backslash.
    pub(super) fn string(&mut self) -> Result<Option<String>, ParseError> {
        let start = self.at;
        if !self.take("\"") {
            return Ok(None);
        }
        let mut out = String::new();
        let mut chars = self.rest().char_indices();
        while let Some((offset, c)) = chars.next() {
            match c {
                '"' => {
                    self.at += offset + 1;
                    return Ok(Some(out));
                }
                '\\' => match chars.next() {
                    Some((_, c @ ('"' | '\\'))) => out.push(c),
                    // As regular expressions have them.
                    Some((_, c)) => out.extend(['\\', c]),
                    None => break,
                },
                c => out.push(c),
            }
        }
        Err(self.error(start, "this quote is not closed"))
    }

    /// An error at a place, in bytes.
    pub(super) fn error(&self, at: usize, message: impl Into<String>) -> ParseError {
        ParseError {
            at: self.text[..at].chars().count(),
            message: message.into(),
        }
    }
}
