//! Questions of applications, and answers to them (RFC 1035 §4, RFC 6891).

use std::net::IpAddr;

use super::message::{HEADER, IN, Kind, behind_name, number};

/// The longest name, with the lengths of its labels (RFC 1035 §2.3.4).
const MAX_NAME: usize = 255;
/// The datagram that everybody takes who says nothing of others.
const LEAST_DATAGRAM: usize = 512;
/// The datagram that this side takes.
const OWN_DATAGRAM: u16 = 4096;
/// The pseudo-record of RFC 6891.
const OPT: u16 = 41;
/// More records behind the question are not looked at.
const MAX_RECORDS: u16 = 8;
/// For how many seconds an answer holds, as Istio's: addresses may change at any time.
const TTL: u32 = 30;
/// A pointer to the name that is asked for.
const ASKED: [u8; 2] = [0xc0, HEADER as u8];
const A: u16 = Kind::V4 as u16;
const CNAME: u16 = 5;
const AAAA: u16 = Kind::V6 as u16;

/// What an answer says of how it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    NoError = 0,
    Malformed = 1,
    Failure = 2,
    NotImplemented = 4,
}

/// A question about one name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Question<'a> {
    message: &'a [u8],
    /// Where what is asked ends.
    end: usize,
    /// In lower case, without a dot at its end; none if it is no text that could be looked up.
    pub(super) name: Option<String>,
    kind: u16,
    /// The largest answer by UDP.
    pub(super) datagram: usize,
    has_extensions: bool,
}

impl<'a> Question<'a> {
    /// Reads a question. An error is what may be answered to it: nothing where it is no question at all.
    pub(super) fn parse(message: &'a [u8]) -> Result<Self, Option<Vec<u8>>> {
        let flags = number(message, 2).filter(|flags| flags & 0x8000 == 0);
        let flags = flags.filter(|_| message.len() >= HEADER).ok_or(None)?;
        if flags & 0x7800 != 0 {
            return Err(Some(refusal(message, Code::NotImplemented)));
        }
        let malformed = || Some(refusal(message, Code::Malformed));
        if number(message, 4) != Some(1) {
            return Err(malformed());
        }
        let (name, at) = name(message).ok_or_else(malformed)?;
        let kind = number(message, at).ok_or_else(malformed)?;
        let class = number(message, at + 2).ok_or_else(malformed)?;
        let end = at + 4;
        let extensions = extensions(message, end);
        Ok(Self {
            message,
            end,
            name: name.filter(|_| class == IN),
            kind,
            datagram: extensions.map_or(LEAST_DATAGRAM, |size| LEAST_DATAGRAM.max(size.into())),
            has_extensions: extensions.is_some(),
        })
    }

    /// The header and what is asked, without anything behind it.
    pub(super) fn asked(&self) -> &'a [u8] {
        &self.message[..self.end]
    }

    /// The addresses among `all` that are asked for; none if it is not addresses that are asked for.
    pub(super) fn wanted(&self, all: &[IpAddr]) -> Option<Vec<IpAddr>> {
        let wants_v4 = match self.kind {
            A => true,
            AAAA => false,
            _ => return None,
        };
        let wanted = all.iter().copied();
        Some(wanted.filter(|ip| ip.is_ipv4() == wants_v4).collect())
    }

    /// The answer of who knows the name, perhaps by another one that it stands for: as many addresses as fit.
    pub(super) fn answer(
        &self,
        alias: Option<&str>,
        addresses: &[IpAddr],
        limit: usize,
    ) -> Vec<u8> {
        let mut answer = self.head(Code::NoError);
        // It is the authority, as Istio's.
        answer[2] |= 0x04;
        let room = limit.saturating_sub(if self.has_extensions { 11 } else { 0 });
        let mut owner = ASKED;
        let mut count: u16 = 0;
        let alias = alias.filter(|_| !addresses.is_empty()).map(labels);
        if let Some(alias) = alias {
            append(&mut answer, owner, CNAME, &alias);
            count += 1;
            // The name within this record is the owner of the others.
            let at = (answer.len() - alias.len()) as u16;
            owner = (0xc000 | at).to_be_bytes();
        }
        for address in addresses {
            let before = answer.len();
            match address {
                IpAddr::V4(ip) => append(&mut answer, owner, A, &ip.octets()),
                IpAddr::V6(ip) => append(&mut answer, owner, AAAA, &ip.octets()),
            }
            if answer.len() > room {
                answer.truncate(before);
                // Ask over TCP.
                answer[2] |= 0x02;
                break;
            }
            count += 1;
        }
        answer[6..8].copy_from_slice(&count.to_be_bytes());
        self.extend(&mut answer);
        answer
    }

    /// The answer of who cannot say.
    pub(super) fn failure(&self) -> Vec<u8> {
        let mut answer = self.head(Code::Failure);
        self.extend(&mut answer);
        answer
    }

    /// What every answer begins with: the header without records, and what was asked.
    fn head(&self, code: Code) -> Vec<u8> {
        let mut head = refusal(self.message, code);
        head[5] = 1;
        head.extend(&self.message[HEADER..self.end]);
        head
    }

    /// Who uses extensions is answered with them.
    fn extend(&self, answer: &mut Vec<u8>) {
        if !self.has_extensions {
            return;
        }
        answer[11] = 1;
        answer.push(0);
        answer.extend(OPT.to_be_bytes());
        answer.extend(OWN_DATAGRAM.to_be_bytes());
        answer.extend([0; 6]);
    }
}

/// The header of an answer without anything behind it.
fn refusal(message: &[u8], code: Code) -> Vec<u8> {
    let mut head = vec![0; HEADER];
    head[..2].copy_from_slice(&message[..2]);
    // A response to the same operation; recursion is there, and as wanted as it was.
    head[2] = 0x80 | message[2] & 0x79;
    head[3] = 0x80 | code as u8;
    head
}

/// The name behind the header, and where it ends. It is whole: there is nothing in front of it to point to.
fn name(message: &[u8]) -> Option<(Option<String>, usize)> {
    let (mut name, mut is_text, mut at) = (String::new(), true, HEADER);
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        if length > 63 {
            return None;
        }
        let label = message.get(at..at + length)?;
        at += length;
        if at - HEADER >= MAX_NAME {
            return None;
        }
        if !name.is_empty() {
            name.push('.');
        }
        for byte in label {
            is_text &= byte.is_ascii_graphic() && *byte != b'.';
            name.push(char::from(byte.to_ascii_lowercase()));
        }
    }
    Some((Some(name).filter(|_| is_text), at))
}

/// The size of datagrams that the other side takes, if it uses extensions.
fn extensions(message: &[u8], end: usize) -> Option<u16> {
    // Questions have no other records in front of them.
    if number(message, 6)? != 0 || number(message, 8)? != 0 {
        return None;
    }
    let mut at = end;
    for _ in 0..number(message, 10)?.min(MAX_RECORDS) {
        let is_of_root = *message.get(at)? == 0;
        if is_of_root && number(message, at + 1)? == OPT {
            return number(message, at + 3);
        }
        at = behind_name(message, at)?;
        at += 10 + usize::from(number(message, at + 8)?);
    }
    None
}

fn append(answer: &mut Vec<u8>, owner: [u8; 2], kind: u16, data: &[u8]) {
    answer.extend(owner);
    answer.extend(kind.to_be_bytes());
    answer.extend(IN.to_be_bytes());
    answer.extend(TTL.to_be_bytes());
    answer.extend((data.len() as u16).to_be_bytes());
    answer.extend(data);
}

/// A name as messages have it; the table has only such as are names.
fn labels(name: &str) -> Vec<u8> {
    let mut labels = Vec::with_capacity(name.len() + 2);
    for label in name.split('.') {
        labels.push(label.len() as u8);
        labels.extend(label.as_bytes());
    }
    labels.push(0);
    labels
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::message::{Reply, parse, query};
    use super::*;

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        let texts = texts.iter();
        texts
            .map(|text| text.parse().expect("an address"))
            .collect()
    }

    #[test]
    fn answers_are_what_a_resolver_reads() {
        let all = ips(&["10.0.0.1", "fd00::1", "10.0.0.2"]);
        for (kind, expected) in [
            (Kind::V4, &["10.0.0.1", "10.0.0.2"][..]),
            (Kind::V6, &["fd00::1"]),
        ] {
            let asked = query(7, "Web.Example", kind).expect("a name");
            let question = Question::parse(&asked).expect("a question");
            assert_eq!(question.name.as_deref(), Some("web.example"));
            let wanted = question.wanted(&all).expect("addresses");
            assert_eq!(wanted, ips(expected));
            for alias in [None, Some("other.example")] {
                let answer = question.answer(alias, &wanted, 512);
                let reply = Reply::Answer(ips(expected), Some(TTL));
                assert_eq!(parse(&answer, &asked), Some(reply));
            }
            // The name is known, but has no such address.
            let answer = question.answer(Some("other.example"), &[], 512);
            assert_eq!(parse(&answer, &asked), Some(Reply::Answer(vec![], None)));
            let failure = question.failure();
            assert_eq!(parse(&failure, &asked), Some(Reply::Failed(2)));
        }
    }

    #[test]
    fn what_does_not_fit_is_cut_and_says_so() {
        let asked = query(7, "web.example", Kind::V4).expect("a name");
        let many: Vec<_> = (0..200)
            .map(|last| IpAddr::from([10, 0, 0, last]))
            .collect();
        for (size, records) in [
            (None, 30),
            (Some(100), 29),
            (Some(1232), 74),
            (Some(4096), 200),
        ] {
            let mut asked = asked.clone();
            if let Some(size) = size {
                asked[11] = 1;
                asked.extend([0, 0, 41]);
                asked.extend(u16::to_be_bytes(size));
                asked.extend([0; 6]);
            }
            let question = Question::parse(&asked).expect("a question");
            let answer = question.answer(None, &many, question.datagram);
            assert!(answer.len() <= question.datagram, "{size:?}");
            assert_eq!(number(&answer, 6), Some(records), "{size:?}");
            assert_eq!(answer[2] & 2 != 0, records < 200, "{size:?}");
            assert_eq!(answer[11], u8::from(size.is_some()));
            let whole = question.answer(None, &many, usize::MAX);
            assert_eq!(number(&whole, 6), Some(200));
        }
    }

    #[test]
    fn what_is_no_question() {
        let good = query(7, "a.example", Kind::V4).expect("a name");
        let with = |at: usize, byte: u8| {
            let mut message = good.clone();
            message[at] = byte;
            message
        };
        let code = |message: &[u8]| match Question::parse(message) {
            Ok(question) => Ok(question.name),
            Err(answer) => Err(answer.map(|answer| answer[3] & 15)),
        };
        for (what, message, expected) in [
            ("a response", with(2, 0x81), Err(None)),
            ("nothing", Vec::new(), Err(None)),
            ("half a header", good[..11].to_vec(), Err(None)),
            ("a status request", with(2, 0x10), Err(Some(4))),
            ("two questions", with(5, 2), Err(Some(1))),
            ("no question", with(5, 0), Err(Some(1))),
            ("a pointer", with(12, 0xc0), Err(Some(1))),
            ("cut off", good[..good.len() - 1].to_vec(), Err(Some(1))),
            ("another class", with(good.len() - 1, 3), Ok(None)),
            ("no text", with(13, 0), Ok(None)),
            ("a dot in a label", with(13, b'.'), Ok(None)),
        ] {
            assert_eq!(code(&message), expected, "{what}");
        }
        let mut long = good[..12].to_vec();
        for _ in 0..128 {
            long.extend([1, b'a']);
        }
        long.extend([0, 0, 1, 0, 1]);
        assert_eq!(code(&long), Err(Some(1)), "a long name");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn nothing_that_arrives_does_harm(
            tail in prop::collection::vec(any::<u8>(), 0..80),
            at in 0_usize..40,
            byte in any::<u8>(),
        ) {
            let mut message = query(7, "web.example", Kind::V4).expect("a name");
            message.extend(&tail);
            message[11] = 3;
            if let Some(place) = message.get_mut(at) {
                *place = byte;
            }
            for message in [&message[..], &tail[..]] {
                if let Ok(question) = Question::parse(message) {
                    let answer = question.answer(Some("a.b"), &[IpAddr::from([1, 2, 3, 4])], question.datagram);
                    prop_assert!(answer.len() >= question.end);
                }
            }
        }
    }
}
