//! What routes ask about requests.

use std::borrow::Cow;

use crate::http1::request::RequestHead;
use crate::policy::{Metadata, MetadataMatch};
use crate::snapshot::{Conditions, FieldName, HeaderMatch, RequestField};

/// What a route may ask about a request.
#[derive(Clone, Copy)]
pub(crate) struct Asking<'a> {
    pub(crate) request: &'a RequestHead,
    pub(crate) head: &'a [u8],
    pub(crate) scheme: &'static str,
    pub(crate) is_grpc: bool,
    /// The client has shown a certificate.
    pub(crate) presented: bool,
    /// What filters have found out, once they were asked.
    pub(crate) metadata: Option<&'a Metadata>,
}

/// Whether a request meets the rarer conditions of a route.
#[cold]
pub(crate) fn meets(
    conditions: &Conditions,
    asking: &Asking<'_>,
    random: impl Fn() -> u64,
) -> bool {
    let target = asking.request.target.path.get(asking.head);
    let query = memchr::memchr(b'?', target).map_or(&b""[..], |at| &target[at + 1..]);
    let is_in = |share: u32| random() % 1_000_000 < u64::from(share);
    (!conditions.grpc || asking.is_grpc)
        && conditions
            .presented
            .is_none_or(|wanted| wanted == asking.presented)
        && !(conditions.came_by_http && asking.request.came_by_https)
        && conditions.query.iter().all(|one| one.is_met_by(query))
        && holds(&conditions.metadata, asking)
        && conditions.per_million.is_none_or(is_in)
}

/// Whether what filters have found out is as a route wants it.
fn holds(conditions: &[MetadataMatch], asking: &Asking<'_>) -> bool {
    let nothing = Metadata::default();
    let metadata = asking.metadata.unwrap_or(&nothing);
    conditions.iter().all(|one| one.holds(metadata))
}

/// The values of the lines of a header, of which there is one as a rule.
#[derive(Debug)]
pub(super) enum Values<'a> {
    One(&'a [u8]),
    /// Some other number of them.
    Several(Vec<&'a [u8]>),
}

impl<'a> Values<'a> {
    pub(super) fn of(mut values: impl Iterator<Item = &'a [u8]>) -> Self {
        match (values.next(), values.next()) {
            (None, _) => Self::Several(Vec::new()),
            (Some(only), None) => Self::One(only),
            (Some(first), Some(second)) => {
                Self::Several([first, second].into_iter().chain(values).collect())
            }
        }
    }
}

impl<'a> Asking<'a> {
    /// The values of a header of the request, pseudo headers included.
    pub(super) fn values(&self, name: &FieldName) -> Values<'a> {
        let (request, head) = (self.request, self.head);
        Values::One(match name.of_request {
            RequestField::Method => request.method(head),
            RequestField::Authority => request.target.authority.get(head),
            RequestField::Path => request.target.path.get(head),
            RequestField::Scheme => self.scheme.as_bytes(),
            RequestField::Line(id) => return Values::of(request.fields.all_named(id, name, head)),
        })
    }

    /// Whether the request meets a condition on a header.
    pub(crate) fn has(&self, condition: &HeaderMatch) -> bool {
        matches_header(condition, self.request, self.head, self.scheme)
    }
}

/// Whether a request meets a condition on a header, pseudo headers included.
pub(crate) fn matches_header(
    condition: &HeaderMatch,
    request: &RequestHead,
    head: &[u8],
    scheme: &str,
) -> bool {
    let value = match condition.name.of_request {
        RequestField::Method => request.method(head),
        RequestField::Authority => request.target.authority.get(head),
        RequestField::Path => request.target.path.get(head),
        RequestField::Scheme => scheme.as_bytes(),
        RequestField::Line(id) if !request.fields.may_have(id, &condition.name) => {
            return condition.matches(None);
        }
        RequestField::Line(id) => {
            if let Some(value) = request.fields.only(id, head) {
                return condition.matches(Some(value));
            }
            return condition.matches_lines(request.fields.all_named(id, &condition.name, head));
        }
    };
    condition.matches(Some(value))
}

/// The value of a header; several fields of one name are one list (RFC 9110 §5.3).
pub(crate) fn joined<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Option<Cow<'a, [u8]>> {
    let first = values.next()?;
    let Some(second) = values.next() else {
        return Some(Cow::Borrowed(first));
    };
    let mut whole = first.to_vec();
    for value in std::iter::once(second).chain(values) {
        whole.push(b',');
        whole.extend_from_slice(value);
    }
    Some(Cow::Owned(whole))
}
