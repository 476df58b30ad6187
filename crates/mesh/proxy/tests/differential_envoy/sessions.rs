//! Sessions that stay with their endpoint, and bodies that are waited for.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::extensions::filters::http::buffer::v3::buffer_per_route;
use envoy_types::pb::envoy::extensions::filters::http::buffer::v3::{Buffer, BufferPerRoute};
use envoy_types::pb::envoy::extensions::filters::http::stateful_session::v3::stateful_session_per_route::Override;
use envoy_types::pb::envoy::extensions::filters::http::stateful_session::v3::{
    StatefulSession, StatefulSessionPerRoute,
};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use envoy_types::pb::envoy::extensions::http::stateful_session::cookie::v3::CookieBasedSessionState;
use envoy_types::pb::envoy::extensions::http::stateful_session::header::v3::HeaderBasedSessionState;
use envoy_types::pb::envoy::r#type::http::v3::{Cookie, CookieAttribute};
use envoy_types::pb::google::protobuf::UInt32Value;
use envoy_types::util::pack_any;
use std::net::SocketAddr;

use crate::cases::get;
use crate::filters::{Add, filter};
use crate::world::Addresses;
use crate::xds_support::resources::{a_route, path_prefix, to_cluster};

const SESSION: &str = "envoy.filters.http.stateful_session";
const BUFFER: &str = "envoy.filters.http.buffer";

/// The filters of listeners that these routes are for; each does nothing where no route wants it.
pub(crate) fn all() -> Vec<HttpFilter> {
    let buffer = Buffer {
        max_request_bytes: Some(UInt32Value { value: 100_000 }),
    };
    let mut buffer = filter(BUFFER, buffer);
    buffer.disabled = true;
    vec![filter(SESSION, StatefulSession::default()), buffer]
}

/// What a cookie says of an endpoint, as Envoy writes it.
fn of_cookie(address: &str) -> String {
    let mut message = vec![0x0a, u8::try_from(address.len()).expect("short")];
    message.extend_from_slice(address.as_bytes());
    STANDARD.encode(message)
}

/// Puts the endpoints of one proxy into a request in place of their names.
pub(crate) fn named(request: &str, addresses: &Addresses) -> String {
    let mut request = request.to_owned();
    for (name, address) in of(addresses) {
        let address = address.to_string();
        request = request.replace(&format!("COOKIE-OF-{name}"), &of_cookie(&address));
        request = request.replace(&format!("HEADER-OF-{name}"), &STANDARD.encode(address));
    }
    request
}

/// The other way round.
pub(crate) fn unnamed(line: &str, addresses: &Addresses) -> String {
    let mut line = line.to_owned();
    for (name, address) in of(addresses) {
        let address = address.to_string();
        line = line.replace(&of_cookie(&address), &format!("<cookie of {name}>"));
        line = line.replace(&STANDARD.encode(address), &format!("<header of {name}>"));
    }
    line
}

fn of(addresses: &Addresses) -> [(&'static str, SocketAddr); 2] {
    [("ORIGIN", addresses.origin), ("NOBODY", addresses.nobody)]
}

pub(crate) fn routes() -> Vec<route::Route> {
    let cookie = |path: &str| {
        let attribute = CookieAttribute {
            name: "SameSite".to_owned(),
            value: "Strict".to_owned(),
        };
        let cookie = Cookie {
            name: "place".to_owned(),
            path: path.to_owned(),
            attributes: vec![attribute],
            ..Default::default()
        };
        state(
            "cookie",
            pack_any(CookieBasedSessionState {
                cookie: Some(cookie),
            }),
        )
    };
    let header = || {
        let name = "X-Place".to_owned();
        state("header", pack_any(HeaderBasedSessionState { name }))
    };
    let wanted = |path: &str, cluster: &str, per_route: Override| {
        let mut made = a_route(path_prefix(path), to_cluster(cluster));
        let config = StatefulSessionPerRoute {
            r#override: Some(per_route),
        };
        made.typed_per_filter_config
            .insert(SESSION.to_owned(), pack_any(config));
        made
    };
    let session = |state, strict| {
        Override::StatefulSession(StatefulSession {
            session_state: Some(state),
            strict,
            ..Default::default()
        })
    };
    let buffered = |path: &str, most: u32| {
        let mut made = a_route(path_prefix(path), to_cluster("origin"));
        let buffer = Buffer {
            max_request_bytes: Some(UInt32Value { value: most }),
        };
        let config = BufferPerRoute {
            r#override: Some(buffer_per_route::Override::Buffer(buffer)),
        };
        made.typed_per_filter_config
            .insert(BUFFER.to_owned(), pack_any(config));
        made
    };
    vec![
        wanted("/session/cookie", "origin", session(cookie(""), false)),
        wanted(
            "/session/below",
            "origin",
            session(cookie("/session/below/"), false),
        ),
        wanted("/session/header", "origin", session(header(), false)),
        wanted("/session/strict", "origin", session(header(), true)),
        wanted("/session/pair", "pair", session(header(), false)),
        wanted("/session/refused", "refused", session(cookie("/"), false)),
        wanted("/session/off", "origin", Override::Disabled(true)),
        buffered("/buffered", 10),
    ]
}

fn state(kind: &str, config: envoy_types::pb::google::protobuf::Any) -> TypedExtensionConfig {
    TypedExtensionConfig {
        name: format!("envoy.http.stateful_session.{kind}"),
        typed_config: Some(config),
    }
}

pub(crate) fn cases(add: Add<'_>) {
    let unknown = STANDARD.encode("10.0.0.1:80");
    for (name, path, fields) in [
        ("cookie", "cookie", String::new()),
        (
            "cookie-known",
            "cookie",
            "cookie: a=b; place=\"COOKIE-OF-ORIGIN\"\n".to_owned(),
        ),
        (
            "cookie-plain",
            "cookie",
            "cookie: place=COOKIE-OF-ORIGIN\n".to_owned(),
        ),
        (
            "cookie-old",
            "cookie",
            "cookie: place=HEADER-OF-ORIGIN\n".to_owned(),
        ),
        (
            "cookie-unknown",
            "cookie",
            format!("cookie: place={unknown}\n"),
        ),
        ("cookie-bad", "cookie", "cookie: place=?\n".to_owned()),
        ("below", "below", String::new()),
        ("below-it", "below/x", String::new()),
        ("header", "header", String::new()),
        (
            "header-known",
            "header",
            "x-place: HEADER-OF-ORIGIN\n".to_owned(),
        ),
        ("header-unknown", "header", format!("x-place: {unknown}\n")),
        ("header-bad", "header", "x-place: ?\n".to_owned()),
        ("strict", "strict", String::new()),
        (
            "strict-known",
            "strict",
            "x-place: HEADER-OF-ORIGIN\n".to_owned(),
        ),
        ("strict-unknown", "strict", format!("x-place: {unknown}\n")),
        ("pair-1", "pair", "x-place: HEADER-OF-ORIGIN\n".to_owned()),
        ("pair-2", "pair", "x-place: HEADER-OF-ORIGIN\n".to_owned()),
        ("pair-3", "pair", "x-place: HEADER-OF-ORIGIN\n".to_owned()),
        (
            "pair-down",
            "pair",
            "x-place: HEADER-OF-NOBODY\n".to_owned(),
        ),
        ("refused", "refused", String::new()),
        ("off", "off", String::new()),
    ] {
        let request = get(&format!("/session/{path}"), &fields);
        add(&format!("session-{name}"), &["rules"], request);
    }
    for (name, length) in [("few", 10), ("many", 11), ("none", 0)] {
        let fields = format!("content-length: {length}\n");
        let request = get("/buffered", &fields).replace("GET ", "POST ") + &"x".repeat(length);
        add(&format!("buffered-{name}"), &["rules"], request);
    }
    add("buffered-get", &["rules"], get("/buffered", ""));
}
