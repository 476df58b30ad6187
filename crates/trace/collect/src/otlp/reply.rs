//! The two messages that go back to a sender, in protobuf and in JSON.

/// A code of gRPC, as `google.rpc.Status` carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Code {
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    ResourceExhausted = 8,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
}

/// The encoding of a request; its answer has the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Protobuf,
    Json,
}

impl Format {
    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
        }
    }

    /// `ExportTraceServiceResponse`. Without refused spans `partial_success` stays unset, as the
    /// specification demands.
    pub(crate) fn response(self, refused: Option<(u64, &str)>) -> Vec<u8> {
        match (self, refused) {
            (Self::Protobuf, None) => Vec::new(),
            (Self::Protobuf, Some((spans, message))) => {
                let mut partial = Vec::new();
                varint_field(&mut partial, 1, spans);
                bytes_field(&mut partial, 2, message.as_bytes());
                let mut out = Vec::new();
                bytes_field(&mut out, 1, &partial);
                out
            }
            (Self::Json, None) => b"{}".to_vec(),
            (Self::Json, Some((spans, message))) => serde_json::json!({
                "partialSuccess": {"rejectedSpans": spans.to_string(), "errorMessage": message}
            })
            .to_string()
            .into_bytes(),
        }
    }

    /// `google.rpc.Status`.
    pub(crate) fn status(self, code: Code, message: &str) -> Vec<u8> {
        match self {
            Self::Protobuf => status(code, message, None),
            Self::Json => serde_json::json!({"code": code as i32, "message": message})
                .to_string()
                .into_bytes(),
        }
    }
}

/// A `google.rpc.Status` that asks for a retry after `seconds` (`google.rpc.RetryInfo`).
pub(crate) fn retry_status(code: Code, message: &str, seconds: u64) -> Vec<u8> {
    let mut delay = Vec::new();
    varint_field(&mut delay, 1, seconds);
    let mut info = Vec::new();
    bytes_field(&mut info, 1, &delay);
    let mut any = Vec::new();
    bytes_field(&mut any, 1, b"type.googleapis.com/google.rpc.RetryInfo");
    bytes_field(&mut any, 2, &info);
    status(code, message, Some(&any))
}

fn status(code: Code, message: &str, detail: Option<&[u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    varint_field(&mut out, 1, code as u64);
    bytes_field(&mut out, 2, message.as_bytes());
    if let Some(detail) = detail {
        bytes_field(&mut out, 3, detail);
    }
    out
}

fn varint_field(out: &mut Vec<u8>, field: u8, value: u64) {
    out.push(field << 3);
    varint(out, value);
}

fn bytes_field(out: &mut Vec<u8>, field: u8, value: &[u8]) {
    out.push(field << 3 | 2);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_the_bytes_of_the_specification() {
        assert_eq!(Format::Protobuf.response(None), b"");
        assert_eq!(Format::Json.response(None), b"{}");
        assert_eq!(
            Format::Protobuf.response(Some((300, "no"))),
            b"\x0a\x07\x08\xac\x02\x12\x02no"
        );
        assert_eq!(
            Format::Json.response(Some((3, "no"))),
            br#"{"partialSuccess":{"errorMessage":"no","rejectedSpans":"3"}}"#
        );
        assert_eq!(
            Format::Protobuf.status(Code::InvalidArgument, "bad"),
            b"\x08\x03\x12\x03bad"
        );
        assert_eq!(
            Format::Json.status(Code::InvalidArgument, "bad"),
            br#"{"code":3,"message":"bad"}"#
        );
        let retry = retry_status(Code::Unavailable, "x", 5);
        assert!(retry.ends_with(b"google.rpc.RetryInfo\x12\x04\x0a\x02\x08\x05"));
    }
}
