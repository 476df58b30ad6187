//! What came of a request, as lines that are equal when two proxies did the same.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::LazyLock;

use regex::Regex;

use crate::Seen;
use crate::cases::Case;
use crate::collector::SeenSpan;
use crate::sessions;
use crate::world::{Addresses, BETWEEN, LOGGED};
use crate::xds_support::http::Message;

static UUID: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new("[0-9a-f]{8}-[0-9a-f]{4}-([0-9a-f])[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
        .expect("valid")
});
static ID: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\b([0-9a-f]{32}|[0-9a-f]{16})\b").expect("valid"));
static PORT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"127\.0\.0\.1:(\d+)").expect("valid"));

/// Where ids are looked for first, so that both sides number them alike.
const ID_HEADERS: [&str; 7] = [
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "b3",
    "traceparent",
    "x-request-id",
    "x-client-trace-id",
];

/// Random ids, replaced by the order in which they first occur.
struct Names<'a> {
    given: &'a str,
    known: BTreeMap<String, String>,
    addresses: &'a Addresses,
}

impl Names<'_> {
    fn learn(&mut self, text: &str) {
        let ids: Vec<String> = ID
            .find_iter(text)
            .map(|found| found.as_str().to_owned())
            .collect();
        for id in ids {
            let number = self.known.len() + 1;
            let length = id.len();
            if !self.given.contains(&id) {
                self.known
                    .entry(id)
                    .or_insert(format!("<id {number} of {length}>"));
            }
        }
    }

    fn apply(&self, text: &str) -> String {
        let text = UUID.replace_all(text, |found: &regex::Captures<'_>| match &found[0] {
            given if self.given.contains(given) => given.to_owned(),
            _ => format!("<uuid {}>", &found[1]),
        });
        let text = ID.replace_all(&text, |found: &regex::Captures<'_>| {
            self.known
                .get(&found[0])
                .cloned()
                .unwrap_or_else(|| found[0].to_owned())
        });
        let text = PORT.replace_all(&text, |found: &regex::Captures<'_>| {
            let port: u16 = found[1].parse().unwrap_or(0);
            let at = |address: SocketAddr| address.port() == port;
            if at(self.addresses.origin) {
                "<origin>".to_owned()
            } else if at(self.addresses.http2_origin) {
                "<h2 origin>".to_owned()
            } else if at(self.addresses.nobody) {
                "<nobody>".to_owned()
            } else if self
                .addresses
                .listeners
                .values()
                .any(|address| at(*address))
            {
                "<listener>".to_owned()
            } else {
                "<peer>".to_owned()
            }
        });
        text.into_owned()
    }
}

/// The lines of a proxy's access log.
pub(crate) fn logged(addresses: &Addresses) -> Vec<String> {
    let text = std::fs::read_to_string(&addresses.log).unwrap_or_default();
    // The kernel's words are not ours.
    let text = text
        .replace("|delayed_connect_error:_Connection_refused", "")
        .replace("delayed_connect_error:_Connection_refused", "-");
    text.lines().map(str::to_owned).collect()
}

/// The outcome of a case on one proxy.
pub(crate) fn lines(
    case: &Case,
    addresses: &Addresses,
    node: &str,
    Seen { response, upstream }: &Seen,
    spans: &[SeenSpan],
    logged: &[String],
) -> Vec<String> {
    let mut names = Names {
        given: &case.request,
        known: BTreeMap::new(),
        addresses,
    };
    let messages = upstream.iter().chain(response.as_ref().ok());
    for header in messages.flat_map(|message| ID_HEADERS.map(|name| message.header(name))) {
        names.learn(header.unwrap_or_default());
    }
    for span in spans {
        for id in [&span.trace_id, &span.parent, &span.id] {
            names.learn(id);
        }
    }

    let mut lines = Vec::new();
    match response {
        Ok(message) => describe("response", message, &mut lines),
        Err(error) => lines.push(format!("response: none, {:?}", error.kind())),
    }
    for (index, message) in upstream.iter().enumerate() {
        describe(&format!("upstream {index}"), message, &mut lines);
    }
    for (index, span) in spans.iter().enumerate() {
        let prefix = format!("span {index} {}", span.kind);
        lines.push(format!("{prefix} name: {}", span.name));
        lines.push(format!("{prefix} trace: {}", span.trace_id));
        lines.push(format!("{prefix} id: {}", span.id));
        lines.push(format!("{prefix} parent: {}", span.parent));
        for (fact, value) in &span.facts {
            lines.push(format!("{prefix} {fact}: {value}"));
        }
    }
    let marked = format!("case={}.", case.name);
    for line in logged.iter().filter(|line| line.contains(&marked)) {
        let parts = LOGGED.iter().zip(line.split(BETWEEN));
        lines.extend(parts.map(|(operator, part)| format!("log {operator}: {part}")));
    }
    let mut lines: Vec<String> = lines
        .iter()
        .map(|line| sessions::unnamed(line, addresses))
        .map(|line| names.apply(&line).replace(node, "<node>"))
        .collect();
    lines.sort();
    lines
}

fn describe(side: &str, message: &Message, lines: &mut Vec<String>) {
    lines.push(format!("{side} line: {}", message.line));
    for (name, value) in &message.headers {
        let value = match name.as_str() {
            "date" => "<date>",
            "x-envoy-upstream-service-time" => "<ms>",
            "x-ratelimit-reset" => "<s>",
            // What is left of 15 s for another attempt.
            "x-envoy-expected-rq-timeout-ms"
                if side != "upstream 0" && (value == "15000" || value.starts_with("14")) =>
            {
                "<the rest>"
            }
            _ => value,
        };
        lines.push(format!("{side} header {name}: {value}"));
    }
    lines.push(format!("{side} body: {}", message.body));
    lines.extend(
        message
            .trailers
            .iter()
            .map(|line| format!("{side} trailer: {line}")),
    );
}
