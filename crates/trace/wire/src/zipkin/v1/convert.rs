//! Version 1 → version 2: each service that a span names gets a span of its own.

use periplus_model::SpanKind;

use super::super::endpoint::Host;
use super::super::error::SpanProblem;
use super::super::span::ZipkinSpan;
use super::{Annotation, BinaryAnnotation, Span};

/// The most services of one span. A call has two sides; a broker and relays may add some.
const MAX_SERVICES: usize = 16;

/// The annotations that mean a step of a call or of a message, not just a note.
#[derive(Clone, Copy, PartialEq)]
enum Step {
    /// `cs`: the client sends.
    ClientSend,
    /// `cr`: the client receives.
    ClientReceive,
    /// `sr`: the server receives.
    ServerReceive,
    /// `ss`: the server sends.
    ServerSend,
    /// `ms`: a message is sent.
    MessageSend,
    /// `mr`: a message is received.
    MessageReceive,
    /// `ws`: it is on the wire.
    WireSend,
    /// `wr`: it is off the wire.
    WireReceive,
}

impl Step {
    fn of(value: &str) -> Option<Self> {
        Some(match value {
            "cs" => Self::ClientSend,
            "cr" => Self::ClientReceive,
            "sr" => Self::ServerReceive,
            "ss" => Self::ServerSend,
            "ms" => Self::MessageSend,
            "mr" => Self::MessageReceive,
            "ws" => Self::WireSend,
            "wr" => Self::WireReceive,
            _ => return None,
        })
    }

    const fn kind(self) -> Option<SpanKind> {
        match self {
            Self::ClientSend | Self::ClientReceive => Some(SpanKind::Client),
            Self::ServerReceive | Self::ServerSend => Some(SpanKind::Server),
            Self::MessageSend => Some(SpanKind::Producer),
            Self::MessageReceive => Some(SpanKind::Consumer),
            Self::WireSend | Self::WireReceive => None,
        }
    }
}

/// When and where a step happened.
#[derive(Clone)]
struct Moment {
    timestamp: i64,
    host: Host,
}

/// The steps of a span. Of a step that is there twice, the last one counts, as in Zipkin.
#[derive(Default)]
struct Steps {
    cs: Option<Moment>,
    cr: Option<Moment>,
    sr: Option<Moment>,
    ss: Option<Moment>,
    ms: Option<Moment>,
    mr: Option<Moment>,
    ws: Option<Moment>,
    wr: Option<Moment>,
}

impl Steps {
    fn slot(&mut self, step: Step) -> &mut Option<Moment> {
        match step {
            Step::ClientSend => &mut self.cs,
            Step::ClientReceive => &mut self.cr,
            Step::ServerReceive => &mut self.sr,
            Step::ServerSend => &mut self.ss,
            Step::MessageSend => &mut self.ms,
            Step::MessageReceive => &mut self.mr,
            Step::WireSend => &mut self.ws,
            Step::WireReceive => &mut self.wr,
        }
    }
}

/// The spans of version 2 that a span of version 1 stands for, the one that comes first in it first.
pub(super) fn convert(mut source: Span) -> Result<Vec<ZipkinSpan>, SpanProblem> {
    let annotations = std::mem::take(&mut source.annotations);
    let binary_annotations = std::mem::take(&mut source.binary_annotations);
    let mut conversion = Conversion {
        spans: vec![blank(&source)],
        source,
    };
    conversion.spans[0].dropped_tags = conversion.source.dropped_tags;
    let mut steps = conversion.annotate(annotations)?;
    conversion.call(&mut steps)?;
    conversion.message(&steps)?;
    conversion.tag(binary_annotations, &steps)?;
    Ok(conversion.spans)
}

fn blank(source: &Span) -> ZipkinSpan {
    ZipkinSpan {
        trace_id: source.trace_id,
        id: source.id,
        parent_id: source.parent_id,
        name: source.name.clone(),
        debug: source.debug,
        ..ZipkinSpan::default()
    }
}

/// Places in `spans` are given as indices: the first one is always there.
struct Conversion {
    source: Span,
    spans: Vec<ZipkinSpan>,
}

impl Conversion {
    /// The span of a service. What has no endpoint goes to the first span, and the first endpoint
    /// claims that one. Addresses do not tell services apart.
    fn place(&mut self, host: Option<&Host>) -> Result<usize, SpanProblem> {
        let Some(host) = host else {
            return Ok(0);
        };
        if self.spans[0].local == Host::default() {
            self.spans[0].local = host.clone();
            return Ok(0);
        }
        let mut spans = self.spans.iter();
        match spans.position(|span| is_same_service(&span.local, host)) {
            Some(place) => Ok(place),
            None => self.fork(host),
        }
    }

    fn fork(&mut self, host: &Host) -> Result<usize, SpanProblem> {
        if self.spans.len() == MAX_SERVICES {
            return Err(SpanProblem::TooManyServices { max: MAX_SERVICES });
        }
        self.spans.push(ZipkinSpan {
            local: host.clone(),
            ..blank(&self.source)
        });
        Ok(self.spans.len() - 1)
    }

    /// The places of the two sides: a service that calls itself has two.
    fn sides(
        &mut self,
        near: &Moment,
        far: &Moment,
        kinds: (SpanKind, SpanKind),
    ) -> Result<(usize, usize), SpanProblem> {
        let at_near = self.place(Some(&near.host))?;
        let at_far = if is_same_service(&near.host, &far.host) {
            self.spans[at_near].kind = kinds.0;
            let forked = self.fork(&far.host)?;
            self.spans[forked].kind = kinds.1;
            forked
        } else {
            self.place(Some(&far.host))?
        };
        Ok((at_near, at_far))
    }

    /// Keeps the notes and gathers the steps, which need an endpoint to count.
    fn annotate(&mut self, annotations: Vec<Annotation>) -> Result<Steps, SpanProblem> {
        let mut steps = Steps::default();
        for annotation in annotations {
            let place = self.place(annotation.host.as_ref())?;
            let timestamp = annotation.timestamp;
            match (annotation.host, Step::of(&annotation.value)) {
                (Some(host), Some(step)) => {
                    if let Some(kind) = step.kind() {
                        self.spans[place].kind = kind;
                    }
                    *steps.slot(step) = Some(Moment { timestamp, host });
                }
                _ => (self.spans[place].annotations).push((timestamp, annotation.value)),
            }
        }
        Ok(steps)
    }

    fn call(&mut self, steps: &mut Steps) -> Result<(), SpanProblem> {
        if steps.cs.is_none() {
            steps.cs = self.begin_of(steps.cr.as_ref());
        }
        if steps.sr.is_none() {
            steps.sr = self.begin_of(steps.ss.as_ref());
        }
        let Steps { cs, cr, sr, ss, .. } = &*steps;
        match (cs, cr, sr, ss) {
            (Some(cs), cr, Some(sr), ss) => {
                // The client owns the time of a span that both share.
                self.time(cs, cr.as_ref())?;
                let kinds = (SpanKind::Client, SpanKind::Server);
                let (client, server) = self.sides(cs, sr, kinds)?;
                let server = &mut self.spans[server];
                server.shared = true;
                server.timestamp = sr.timestamp;
                if let Some(ss) = ss {
                    server.duration = ss.timestamp.saturating_sub(sr.timestamp);
                }
                if cr.is_none() && self.source.duration == 0 {
                    self.spans[client].duration = 0;
                }
            }
            (Some(cs), Some(cr), ..) => self.time(cs, Some(cr))?,
            (_, _, Some(sr), Some(ss)) => self.time(sr, Some(ss))?,
            _ => self.incomplete(steps),
        }
        // Version 1 has no mark for a shared span: whoever did not make its id left its time to the
        // one who did.
        if let (None, Some(sr)) = (&steps.cs, &steps.sr)
            && (self.source.timestamp == 0 || (steps.ss.is_some() && self.source.duration == 0))
        {
            let place = self.place(Some(&sr.host))?;
            self.spans[place].shared = true;
        }
        Ok(())
    }

    /// A step that began with the span and that nobody noted, if its end is that of the span.
    fn begin_of(&self, end: Option<&Moment>) -> Option<Moment> {
        let Span {
            timestamp,
            duration,
            ..
        } = self.source;
        let end = end?;
        let ends_the_span = timestamp != 0
            && duration != 0
            && timestamp.checked_add(duration) == Some(end.timestamp);
        ends_the_span.then(|| Moment {
            timestamp,
            host: end.host.clone(),
        })
    }

    /// The span's own time, if it has both parts of it; else that between two steps.
    fn time(&mut self, begin: &Moment, end: Option<&Moment>) -> Result<(), SpanProblem> {
        let place = self.place(Some(&begin.host))?;
        let span = &mut self.spans[place];
        if self.source.timestamp != 0 && self.source.duration != 0 {
            span.timestamp = self.source.timestamp;
            span.duration = self.source.duration;
        } else {
            span.timestamp = begin.timestamp;
            if let Some(end) = end {
                span.duration = end.timestamp.saturating_sub(begin.timestamp);
            }
        }
        Ok(())
    }

    /// A call of which one end was not seen.
    fn incomplete(&mut self, steps: &Steps) {
        for span in &mut self.spans {
            let (begin, end, name) = match span.kind {
                SpanKind::Client => (&steps.cs, &steps.cr, "cr"),
                SpanKind::Server => (&steps.sr, &steps.ss, "ss"),
                _ => continue,
            };
            if let Some(begin) = begin {
                span.timestamp = begin.timestamp;
            }
            if let Some(end) = end {
                span.annotations.push((end.timestamp, name.to_owned()));
            }
        }
        if self.source.timestamp != 0 {
            self.spans[0].timestamp = self.source.timestamp;
            self.spans[0].duration = self.source.duration;
        }
    }

    fn message(&mut self, steps: &Steps) -> Result<(), SpanProblem> {
        match (&steps.ms, &steps.mr) {
            (Some(ms), Some(mr)) => {
                let kinds = (SpanKind::Producer, SpanKind::Consumer);
                let (producer, consumer) = self.sides(ms, mr, kinds)?;
                let consumer = &mut self.spans[consumer];
                consumer.shared = true;
                consumer.timestamp = mr.timestamp;
                if let Some(wr) = &steps.wr {
                    consumer.timestamp = wr.timestamp;
                    consumer.duration = mr.timestamp.saturating_sub(wr.timestamp);
                }
                let producer = &mut self.spans[producer];
                producer.timestamp = ms.timestamp;
                producer.duration =
                    (steps.ws.as_ref()).map_or(0, |ws| ws.timestamp.saturating_sub(ms.timestamp));
            }
            (Some(ms), None) => self.time(ms, steps.ws.as_ref())?,
            (None, Some(mr)) => match &steps.wr {
                Some(wr) => self.time(wr, Some(mr))?,
                None => self.time(mr, None)?,
            },
            (None, None) => {
                for (step, name) in [(&steps.ws, "ws"), (&steps.wr, "wr")] {
                    if let Some(step) = step {
                        let place = self.place(Some(&step.host))?;
                        let note = (step.timestamp, name.to_owned());
                        self.spans[place].annotations.push(note);
                    }
                }
            }
        }
        Ok(())
    }

    /// Tags, and the addresses of the other sides. Those should hold `true`; whatever they hold, they
    /// are read, since some senders write `1`.
    fn tag(&mut self, list: Vec<BinaryAnnotation>, steps: &Steps) -> Result<(), SpanProblem> {
        let (mut ca, mut sa, mut ma) = (None, None, None);
        for BinaryAnnotation { key, value, host } in list {
            match key.as_str() {
                "ca" => ca = host,
                "sa" => sa = host,
                "ma" => ma = host,
                _ => {
                    let place = self.place(host.as_ref())?;
                    // Only says which endpoint is the local one.
                    if key != "lc" || !value.is_empty() {
                        self.spans[place].tags.push((key, value));
                    }
                }
            }
        }
        let Steps { cs, cr, sr, ss, .. } = steps;
        let has_call = [cs, cr, sr, ss].into_iter().any(Option::is_some);
        match (ca, sa) {
            (Some(ca), Some(sa)) if !has_call => {
                let place = self.place(Some(&ca))?;
                self.spans[place].remote = sa;
            }
            (None, Some(sa)) if !has_call => self.spans[0].remote = sa,
            (Some(ca), None) if !has_call => {
                self.spans[0].kind = SpanKind::Server;
                self.spans[0].remote = ca;
            }
            (ca, sa) => {
                let server = sr.as_ref().or(ss.as_ref());
                if let (Some(mut ca), Some(server)) = (ca, server)
                    && ca != server.host
                {
                    // Finagle names the caller after the server: no call to itself.
                    if is_same_service(&ca, &server.host) {
                        ca.service_name.clear();
                    }
                    self.set_remote(server, ca)?;
                }
                if let (Some(sa), Some(client)) = (sa, cs.as_ref().or(cr.as_ref())) {
                    self.set_remote(client, sa)?;
                }
                for side in [&steps.ms, &steps.mr] {
                    if let (Some(ma), Some(side)) = (&ma, side) {
                        self.set_remote(side, ma.clone())?;
                    }
                }
            }
        }
        Ok(())
    }

    fn set_remote(&mut self, of: &Moment, remote: Host) -> Result<(), SpanProblem> {
        let place = self.place(Some(&of.host))?;
        self.spans[place].remote = remote;
        Ok(())
    }
}

/// Zipkin's names have no upper case.
fn is_same_service(one: &Host, other: &Host) -> bool {
    one.service_name == other.service_name
        || one.service_name.to_lowercase() == other.service_name.to_lowercase()
}
