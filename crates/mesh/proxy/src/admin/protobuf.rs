//! Envoy's messages as JSON: the mapping of protobuf with the fields' own names, as Envoy's admin pages have it.
//! Keys and passwords are not shown, nor sets of keys of tokens with a secret among them.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use envoy_types::pb::envoy::config::core::v3::DataSource;
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::google::protobuf::value::Kind as ValueKind;
use envoy_types::pb::google::protobuf::{Any, Struct, Value as AnyValue};
use periplus_identity::jwt;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, ReflectMessage as _, Value,
};
use serde_json::{Map, Value as Json, json};

/// What the messages of the types that this proxy knows are made of; read when it is first asked for. `cargo
/// xtask descriptors` makes the file.
static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let file = include_bytes!("../../data/envoy-descriptors.binpb");
    DescriptorPool::decode(file.as_slice()).expect("the file was made from Envoy's own")
});

/// Fields that are marked as sensitive in Envoy's files.
const SENSITIVE: [(&str, &[&str]); 3] = [
    (
        "envoy.extensions.transport_sockets.tls.v3.TlsCertificate",
        &["private_key", "pkcs12", "password"],
    ),
    (
        "envoy.extensions.transport_sockets.tls.v3.TlsSessionTicketKeys",
        &["keys"],
    ),
    (
        "envoy.extensions.transport_sockets.tls.v3.GenericSecret",
        &["secret", "secrets"],
    ),
];
const REDACTED: &str = "[redacted]";

/// A message with its type. One of a type that the proxy does not know, which it was told to pass over, is
/// shown as it came.
pub(super) fn any(any: &Any) -> Json {
    typed(any, false)
}

/// A message of that type.
pub(super) fn message(name: &str, message: &impl prost::Message) -> Json {
    let any = Any {
        type_url: format!("type.googleapis.com/{name}"),
        value: message.encode_to_vec(),
    };
    let mut json = typed(&any, false);
    if let Some(fields) = json.as_object_mut() {
        fields.remove("@type");
    }
    json
}

fn typed(any: &Any, is_sensitive: bool) -> Json {
    let name = any.type_url.rsplit('/').next().unwrap_or_default();
    let decoded = POOL
        .get_message_by_name(name)
        .and_then(|descriptor| DynamicMessage::decode(descriptor, any.value.as_slice()).ok());
    let with_type = |content: Json| match content {
        Json::Object(fields) if !is_well_known(name) => {
            let mut all = Map::from_iter([("@type".to_owned(), any.type_url.clone().into())]);
            all.extend(fields);
            Json::Object(all)
        }
        content => json!({"@type": any.type_url, "value": content}),
    };
    with_type(match decoded {
        Some(message) => of_message(&message, is_sensitive),
        None => STANDARD.encode(&any.value).into(),
    })
}

/// Whether a type has a form of its own in JSON.
fn is_well_known(name: &str) -> bool {
    name.starts_with("google.protobuf.") && name != "google.protobuf.Empty"
}

fn of_message(message: &DynamicMessage, is_sensitive: bool) -> Json {
    let descriptor = message.descriptor();
    let name = descriptor.full_name();
    let number = |field: &str| match message.get_field_by_name(field).as_deref() {
        Some(Value::I64(number)) => *number,
        Some(Value::I32(number)) => i64::from(*number),
        _ => 0,
    };
    match name.strip_prefix("google.protobuf.") {
        Some("Any") => match message.transcode_to::<Any>() {
            Ok(any) => typed(&any, is_sensitive),
            Err(_) => Json::Null,
        },
        Some("Duration") => duration(number("seconds"), number("nanos")).into(),
        Some("Struct") => message
            .transcode_to::<Struct>()
            .map_or(Json::Null, |fields| of_struct(&fields)),
        Some("Value") => message
            .transcode_to::<AnyValue>()
            .map_or(Json::Null, |value| of_value(&value)),
        Some(
            "BoolValue" | "StringValue" | "BytesValue" | "DoubleValue" | "FloatValue"
            | "Int32Value" | "Int64Value" | "UInt32Value" | "UInt64Value",
        ) => match (
            descriptor.get_field_by_name("value"),
            message.get_field_by_name("value"),
        ) {
            (Some(field), Some(value)) => of_single(&field.kind(), &value, is_sensitive),
            _ => Json::Null,
        },
        _ => {
            let hidden = SENSITIVE.iter().find(|(of, _)| *of == name);
            let hidden = hidden.map_or(&[][..], |(_, fields)| fields);
            let mut fields: Vec<_> = message.fields().collect();
            fields.sort_by_key(|(field, _)| field.number());
            let show = |(field, value): (FieldDescriptor, &Value)| {
                let is_hidden = is_sensitive
                    || hidden.contains(&field.name())
                    || (field.name() == "local_jwks" && !is_public_set(value));
                let shown = of_field(&field, value, is_hidden);
                (field.name().to_owned(), shown)
            };
            Json::Object(fields.into_iter().map(show).collect())
        }
    }
}

/// Envoy's files do not mark sets of keys as sensitive: most are public.
fn is_public_set(value: &Value) -> bool {
    let source = value.as_message();
    let source = source.and_then(|source| source.transcode_to::<DataSource>().ok());
    match source.and_then(|source| source.specifier) {
        Some(Specifier::InlineString(set)) => jwt::is_public(set.as_bytes()),
        Some(Specifier::InlineBytes(set)) => jwt::is_public(&set),
        Some(Specifier::Filename(_) | Specifier::EnvironmentVariable(_)) | None => true,
    }
}

fn of_field(field: &FieldDescriptor, value: &Value, is_sensitive: bool) -> Json {
    match (value, field.kind()) {
        (Value::List(values), kind) => values
            .iter()
            .map(|value| of_single(&kind, value, is_sensitive))
            .collect(),
        (Value::Map(values), Kind::Message(entry)) => {
            let kind = entry.map_entry_value_field().kind();
            let show = |(key, value): (&MapKey, &Value)| {
                (text_of(key), of_single(&kind, value, is_sensitive))
            };
            Json::Object(values.iter().map(show).collect())
        }
        (value, kind) => of_single(&kind, value, is_sensitive),
    }
}

fn text_of(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}

fn of_single(kind: &Kind, value: &Value, is_sensitive: bool) -> Json {
    match value {
        Value::Message(message) => of_message(message, is_sensitive),
        Value::String(_) if is_sensitive => REDACTED.into(),
        Value::Bytes(_) if is_sensitive => STANDARD.encode(REDACTED).into(),
        Value::String(text) => text.as_str().into(),
        Value::Bytes(bytes) => STANDARD.encode(bytes).into(),
        Value::Bool(value) => (*value).into(),
        Value::I32(value) => (*value).into(),
        Value::U32(value) => (*value).into(),
        Value::I64(value) => value.to_string().into(),
        Value::U64(value) => value.to_string().into(),
        Value::F32(value) => number((*value).into()),
        Value::F64(value) => number(*value),
        Value::EnumNumber(number) => match kind {
            Kind::Enum(of) => match of.get_value(*number) {
                Some(value) => value.name().into(),
                None => (*number).into(),
            },
            _ => (*number).into(),
        },
        // Neither stands in a list or in a map.
        Value::List(_) | Value::Map(_) => Json::Null,
    }
}

fn of_struct(fields: &Struct) -> Json {
    let fields = fields.fields.iter();
    Json::Object(
        fields
            .map(|(name, value)| (name.clone(), of_value(value)))
            .collect(),
    )
}

fn of_value(value: &AnyValue) -> Json {
    match &value.kind {
        None | Some(ValueKind::NullValue(_)) => Json::Null,
        Some(ValueKind::BoolValue(value)) => (*value).into(),
        Some(ValueKind::NumberValue(value)) => number(*value),
        Some(ValueKind::StringValue(text)) => text.as_str().into(),
        Some(ValueKind::ListValue(list)) => list.values.iter().map(of_value).collect(),
        Some(ValueKind::StructValue(fields)) => of_struct(fields),
    }
}

/// Without a point where there is nothing behind it, as Envoy writes it.
fn number(value: f64) -> Json {
    match value.fract() == 0.0 && value.abs() < 1e15 {
        true => (value as i64).into(),
        false => value.into(),
    }
}

/// With as many digits as are needed: none, three, six or nine.
fn duration(seconds: i64, nanos: i64) -> String {
    let sign = if seconds < 0 || nanos < 0 { "-" } else { "" };
    let (seconds, nanos) = (seconds.unsigned_abs(), nanos.unsigned_abs());
    match nanos {
        0 => format!("{sign}{seconds}s"),
        _ if nanos % 1_000_000 == 0 => format!("{sign}{seconds}.{:03}s", nanos / 1_000_000),
        _ if nanos % 1000 == 0 => format!("{sign}{seconds}.{:06}s", nanos / 1000),
        _ => format!("{sign}{seconds}.{nanos:09}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_three_digits_at_a_time() {
        for (seconds, nanos, expected) in [
            (0, 0, "0s"),
            (1, 0, "1s"),
            (0, 250_000_000, "0.250s"),
            (3, 1_000, "3.000001s"),
            (0, 1, "0.000000001s"),
            (-1, -500_000_000, "-1.500s"),
        ] {
            assert_eq!(duration(seconds, nanos), expected);
        }
    }

    #[test]
    fn keys_are_not_shown() {
        use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;

        let source = |specifier| {
            Some(DataSource {
                specifier: Some(specifier),
                ..DataSource::default()
            })
        };
        let certificate = tls::TlsCertificate {
            certificate_chain: source(Specifier::InlineString("public".to_owned())),
            private_key: source(Specifier::InlineString("secret".to_owned())),
            password: source(Specifier::InlineBytes(b"secret".to_vec())),
            ..Default::default()
        };
        let context = tls::CommonTlsContext {
            tls_certificates: vec![certificate],
            alpn_protocols: vec!["h2".to_owned()],
            ..Default::default()
        };
        let name = "envoy.extensions.transport_sockets.tls.v3.CommonTlsContext";
        let expected = json!({
            "tls_certificates": [{
                "certificate_chain": {"inline_string": "public"},
                "private_key": {"inline_string": "[redacted]"},
                "password": {"inline_bytes": STANDARD.encode("[redacted]")},
            }],
            "alpn_protocols": ["h2"],
        });
        assert_eq!(message(name, &context), expected);
    }

    #[test]
    fn secrets_of_tokens_are_not_shown() {
        use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3::JwtProvider;
        use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3::jwt_provider::JwksSourceSpecifier;

        let shown = |specifier: Specifier| {
            let source = DataSource {
                specifier: Some(specifier),
                ..DataSource::default()
            };
            let provider = JwtProvider {
                issuer: "me".to_owned(),
                jwks_source_specifier: Some(JwksSourceSpecifier::LocalJwks(source)),
                ..JwtProvider::default()
            };
            let name = "envoy.extensions.filters.http.jwt_authn.v3.JwtProvider";
            message(name, &provider)["local_jwks"].take()
        };
        let public = r#"{"keys": [{"kty": "EC", "crv": "P-256", "x": "AQ", "y": "Ag"}]}"#;
        let secret = r#"{"keys": [{"kty": "oct", "k": "secret"}]}"#;
        let private = r#"{"keys": [{"kty": "RSA", "n": "AQ", "e": "AQ", "d": "secret"}]}"#;
        let torn = &secret[..secret.len() - 4];
        let text = |text: &str| shown(Specifier::InlineString(text.to_owned()));
        assert_eq!(text(public), json!({ "inline_string": public }));
        for hidden in [secret, private, torn] {
            assert_eq!(text(hidden), json!({"inline_string": "[redacted]"}));
            let bytes = shown(Specifier::InlineBytes(hidden.into()));
            assert_eq!(
                bytes,
                json!({"inline_bytes": STANDARD.encode("[redacted]")})
            );
        }
    }

    #[test]
    fn what_is_not_known_is_shown_as_it_came() {
        let unknown = Any {
            type_url: "type.googleapis.com/some.Type".to_owned(),
            value: vec![1, 2],
        };
        let expected = json!({"@type": "type.googleapis.com/some.Type", "value": "AQI="});
        assert_eq!(any(&unknown), expected);
    }
}
