//! JSON strings, written without a temporary.

/// Appends `text` as a JSON string, quotes included (RFC 8259 §7).
#[inline]
pub(crate) fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    push_escaped(out, text);
    out.push(b'"');
}

/// Appends `text` as the inside of a JSON string.
#[inline]
pub(crate) fn push_escaped(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    if needs_escape(bytes) {
        push_escaping(out, bytes);
    } else {
        out.extend_from_slice(bytes);
    }
}

/// Appends the decimal digits of `number`.
#[inline]
pub(crate) fn push_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends the shortest digits of a finite number that read back as it.
pub(crate) fn push_double(out: &mut Vec<u8>, number: f64) {
    debug_assert!(number.is_finite(), "JSON has no number for it");
    out.extend_from_slice(format!("{number:?}").as_bytes());
}

/// Appends a list of what `write` writes of each item.
pub(crate) fn push_list<T>(
    out: &mut Vec<u8>,
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(&mut Vec<u8>, T),
) {
    out.push(b'[');
    for (i, item) in items.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}

/// The message of a JSON error; senders' texts in it are cut to a bearable length.
pub(crate) fn error_text(error: &serde_json::Error) -> String {
    const MAX_CHARS: usize = 300;
    let text = error.to_string();
    match text.char_indices().nth(MAX_CHARS) {
        Some((cut, _)) => format!(
            "{}… at line {} column {}",
            &text[..cut],
            error.line(),
            error.column()
        ),
        None => text,
    }
}

/// A JSON object that is being written; [`Object::end`] closes it.
pub(crate) struct Object<'a> {
    out: &'a mut Vec<u8>,
    empty: bool,
}

impl<'a> Object<'a> {
    pub(crate) fn begin(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, empty: true }
    }

    /// Begins a member; its value must be appended to what is returned.
    pub(crate) fn key(&mut self, key: &str) -> &mut Vec<u8> {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        push_string(self.out, key);
        self.out.push(b':');
        self.out
    }

    pub(crate) fn end(self) {
        self.out.push(b'}');
    }
}

/// Whether a byte of `bytes` may not stand in a JSON string as it is. Eight bytes at a time; the
/// rest is read as a word that overlaps what was seen already.
#[inline]
pub(crate) fn needs_escape(bytes: &[u8]) -> bool {
    if let Some(last) = bytes.last_chunk::<8>() {
        let (words, _) = bytes.as_chunks::<8>();
        let found = words.iter().fold(word_needs_escape(*last), |found, word| {
            found | word_needs_escape(*word)
        });
        return found != 0;
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        let [a, b, c, d] = *first;
        let [e, f, g, h] = *last;
        return word_needs_escape([a, b, c, d, e, f, g, h]) != 0;
    }
    bytes.iter().any(|&byte| must_escape(byte))
}

/// Non-zero if one of eight bytes must be escaped: a SWAR test for `< 0x20`, `"` and `\`. A borrow
/// crosses into a neighbour only out of a byte that matched, so the answer is exact.
#[inline]
const fn word_needs_escape(bytes: [u8; 8]) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let word = u64::from_le_bytes(bytes);
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    ((word.wrapping_sub(ONES * 0x20) & !word)
        | (quote.wrapping_sub(ONES) & !quote)
        | (backslash.wrapping_sub(ONES) & !backslash))
        & (ONES * 0x80)
}

/// How many bytes of `bytes` must be escaped in a JSON string, or are not ASCII.
///
/// Counts in bytes, of which a vector register holds many; each run is too short to overflow one.
#[inline]
pub(crate) fn count_unusual(bytes: &[u8]) -> usize {
    let of_run = |run: &[u8]| {
        run.iter()
            .fold(0_u8, |count, &byte| count + u8::from(is_unusual(byte)))
    };
    bytes.chunks(240).map(|run| usize::from(of_run(run))).sum()
}

/// Without a branch, so that the compiler can ask it of many bytes at once.
#[inline]
const fn must_escape(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'"') | (byte == b'\\')
}

/// The same of what must be escaped, or is no ASCII.
#[inline]
const fn is_unusual(byte: u8) -> bool {
    (byte.wrapping_sub(b' ') >= 0x80 - b' ') | (byte == b'"') | (byte == b'\\')
}

/// The rare case: copies the runs between the bytes that must be escaped.
#[cold]
fn push_escaping(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|&byte| must_escape(byte)) {
        let (run, tail) = rest.split_at(at);
        out.extend_from_slice(run);
        match tail[0] {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            control => {
                out.extend_from_slice(b"\\u00");
                out.push(DIGITS[usize::from(control >> 4)]);
                out.push(DIGITS[usize::from(control & 15)]);
            }
        }
        rest = &tail[1..];
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(text: &str) -> String {
        let mut out = Vec::new();
        push_string(&mut out, text);
        String::from_utf8(out).expect("JSON is UTF-8")
    }

    #[test]
    fn every_control_character_is_escaped_at_every_place() {
        for byte in 0..=0x7f_u8 {
            for length in 0..20 {
                for place in 0..length {
                    let mut text = vec![b'x'; length];
                    text[place] = byte;
                    let text = String::from_utf8(text).expect("ASCII");
                    let back: String = serde_json::from_str(&written(&text)).expect("valid JSON");
                    assert_eq!(back, text, "byte {byte:#x} at {place} of {length}");
                }
            }
        }
    }

    #[test]
    fn what_must_be_escaped_is_counted() {
        for length in (0..70).chain([255 * 16, 255 * 16 + 1, 600 * 16 + 5]) {
            assert_eq!(count_unusual(&vec![b'"'; length]), length);
            assert_eq!(count_unusual(&vec![b' '; length]), 0);
        }
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(count_unusual(&all), 0x20 + 2 + 0x80);
    }

    #[test]
    fn what_needs_no_escape_is_copied() {
        assert_eq!(written("grüße /a?b='c'\u{7f}"), "\"grüße /a?b='c'\u{7f}\"");
    }

    proptest! {
        #[test]
        fn any_text_reads_back(text in any::<String>()) {
            prop_assert_eq!(serde_json::from_str::<String>(&written(&text)).ok(), Some(text));
        }
    }
}
