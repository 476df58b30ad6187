//! Messages of the DNS (RFC 1035), as far as somebody asks for addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The class of the internet.
pub(super) const IN: u16 = 1;
pub(super) const HEADER: usize = 12;

/// Which addresses are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    V4 = 1,
    V6 = 28,
}

/// What a server says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// The addresses, perhaps none, and for how many seconds all of it holds.
    Answer(Vec<IpAddr>, Option<u32>),
    /// There is more than fits: ask over TCP.
    Truncated,
    /// There is no such name.
    NoName,
    /// The server cannot answer: its response code.
    Failed(u8),
}

/// A question; none if this is no name of the DNS.
pub(super) fn query(id: u16, name: &str, kind: Kind) -> Option<Vec<u8>> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() || name.len() > 253 {
        return None;
    }
    let mut message = Vec::with_capacity(HEADER + name.len() + 6);
    message.extend(id.to_be_bytes());
    // Recursion is desired; one question.
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok()?;
        if !(1..=63).contains(&length) {
            return None;
        }
        message.push(length);
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend((kind as u16).to_be_bytes());
    message.extend(IN.to_be_bytes());
    Some(message)
}

/// What is said to a question; none if it is no answer to this one, or malformed.
pub(super) fn parse(message: &[u8], question: &[u8]) -> Option<Reply> {
    if !is_answer(message, question)? {
        return None;
    }
    let flags = number(message, 2)?;
    let asked = question.get(HEADER..)?;
    let behind = question.len();
    if flags & 0x0200 != 0 {
        return Some(Reply::Truncated);
    }
    match (flags & 15) as u8 {
        0 => {}
        3 => return Some(Reply::NoName),
        code => return Some(Reply::Failed(code)),
    }
    let wanted = number(asked, asked.len() - 4)?;
    let (mut addresses, mut ttl, mut at) = (Vec::new(), None, behind);
    for _ in 0..number(message, 6)? {
        at = behind_name(message, at)?;
        let (kind, class) = (number(message, at)?, number(message, at + 2)?);
        let seconds =
            u32::from(number(message, at + 4)?) << 16 | u32::from(number(message, at + 6)?);
        // A negative one is zero (RFC 2181 §8).
        let seconds = if seconds > i32::MAX as u32 {
            0
        } else {
            seconds
        };
        let length = usize::from(number(message, at + 8)?);
        let data = message.get(at + 10..at + 10 + length)?;
        at += 10 + length;
        if class != IN {
            continue;
        }
        // Of an alias, too.
        ttl = Some(ttl.map_or(seconds, |least: u32| least.min(seconds)));
        if kind == wanted {
            addresses.push(address(data)?);
        }
    }
    Some(Reply::Answer(addresses, ttl))
}

/// Whether this is an answer to a question, which is all that `question` has; none if it is cut off.
pub(super) fn is_answer(message: &[u8], question: &[u8]) -> Option<bool> {
    let flags = number(message, 2)?;
    let is_answer = message.get(..2)? == question.get(..2)? && flags & 0xf800 == 0x8000;
    let asked = message.get(HEADER..question.len())?;
    let is_mine = number(message, 4)? == 1 && asked.eq_ignore_ascii_case(question.get(HEADER..)?);
    Some(is_answer && is_mine)
}

fn address(data: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(data) {
        return Some(Ipv4Addr::from(octets).into());
    }
    let octets = <[u8; 16]>::try_from(data).ok()?;
    Some(Ipv6Addr::from(octets).into())
}

/// Where a name ends: with an empty label, or a pointer to the rest of it (RFC 1035 §4.1.4).
pub(super) fn behind_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            label @ 1..=63 => at += 1 + usize::from(label),
            192.. => return Some(at + 2),
            _ => return None,
        }
    }
}

pub(super) fn number(message: &[u8], at: usize) -> Option<u16> {
    let bytes = message.get(at..at + 2)?;
    Some(u16::from_be_bytes([bytes[0], bytes[1]]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An answer with records of these types, times and data; names are pointers to the question's.
    fn answer(question: &[u8], flags: u16, records: &[(u16, u32, &[u8])]) -> Vec<u8> {
        let mut message = question.to_vec();
        message[2..4].copy_from_slice(&flags.to_be_bytes());
        message[6..8].copy_from_slice(&(records.len() as u16).to_be_bytes());
        for (kind, ttl, data) in records {
            message.extend([0xc0, HEADER as u8]);
            message.extend(kind.to_be_bytes());
            message.extend(IN.to_be_bytes());
            message.extend(ttl.to_be_bytes());
            message.extend((data.len() as u16).to_be_bytes());
            message.extend(*data);
        }
        message
    }

    #[test]
    fn questions() {
        let message = query(0x1234, "a.example.", Kind::V6).expect("a name");
        assert_eq!(
            message,
            b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01a\x07example\0\0\x1c\0\x01"
        );
        let long = format!("{}.example", "x".repeat(64));
        let longer = "abcdefg.".repeat(32);
        for name in ["", ".", "a..b", ".a", &long, &longer] {
            assert_eq!(query(1, name, Kind::V4), None, "{name}");
        }
    }

    #[test]
    fn answers() {
        let question = query(7, "web.example", Kind::V4).expect("a name");
        let alias: &[u8] = b"\x03www\xc0\x0c";
        let one: &[u8] = &[10, 0, 0, 1];
        let six: &[u8] = &[0; 16];
        let said = |flags, records: &[_]| parse(&answer(&question, flags, records), &question);
        let ip = |last| IpAddr::from([10, 0, 0, last]);
        for (records, addresses, ttl) in [
            (vec![], vec![], None),
            (vec![(1, 30, one)], vec![ip(1)], Some(30)),
            // The alias holds for less, and what nobody has asked for is passed over.
            (
                vec![(5, 5, alias), (1, 30, one), (28, 9, six)],
                vec![ip(1)],
                Some(5),
            ),
            (vec![(1, u32::MAX, one)], vec![ip(1)], Some(0)),
        ] {
            let expected = Reply::Answer(addresses, ttl);
            assert_eq!(said(0x8180, &records), Some(expected), "{records:?}");
        }
        assert_eq!(said(0x8380, &[]), Some(Reply::Truncated));
        assert_eq!(said(0x8183, &[]), Some(Reply::NoName));
        assert_eq!(said(0x8182, &[]), Some(Reply::Failed(2)));
        // No answer, another operation, an address of a wrong length.
        assert_eq!(said(0x0100, &[]), None);
        assert_eq!(said(0x9180, &[]), None);
        assert_eq!(said(0x8180, &[(1, 30, &one[1..])]), None);
        // To another question, or of somebody who does not know what was asked.
        let other = query(7, "wub.example", Kind::V4).expect("a name");
        assert_eq!(parse(&answer(&other, 0x8180, &[]), &question), None);
        let other = query(8, "web.example", Kind::V4).expect("a name");
        assert_eq!(parse(&answer(&other, 0x8180, &[]), &question), None);
        let same = query(7, "WEB.Example", Kind::V4).expect("a name");
        assert!(parse(&answer(&same, 0x8180, &[]), &question).is_some());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn nothing_that_arrives_does_harm(
            tail in prop::collection::vec(any::<u8>(), 0..80),
            cut in 0_usize..100,
        ) {
            let question = query(7, "web.example", Kind::V4).expect("a name");
            let mut message = answer(&question, 0x8180, &[(1, 30, &[10, 0, 0, 1])]);
            message.extend(&tail);
            message[7] = 9;
            message.truncate(cut.max(4));
            let _ = parse(&message, &question);
            let _ = parse(&tail, &question);
        }
    }
}
