//! Services that are asked: one of both kinds that tells what it was asked, and one on grpcio.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption, QueryParameter};
use envoy_types::pb::envoy::service::auth::v3::authorization_server::{
    Authorization, AuthorizationServer,
};
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::envoy::service::auth::v3::{
    CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse,
};
use envoy_types::pb::envoy::r#type::v3::HttpStatus;
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{BoolValue, Struct, Value};
use envoy_types::pb::google::rpc::Status;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tonic::{Request, Response};

use crate::announced::Announced;

/// A value that would be more than a field.
pub(super) const INJECTED: &str = "1\r\nx-injected: 1\r\n\r\nGET /injected HTTP/1.1\r\nhost: test";

/// What a service was asked, in lines.
type Asked = Arc<Mutex<Vec<String>>>;

/// A service of both kinds, which does what the request's `x-ask` says.
pub(super) struct Authorizer {
    pub(super) grpc: SocketAddr,
    pub(super) http: SocketAddr,
    asked: Asked,
}

impl Authorizer {
    pub(super) async fn start() -> Self {
        let asked = Asked::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let grpc = listener.local_addr().expect("address");
        let service = AuthorizationServer::new(OverGrpc(asked.clone()));
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let server = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(incoming));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let http = listener.local_addr().expect("address");
        let records = asked.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(over_http(stream, records.clone()));
            }
        });
        Self { grpc, http, asked }
    }

    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A service on grpcio; none where it is not prepared. In CI it must be.
pub(super) fn on_grpcio() -> Option<Announced> {
    const VARIABLE: &str = "PERIPLUS_PEERS_PYTHON";
    let Some(python) = std::env::var_os(VARIABLE) else {
        assert!(
            std::env::var_os("CI").is_none(),
            "{VARIABLE} is not set; run the tests with: cargo xtask test"
        );
        eprintln!("not tried with grpcio: run the tests with: cargo xtask test");
        return None;
    };
    let script = "tests/differential_envoy/policies/authorizer.py";
    let mut command = Command::new(python);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(script));
    Some(Announced::start(command))
}

fn note(asked: &Asked, lines: Vec<String>) {
    let mut all = asked.lock().unwrap_or_else(PoisonError::into_inner);
    all.extend(lines);
}

struct OverGrpc(Asked);

fn option(key: &str, value: &str, action: HeaderAppendAction) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue {
            key: key.to_owned(),
            value: value.to_owned(),
            ..HeaderValue::default()
        }),
        append_action: action.into(),
        ..HeaderValueOption::default()
    }
}

#[expect(deprecated, reason = "services still say `append`")]
fn legacy(key: &str, value: &str, append: bool) -> HeaderValueOption {
    HeaderValueOption {
        append: Some(BoolValue { value: append }),
        ..option(key, value, HeaderAppendAction::AppendIfExistsOrAdd)
    }
}

#[tonic::async_trait]
impl Authorization for OverGrpc {
    async fn check(
        &self,
        request: Request<CheckRequest>,
    ) -> Result<Response<CheckResponse>, tonic::Status> {
        use HeaderAppendAction::{
            AddIfAbsent, AppendIfExistsOrAdd, OverwriteIfExists, OverwriteIfExistsOrAdd,
        };

        let has_context =
            ["x-b3-traceid", "x-b3-sampled"].map(|name| request.metadata().contains_key(name));
        let attributes = request.into_inner().attributes.expect("attributes");
        let asked = attributes.request.expect("a request");
        let http = asked.http.expect("of HTTP");
        let ask = http.headers.get("x-ask").cloned().unwrap_or_default();
        let mut lines = vec![
            format!("{} {} {}", http.method, http.path, http.protocol),
            format!(
                "host {} scheme {}",
                http.host.replace(char::is_numeric, ""),
                http.scheme
            ),
            format!("body {:?} raw {:?}", http.body, http.raw_body),
            format!("time {} context {has_context:?}", asked.time.is_some()),
            format!(
                "extensions {:?}",
                attributes
                    .context_extensions
                    .iter()
                    .collect::<BTreeMap<_, _>>()
            ),
        ];
        for peer in [attributes.source, attributes.destination] {
            let peer = peer.expect("a peer");
            let is_there = peer.address.is_some();
            lines.push(format!(
                "peer {is_there} {:?} {:?}",
                peer.principal, peer.service
            ));
        }
        let metadata = attributes.metadata_context.unwrap_or_default();
        lines.push(format!(
            "metadata {:?}",
            metadata.filter_metadata.keys().collect::<Vec<_>>()
        ));
        let mut headers: Vec<_> = http.headers.into_iter().collect();
        headers.sort();
        for (name, value) in headers {
            let value = match name.as_str() {
                "x-request-id" => "<id>".to_owned(),
                ":authority" => value.replace(char::is_numeric, ""),
                _ => value,
            };
            lines.push(format!("{name}: {value}"));
        }
        note(&self.0, lines);
        let ok = |ok: OkHttpResponse| CheckResponse {
            status: Some(Status::default()),
            http_response: Some(HttpResponse::OkResponse(ok)),
            ..CheckResponse::default()
        };
        let refused = |code: i32, http_response: Option<HttpResponse>| CheckResponse {
            status: Some(Status {
                code,
                ..Status::default()
            }),
            http_response,
            ..CheckResponse::default()
        };
        let denied = |status: i32, headers, body: &str| DeniedHttpResponse {
            status: Some(HttpStatus { code: status }),
            headers,
            body: body.to_owned(),
        };
        Ok(Response::new(match ask.as_str() {
            "allow" => ok(OkHttpResponse::default()),
            "bare" => refused(0, None),
            "edits" => ok(OkHttpResponse {
                headers: vec![
                    option("x-auth-append", "more", AppendIfExistsOrAdd),
                    option("x-auth-absent", "more", AddIfAbsent),
                    option("x-auth-over", "other", OverwriteIfExistsOrAdd),
                    option("x-auth-if", "other", OverwriteIfExists),
                    option("X-Auth-New-Append", "a", AppendIfExistsOrAdd),
                    option("x-auth-new-absent", "b", AddIfAbsent),
                    option("x-auth-new-over", "c", OverwriteIfExistsOrAdd),
                    option("x-auth-new-if", "d", OverwriteIfExists),
                    legacy("x-auth-legacy", "more", true),
                    legacy("x-auth-new-legacy", "e", true),
                    legacy("x-auth-legacy-over", "other", false),
                ],
                headers_to_remove: vec![
                    "x-auth-gone".to_owned(),
                    "host".to_owned(),
                    ":path".to_owned(),
                ],
                response_headers_to_add: vec![
                    option("x-origin", "added", AppendIfExistsOrAdd),
                    option("x-auth-told", "yes", OverwriteIfExistsOrAdd),
                    option("x-auth-told-absent", "yes", AddIfAbsent),
                    option("x-auth-told-if", "no", OverwriteIfExists),
                ],
                ..OkHttpResponse::default()
            }),
            "query" => ok(OkHttpResponse {
                query_parameters_to_set: vec![QueryParameter {
                    key: "user".to_owned(),
                    value: "alice".to_owned(),
                }],
                query_parameters_to_remove: vec!["token".to_owned()],
                ..OkHttpResponse::default()
            }),
            "inject-name" => ok(OkHttpResponse {
                headers: vec![option("x-a: 1\r\nx-injected", "1", AppendIfExistsOrAdd)],
                ..OkHttpResponse::default()
            }),
            "inject-value" => ok(OkHttpResponse {
                headers: vec![option("x-a", INJECTED, AppendIfExistsOrAdd)],
                ..OkHttpResponse::default()
            }),
            "inject-query" => ok(OkHttpResponse {
                query_parameters_to_set: vec![QueryParameter {
                    key: "a".to_owned(),
                    value: format!("b HTTP/1.1\r\nx-injected: {INJECTED}"),
                }],
                ..OkHttpResponse::default()
            }),
            "inject-answer" => ok(OkHttpResponse {
                response_headers_to_add: vec![option("x-a", INJECTED, AppendIfExistsOrAdd)],
                ..OkHttpResponse::default()
            }),
            "inject-denial" => refused(
                7,
                Some(HttpResponse::DeniedResponse(denied(
                    401,
                    vec![option("x-a", INJECTED, AppendIfExistsOrAdd)],
                    "no",
                ))),
            ),
            "inject-error" => refused(
                13,
                Some(HttpResponse::ErrorResponse(denied(
                    500,
                    vec![option("x-a", INJECTED, AppendIfExistsOrAdd)],
                    "broken",
                ))),
            ),
            "metadata" => CheckResponse {
                dynamic_metadata: Some(Struct {
                    fields: HashMap::from([(
                        "level".to_owned(),
                        Value {
                            kind: Some(Kind::StringValue("high".to_owned())),
                        },
                    )]),
                }),
                ..ok(OkHttpResponse::default())
            },
            "deny" => refused(7, None),
            "deny-as" => refused(
                16,
                Some(HttpResponse::DeniedResponse(denied(
                    401,
                    vec![
                        option("www-authenticate", "Basic", OverwriteIfExistsOrAdd),
                        option("set-cookie", "a=1", AppendIfExistsOrAdd),
                        option("set-cookie", "b=2", AppendIfExistsOrAdd),
                        option("content-type", "application/json", OverwriteIfExistsOrAdd),
                    ],
                    "{\"who\": \"are you\"}",
                ))),
            ),
            "deny-to" => refused(
                7,
                Some(HttpResponse::DeniedResponse(denied(
                    302,
                    vec![option(
                        "location",
                        "http://login.example/",
                        OverwriteIfExistsOrAdd,
                    )],
                    "",
                ))),
            ),
            "error" => refused(
                13,
                Some(HttpResponse::ErrorResponse(denied(
                    500,
                    vec![option("x-auth-error", "yes", OverwriteIfExistsOrAdd)],
                    "broken",
                ))),
            ),
            "fail" => return Err(tonic::Status::internal("broken")),
            "slow" => {
                tokio::time::sleep(Duration::from_secs(10)).await;
                ok(OkHttpResponse::default())
            }
            _ => refused(7, None),
        }))
    }
}

async fn over_http(mut stream: tokio::net::TcpStream, asked: Asked) {
    let mut arrived = Vec::new();
    loop {
        let mut part = [0; 4096];
        match stream.read(&mut part).await {
            Ok(n @ 1..) => arrived.extend_from_slice(&part[..n]),
            _ => return,
        }
        let text = String::from_utf8_lossy(&arrived).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let all: Vec<String> = head.split("\r\n").map(str::to_owned).collect();
        let value = |name: &str| {
            let start = format!("{name}: ");
            let line = all
                .iter()
                .find(|line| line.to_lowercase().starts_with(&start));
            line.map(|line| line[start.len()..].to_owned())
                .unwrap_or_default()
        };
        let length: usize = value("content-length").parse().unwrap_or(0);
        if body.len() < length {
            continue;
        }
        let ask = value("x-ask");
        // Who asks, and how the connection is used, is each proxy's own.
        let own = [
            "x-envoy-",
            "user-agent: ",
            "x-b3-",
            "content-length: 0",
            "x-request-id",
        ];
        let mut lines = all.clone();
        lines.retain(|line| {
            !own.iter().any(|own| line.to_lowercase().starts_with(own))
                || line.contains("partial-body")
        });
        lines[1..].sort();
        lines.push(format!("context {}", !value("x-b3-traceid").is_empty()));
        lines.push(format!("body {body}"));
        note(&asked, lines);
        let answer = |status: &str, fields: &str, body: &str| {
            let length = body.len();
            format!("HTTP/1.1 {status}\r\n{fields}content-length: {length}\r\n\r\n{body}")
        };
        let edits = "x-auth-over: other\r\nx-auth-append: more\r\nx-auth-told: yes\r\nx-auth-other: no\r\n\
            x-envoy-auth-headers-to-remove: x-auth-gone, x-auth-none\r\n";
        let text = match ask.as_str() {
            "allow" => answer("200 OK", "", ""),
            "edits" => answer("200 OK", edits, "ignored"),
            "adds" => answer("200 OK", "x-auth-other: no\r\n", ""),
            "deny" => answer("403 Forbidden", "", ""),
            "deny-as" => answer(
                "401 Unauthorized",
                "www-authenticate: Basic\r\nset-cookie: a=1\r\nset-cookie: b=2\r\nx-auth-told: yes\r\n\
                 x-auth-other: no\r\ncontent-type: application/json\r\n",
                "{\"who\": \"are you\"}",
            ),
            "deny-to" => answer("302 Found", "location: http://login.example/\r\n", ""),
            "created" => answer("201 Created", "x-auth-told: yes\r\n", "made"),
            "error" => answer("500 No", "x-auth-told: yes\r\n", "broken"),
            "nonsense" => "SMTP ready\r\n\r\n".to_owned(),
            "half" => "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf".to_owned(),
            "close" => return,
            "slow" => {
                tokio::time::sleep(Duration::from_secs(10)).await;
                return;
            }
            _ => answer("403 Forbidden", "", "what?"),
        };
        arrived.clear();
        if stream.write_all(text.as_bytes()).await.is_err() || ask == "half" {
            return;
        }
    }
}
