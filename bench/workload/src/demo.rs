use std::collections::VecDeque;

use crate::demo_attributes::{Call, attributes};
use crate::otlp::{Value, attribute, bytes, fixed32, fixed64, number, resource_spans};
use crate::rng::Rng;

/// How many spans a request has.
pub const BATCH: usize = 8192;

/// When the first trace begins, unless another time is asked for.
pub const START_UNIX_NANO: u64 = 1_760_000_000_000_000_000;

const PODS: usize = 3;

pub(crate) const SERVICES: [&str; 20] = [
    "frontend-proxy",
    "frontend",
    "cart",
    "checkout",
    "payment",
    "product-catalog",
    "currency",
    "shipping",
    "email",
    "recommendation",
    "ad",
    "quote",
    "accounting",
    "fraud-detection",
    "image-provider",
    "flagd",
    "load-generator",
    "product-reviews",
    "llm",
    "inventory",
];

const LANGUAGES: [&str; 6] = ["go", "java", "nodejs", "python", "dotnet", "rust"];

/// This many spans that begin at this time, about 10,000 a second, as requests of [`BATCH`].
pub fn demo(spans: usize, start_unix_nano: u64) -> Vec<Vec<u8>> {
    demo_requests(spans, start_unix_nano, BATCH).collect()
}

/// The same spans in the same order, in requests of another size, made one at a time: for more spans
/// than fit into memory.
pub fn demo_requests(
    spans: usize,
    start_unix_nano: u64,
    per_request: usize,
) -> impl Iterator<Item = Vec<u8>> {
    let resources: Vec<Vec<u8>> = (0..SERVICES.len() * PODS).map(resource).collect();
    let mut in_order = InOrder {
        generator: Generator::new(start_unix_nano),
        left: spans,
        open: Vec::new(),
        ended: VecDeque::new(),
    };
    std::iter::from_fn(move || {
        let batch = in_order.take(per_request);
        (!batch.is_empty()).then(|| request(&batch, &resources))
    })
}

/// How many spans are made before those that have ended are looked for.
const OPEN: usize = 2 * BATCH;

/// Spans in the order in which they end.
struct InOrder {
    generator: Generator,
    /// How many are to be made yet.
    left: usize,
    /// Spans that a later one may end before, in the order in which they were made or end.
    open: Vec<Span>,
    ended: VecDeque<Span>,
}

impl InOrder {
    fn take(&mut self, count: usize) -> Vec<Span> {
        while self.ended.len() < count && (self.left > 0 || !self.open.is_empty()) {
            self.generate();
        }
        let count = count.min(self.ended.len());
        self.ended.drain(..count).collect()
    }

    fn generate(&mut self) {
        while self.left > 0 && self.open.len() < OPEN {
            let mut trace = self.generator.trace();
            trace.truncate(self.left);
            self.left -= trace.len();
            self.open.extend(trace);
        }
        self.open.sort_by_key(|span| span.end);
        // What is made later begins later, and ends after that.
        let now = self.generator.time;
        let ended = match self.left {
            0 => self.open.len(),
            _ => self.open.partition_point(|span| span.end <= now),
        };
        self.ended.extend(self.open.drain(..ended));
    }
}

struct Span {
    trace: [u8; 16],
    id: u64,
    parent: u64,
    name: String,
    kind: u8,
    start: u64,
    end: u64,
    attributes: Vec<(&'static str, Value)>,
    failed: bool,
    event: Option<(u64, String)>,
    resource: usize,
}

/// What kind of work a span does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavour {
    Http,
    Grpc,
    Internal,
    Database,
}

const INTERNAL: u8 = 1;
const SERVER: u8 = 2;
const CLIENT: u8 = 3;

#[derive(Clone, Copy)]
struct Place {
    service: usize,
    pod: usize,
    kind: u8,
    flavour: Flavour,
}

struct Generator {
    rng: Rng,
    time: u64,
    agents: Vec<String>,
}

impl Generator {
    fn new(start_unix_nano: u64) -> Self {
        let agent = |i: usize| {
            format!(
                "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.{} (KHTML, like Gecko) Chrome/1{:02}.0.{}.0 Safari/537.36",
                i % 9,
                i % 40,
                4000 + i * 37
            )
        };
        Self {
            rng: Rng(7),
            time: start_unix_nano,
            agents: (0..60).map(agent).collect(),
        }
    }

    fn trace(&mut self) -> Vec<Span> {
        self.time += (self.rng.exponential() * 1_200_000.0) as u64;
        let trace = self.rng.trace_id();
        let count = (1 + (self.rng.exponential() * 11.5) as usize).min(200);
        let user = self.rng.uuid();
        let session = self.rng.uuid();
        let root_nano = self.rng.log_normal(17.5, 1.0) as u64;
        let mut places: Vec<Place> = Vec::with_capacity(count);
        let mut spans: Vec<Span> = Vec::with_capacity(count);
        for i in 0..count {
            let (parent, place) = self.place(i, &places);
            places.push(place);
            let (start, nano) = match parent {
                None => (self.time, root_nano.max(200_000)),
                Some(parent) => self.within(&spans[parent]),
            };
            let operation = self.rng.zipf(8);
            let failed = self.rng.unit() < 0.012;
            let call = Call {
                service: place.service,
                operation,
                failed,
                server: place.kind == SERVER,
                flavour: place.flavour,
                root: (i == 0).then_some((&user, &session)),
                user: &user,
                agents: &self.agents,
            };
            let (name, method, attributes) = attributes(&call, &mut self.rng);
            let event = failed.then(|| {
                let trace = stack_trace(&mut self.rng, place.service, &method);
                (start + nano / 2, trace)
            });
            let id = self.rng.next() | 1;
            spans.push(Span {
                trace,
                id,
                parent: parent.map_or(0, |parent| spans[parent].id),
                name,
                kind: place.kind,
                start,
                end: start + nano,
                attributes,
                failed,
                event,
                resource: place.service * PODS + place.pod,
            });
        }
        spans
    }

    /// Where the next span of a trace runs, and below which of the earlier ones.
    fn place(&mut self, i: usize, places: &[Place]) -> (Option<usize>, Place) {
        let rng = &mut self.rng;
        if i == 0 {
            let place = Place {
                service: rng.zipf(4),
                pod: rng.below(PODS),
                kind: SERVER,
                flavour: Flavour::Http,
            };
            return (None, place);
        }
        let database = |at: usize| places[at].flavour == Flavour::Database;
        let mut parent = i - 1 - rng.zipf(i.min(6));
        if database(parent) {
            parent = parent.saturating_sub(1);
            if database(parent) {
                parent = 0;
            }
        }
        let above = places[parent];
        let place = if above.kind == CLIENT && above.flavour != Flavour::Database {
            Place {
                service: (above.service + 1 + rng.zipf(12)) % 20,
                pod: rng.below(PODS),
                kind: SERVER,
                flavour: above.flavour,
            }
        } else {
            let u = rng.unit();
            let (kind, flavour) = match u {
                _ if u < 0.30 => (CLIENT, Flavour::Grpc),
                _ if u < 0.45 => (CLIENT, Flavour::Http),
                _ if u < 0.75 => (CLIENT, Flavour::Database),
                _ => (INTERNAL, Flavour::Internal),
            };
            Place {
                kind,
                flavour,
                ..above
            }
        };
        (Some(parent), place)
    }

    /// A time within that of a span.
    fn within(&mut self, parent: &Span) -> (u64, u64) {
        let (start, nano) = (parent.start, parent.end - parent.start);
        let offset = (self.rng.unit() * 0.6 * nano as f64) as u64;
        let own = ((0.05 + 0.9 * self.rng.unit()) * (nano - offset) as f64) as u64;
        (start + offset, own.max(1500))
    }
}

fn stack_trace(rng: &mut Rng, service: usize, method: &str) -> String {
    format!(
        "java.lang.IllegalStateException: request {} failed\n\tat com.otel.demo.{}.{}(Handler.java:{})\n\tat io.grpc.stub.ServerCalls.invoke(ServerCalls.java:182)\n\tat io.grpc.internal.ServerImpl.runInternal(ServerImpl.java:331)\n\tat java.lang.Thread.run(Thread.java:840)",
        rng.below(1_000_000),
        SERVICES[service],
        method,
        rng.below(400)
    )
}

fn request(batch: &[Span], resources: &[Vec<u8>]) -> Vec<u8> {
    let mut request = Vec::with_capacity(batch.len() * 700);
    for (i, resource) in resources.iter().enumerate() {
        let of_resource = batch.iter().filter(|span| span.resource == i);
        let spans: Vec<Vec<u8>> = of_resource.map(encode).collect();
        if spans.is_empty() {
            continue;
        }
        let mut scope = Vec::new();
        let language = LANGUAGES[(i / PODS) % 6];
        bytes(
            &mut scope,
            1,
            format!("io.opentelemetry.{language}").as_bytes(),
        );
        bytes(&mut scope, 2, b"2.10.0-alpha");
        let spans: Vec<&[u8]> = spans.iter().map(|span| &span[..]).collect();
        bytes(&mut request, 1, &resource_spans(resource, &scope, &spans));
    }
    request
}

fn resource(index: usize) -> Vec<u8> {
    let (service, pod) = (index / PODS, index % PODS);
    let mut rng = Rng(index as u64 * 7919 + 13);
    let name = SERVICES[service].to_owned();
    let language = LANGUAGES[service % 6].to_owned();
    let host = format!("{}-{}-{}", name, rng.hex(10), rng.hex(5));
    let mut out = Vec::new();
    for (key, value) in [
        ("service.name", name.clone()),
        ("service.namespace", "opentelemetry-demo".into()),
        ("service.version", format!("2.{}.{service}", service % 3)),
        ("service.instance.id", rng.uuid()),
        ("deployment.environment.name", "production".into()),
        ("telemetry.sdk.language", language.clone()),
        ("telemetry.sdk.name", "opentelemetry".into()),
        ("telemetry.sdk.version", format!("1.{}.0", 30 + service % 6)),
        ("k8s.namespace.name", "otel-demo".into()),
        ("k8s.pod.name", host.clone()),
        ("k8s.pod.uid", rng.uuid()),
        (
            "k8s.node.name",
            format!("ip-10-0-{pod}-{}.ec2.internal", 17 * service),
        ),
        ("k8s.deployment.name", name),
        ("container.id", rng.hex(64)),
        ("host.name", host),
        ("os.type", "linux".into()),
        ("process.runtime.name", language),
        ("cloud.region", "eu-west-1".into()),
    ] {
        attribute(&mut out, 1, key, &Value::Text(value));
    }
    attribute(&mut out, 1, "process.pid", &Value::Int(1));
    out
}

fn encode(span: &Span) -> Vec<u8> {
    let mut out = Vec::with_capacity(800);
    bytes(&mut out, 1, &span.trace);
    bytes(&mut out, 2, &span.id.to_be_bytes());
    if span.parent != 0 {
        bytes(&mut out, 4, &span.parent.to_be_bytes());
    }
    bytes(&mut out, 5, span.name.as_bytes());
    number(&mut out, 6, u64::from(span.kind));
    fixed64(&mut out, 7, span.start);
    fixed64(&mut out, 8, span.end);
    for (key, value) in &span.attributes {
        attribute(&mut out, 9, key, value);
    }
    if let Some((time, trace)) = &span.event {
        let mut event = Vec::new();
        fixed64(&mut event, 1, *time);
        bytes(&mut event, 2, b"exception");
        let ty = "java.lang.IllegalStateException".into();
        attribute(&mut event, 3, "exception.type", &ty);
        let trace = trace.clone().into();
        attribute(&mut event, 3, "exception.stacktrace", &trace);
        bytes(&mut out, 11, &event);
    }
    let mut status = Vec::new();
    if span.failed {
        bytes(&mut status, 2, b"INTERNAL: request failed");
        number(&mut status, 3, 2);
    }
    bytes(&mut out, 15, &status);
    fixed32(&mut out, 16, 1);
    out
}
