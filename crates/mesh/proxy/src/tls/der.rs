//! As much of DER (X.690) as it takes to read what a certificate says about itself.

use std::fmt::Write as _;

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const BMP_STRING: u8 = 0x1e;
/// The explicit tag of the version (RFC 5280 §4.1).
const VERSION: u8 = 0xa0;
/// The explicit tag of the extensions, behind the unique names, which nobody uses.
const EXTENSIONS: u8 = 0xa3;
/// RFC 5280 §4.2.1.3.
const KEY_USAGE: [u8; 3] = [0x55, 0x1d, 0x0f];
const KEY_CERT_SIGN: u8 = 0x04;
const CRL_SIGN: u8 = 0x02;

/// What a certificate says about itself, besides its names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fields {
    /// In lower case hexadecimal digits, as Envoy shows it.
    pub(super) serial: String,
    /// As RFC 2253 writes it.
    pub(super) subject: String,
    /// The same of who has signed it.
    pub(super) issuer: String,
    /// Seconds since 1970.
    pub(super) not_before: i64,
    /// Seconds since 1970.
    pub(super) not_after: i64,
}

/// Reads a certificate (RFC 5280 §4.1); none if it is none.
pub(super) fn certificate(der: &[u8]) -> Option<Fields> {
    let mut outer = Reader(Reader(der).expect(SEQUENCE)?);
    let mut body = Reader(outer.expect(SEQUENCE)?);
    if body.0.first() == Some(&VERSION) {
        body.expect(VERSION)?;
    }
    let serial = hex(strip_zeros(body.expect(INTEGER)?));
    body.expect(SEQUENCE)?; // The algorithm of the signature.
    let issuer = name(body.expect(SEQUENCE)?)?;
    let mut validity = Reader(body.expect(SEQUENCE)?);
    let not_before = time(validity.next()?)?;
    let not_after = time(validity.next()?)?;
    Some(Fields {
        serial,
        subject: name(body.expect(SEQUENCE)?)?,
        issuer,
        not_before,
        not_after,
    })
}

/// Whether a certificate says what its key is for, and that signing certificates or lists of revoked ones is not among
/// it.
pub(super) fn is_for_a_leaf(der: &[u8]) -> bool {
    let usage = key_usage(der);
    usage.is_some_and(|bits| bits & (KEY_CERT_SIGN | CRL_SIGN) == 0)
}

/// The first bits of the extension; none where it is missing.
fn key_usage(der: &[u8]) -> Option<u8> {
    let mut outer = Reader(Reader(der).expect(SEQUENCE)?);
    let mut body = Reader(outer.expect(SEQUENCE)?);
    let extensions = loop {
        let (tag, value) = body.next()?;
        if tag == EXTENSIONS {
            break value;
        }
    };
    let mut extensions = Reader(Reader(extensions).expect(SEQUENCE)?);
    loop {
        let mut extension = Reader(extensions.expect(SEQUENCE)?);
        if extension.expect(OID)? != KEY_USAGE {
            continue;
        }
        // Whether it is critical may stand in front.
        let (mut tag, mut value) = extension.next()?;
        if tag != OCTET_STRING {
            (tag, value) = extension.next()?;
        }
        let bits = Some(value).filter(|_| tag == OCTET_STRING)?;
        // Behind the number of bits that are not used.
        return Reader(bits).expect(BIT_STRING)?.get(1).copied();
    }
}

/// Lower case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn strip_zeros(number: &[u8]) -> &[u8] {
    match number {
        [0, rest @ ..] if !rest.is_empty() => rest,
        _ => number,
    }
}

/// Values with their tags, one after the other.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = if first < 0x80 {
            (usize::from(first), rest)
        } else {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            if digits.is_empty() || digits.len() > 4 {
                return None;
            }
            let length = digits
                .iter()
                .fold(0, |sum, digit| sum << 8 | usize::from(*digit));
            (length, rest)
        };
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, value))
    }

    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next()
            .filter(|(found, _)| *found == tag)
            .map(|(_, value)| value)
    }
}

/// A distinguished name as RFC 2253 writes it: the last part comes first.
fn name(mut rdns: &[u8]) -> Option<String> {
    let mut parts = Vec::new();
    while !rdns.is_empty() {
        let mut reader = Reader(rdns);
        let mut set = Reader(reader.expect(SET)?);
        rdns = reader.0;
        let mut joined = String::new();
        while !set.0.is_empty() {
            let mut pair = Reader(set.expect(SEQUENCE)?);
            let kind = pair.expect(OID)?;
            let (tag, value) = pair.next()?;
            if !joined.is_empty() {
                joined.push('+');
            }
            joined.push_str(&attribute(kind));
            joined.push('=');
            escape(&string(tag, value), &mut joined);
        }
        parts.push(joined);
    }
    parts.reverse();
    Some(parts.join(","))
}

/// The short name of an attribute, else its number.
fn attribute(oid: &[u8]) -> String {
    let known = match oid {
        [0x55, 0x04, 0x03] => "CN",
        [0x55, 0x04, 0x04] => "SN",
        [0x55, 0x04, 0x05] => "serialNumber",
        [0x55, 0x04, 0x06] => "C",
        [0x55, 0x04, 0x07] => "L",
        [0x55, 0x04, 0x08] => "ST",
        [0x55, 0x04, 0x09] => "street",
        [0x55, 0x04, 0x0a] => "O",
        [0x55, 0x04, 0x0b] => "OU",
        [0x55, 0x04, 0x0c] => "title",
        [0x55, 0x04, 0x2a] => "GN",
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x01] => "UID",
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x19] => "DC",
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x01] => "emailAddress",
        _ => return dotted(oid),
    };
    known.to_owned()
}

fn dotted(oid: &[u8]) -> String {
    let mut text = String::new();
    let mut arc: u64 = 0;
    for byte in oid {
        arc = arc << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 != 0 {
            continue;
        }
        // Writing to a string cannot fail.
        let _ = if text.is_empty() {
            let first = (arc / 40).min(2);
            write!(text, "{first}.{}", arc - 40 * first)
        } else {
            write!(text, ".{arc}")
        };
        arc = 0;
    }
    text
}

fn string(tag: u8, value: &[u8]) -> String {
    if tag == BMP_STRING {
        let units: Vec<u16> = value
            .chunks_exact(2)
            .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
            .collect();
        return String::from_utf16_lossy(&units);
    }
    String::from_utf8_lossy(value).into_owned()
}

/// The characters that RFC 2253 §2.4 escapes.
fn escape(text: &str, into: &mut String) {
    let last = text.chars().count().saturating_sub(1);
    for (at, c) in text.chars().enumerate() {
        let special = matches!(c, ',' | '+' | '"' | '\\' | '<' | '>' | ';');
        let at_edge = c == '#' && at == 0 || c == ' ' && (at == 0 || at == last);
        if special || at_edge {
            into.push('\\');
        }
        if c.is_control() {
            for byte in c.to_string().bytes() {
                // Writing to a string cannot fail.
                let _ = write!(into, "\\{byte:02X}");
            }
        } else {
            into.push(c);
        }
    }
}

/// A moment (RFC 5280 §4.1.2.5), in seconds since 1970.
fn time((tag, text): (u8, &[u8])) -> Option<i64> {
    let digits = text.strip_suffix(b"Z")?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = digits.get(from..to)?.iter();
        Some(digits.fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0')))
    };
    let (year, at) = match (tag, digits.len()) {
        (UTC_TIME, 12) => {
            let year = number(0, 2)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, 2)
        }
        (GENERALIZED_TIME, 14) => (number(0, 4)?, 4),
        _ => return None,
    };
    let part = |index: usize| number(at + 2 * index, at + 2 * index + 2);
    let (month, day) = (part(0)?, part(1)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let seconds = part(2)? * 3600 + part(3)? * 60 + part(4)?;
    Some(days_from_epoch(year, month, day) * 86_400 + seconds)
}

/// Days since 1970-01-01 of a date of the Gregorian calendar.
fn days_from_epoch(year: i64, month: i64, day: i64) -> i64 {
    // The year begins in March, so that the leap day is its last.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year, month and day of so many days after 1970-01-01.
pub(super) fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let of_400 = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * of_400 + of_400 / 4 - of_400 / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = 400 * era + of_400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_counted_from_1970() {
        for (tag, text, expected) in [
            (UTC_TIME, "700101000000Z", Some(0)),
            (UTC_TIME, "491231235959Z", Some(2_524_607_999)),
            (UTC_TIME, "500101000000Z", Some(-631_152_000)),
            (GENERALIZED_TIME, "20240229120000Z", Some(1_709_208_000)),
            (GENERALIZED_TIME, "99991231235959Z", Some(253_402_300_799)),
            (UTC_TIME, "700101000000", None),
            (UTC_TIME, "7001010000Z", None),
            (GENERALIZED_TIME, "20241301000000Z", None),
            (UTC_TIME, "70010100000xZ", None),
        ] {
            assert_eq!(time((tag, text.as_bytes())), expected, "{text}");
        }
    }

    #[test]
    fn a_date_and_its_number_of_days_agree() {
        for days in (-200_000..200_000).step_by(7) {
            let (year, month, day) = date(days);
            assert_eq!(days_from_epoch(year, month, day), days);
        }
        assert_eq!(date(19_782), (2024, 2, 29));
    }

    #[test]
    fn names_are_written_as_the_rfc_says() {
        for (text, expected) in [
            ("plain", "plain"),
            (" a,b+c ", "\\ a\\,b\\+c\\ "),
            ("#x", "\\#x"),
            ("a#", "a#"),
            ("\u{1}", "\\01"),
            ("é", "é"),
        ] {
            let mut escaped = String::new();
            escape(text, &mut escaped);
            assert_eq!(escaped, expected);
        }
        assert_eq!(dotted(&[0x2a, 0x86, 0x48, 0x01]), "1.2.840.1");
        assert_eq!(dotted(&[0x88, 0x37, 0x03]), "2.999.3");
    }

    #[test]
    fn what_is_cut_or_false_is_no_certificate() {
        let made = rcgen::generate_simple_self_signed(["a".to_owned()]).expect("a certificate");
        let der = made.cert.der();
        let fields = certificate(der).expect("a certificate");
        assert_eq!(fields.subject, "CN=rcgen self signed cert");
        assert!(fields.not_before < fields.not_after, "{fields:?}");
        for length in 0..der.len() {
            let cut = certificate(&der[..length]);
            assert!(cut.is_none(), "{length} bytes");
        }
        for at in 0..der.len() {
            let mut broken = der.to_vec();
            broken[at] ^= 0xff;
            // Whatever it says, it is read without a panic.
            let _ = certificate(&broken);
        }
    }
}
