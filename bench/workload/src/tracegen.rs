use crate::otlp::{Value, attribute, bytes, fixed32, fixed64, number, resource_spans};
use crate::rng::Rng;

const START_UNIX_NANO: u64 = 1_760_000_000_000_000_000;
const CHILD_NANO: u64 = 123_000;

/// This many traces of a root and `children`, from `services` services, spread over ten days; about
/// 8,190 spans in a request.
pub fn tracegen(traces: usize, children: usize, services: usize) -> Vec<Vec<u8>> {
    tracegen_requests(traces, children, services, START_UNIX_NANO, 8190).collect()
}

/// The same spans from another time on, made one request at a time: of whole traces, as soon as there
/// are `per_request` spans.
pub fn tracegen_requests(
    traces: usize,
    children: usize,
    services: usize,
    start_unix_nano: u64,
    per_request: usize,
) -> impl Iterator<Item = Vec<u8>> {
    let mut generator = Generator {
        start_unix_nano,
        rng: Rng(42),
        next_key: 0,
        next_value: 0,
        pending: Vec::new(),
    };
    let mut trace = 0;
    std::iter::from_fn(move || {
        while trace < traces && generator.pending.len() < per_request {
            generator.trace(trace, traces, children, trace % services);
            trace += 1;
        }
        let pending = std::mem::take(&mut generator.pending);
        (!pending.is_empty()).then(|| request(&pending, services))
    })
}

struct Generator {
    start_unix_nano: u64,
    rng: Rng,
    next_key: usize,
    next_value: usize,
    /// Services and encoded spans.
    pending: Vec<(usize, Vec<u8>)>,
}

impl Generator {
    fn trace(&mut self, trace: usize, traces: usize, children: usize, service: usize) {
        let id = self.rng.trace_id();
        let start = self.start_unix_nano + trace as u64 * 864_000_000_000_000 / traces as u64;
        let root = self.rng.next() | 1;
        let end = start + children as u64 * CHILD_NANO;
        let attributes = [
            ("peer.service".to_owned(), "tracegen-server".to_owned()),
            ("peer.host.ipv4".to_owned(), "1.1.1.1".to_owned()),
        ];
        let span = encode(&id, root, 0, ("lets-go", 2), (start, end), &attributes);
        self.pending.push((service, span));
        for child in 0..children {
            let attributes: Vec<_> = (0..11).map(|_| self.next_attribute()).collect();
            let start = start + child as u64 * CHILD_NANO;
            let name = format!("child-span-{child:02}");
            let times = (start, start + CHILD_NANO);
            let own = self.rng.next() | 1;
            let span = encode(&id, own, root, (&name, 3), times, &attributes);
            self.pending.push((service, span));
        }
    }

    fn next_attribute(&mut self) -> (String, String) {
        let attribute = (
            format!("attr_{:02}", self.next_key),
            format!("val_{:02}", self.next_value),
        );
        self.next_key = (self.next_key + 1) % 97;
        self.next_value = (self.next_value + 1) % 1000;
        attribute
    }
}

fn encode(
    trace: &[u8; 16],
    id: u64,
    parent: u64,
    (name, kind): (&str, u64),
    (start, end): (u64, u64),
    attributes: &[(String, String)],
) -> Vec<u8> {
    let mut out = Vec::with_capacity(500);
    bytes(&mut out, 1, trace);
    bytes(&mut out, 2, &id.to_be_bytes());
    if parent != 0 {
        bytes(&mut out, 4, &parent.to_be_bytes());
    }
    bytes(&mut out, 5, name.as_bytes());
    number(&mut out, 6, kind);
    fixed64(&mut out, 7, start);
    fixed64(&mut out, 8, end);
    for (key, value) in attributes {
        attribute(&mut out, 9, key, &Value::Text(value.clone()));
    }
    bytes(&mut out, 15, &[]);
    fixed32(&mut out, 16, 257);
    out
}

fn request(pending: &[(usize, Vec<u8>)], services: usize) -> Vec<u8> {
    let mut request = Vec::new();
    let mut scope = Vec::new();
    bytes(&mut scope, 1, b"tracegen");
    for service in 0..services {
        let mut resource = Vec::new();
        for (key, value) in [
            ("service.name", format!("tracegen-{service:02}")),
            ("telemetry.sdk.language", "go".to_owned()),
            ("telemetry.sdk.name", "opentelemetry".to_owned()),
            ("telemetry.sdk.version", "1.38.0".to_owned()),
        ] {
            attribute(&mut resource, 1, key, &Value::Text(value));
        }
        let of_service = pending.iter().filter(|(of, _)| *of == service);
        let spans: Vec<&[u8]> = of_service.map(|(_, span)| &span[..]).collect();
        bytes(&mut request, 1, &resource_spans(&resource, &scope, &spans));
    }
    request
}
