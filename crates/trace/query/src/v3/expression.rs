//! The messages of `jaeger.expression.v1`, Jaeger's structured filter (its RFC 0005): as protobuf and as
//! JSON.

use serde::Deserialize;

/// An operator applied to operands.
#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Call {
    #[prost(string, tag = "1")]
    pub(crate) op: String,
    #[prost(message, repeated, tag = "2")]
    pub(crate) args: Vec<Expression>,
}

/// An operand.
#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(transparent)]
pub(crate) struct Expression {
    #[prost(oneof = "Term", tags = "1, 2, 3, 4, 5, 6")]
    pub(crate) term: Option<Term>,
}

#[derive(Clone, PartialEq, prost::Oneof, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Term {
    #[prost(message, tag = "1")]
    Attr(AttributeReference),
    #[prost(message, tag = "2")]
    Field(FieldReference),
    #[prost(message, tag = "3")]
    Nested(NestedReference),
    #[prost(message, tag = "4")]
    Scalar(Scalar),
    #[prost(message, tag = "5")]
    List(List),
    #[prost(message, tag = "6")]
    Call(Call),
}

/// An attribute; without a level of the span or the resource.
#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AttributeReference {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(string, tag = "2")]
    pub(crate) level: String,
}

/// A property that is no attribute.
#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct FieldReference {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) level: String,
}

/// All events or all links of a span.
#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct NestedReference {
    #[prost(string, tag = "1")]
    pub(crate) level: String,
}

/// A constant.
#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Scalar {
    #[prost(string, tag = "1")]
    pub(crate) value: String,
    #[prost(string, tag = "2")]
    pub(crate) r#type: String,
}

/// Several constants of one type.
#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct List {
    #[prost(string, repeated, tag = "1")]
    pub(crate) values: Vec<String>,
    #[prost(string, tag = "2")]
    pub(crate) r#type: String,
}
