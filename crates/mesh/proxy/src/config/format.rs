//! Envoy's format strings, as values of header fields have them.

use super::check::{At, Refused};
use crate::snapshot::{AddressPart, Command, Format, Part};

/// Takes a format string apart; what does not change while the proxy runs becomes text.
pub(super) fn compile(source: &str, at: &At<'_>) -> Result<Format, Refused> {
    let mut parts: Vec<Part> = Vec::new();
    let mut text = String::new();
    let mut rest = source;
    while let Some(start) = rest.find('%') {
        text.push_str(&rest[..start]);
        rest = &rest[start + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            text.push('%');
            rest = after;
            continue;
        }
        let (name, argument, length, after) = split(rest)
            .ok_or_else(|| at.refuse(format!("{source:?}: a command is not complete")))?;
        rest = after;
        match command(name, argument, at)? {
            Meaning::Text(value) => {
                text.push_str(&value[..floor(&value, length.unwrap_or(value.len()))]);
            }
            Meaning::Command(command) => {
                if !text.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut text)));
                }
                parts.push(Part::Command(command, length));
            }
        }
    }
    text.push_str(rest);
    if !text.is_empty() {
        parts.push(Part::Text(text));
    }
    Ok(Format(parts))
}

/// The longest part of a text of at most so many bytes that is text too.
fn floor(text: &str, most: usize) -> usize {
    let mut at = most.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// `NAME(ARGUMENT):LENGTH%` and what follows it.
fn split(text: &str) -> Option<(&str, Option<&str>, Option<usize>, &str)> {
    let end = text.find(|c: char| !c.is_ascii_uppercase() && !c.is_ascii_digit() && c != '_')?;
    let (name, mut rest) = text.split_at(end);
    let mut argument = None;
    if let Some(inner) = rest.strip_prefix('(') {
        let (inside, after) = inner.split_once(')')?;
        argument = Some(inside);
        rest = after;
    }
    let mut length = None;
    if let Some(after) = rest.strip_prefix(':') {
        let (digits, _) = after.split_once('%')?;
        length = Some(digits.parse().ok()?);
        rest = &after[digits.len()..];
    }
    Some((name, argument, length, rest.strip_prefix('%')?))
}

enum Meaning {
    Text(String),
    Command(Command),
}

fn command(name: &str, argument: Option<&str>, at: &At<'_>) -> Result<Meaning, Refused> {
    let field = |argument: Option<&str>| {
        let argument = argument.filter(|argument| !argument.is_empty());
        let Some(argument) = argument else {
            return Err(at.refuse(format!("%{name}% needs the name of a field")));
        };
        let (name, other) = match argument.split_once('?') {
            Some((name, other)) => (name, Some(other.to_ascii_lowercase())),
            None => (argument, None),
        };
        Ok((name.to_ascii_lowercase(), other))
    };
    if let "REQ" | "RESP" | "ENVIRONMENT" = name {
        return Ok(match name {
            "REQ" => {
                let (name, other) = field(argument)?;
                Meaning::Command(Command::Request(name, other))
            }
            "RESP" => {
                let (name, other) = field(argument)?;
                Meaning::Command(Command::Response(name, other))
            }
            _ => Meaning::Text(std::env::var(argument.unwrap_or_default()).unwrap_or_default()),
        });
    }
    if argument.is_some() {
        return Err(unknown(name, at));
    }
    let (stem, part) = if let Some(stem) = name.strip_suffix("_WITHOUT_PORT") {
        (stem.to_owned(), AddressPart::Ip)
    } else if let Some(stem) = name.strip_suffix("_PORT") {
        (format!("{stem}_ADDRESS"), AddressPart::Port)
    } else {
        (name.to_owned(), AddressPart::Whole)
    };
    Ok(Meaning::Command(match (stem.as_str(), part) {
        ("DOWNSTREAM_REMOTE_ADDRESS", part) => Command::Remote(part),
        ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS", part) => Command::DirectRemote(part),
        ("DOWNSTREAM_LOCAL_ADDRESS", part) => Command::Local(part),
        ("UPSTREAM_REMOTE_ADDRESS", part) => Command::Upstream(part),
        ("UPSTREAM_HOST", AddressPart::Whole) => Command::Upstream(AddressPart::Whole),
        ("UPSTREAM_CLUSTER", AddressPart::Whole) => Command::Cluster,
        ("PROTOCOL", AddressPart::Whole) => Command::Protocol,
        ("ROUTE_NAME", AddressPart::Whole) => Command::RouteName,
        ("RESPONSE_CODE", AddressPart::Whole) => Command::Status,
        ("RESPONSE_FLAGS", AddressPart::Whole) => Command::Flags,
        ("DOWNSTREAM_PEER_URI_SAN", AddressPart::Whole) => Command::PeerUriSan,
        ("DOWNSTREAM_LOCAL_URI_SAN", AddressPart::Whole) => Command::LocalUriSan,
        _ => return Err(unknown(name, at)),
    }))
}

fn unknown(name: &str, at: &At<'_>) -> Refused {
    at.refuse(format!("the command %{name}% is not supported"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn format_strings() {
        let at = At::ROOT;
        let text = |text: &str| Part::Text(text.to_owned());
        let request = |name: &str, other: Option<&str>, length| {
            Part::Command(
                Command::Request(name.to_owned(), other.map(str::to_owned)),
                length,
            )
        };
        for (source, parts) in [
            ("", vec![]),
            ("a%%b", vec![text("a%b")]),
            ("100%%", vec![text("100%")]),
            ("%REQ(X-A)%", vec![request("x-a", None, None)]),
            (
                "a %REQ(X-A?:path):5% b",
                vec![
                    text("a "),
                    request("x-a", Some(":path"), Some(5)),
                    text(" b"),
                ],
            ),
            (
                "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
                vec![Part::Command(Command::Remote(AddressPart::Ip), None)],
            ),
            (
                "%DOWNSTREAM_LOCAL_PORT%",
                vec![Part::Command(Command::Local(AddressPart::Port), None)],
            ),
            ("%ENVIRONMENT(PERIPLUS_SURELY_NOT_SET)%", vec![]),
        ] {
            assert_eq!(compile(source, &at), Ok(Format(parts)), "{source}");
        }
        for (source, reason) in [
            ("50%", "\"50%\": a command is not complete"),
            ("%REQ(a%", "\"%REQ(a%\": a command is not complete"),
            ("%REQ%", "%REQ% needs the name of a field"),
            ("%START_TIME%", "the command %START_TIME% is not supported"),
            (
                "%DYNAMIC_METADATA(a:b)%",
                "the command %DYNAMIC_METADATA% is not supported",
            ),
            (
                "%PROTOCOL_PORT%",
                "the command %PROTOCOL_PORT% is not supported",
            ),
        ] {
            let refused = compile(source, &at).expect_err("not supported");
            assert_eq!(refused.to_string(), reason);
        }
    }
}
