use periplus_model::{Span, StatusCode, Value};

/// Whether a span failed: its status is an error, or it has the tag `error` with the value `true`,
/// as a boolean or as text.
///
/// The tag is what Zipkin's and OpenTracing's clients set. Zipkin itself takes the mere presence of
/// the tag for a failure; a decoder of Zipkin's format that wants the same sets the status.
pub fn is_error(span: &Span) -> bool {
    span.status.code == StatusCode::Error
        || match span.attribute("error") {
            Some(Value::Bool(failed)) => *failed,
            Some(Value::String(text)) => text == "true",
            _ => false,
        }
}
