use http_body_util::BodyExt as _;
use serde::Deserialize;

use crate::commands::client::{Failure, ServerFlags, query};
use crate::commands::instant;
use crate::commands::output::{self, Looks, Style, Tone, clean};

/// Flags.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A query line about one span, such as: service=checkout error [default: root, a line for each
    /// request]
    #[arg(value_name = "QUERY")]
    query: Vec<String>,

    /// How to print them
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,

    /// End after so many spans
    #[arg(long, value_name = "N")]
    limit: Option<usize>,

    #[command(flatten)]
    looks: Looks,

    #[command(flatten)]
    server: ServerFlags,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// A line for people
    Table,
    /// A line of JSON
    Jsonl,
    /// Nothing but the trace's id
    Ids,
}

/// Bytes of one event.
const MAX_EVENT_BYTES: usize = 1 << 20;

/// A span of `GET /api/periplus/v1/live`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Span {
    trace_id: String,
    service: String,
    operation: String,
    start_us: u64,
    duration_us: u64,
    error: bool,
}

#[derive(Debug, Deserialize)]
struct Lost {
    spans: u64,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let client = args.server.client(None)?;
    let style = args.looks.style();
    let line = match args.query.join(" ") {
        line if line.trim().is_empty() => "root".to_owned(),
        line => line,
    };
    let path = format!("/api/periplus/v1/live{}", query(&[("q", &line)]));
    let mut body = client.stream(&path).await?;
    let unreadable = |cause: String| Failure::Unreadable {
        server: client.server().to_owned(),
        cause,
    };
    let mut events = Events::default();
    let mut left = args.limit.unwrap_or(usize::MAX);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| client.broken(&error))?;
        let Ok(bytes) = frame.into_data() else {
            continue;
        };
        events.feed(&bytes).map_err(unreadable)?;
        while let Some(event) = events.next() {
            let read = |error: serde_json::Error| unreadable(error.to_string());
            match event.name.as_str() {
                "span" => {
                    let span: Span = serde_json::from_str(&event.data).map_err(read)?;
                    output::print(&match args.output {
                        Output::Table => show(&span, style),
                        Output::Jsonl => event.data + "\n",
                        Output::Ids => span.trace_id + "\n",
                    })?;
                    left -= 1;
                    if left == 0 {
                        return Ok(());
                    }
                }
                "lost" => {
                    let lost: Lost = serde_json::from_str(&event.data).map_err(read)?;
                    eprintln!(
                        "note: {} spans came faster than they could be shown",
                        lost.spans
                    );
                }
                "open" => eprintln!("note: waiting for spans that match '{line}'; Ctrl-C ends"),
                // Whatever else a newer server says.
                _ => {}
            }
        }
    }
    Err(client.unreachable("it ended the stream".to_owned()).into())
}

fn show(span: &Span, style: Style) -> String {
    let tone = if span.error { Tone::Bad } else { Tone::Plain };
    let lead = format!(
        "{} {:>8} ",
        instant::text(span.start_us),
        output::duration(span.duration_us, style)
    );
    let id = clean(&span.trace_id);
    let mark = if span.error {
        style.pick("✕ ", "! ")
    } else {
        ""
    };
    let title = format!("{mark}{} {}", clean(&span.service), clean(&span.operation));
    let used = lead.chars().count() + id.chars().count() + 1;
    let title = match style.width {
        Some(width) => style.cut(&title, width.saturating_sub(used).max(1)),
        None => title,
    };
    format!(
        "{lead}{} {}\n",
        style.paint(Tone::Faint, &id),
        style.paint(tone, &title)
    )
}

/// Server-sent events (WHATWG HTML §9.2.6), out of pieces as they come.
#[derive(Debug, Default)]
struct Events {
    buffer: Vec<u8>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Event {
    name: String,
    data: String,
}

impl Events {
    fn feed(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() > MAX_EVENT_BYTES && end(&self.buffer).is_none() {
            return Err(format!("an event has more than {MAX_EVENT_BYTES} bytes"));
        }
        Ok(())
    }

    /// The next event that is all there; comments have neither name nor data.
    fn next(&mut self) -> Option<Event> {
        let end = end(&self.buffer)?;
        let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
        let mut event = Event::default();
        for line in String::from_utf8_lossy(&block).lines() {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => event.name = value.to_owned(),
                "data" => {
                    if !event.data.is_empty() {
                        event.data.push('\n');
                    }
                    event.data.push_str(value);
                }
                _ => {}
            }
        }
        Some(event)
    }
}

/// Where the first empty line begins.
fn end(buffer: &[u8]) -> Option<usize> {
    buffer.windows(2).position(|pair| pair == b"\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_pieces() {
        let text =
            ": hello\n\nevent: span\ndata: {\"a\":1}\n\nevent: lost\ndata: 1\ndata: 2\n\nevent";
        for size in [1, 3, 200] {
            let mut events = Events::default();
            let mut found = Vec::new();
            for piece in text.as_bytes().chunks(size) {
                events.feed(piece).unwrap();
                while let Some(event) = events.next() {
                    found.push((event.name, event.data));
                }
            }
            let expected = [("", ""), ("span", "{\"a\":1}"), ("lost", "1\n2")];
            assert_eq!(
                found,
                expected.map(|(name, data)| (name.to_owned(), data.to_owned()))
            );
        }
        let mut events = Events::default();
        assert!(events.feed(&vec![b'x'; MAX_EVENT_BYTES + 1]).is_err());
    }

    #[test]
    fn a_span_is_a_line() {
        let span = Span {
            trace_id: "463ac35c9f6413ad48485a3953bb6124".to_owned(),
            service: "shop".to_owned(),
            operation: "GET /buy\u{1b}[2J".to_owned(),
            start_us: 1_795_332_558_270_715,
            duration_us: 41_250,
            error: true,
        };
        let style = Style {
            color: false,
            ascii: true,
            width: Some(84),
        };
        assert_eq!(
            show(&span, style),
            "2026-11-22 07:29:18.270   41.2ms 463ac35c9f6413ad48485a3953bb6124 ! shop GET /buy?[~\n"
        );
    }
}
