//! What every compiler here shares: where a field is, how to refuse it, and how to make sure that no
//! field of a message was overlooked.
//!
//! The pattern: take each supported field out of the message with `std::mem::take`, clear each one that may
//! be ignored with [`ignored!`], then call [`nothing_else`], which refuses whatever is still set.

use std::fmt;
use std::time::Duration;

use envoy_types::pb::google::protobuf;
use prost::{Message, Name};

/// The place of a field within a resource, such as `filter_chains[0].filters[0]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At<'a> {
    parent: Option<&'a At<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Root,
    Field(&'a str),
    Index(usize),
    /// In its brackets.
    Key(&'a str),
}

impl<'a> At<'a> {
    /// The resource itself.
    pub(crate) const ROOT: At<'static> = At {
        parent: None,
        step: Step::Root,
    };

    pub(crate) fn field(&'a self, name: &'a str) -> Self {
        Self {
            parent: Some(self),
            step: Step::Field(name),
        }
    }

    pub(crate) fn index(&'a self, index: usize) -> Self {
        Self {
            parent: Some(self),
            step: Step::Index(index),
        }
    }

    /// An entry of a map; `key` is in brackets.
    pub(crate) fn key(&'a self, key: &'a str) -> Self {
        Self {
            parent: Some(self),
            step: Step::Key(key),
        }
    }

    pub(crate) fn refuse(&self, reason: impl Into<String>) -> Refused {
        Refused {
            field: self.to_string(),
            reason: reason.into(),
        }
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let below_root = self
            .parent
            .is_some_and(|parent| !matches!(parent.step, Step::Root));
        if let Some(parent) = self.parent {
            write!(f, "{parent}")?;
        }
        match self.step {
            Step::Root => Ok(()),
            Step::Field(name) if below_root => write!(f, ".{name}"),
            Step::Field(name) => f.write_str(name),
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Key(key) => f.write_str(key),
        }
    }
}

/// Why a resource cannot be used: the field, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{reason}", Prefix(field))]
pub(crate) struct Refused {
    pub(crate) field: String,
    pub(crate) reason: String,
}

struct Prefix<'a>(&'a str);

impl fmt::Display for Prefix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            "" => Ok(()),
            field => write!(f, "{field}: "),
        }
    }
}

/// Clears fields that are accepted without effect. Each is listed with its reason in `docs/xds-support.md`.
macro_rules! ignored {
    ($message:ident: $($field:ident),+ $(,)?) => {
        $( $message.$field = Default::default(); )+
    };
}
pub(crate) use ignored;

/// Refuses a message that still has a field set.
pub(crate) fn nothing_else<M: Message + fmt::Debug + Default + PartialEq>(
    message: &M,
    at: &At<'_>,
) -> Result<(), Refused> {
    if *message == M::default() {
        return Ok(());
    }
    let fields = differing_fields(message);
    let refused = match fields.as_slice() {
        [one] => at.field(one).refuse("is not supported"),
        _ => at.refuse(format!(
            "the fields {} are not supported",
            fields.join(", ")
        )),
    };
    Err(refused)
}

/// The names of the fields that are set, read off the two `Debug` forms: prost has no reflection.
fn differing_fields<M: fmt::Debug + Default>(message: &M) -> Vec<String> {
    let default = format!("{:#?}", M::default());
    let fields_of = |text: &str| -> Vec<(String, String)> {
        let mut fields: Vec<(String, String)> = Vec::new();
        for line in text.lines() {
            let top_level = line
                .strip_prefix("    ")
                .filter(|rest| !rest.starts_with([' ', '}', ']', ')']));
            match (top_level, fields.last_mut()) {
                (Some(rest), _) => {
                    let (name, value) = rest.split_once(':').unwrap_or((rest, ""));
                    fields.push((name.trim_start_matches("r#").to_owned(), value.to_owned()));
                }
                (None, Some((_, value))) => value.push_str(line),
                (None, None) => {}
            }
        }
        fields
    };
    let unset = fields_of(&default);
    fields_of(&format!("{message:#?}"))
        .into_iter()
        .filter(|field| !unset.contains(field))
        .map(|(name, _)| name)
        .collect()
}

/// Decodes a message of the type that it must have.
///
/// Bytes that do not come back when it is encoded again belong to fields that this proxy has never heard of;
/// they are refused, since what they ask for is unknown.
pub(crate) fn decode<M: Message + Name + Default>(
    any: &protobuf::Any,
    at: &At<'_>,
) -> Result<M, Refused> {
    if any.type_url != M::type_url() {
        return Err(at.refuse(format!(
            "{:?} is not supported here",
            short_type(&any.type_url)
        )));
    }
    let message = M::decode(any.value.as_slice())
        .map_err(|error| at.refuse(format!("it is not a valid {}: {error}", M::full_name())))?;
    if message.encoded_len() < any.value.len() {
        return Err(at.refuse(format!(
            "it has fields of {} that are newer than this proxy",
            M::full_name()
        )));
    }
    Ok(message)
}

/// A type URL without its host.
pub(crate) fn short_type(type_url: &str) -> &str {
    type_url.rsplit('/').next().unwrap_or(type_url)
}

/// A duration that is set and not negative; `None` when it is unset.
pub(crate) fn duration(
    value: Option<protobuf::Duration>,
    at: &At<'_>,
) -> Result<Option<Duration>, Refused> {
    let Some(value) = value else {
        return Ok(None);
    };
    let seconds = u64::try_from(value.seconds);
    let nanos = u32::try_from(value.nanos);
    match (seconds, nanos) {
        (Ok(seconds), Ok(nanos)) if nanos < 1_000_000_000 => {
            Ok(Some(Duration::new(seconds, nanos)))
        }
        _ => Err(at.refuse("a duration must not be negative")),
    }
}

/// A timeout whose zero means none, with the value of an unset field.
pub(crate) fn timeout(
    value: Option<protobuf::Duration>,
    unset: Option<Duration>,
    at: &At<'_>,
) -> Result<Option<Duration>, Refused> {
    Ok(match duration(value, at)? {
        None => unset,
        Some(Duration::ZERO) => None,
        given => given,
    })
}

/// A wrapped flag, or its default.
pub(crate) fn flag(value: Option<protobuf::BoolValue>, unset: bool) -> bool {
    value.map_or(unset, |value| value.value)
}

/// Refuses a flag that is set to something else than what this proxy does.
pub(crate) fn must_be(
    value: Option<protobuf::BoolValue>,
    only: bool,
    at: &At<'_>,
) -> Result<(), Refused> {
    match value {
        Some(value) if value.value != only => {
            Err(at.refuse(format!("{} is not supported", value.value)))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::config::listener::v3::{FilterChain, Listener};

    use super::*;

    #[test]
    fn what_is_left_is_named() {
        let mut listener = Listener {
            name: "x".to_owned(),
            drain_type: 1,
            filter_chains: vec![FilterChain {
                name: "y".to_owned(),
                ..FilterChain::default()
            }],
            ..Listener::default()
        };
        let at = At::ROOT.field("listeners");
        let at = at.index(3);
        let all = nothing_else(&listener, &at).expect_err("set").to_string();
        assert_eq!(
            all,
            "listeners[3]: the fields name, filter_chains, drain_type are not supported"
        );

        ignored!(listener: name, drain_type);
        let one = nothing_else(&listener, &at).expect_err("set").to_string();
        assert_eq!(one, "listeners[3].filter_chains: is not supported");
        listener.filter_chains.clear();
        assert_eq!(nothing_else(&listener, &at), Ok(()));
    }

    #[test]
    fn fields_from_the_future_are_refused() {
        let mut any = protobuf::Any {
            type_url: Listener::type_url(),
            value: Listener {
                name: "x".to_owned(),
                ..Listener::default()
            }
            .encode_to_vec(),
        };
        assert!(decode::<Listener>(&any, &At::ROOT).is_ok());
        // Field 900, a varint.
        any.value.extend([0xa0, 0x38, 0x01]);
        let refused = decode::<Listener>(&any, &At::ROOT)
            .expect_err("unknown field")
            .to_string();
        assert_eq!(
            refused,
            "it has fields of envoy.config.listener.v3.Listener that are newer than this proxy"
        );
        any.value.push(0xff);
        assert!(decode::<Listener>(&any, &At::ROOT).is_err());
        any.type_url = "type.googleapis.com/a.B".to_owned();
        let refused = decode::<Listener>(&any, &At::ROOT)
            .expect_err("type")
            .to_string();
        assert_eq!(refused, "\"a.B\" is not supported here");
    }
}
