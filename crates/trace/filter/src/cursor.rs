use std::fmt;
use std::str::FromStr;

use periplus_model::TraceId;
use thiserror::Error;

/// The form that is written; another one would get another mark.
const FORM: char = '1';

/// A place among traces, newest first: that of the last trace of a page.
///
/// Traces stand by the start of their earliest span, then by id, both descending. A trace that does
/// not change is on exactly one page. One to which an earlier span arrives between two pages moves
/// down, and may come again.
///
/// As text it is opaque: to be handed back as it was, not to be taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cursor {
    /// The start of the trace's earliest span; zero if no span has one.
    pub start_unix_nano: u64,
    /// The trace's id.
    pub trace_id: TraceId,
}

/// What is no cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("this is no cursor of this server: leave it out to begin with the newest trace")]
pub struct ParseCursorError;

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{FORM}{:016x}{}", self.start_unix_nano, self.trace_id)
    }
}

impl FromStr for Cursor {
    type Err = ParseCursorError;

    fn from_str(text: &str) -> Result<Self, ParseCursorError> {
        let digits = text.strip_prefix(FORM).ok_or(ParseCursorError)?;
        if digits.len() != 48 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(ParseCursorError);
        }
        let (start, id) = digits.split_at(16);
        Ok(Self {
            start_unix_nano: u64::from_str_radix(start, 16).map_err(|_| ParseCursorError)?,
            trace_id: id.parse().map_err(|_| ParseCursorError)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_from_its_text() {
        for (start, high, low) in [(0, 0, 1), (u64::MAX, u64::MAX, u64::MAX), (7, 1, 2)] {
            let cursor = Cursor {
                start_unix_nano: start,
                trace_id: TraceId::from_halves(high, low),
            };
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
        let digits = "0".repeat(48);
        for text in [
            "",
            "1",
            &digits,
            &format!("2{digits}"),
            &format!("1+{}", &digits[1..]),
            "1ä",
        ] {
            assert_eq!(text.parse::<Cursor>(), Err(ParseCursorError), "{text}");
        }
    }
}
