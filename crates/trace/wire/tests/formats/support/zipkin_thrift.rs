//! Zipkin's spans of version 1, from their JSON into Thrift (`zipkinCore.thrift`).

use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::Value as Json;

use super::thrift::Thrift;

/// The body of a request.
pub(crate) fn list(spans: &Json) -> Vec<u8> {
    let spans = spans.as_array().expect("a list").iter();
    Thrift::List(spans.map(span).collect()).binary()
}

fn span(json: &Json) -> Thrift {
    let number = |digits| u64::from_str_radix(digits, 16).expect("digits") as i64;
    let id = |name: &str| json[name].as_str().map(number).map(Thrift::I64);
    let trace_id = json["traceId"].as_str().expect("an id");
    let (high, low) = trace_id.split_at(trace_id.len() - 16);
    let all = |name: &str, write: fn(&Json) -> Thrift| {
        let list = json[name].as_array().map(Vec::as_slice).unwrap_or_default();
        Thrift::List(list.iter().map(write).collect())
    };
    let micros = |name: &str| json[name].as_i64().map(Thrift::I64);
    fields([
        (1, Some(Thrift::I64(number(low)))),
        (3, json["name"].as_str().map(Thrift::text)),
        (4, id("id")),
        (5, id("parentId")),
        (6, Some(all("annotations", annotation))),
        (8, Some(all("binaryAnnotations", binary_annotation))),
        (9, json["debug"].as_bool().map(Thrift::Bool)),
        (10, micros("timestamp")),
        (11, micros("duration")),
        (12, Some(Thrift::I64(number(high)))),
    ])
}

fn annotation(json: &Json) -> Thrift {
    fields([
        (1, json["timestamp"].as_i64().map(Thrift::I64)),
        (2, json["value"].as_str().map(Thrift::text)),
        (3, endpoint(&json["endpoint"])),
    ])
}

fn binary_annotation(json: &Json) -> Thrift {
    let (kind, value) = match &json["value"] {
        Json::Bool(value) => (0, vec![u8::from(*value)]),
        Json::String(text) => (6, text.as_bytes().to_vec()),
        number => match number.as_i64() {
            Some(number) => (4, number.to_be_bytes().to_vec()),
            None => (5, number.as_f64().expect("a number").to_be_bytes().to_vec()),
        },
    };
    fields([
        (1, json["key"].as_str().map(Thrift::text)),
        (2, Some(Thrift::Bytes(value))),
        (3, Some(Thrift::I32(kind))),
        (4, endpoint(&json["endpoint"])),
    ])
}

fn endpoint(json: &Json) -> Option<Thrift> {
    json.as_object()?;
    let v4 = json["ipv4"].as_str().map(|text| {
        let address: Ipv4Addr = text.parse().expect("an address");
        Thrift::I32(address.to_bits() as i32)
    });
    let v6 = json["ipv6"].as_str().map(|text| {
        let address: Ipv6Addr = text.parse().expect("an address");
        Thrift::Bytes(address.octets().to_vec())
    });
    let port = json["port"].as_u64();
    Some(fields([
        (1, v4),
        (2, port.map(|port| Thrift::I16(port as u16 as i16))),
        (3, json["serviceName"].as_str().map(Thrift::text)),
        (4, v6),
    ]))
}

fn fields<const N: usize>(fields: [(i16, Option<Thrift>); N]) -> Thrift {
    let fields = fields.into_iter();
    Thrift::Struct(
        fields
            .filter_map(|(id, value)| Some((id, value?)))
            .collect(),
    )
}
