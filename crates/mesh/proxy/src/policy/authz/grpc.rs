//! A service of gRPC: `envoy.service.auth.v3.Authorization/Check`.

use std::collections::HashMap;
use std::net::SocketAddr;

use envoy_types::pb::envoy::config::core::v3::address::Address as Kind;
use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{
    Address, HeaderValueOption, Metadata, SocketAddress,
};
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{
    HttpRequest, Peer, Request, TlsSession,
};
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::envoy::service::auth::v3::{
    AttributeContext, CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse,
};
use envoy_types::pb::google::protobuf::value::Kind as ValueKind;
use envoy_types::pb::google::protobuf::{ListValue, Struct, Timestamp, Value};
use serde_json::Value as Json;

use crate::acquire::Body;
use crate::call::Call;
use crate::errand::{Answer, framed};
use crate::exchange::{Exchange, Rare, Said};
use crate::policy::Metadata as Known;
use crate::policy::authz::ask::Question;
use crate::policy::authz::{Authz, Change, Changes, Denial, How, Service, Verdict};
use crate::snapshot::AppendAction;
use crate::tls::Certificate;
use crate::trace::text;
use crate::xfcc::pem_in_url;

const METHOD: &str = "/envoy.service.auth.v3.Authorization/Check";

pub(super) fn question(
    call: &Call,
    exchange: &Exchange,
    authz: &Authz,
    body: Option<&Body>,
) -> Question {
    let client = &*call.client;
    let secured = client.secured.as_deref();
    let head = call.buffer.head();
    let caller = crate::http1::name::Name::XEnvoyDownstreamServiceCluster;
    let caller = call.request.fields.value(caller, head);
    let shown = secured.and_then(|secured| secured.peer.as_ref());
    let source = Peer {
        service: caller.map_or_else(String::new, |name| text(name).into_owned()),
        ..self::source(client.peer, shown, authz.tells_certificate)
    };
    let destination = client.original.or(client.local);
    let destination = peer(destination, secured.and_then(|s| s.own.as_deref()));
    let wall = call.worker.clock.wall(exchange.begin);
    let server_name = secured.and_then(|secured| secured.server_name.clone());
    let known = exchange.rare.as_deref().map(Rare::metadata);
    let attributes = AttributeContext {
        source: Some(source),
        destination: Some(destination),
        request: Some(Request {
            time: Some(Timestamp {
                seconds: (wall / 1_000_000) as i64,
                nanos: (wall % 1_000_000 * 1000) as i32,
            }),
            http: Some(http_request(call, exchange, authz, body)),
        }),
        context_extensions: authz.context.clone().into_iter().collect(),
        metadata_context: Some(metadata(known, &authz.namespaces)),
        route_metadata_context: Some(Metadata::default()),
        tls_session: authz.tells_server_name.then(|| TlsSession {
            sni: server_name.unwrap_or_default(),
        }),
    };
    asking(&authz.service, attributes)
}

/// The question about what has these attributes.
pub(super) fn asking(service: &Service, attributes: AttributeContext) -> Question {
    let message = CheckRequest {
        attributes: Some(attributes),
    };
    let mut fields = b"te: trailers\r\ncontent-type: application/grpc\r\n".to_vec();
    fields.extend_from_slice(&service.fields);
    Question {
        method: "POST".to_owned(),
        path: METHOD.to_owned(),
        host: None,
        fields,
        body: framed(&message).into(),
    }
}

/// Where a connection comes from: who it is by its certificate, which is told as a whole if it `shows`.
pub(super) fn source(address: SocketAddr, certificate: Option<&Certificate>, shows: bool) -> Peer {
    let shown = certificate.filter(|_| shows);
    Peer {
        certificate: shown.map_or_else(String::new, |shown| pem_in_url(&shown.der)),
        ..peer(Some(address), certificate)
    }
}

/// One end of a connection, and who it is.
pub(super) fn peer(address: Option<SocketAddr>, certificate: Option<&Certificate>) -> Peer {
    Peer {
        address: address.map(self::address),
        principal: certificate.map_or_else(String::new, principal),
        ..Peer::default()
    }
}

fn http_request(
    call: &Call,
    exchange: &Exchange,
    authz: &Authz,
    body: Option<&Body>,
) -> HttpRequest {
    let head = call.buffer.head();
    let part = |bytes: &[u8]| text(bytes).into_owned();
    let told = call.told_fields(exchange, authz).into_iter();
    let headers = told.map(|(name, value)| (name, part(&value))).collect();
    let mut request = HttpRequest {
        id: call.worker.random().to_string(),
        method: part(call.request.method(head)),
        path: part(call.request.target.path.get(head)),
        host: part(call.request.target.authority.get(head)),
        scheme: call.scheme().to_owned(),
        size: body.map_or(0, |body| body.data.len() as i64),
        protocol: call.protocol_text().to_owned(),
        headers,
        ..HttpRequest::default()
    };
    if let Some(body) = body {
        let is_cut = if body.is_whole { "false" } else { "true" };
        let name = "x-envoy-auth-partial-body";
        request.headers.insert(name.to_owned(), is_cut.to_owned());
        match authz.body.is_some_and(|rule| rule.as_bytes) {
            true => request.raw_body.clone_from(&body.data),
            false => request.body = part(&body.data),
        }
    }
    request
}

fn address(address: SocketAddr) -> Address {
    Address {
        address: Some(Kind::SocketAddress(SocketAddress {
            address: address.ip().to_canonical().to_string(),
            port_specifier: Some(PortSpecifier::PortValue(address.port().into())),
            ..SocketAddress::default()
        })),
    }
}

/// The first URI of a certificate, else its first DNS name, else its subject.
fn principal(certificate: &Certificate) -> String {
    let names = certificate.uris.first();
    let name = names.or_else(|| certificate.dns_names.first());
    name.unwrap_or(&certificate.subject).clone()
}

/// What filters before have found out, as far as the service is to know.
pub(super) fn metadata(known: Option<&Known>, namespaces: &[String]) -> Metadata {
    let of = |namespace: &String| {
        let fields: HashMap<_, _> = known?
            .of(namespace)
            .map(|(key, value)| (key.to_owned(), to_protobuf(value)))
            .collect();
        (!fields.is_empty()).then(|| (namespace.clone(), Struct { fields }))
    };
    Metadata {
        filter_metadata: namespaces.iter().filter_map(of).collect(),
        ..Metadata::default()
    }
}

fn to_protobuf(value: &Json) -> Value {
    let kind = match value {
        Json::Null => ValueKind::NullValue(0),
        Json::Bool(flag) => ValueKind::BoolValue(*flag),
        Json::Number(number) => ValueKind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        Json::String(text) => ValueKind::StringValue(text.clone()),
        Json::Array(values) => ValueKind::ListValue(ListValue {
            values: values.iter().map(to_protobuf).collect(),
        }),
        Json::Object(fields) => ValueKind::StructValue(Struct {
            fields: fields
                .iter()
                .map(|(key, value)| (key.clone(), to_protobuf(value)))
                .collect(),
        }),
    };
    Value { kind: Some(kind) }
}

fn to_json(value: Value) -> Json {
    match value.kind {
        None | Some(ValueKind::NullValue(_)) => Json::Null,
        Some(ValueKind::BoolValue(flag)) => Json::Bool(flag),
        Some(ValueKind::NumberValue(number)) => number.into(),
        Some(ValueKind::StringValue(text)) => Json::String(text),
        Some(ValueKind::ListValue(list)) => list.values.into_iter().map(to_json).collect(),
        Some(ValueKind::StructValue(object)) => object
            .fields
            .into_iter()
            .map(|(key, value)| (key, to_json(value)))
            .collect(),
    }
}

pub(super) fn verdict(answer: &Answer) -> Verdict {
    let response: CheckResponse = match answer.message() {
        Ok(response) => response,
        Err(reason) => return Verdict::Failed(reason, None),
    };
    let code = response.status.map_or(0, |status| status.code);
    let metadata = response.dynamic_metadata.unwrap_or_default().fields;
    let metadata = metadata
        .into_iter()
        .map(|(key, value)| (key, to_json(value)));
    match response.http_response {
        Some(HttpResponse::OkResponse(ok)) if code == 0 => Verdict::Allowed(Changes {
            metadata: metadata.collect(),
            ..changes(ok)
        }),
        _ if code == 0 => Verdict::Allowed(Changes {
            metadata: metadata.collect(),
            ..Changes::default()
        }),
        Some(HttpResponse::ErrorResponse(error)) => {
            let reason = format!("the service answers with an error of status {code}");
            Verdict::Failed(reason, Some(denial(error)))
        }
        Some(HttpResponse::DeniedResponse(denied)) => {
            let denial = denial(denied);
            Verdict::Denied(Denial {
                status: match denial.status {
                    0 => 403,
                    status => status,
                },
                ..denial
            })
        }
        Some(HttpResponse::OkResponse(_)) | None => Verdict::Denied(Denial {
            status: 403,
            ..Denial::default()
        }),
    }
}

fn denial(denied: DeniedHttpResponse) -> Denial {
    let status = denied.status.map_or(0, |status| status.code);
    let fields = denied.headers.into_iter().filter_map(field);
    Denial {
        // What is none is not said.
        status: u16::try_from(status).unwrap_or(0),
        fields: fields.map(|(name, value, _)| (name, value)).collect(),
        body: denied.body,
    }
}

fn changes(ok: OkHttpResponse) -> Changes {
    let request = ok.headers.into_iter().filter_map(field);
    let response = ok.response_headers_to_add.into_iter().filter_map(field);
    let removed = ok.headers_to_remove.into_iter();
    let query = ok.query_parameters_to_set.into_iter();
    Changes {
        // As in Envoy, `append_action` says nothing here.
        request: request
            .map(|(name, value, action)| Change {
                name,
                value,
                how: match action {
                    Action::Legacy(true) => How::Join,
                    Action::Legacy(false) | Action::Given(_) => How::Set,
                },
            })
            .collect(),
        removed: removed.map(|name| name.to_ascii_lowercase()).collect(),
        response: response
            .map(|(name, value, action)| Said {
                name: name.into(),
                value,
                action: match action {
                    Action::Legacy(true) => AppendAction::Append,
                    Action::Legacy(false) => AppendAction::Overwrite,
                    Action::Given(action) => action,
                },
            })
            .collect(),
        query: query.map(|one| (one.key, one.value)).collect(),
        query_removed: ok.query_parameters_to_remove,
        metadata: Vec::new(),
    }
}

/// What a service wants done to a field.
enum Action {
    /// `append`.
    Legacy(bool),
    /// `append_action`.
    Given(AppendAction),
}

#[expect(deprecated, reason = "services still say `append`")]
fn field(option: HeaderValueOption) -> Option<(String, Vec<u8>, Action)> {
    let header = option.header?;
    let action = match option.append {
        Some(append) => Action::Legacy(append.value),
        None => Action::Given(match HeaderAppendAction::try_from(option.append_action) {
            Ok(HeaderAppendAction::AppendIfExistsOrAdd) => AppendAction::Append,
            Ok(HeaderAppendAction::AddIfAbsent) => AppendAction::AddIfAbsent,
            Ok(HeaderAppendAction::OverwriteIfExists) => AppendAction::OverwriteIfExists,
            Ok(HeaderAppendAction::OverwriteIfExistsOrAdd) | Err(_) => AppendAction::Overwrite,
        }),
    };
    let value = match header.value.is_empty() {
        true => header.raw_value,
        false => header.value.into_bytes(),
    };
    Some((header.key.to_ascii_lowercase(), value, action))
}
