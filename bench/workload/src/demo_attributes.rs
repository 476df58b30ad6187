//! What the spans of the demo are called and which attributes they have.

use crate::demo::{Flavour, SERVICES};
use crate::otlp::Value;
use crate::rng::Rng;

const VERBS: [&str; 8] = [
    "Get", "List", "Add", "Update", "Delete", "Place", "Convert", "Check",
];
const NOUNS: [&str; 8] = [
    "Item", "Cart", "Order", "Product", "Quote", "Ad", "User", "Stock",
];
const TABLES: [&str; 10] = [
    "orders",
    "order_items",
    "products",
    "users",
    "carts",
    "shipping",
    "reviews",
    "accounts",
    "events",
    "inventory",
];
const CURRENCIES: [&str; 4] = ["USD", "EUR", "GBP", "JPY"];
const QUERIES: [&str; 3] = ["SELECT", "INSERT", "UPDATE"];

/// What a span stands for.
pub(crate) struct Call<'a> {
    pub(crate) service: usize,
    pub(crate) operation: usize,
    pub(crate) failed: bool,
    pub(crate) server: bool,
    pub(crate) flavour: Flavour,
    /// The user and the session, on a trace's first span.
    pub(crate) root: Option<(&'a str, &'a str)>,
    pub(crate) user: &'a str,
    pub(crate) agents: &'a [String],
}

type List = Vec<(&'static str, Value)>;

/// The span's name, its method and its attributes.
pub(crate) fn attributes(call: &Call<'_>, rng: &mut Rng) -> (String, String, List) {
    let s = call.service;
    let verb = VERBS[(s * 3 + call.operation) % 8];
    let noun = NOUNS[(s + call.operation * 5) % 8];
    let grpc = format!("oteldemo.{}Service", SERVICES[s]);
    let method = format!("{verb}{noun}");
    let route = format!("/api/{}/{}/{{id}}", SERVICES[s], noun.to_lowercase());
    let (name, list) = match (call.server, call.flavour) {
        (true, Flavour::Http) => (format!("GET {route}"), http_server(call, &route, rng)),
        (true, _) => (
            format!("{grpc}/{method}"),
            grpc_server(call, &grpc, &method, rng),
        ),
        (false, Flavour::Http) => ("GET".to_owned(), http_client(call, rng)),
        (false, Flavour::Grpc) => (
            format!("{grpc}/{method}"),
            grpc_client(call, &grpc, &method, rng),
        ),
        (false, Flavour::Database) => database(call, rng),
        (false, Flavour::Internal) => (
            format!("{}Controller.{method}", NOUNS[call.operation % 8]),
            internal(call, &method, rng),
        ),
    };
    (name, method, list)
}

fn address(call: &Call<'_>, rng: &mut Rng) -> Value {
    format!("10.{}.{}.{}", call.service, rng.below(4), rng.below(250)).into()
}

fn host(call: &Call<'_>) -> Value {
    format!("{}.otel-demo.svc.cluster.local", SERVICES[call.service]).into()
}

fn int(value: usize) -> Value {
    Value::Int(value as i64)
}

fn thread(rng: &mut Rng) -> Value {
    int(20 + rng.below(16))
}

fn http_server(call: &Call<'_>, route: &str, rng: &mut Rng) -> List {
    let id = rng.zipf(20_000);
    let mut list: List = vec![
        (
            "http.request.method",
            ["GET", "POST", "PUT"][rng.zipf(3)].into(),
        ),
        ("url.scheme", "http".into()),
        ("url.path", route.replace("{id}", &id.to_string()).into()),
        ("http.route", route.into()),
        ("server.address", host(call)),
        ("server.port", Value::Int(8080)),
        (
            "client.address",
            format!(
                "{}.{}.{}.{}",
                20 + rng.below(180),
                rng.below(256),
                rng.below(256),
                rng.below(256)
            )
            .into(),
        ),
        (
            "user_agent.original",
            call.agents[rng.zipf(60)].clone().into(),
        ),
        ("network.protocol.version", "1.1".into()),
        ("network.peer.address", address(call, rng)),
        ("network.peer.port", int(32_768 + rng.below(28_000))),
    ];
    let status = match call.failed {
        true => 500,
        false => [200, 200, 200, 201, 204, 304, 404][rng.zipf(7)],
    };
    list.push(("http.response.status_code", Value::Int(status)));
    let size = rng.log_normal(7.0, 1.2) as i64;
    list.push(("http.response.body.size", Value::Int(size)));
    list.push(("thread.id", thread(rng)));
    if let Some((user, session)) = call.root {
        list.push(("app.user.id", user.into()));
        list.push(("session.id", session.into()));
    }
    list
}

fn grpc_server(call: &Call<'_>, grpc: &str, method: &str, rng: &mut Rng) -> List {
    vec![
        ("rpc.system", "grpc".into()),
        ("rpc.service", grpc.into()),
        ("rpc.method", method.into()),
        (
            "rpc.grpc.status_code",
            Value::Int(if call.failed { 13 } else { 0 }),
        ),
        ("network.peer.address", address(call, rng)),
        ("network.peer.port", int(32_768 + rng.below(28_000))),
        ("server.address", host(call)),
        ("server.port", Value::Int(7070)),
        ("thread.id", thread(rng)),
        (
            "thread.name",
            format!("grpc-default-executor-{}", rng.below(16)).into(),
        ),
        ("app.user.id", call.user.into()),
    ]
}

fn http_client(call: &Call<'_>, rng: &mut Rng) -> List {
    let target = SERVICES[(call.service + 1) % 20];
    vec![
        ("http.request.method", "GET".into()),
        (
            "url.full",
            format!(
                "http://{target}:8080/api/{target}/{}?currency={}",
                rng.zipf(20_000),
                CURRENCIES[rng.zipf(4)]
            )
            .into(),
        ),
        ("server.address", target.into()),
        ("server.port", Value::Int(8080)),
        ("network.protocol.version", "1.1".into()),
        ("network.peer.address", address(call, rng)),
        ("network.peer.port", Value::Int(8080)),
        (
            "http.response.status_code",
            Value::Int(if call.failed { 500 } else { 200 }),
        ),
        ("http.request.resend_count", Value::Int(0)),
        ("thread.id", thread(rng)),
        (
            "thread.name",
            format!("http-worker-{}", rng.below(32)).into(),
        ),
        ("url.scheme", "http".into()),
    ]
}

fn grpc_client(call: &Call<'_>, grpc: &str, method: &str, rng: &mut Rng) -> List {
    vec![
        ("rpc.system", "grpc".into()),
        ("rpc.service", grpc.into()),
        ("rpc.method", method.into()),
        (
            "rpc.grpc.status_code",
            Value::Int(if call.failed { 14 } else { 0 }),
        ),
        ("server.address", SERVICES[(call.service + 3) % 20].into()),
        ("server.port", Value::Int(7070)),
        ("network.peer.address", address(call, rng)),
        ("network.peer.port", Value::Int(7070)),
        ("network.transport", "tcp".into()),
        ("thread.id", thread(rng)),
        (
            "thread.name",
            format!("grpc-default-executor-{}", rng.below(16)).into(),
        ),
        (
            "rpc.message.sent.size",
            Value::Int(rng.log_normal(5.0, 1.0) as i64),
        ),
    ]
}

fn database(call: &Call<'_>, rng: &mut Rng) -> (String, List) {
    let table = TABLES[rng.zipf(10)];
    let query = rng.below(3);
    let text = match query {
        0 => format!(
            "SELECT id, name, price, qty, created_at FROM {table} WHERE id = {} AND tenant = ? ORDER BY created_at LIMIT 50",
            rng.zipf(100_000)
        ),
        1 => format!("INSERT INTO {table} (id, user_id, payload, created_at) VALUES (?, ?, ?, ?)"),
        _ => format!(
            "UPDATE {table} SET qty = qty - ?, updated_at = now() WHERE id = {}",
            rng.zipf(100_000)
        ),
    };
    let list = vec![
        ("db.system.name", "postgresql".into()),
        ("db.namespace", "otel".into()),
        ("db.operation.name", QUERIES[query].into()),
        ("db.collection.name", table.into()),
        ("db.query.text", text.into()),
        ("server.address", "postgresql.otel-demo.svc".into()),
        ("server.port", Value::Int(5432)),
        ("network.peer.address", address(call, rng)),
        ("network.peer.port", Value::Int(5432)),
        ("db.response.returned_rows", int(rng.zipf(50))),
        ("thread.id", thread(rng)),
        ("db.client.connection.pool.name", "HikariPool-1".into()),
    ];
    (format!("{} otel.{table}", QUERIES[query]), list)
}

fn internal(call: &Call<'_>, method: &str, rng: &mut Rng) -> List {
    vec![
        (
            "code.function.name",
            format!("com.otel.demo.{}.{method}", SERVICES[call.service]).into(),
        ),
        ("code.line.number", int(10 + rng.zipf(900))),
        (
            "app.product.id",
            format!("PROD-{:06}", rng.zipf(5000)).into(),
        ),
        ("app.items.count", int(rng.zipf(20))),
        (
            "app.amount",
            Value::Double((rng.log_normal(3.5, 0.8) * 100.0).round() / 100.0),
        ),
        ("app.currency", CURRENCIES[rng.zipf(4)].into()),
        ("app.cache.hit", Value::Bool(rng.unit() < 0.8)),
        ("thread.id", thread(rng)),
    ]
}
