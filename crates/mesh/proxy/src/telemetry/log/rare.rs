//! Operators that few formats have: what filters have found out, and parts of the request's target.

use std::borrow::Cow;

use periplus_cel::Expression;
use serde_json::{Map, Value};

use super::entry::Entry;
use super::expression;
use super::known::Known;
use super::operator::cut;
use super::value::Kind;
use crate::hashing::parameter;
use crate::policy::{Metadata, NETWORK_RBAC, RBAC};

/// An operator that few formats have.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Rare {
    /// `%DYNAMIC_METADATA(FILTER:KEY:…)%`: all that a filter has left, or the value at a path of keys.
    Metadata {
        filter: String,
        path: Vec<String>,
        most: Option<usize>,
    },
    /// `%QUERY_PARAM(NAME)%`, as it stands in the target.
    Parameter {
        name: String,
        most: Option<usize>,
    },
    /// `%QUERY_PARAMS%`: all of the query.
    Query {
        most: Option<usize>,
    },
    Known(Known),
    /// `%CEL(EXPRESSION)%`
    Expression {
        expression: Expression,
        most: Option<usize>,
    },
    /// `%DOWNSTREAM_TLS_VERSION%` and others.
    Agreed {
        is_upstream: bool,
        is_cipher: bool,
    },
}

impl Rare {
    /// Reads those whose names these are; none if it is another one.
    pub(super) fn parse(
        name: &str,
        argument: Option<&str>,
        most: Option<usize>,
    ) -> Result<Option<Self>, String> {
        let given = || {
            let argument = argument.filter(|text| !text.is_empty());
            argument.ok_or_else(|| format!("%{name}% needs an argument"))
        };
        let none = |rare: Self| match argument {
            None => Ok(rare),
            Some(_) => Err(format!("%{name}% takes no argument")),
        };
        Ok(Some(match name {
            "DYNAMIC_METADATA" => Self::metadata(given()?, most),
            "METADATA" => match given()?.split_once(':') {
                Some(("DYNAMIC", of)) => Self::metadata(of, most),
                _ => return Err("%METADATA% is supported of DYNAMIC only".to_owned()),
            },
            "QUERY_PARAM" => Self::Parameter {
                name: given()?.to_owned(),
                most,
            },
            "QUERY_PARAMS" => match argument {
                None | Some("" | "ORIG") => Self::Query { most },
                Some(other) => return Err(format!("%QUERY_PARAMS({other})% is not supported")),
            },
            "DOWNSTREAM_TLS_VERSION" => none(Self::agreed(false, false))?,
            "DOWNSTREAM_TLS_CIPHER" => none(Self::agreed(false, true))?,
            "UPSTREAM_TLS_VERSION" => none(Self::agreed(true, false))?,
            "UPSTREAM_TLS_CIPHER" => none(Self::agreed(true, true))?,
            "CEL" => Self::Expression {
                expression: Expression::parse(given()?)
                    .map_err(|error| format!("%CEL%: {error}"))?,
                most,
            },
            _ => return Ok(Known::parse(name, argument)?.map(Self::Known)),
        }))
    }

    /// Whether it asks for the head that the endpoint gets.
    pub(super) fn needs_sent_head(&self) -> bool {
        match self {
            Self::Known(known) => known.needs_sent_head(),
            Self::Expression { expression, .. } => expression::needs_sent_head(expression),
            _ => false,
        }
    }

    /// Whether it asks for the response's headers or trailers.
    pub(super) fn needs_response(&self) -> bool {
        match self {
            Self::Known(known) => known.needs_response(),
            Self::Expression { expression, .. } => expression::needs_response(expression),
            _ => false,
        }
    }

    /// Whether it asks for the head that the endpoint has sent.
    pub(super) fn needs_upstream_head(&self) -> bool {
        matches!(self, Self::Known(known) if known.needs_upstream_head())
    }

    fn agreed(is_upstream: bool, is_cipher: bool) -> Self {
        Self::Agreed {
            is_upstream,
            is_cipher,
        }
    }

    fn metadata(argument: &str, most: Option<usize>) -> Self {
        let mut parts = argument.split(':').map(str::to_owned);
        Self::Metadata {
            filter: parts.next().unwrap_or_default(),
            path: parts.collect(),
            most,
        }
    }

    /// Whether it tells what rules have decided.
    pub(crate) fn tells_decisions(&self) -> bool {
        let of_rules = [RBAC, NETWORK_RBAC];
        matches!(self, Self::Metadata { filter, .. } if of_rules.contains(&filter.as_str()))
    }

    #[cold]
    pub(super) fn append(&self, entry: &Entry<'_>, out: &mut Vec<u8>) -> Kind {
        let (value, most) = match self {
            Self::Metadata { filter, path, most } => {
                let value = entry.metadata.and_then(|known| value(known, filter, path));
                return match value {
                    None => Kind::Absent,
                    Some(value) => append_value(&value, *most, out),
                };
            }
            Self::Known(known) => return known.append(entry, out),
            Self::Expression { expression, most } => {
                let Some(value) = expression.value(entry) else {
                    return Kind::Absent;
                };
                let mut text = value.to_string();
                cut(&mut text, *most);
                out.extend_from_slice(text.as_bytes());
                return Kind::Text;
            }
            Self::Parameter { name, most } => {
                let value = query(entry).and_then(|query| parameter(query, name.as_bytes()));
                (value, most)
            }
            Self::Query { most } => (query(entry), most),
            Self::Agreed {
                is_upstream,
                is_cipher,
            } => {
                let secured = match is_upstream {
                    true => entry.upstream.and_then(|upstream| upstream.secured),
                    false => entry.secured,
                };
                let agreed = secured.and_then(|secured| secured.agreed);
                let name = agreed.and_then(|agreed| match is_cipher {
                    true => agreed.cipher_name(),
                    false => agreed.version_name(),
                });
                (name.map(str::as_bytes), &None)
            }
        };
        let Some(value) = value else {
            return Kind::Absent;
        };
        let most = most.unwrap_or(usize::MAX);
        out.extend_from_slice(&value[..value.len().min(most)]);
        Kind::Text
    }
}

/// All that a filter has left, or the value at a path of keys; null is none.
fn value<'a>(metadata: &'a Metadata, filter: &str, path: &[String]) -> Option<Cow<'a, Value>> {
    if !path.is_empty() {
        let value = metadata.get(filter, path)?;
        return (!value.is_null()).then_some(Cow::Borrowed(value));
    }
    let all = metadata.of(filter);
    let all: Map<_, _> = all
        .map(|(key, value)| (key.to_owned(), value.clone()))
        .collect();
    (!all.is_empty()).then_some(Cow::Owned(Value::Object(all)))
}

/// A text as it is, anything else as JSON, which stays what it is in a line of JSON.
fn append_value(value: &Value, most: Option<usize>, out: &mut Vec<u8>) -> Kind {
    let (mut text, kind) = match value {
        Value::String(text) => (text.clone(), Kind::Text),
        other => (other.to_string(), Kind::Json),
    };
    let whole = text.len();
    cut(&mut text, most);
    out.extend_from_slice(text.as_bytes());
    match kind {
        // What is cut is no JSON any more.
        _ if text.len() < whole => Kind::Text,
        kind => kind,
    }
}

fn query<'a>(entry: &Entry<'a>) -> Option<&'a [u8]> {
    let target = entry.request_header(":path")?;
    let at = memchr::memchr(b'?', target)?;
    Some(&target[at + 1..]).filter(|query| !query.is_empty())
}
