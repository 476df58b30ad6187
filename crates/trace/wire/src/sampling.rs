//! What a client is told about sampling: `jaeger.api_v2.SamplingStrategyResponse`, in protobuf and in
//! the two JSON forms that clients read.
//!
//! A client that finds `operationSampling` obeys it; otherwise it obeys the base strategy.

use serde::{Serialize, Serializer};
use thiserror::Error;

use crate::protobuf::{
    FIXED64, Reader, WireError, push_bytes, push_key, push_message, push_varint_field,
};

/// How the traces that begin in one service are sampled.
#[derive(Clone, Debug, PartialEq)]
pub struct Strategy {
    /// For clients that know no operations, and those that are told of none.
    pub base: Base,
    /// By operation.
    pub operations: Option<OperationSampling>,
}

impl Strategy {
    /// The same share of every operation.
    pub const fn probabilistic(probability: f64) -> Self {
        Self {
            base: Base::Probabilistic(probability),
            operations: None,
        }
    }
}

/// A strategy for all operations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Base {
    /// This share of all traces, 0 to 1.
    Probabilistic(f64),
    /// At most this many traces per second and process.
    RateLimiting(i32),
}

/// Strategies by operation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OperationSampling {
    /// The share of the operations that are not listed.
    pub default_probability: f64,
    /// Traces per second that are sampled of each operation, whatever its share.
    pub lower_bound_per_second: f64,
    /// Traces per second that are sampled at most; 0 is no bound.
    pub upper_bound_per_second: f64,
    /// The shares of the operations that are listed.
    pub per_operation: Vec<OperationProbability>,
}

/// The share of one operation.
#[derive(Clone, Debug, PartialEq)]
pub struct OperationProbability {
    /// The operation's name.
    pub operation: String,
    /// Its share, 0 to 1.
    pub probability: f64,
}

/// How the type of a strategy is written in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TypeForm {
    /// `"PROBABILISTIC"`: protobuf's JSON.
    Name,
    /// `0`: Thrift's JSON, for clients older than 2017.
    Number,
}

impl Strategy {
    /// As JSON; fields with their default values are written too.
    pub fn to_json(&self, form: TypeForm) -> String {
        let (kind, probabilistic, rate) = match self.base {
            Base::Probabilistic(probability) => (0, Some(Rate::of(probability)), None),
            Base::RateLimiting(rate) => (1, None, Some(rate)),
        };
        let response = Response {
            strategy_type: match form {
                TypeForm::Name => Kind::Name(["PROBABILISTIC", "RATE_LIMITING"][kind]),
                TypeForm::Number => Kind::Number(kind),
            },
            probabilistic_sampling: probabilistic,
            rate_limiting_sampling: rate.map(|rate| PerSecond {
                max_traces_per_second: rate,
            }),
            operation_sampling: self.operations.as_ref().map(Operations::of),
        };
        // Numbers that JSON does not have are kept out by whoever makes a strategy; serde would
        // write them as null.
        serde_json::to_string(&response).unwrap_or_default()
    }

    /// As protobuf.
    pub fn to_protobuf(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self.base {
            Base::Probabilistic(probability) => {
                push_message(&mut out, 2, |out| push_double(out, 1, probability));
            }
            Base::RateLimiting(rate) => {
                push_varint_field(&mut out, 1, 1);
                push_message(&mut out, 3, |out| {
                    // A negative int32 takes ten bytes.
                    push_varint_field(out, 1, i64::from(rate).cast_unsigned());
                });
            }
        }
        if let Some(operations) = &self.operations {
            push_message(&mut out, 4, |out| push_operations(out, operations));
        }
        out
    }
}

/// The name of the service that asks (`jaeger.api_v2.SamplingStrategyParameters`).
///
/// # Errors
///
/// If the bytes are no such message.
pub fn decode_parameters(bytes: &[u8]) -> Result<String, ParametersError> {
    let mut reader = Reader::new("SamplingStrategyParameters", bytes);
    let mut service = String::new();
    while let Some((field, payload)) = reader.next()? {
        if field == 1 {
            service = payload.text("serviceName")?;
        }
    }
    Ok(service)
}

/// Why bytes are no question for a strategy.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error(transparent)]
pub struct ParametersError(#[from] WireError);

fn push_operations(out: &mut Vec<u8>, operations: &OperationSampling) {
    push_double(out, 1, operations.default_probability);
    push_double(out, 2, operations.lower_bound_per_second);
    for OperationProbability {
        operation,
        probability,
    } in &operations.per_operation
    {
        push_message(out, 3, |out| {
            push_bytes(out, 1, operation.as_bytes());
            push_message(out, 2, |out| push_double(out, 1, *probability));
        });
    }
    push_double(out, 4, operations.upper_bound_per_second);
}

/// proto3 leaves out what is zero.
fn push_double(out: &mut Vec<u8>, field: u32, value: f64) {
    if value != 0.0 {
        push_key(out, field, FIXED64);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    strategy_type: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    probabilistic_sampling: Option<Rate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_limiting_sampling: Option<PerSecond>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation_sampling: Option<Operations<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Kind {
    Name(&'static str),
    Number(usize),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rate {
    sampling_rate: Number,
}

impl Rate {
    const fn of(probability: f64) -> Self {
        Self {
            sampling_rate: Number(probability),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PerSecond {
    max_traces_per_second: i32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Operations<'a> {
    default_sampling_probability: Number,
    default_lower_bound_traces_per_second: Number,
    per_operation_strategies: Vec<Operation<'a>>,
    default_upper_bound_traces_per_second: Number,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Operation<'a> {
    operation: &'a str,
    probabilistic_sampling: Rate,
}

impl<'a> Operations<'a> {
    fn of(operations: &'a OperationSampling) -> Self {
        Self {
            default_sampling_probability: Number(operations.default_probability),
            default_lower_bound_traces_per_second: Number(operations.lower_bound_per_second),
            per_operation_strategies: (operations.per_operation.iter())
                .map(|entry| Operation {
                    operation: &entry.operation,
                    probabilistic_sampling: Rate::of(entry.probability),
                })
                .collect(),
            default_upper_bound_traces_per_second: Number(operations.upper_bound_per_second),
        }
    }
}

/// A number as Go writes it: `1`, not `1.0`.
struct Number(f64);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let whole = self.0 as i64;
        if whole as f64 == self.0 {
            serializer.serialize_i64(whole)
        } else {
            serializer.serialize_f64(self.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strategies() -> [(Strategy, &'static str, &'static [u8]); 3] {
        let limited = Strategy {
            base: Base::RateLimiting(5),
            operations: None,
        };
        let by_operation = Strategy {
            base: Base::Probabilistic(0.5),
            operations: Some(OperationSampling {
                default_probability: 0.5,
                per_operation: vec![OperationProbability {
                    operation: "op".to_owned(),
                    probability: 1.0,
                }],
                ..OperationSampling::default()
            }),
        };
        [
            (
                Strategy::probabilistic(0.5),
                r#"{"strategyType":"PROBABILISTIC","probabilisticSampling":{"samplingRate":0.5}}"#,
                &[0x12, 9, 9, 0, 0, 0, 0, 0, 0, 0xe0, 0x3f],
            ),
            (
                limited,
                r#"{"strategyType":"RATE_LIMITING","rateLimitingSampling":{"maxTracesPerSecond":5}}"#,
                &[8, 1, 0x1a, 2, 8, 5],
            ),
            (
                by_operation,
                r#"{"strategyType":"PROBABILISTIC","probabilisticSampling":{"samplingRate":0.5},"operationSampling":{"defaultSamplingProbability":0.5,"defaultLowerBoundTracesPerSecond":0,"perOperationStrategies":[{"operation":"op","probabilisticSampling":{"samplingRate":1}}],"defaultUpperBoundTracesPerSecond":0}}"#,
                &[
                    0x12, 9, 9, 0, 0, 0, 0, 0, 0, 0xe0, 0x3f, 0x22, 26, 9, 0, 0, 0, 0, 0, 0, 0xe0,
                    0x3f, 0x1a, 15, 0x0a, 2, b'o', b'p', 0x12, 9, 9, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f,
                ],
            ),
        ]
    }

    #[test]
    fn strategies_are_written_as_jaeger_does() {
        for (strategy, json, protobuf) in strategies() {
            assert_eq!(strategy.to_json(TypeForm::Name), json);
            assert_eq!(strategy.to_protobuf(), protobuf, "{json}");
        }
    }

    #[test]
    fn old_clients_are_told_the_type_as_a_number() {
        for (strategy, json, _) in strategies() {
            let legacy = json
                .replace(r#""PROBABILISTIC""#, "0")
                .replace(r#""RATE_LIMITING""#, "1");
            assert_eq!(strategy.to_json(TypeForm::Number), legacy);
        }
    }

    #[test]
    fn a_question_names_its_service() {
        let ask = |bytes: &[u8]| decode_parameters(bytes).map_err(|error| error.to_string());
        assert_eq!(ask(b"\x0a\x04shop"), Ok("shop".to_owned()));
        assert_eq!(ask(b""), Ok(String::new()));
        assert_eq!(
            ask(b"\x0a\x04sh"),
            Err("SamplingStrategyParameters is cut short".to_owned())
        );
        assert_eq!(
            ask(b"\x08\x01"),
            Err("serviceName has protobuf wire type 0 instead of 2".to_owned())
        );
    }
}
