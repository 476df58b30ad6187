//! What a proxy must know of gRPC (PROTOCOL-HTTP2.md of grpc/grpc).

use std::borrow::Cow;
use std::time::Duration;

use crate::http1::head::Fields;

/// `RESOURCE_EXHAUSTED`.
pub(crate) const RESOURCE_EXHAUSTED: u8 = 8;
/// `DEADLINE_EXCEEDED`.
pub(crate) const DEADLINE_EXCEEDED: u8 = 4;
/// The most digits of a `grpc-timeout`.
const MOST_DIGITS: usize = 8;

/// The outcome of a call as the wire tells it: `grpc-status` and `grpc-message`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GrpcStatus {
    /// As it was sent.
    pub(crate) code: Cow<'static, str>,
    /// As it was sent, percent-encoded; none if it was not.
    pub(crate) message: Option<String>,
}

impl GrpcStatus {
    /// The status in the fields of a response head.
    pub(crate) fn in_fields(fields: &Fields, head: &[u8]) -> Option<Self> {
        let first = |name| fields.all_by_text(name, head).next();
        Self::new(first("grpc-status")?, first("grpc-message"))
    }

    /// The status in the lines of a trailer section.
    pub(crate) fn in_lines(lines: &[u8]) -> Option<Self> {
        let first = |name: &str| value_in_lines(lines, name);
        Self::new(first("grpc-status")?, first("grpc-message"))
    }

    fn new(code: &[u8], message: Option<&[u8]>) -> Option<Self> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Some(Self {
            code: match code {
                b"0" => Cow::Borrowed("0"),
                code => Cow::Owned(text(code)),
            },
            message: message.map(text),
        })
    }

    /// Whether the server has failed.
    pub(crate) fn is_failure(&self) -> bool {
        self.number().is_some_and(is_failure)
    }

    /// The code; none if it is no number.
    pub(crate) fn number(&self) -> Option<u32> {
        self.code.parse().ok()
    }
}

/// The first value of a field in the lines of a trailer section.
pub(crate) fn value_in_lines<'a>(lines: &'a [u8], name: &str) -> Option<&'a [u8]> {
    lines.split(|byte| *byte == b'\n').find_map(|line| {
        let (field, value) = line.split_at_checked(name.len())?;
        let value = value.strip_prefix(b":")?;
        field
            .eq_ignore_ascii_case(name.as_bytes())
            .then(|| value.trim_ascii())
    })
}

/// Whether a content type says gRPC; `application/grpc-web` is something else.
pub(crate) fn is_grpc(content_type: &[u8]) -> bool {
    const TYPE: &[u8] = b"application/grpc";
    content_type
        .strip_prefix(TYPE)
        .is_some_and(|rest| matches!(rest, [] | [b'+', ..]))
}

/// Counts the messages of a body as it passes: each has a head of five bytes, the last four of which say how
/// long it is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Messages {
    /// Those that have begun.
    pub(crate) count: u64,
    /// Bytes of a head that have come.
    of_head: u8,
    /// Bytes that are left of the message.
    left: u32,
}

impl Messages {
    pub(crate) fn pass(&mut self, mut bytes: &[u8]) {
        while let [first, rest @ ..] = bytes {
            if self.of_head == 0 && self.left > 0 {
                let part = bytes.len().min(self.left as usize);
                self.left -= part as u32;
                bytes = &bytes[part..];
                continue;
            }
            self.left = match self.of_head {
                0 => 0,
                _ => self.left << 8 | u32::from(*first),
            };
            self.of_head += 1;
            if self.of_head == 5 {
                self.of_head = 0;
                self.count += 1;
            }
            bytes = rest;
        }
    }
}

/// The names of the codes: as Envoy's access log has them, and as the standard does.
const NAMES: [(&str, &str); 17] = [
    ("OK", "OK"),
    ("Canceled", "CANCELLED"),
    ("Unknown", "UNKNOWN"),
    ("InvalidArgument", "INVALID_ARGUMENT"),
    ("DeadlineExceeded", "DEADLINE_EXCEEDED"),
    ("NotFound", "NOT_FOUND"),
    ("AlreadyExists", "ALREADY_EXISTS"),
    ("PermissionDenied", "PERMISSION_DENIED"),
    ("ResourceExhausted", "RESOURCE_EXHAUSTED"),
    ("FailedPrecondition", "FAILED_PRECONDITION"),
    ("Aborted", "ABORTED"),
    ("OutOfRange", "OUT_OF_RANGE"),
    ("Unimplemented", "UNIMPLEMENTED"),
    ("Internal", "INTERNAL"),
    ("Unavailable", "UNAVAILABLE"),
    ("DataLoss", "DATA_LOSS"),
    ("Unauthenticated", "UNAUTHENTICATED"),
];

/// Both names of a code.
pub(crate) fn name_of(code: u32) -> Option<(&'static str, &'static str)> {
    NAMES.get(code as usize).copied()
}

/// What an HTTP status of the proxy's own is to a gRPC client (http-grpc-status-mapping.md).
pub(crate) fn status_of(http: u16) -> u8 {
    match http {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// What a status of gRPC is as one of HTTP, for those who look at endpoints alone.
pub(crate) fn http_status(code: u8) -> u16 {
    match code {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    }
}

/// Whether a code says that the server failed, rather than that it refused: then the span has the
/// tag `error`.
pub(crate) fn is_failure(code: u32) -> bool {
    matches!(code, 2 | 4 | 8 | 12..=15)
}

/// The time that a `grpc-timeout` gives, in whole milliseconds, rounded up.
pub(crate) fn timeout(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    if digits.is_empty() || digits.len() > MOST_DIGITS || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits
        .iter()
        .fold(0_u64, |value, digit| value * 10 + u64::from(digit - b'0'));
    let ms = match unit {
        b'H' => value * 3_600_000,
        b'M' => value * 60_000,
        b'S' => value * 1000,
        b'm' => value,
        b'u' => value.div_ceil(1000),
        b'n' => value.div_ceil(1_000_000),
        _ => return None,
    };
    Some(Duration::from_millis(ms))
}

/// The text of a timeout, in the finest unit whose number is short enough.
pub(crate) fn timeout_text(timeout: Duration) -> String {
    const LARGEST: u64 = 99_999_999;
    let mut value = timeout.as_millis() as u64;
    for (unit, per_next) in [('m', 1000), ('S', 60), ('M', 60)] {
        if value <= LARGEST {
            return format!("{value}{unit}");
        }
        value /= per_next;
    }
    format!("{}H", value.min(LARGEST))
}

/// A text as a `grpc-message`: what is not printable ASCII, and `%`, in percent-encoding.
pub(crate) fn encode_message(text: &str) -> String {
    use std::fmt::Write;

    text.bytes().fold(String::new(), |mut out, byte| {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            out.push(char::from(byte));
        } else {
            // Writing to a `String` cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_however_they_are_cut() {
        let message = |length: usize| {
            let head = [&[0][..], &(length as u32).to_be_bytes()].concat();
            [head, vec![7; length]].concat()
        };
        let body = [message(0), message(3), message(300)].concat();
        for size in [1, 2, 4, 5, 7, 1000] {
            let mut messages = Messages::default();
            for part in body.chunks(size) {
                messages.pass(part);
            }
            assert_eq!(messages.count, 3, "in parts of {size}");
        }
    }

    #[test]
    fn timeouts_of_every_unit() {
        for (text, ms) in [
            ("1H", 3_600_000),
            ("2M", 120_000),
            ("3S", 3000),
            ("99999999m", 99_999_999),
            ("1u", 1),
            ("1001u", 2),
            ("1n", 1),
            ("0m", 0),
        ] {
            let expected = Some(Duration::from_millis(ms));
            assert_eq!(timeout(text.as_bytes()), expected, "{text}");
        }
        for bad in ["", "S", "1", "1s", "-1S", "1 S", "123456789m", "1.5S"] {
            assert_eq!(timeout(bad.as_bytes()), None, "{bad}");
        }
        let text = |ms| timeout_text(Duration::from_millis(ms));
        assert_eq!(text(250), "250m");
        assert_eq!(text(100_000_000), "100000S");
        assert_eq!(text(100_000_000_000), "1666666M");
    }

    #[test]
    fn messages_are_encoded() {
        assert_eq!(encode_message("no route: a b"), "no route: a b");
        assert_eq!(encode_message("100%\r\nü"), "100%25%0D%0A%C3%BC");
    }

    #[test]
    fn content_types_that_are_grpc() {
        for (text, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/json", false),
        ] {
            assert_eq!(is_grpc(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn the_status_among_trailers() {
        let lines = b"a: b\r\nGrpc-Status: 14\r\ngrpc-message: no%20way\r\n";
        let status = GrpcStatus::in_lines(lines).expect("a status");
        assert_eq!(status.number(), Some(14));
        assert_eq!(status.message.as_deref(), Some("no%20way"));
        assert_eq!(GrpcStatus::in_lines(b"grpc-statusx: 1\r\n"), None);
    }
}
