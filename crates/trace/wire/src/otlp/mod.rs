//! OTLP traces (`opentelemetry.proto.collector.trace.v1`), protobuf and JSON.
//!
//! A request that is not what it says it is (cut short, a wrong wire type, a text that is not
//! UTF-8, bad JSON) is refused as a whole, with a [`DecodeError`]. A span that breaks a rule of the
//! data model (an id of a wrong length, or a zero one) is refused alone: it is counted in
//! [`Decoded::refused`], and the rest of the request is taken (OTLP's partial success).
//!
//! Unknown fields are ignored. Unknown kinds and status codes count as "not said". Groups without
//! spans disappear, as they say nothing.
//!
//! # Limits
//!
//! What a request can blow up into memory is bounded by its size and by these limits:
//!
//! | limit | what is over it |
//! |---|---|
//! | [`MAX_ATTRIBUTES`] of one span, event, link, resource or scope | is dropped, and counted in its `dropped_attributes_count` |
//! | [`MAX_EVENTS`], [`MAX_LINKS`] of one span | is dropped, and counted in its `dropped_events_count`, `dropped_links_count` |
//! | [`MAX_DEPTH`] of arrays and maps in one attribute, [`MAX_VALUES`] in them | refuses the span (on a resource or a scope: the request) |

mod count;
mod decode;
mod encode;
mod error;
mod json;
mod json_decode;
mod json_encode;
mod limits;
mod walk;
mod walk_span;

pub use count::count_spans;
pub use decode::decode_protobuf;
pub use encode::encode_protobuf;
pub use error::{DecodeError, Decoded, Refused};
pub use json_decode::decode_json;
pub use json_encode::encode_json;
pub use limits::{MAX_ATTRIBUTES, MAX_DEPTH, MAX_EVENTS, MAX_LINKS, MAX_VALUES};
pub(crate) use limits::{push_bounded, within_limits};
pub use walk::{
    AttributeRef, EventRef, LinkRef, ResourceRef, ScopeRef, Sink, SpanRef, Taken, ValueRef,
    walk_protobuf,
};
