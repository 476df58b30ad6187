//! Checks by HTTP/1.1.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::health::check::Found;
use crate::health::probe::Probe;
use crate::http1::framing::Decoder;
use crate::http1::head::Limits;
use crate::http1::response::ResponseHead;
use crate::net::Stream;
use crate::snapshot::HttpCheck;

const LIMITS: Limits = Limits {
    bytes: 16 * 1024,
    fields: 100,
};

pub(super) async fn check(probe: Probe<'_>, rules: &HttpCheck) -> io::Result<Found> {
    let kept = probe.kept.http1.take();
    let kept = kept.and_then(|mut kept| kept.is_quiet().then_some(kept));
    let mut stream = match kept {
        Some(kept) => kept,
        None => probe.connect(b"http/1.1").await?,
    };
    stream.write_all(&request(&probe, rules)).await?;
    let answer = Answer::read(&mut stream, rules).await?;
    if answer.is_reusable && probe.check.reuses_connection {
        probe.kept.http1 = Some(stream);
    }
    let says = |name: &str| answer.has(name);
    Ok(rules.judge(answer.response.status, &answer.body, says))
}

fn request(probe: &Probe<'_>, rules: &HttpCheck) -> Vec<u8> {
    let mut head = format!(
        "{} {} HTTP/1.1\r\nhost: {}\r\nuser-agent: Envoy/HC\r\n",
        rules.method,
        rules.path,
        probe.host(&rules.host)
    );
    for (name, value) in &rules.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !probe.check.reuses_connection {
        head.push_str("connection: close\r\n");
    }
    if matches!(rules.method, "POST" | "PUT" | "PATCH") {
        head.push_str("content-length: 0\r\n");
    }
    head.push_str("\r\n");
    head.into_bytes()
}

/// A response, as far as it matters.
struct Answer {
    head: Vec<u8>,
    response: ResponseHead,
    /// Its beginning.
    body: Vec<u8>,
    is_reusable: bool,
}

impl Answer {
    async fn read(stream: &mut Stream, rules: &HttpCheck) -> io::Result<Self> {
        let mut bytes = Vec::new();
        let mut response = ResponseHead::default();
        let is_head = rules.method == "HEAD";
        let length = loop {
            let parsed = response.parse(&bytes, LIMITS, is_head);
            match parsed.map_err(io::Error::other)? {
                Some(length) if response.is_interim() => {
                    bytes.drain(..length);
                }
                Some(length) => break length,
                None => {
                    if stream.read_buf(&mut bytes).await? == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
            }
        };
        let mut unread = bytes.split_off(length);
        let mut answer = Self {
            head: bytes,
            response,
            body: Vec::new(),
            is_reusable: false,
        };
        let mut decoder = Decoder::new(answer.response.framing);
        while !decoder.is_done() {
            let piece = decoder.decode(&unread).map_err(io::Error::other)?;
            answer.take(&unread[piece.skip..piece.skip + piece.data], rules);
            unread.drain(..piece.skip + piece.data);
            if decoder.is_done() || piece.skip + piece.data > 0 {
                continue;
            }
            // What is over the limit is not worth waiting for.
            if answer.body.len() >= rules.response_buffer_size {
                return Ok(answer);
            }
            if stream.read_buf(&mut unread).await? == 0 {
                if decoder.finish() {
                    return Ok(answer);
                }
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        answer.is_reusable = answer.response.keep_alive && unread.is_empty();
        Ok(answer)
    }

    fn take(&mut self, data: &[u8], rules: &HttpCheck) {
        let room = rules.response_buffer_size.saturating_sub(self.body.len());
        self.body.extend_from_slice(&data[..data.len().min(room)]);
    }

    fn has(&self, name: &str) -> bool {
        let mut values = self.response.fields.all_by_text(name, &self.head);
        values.next().is_some()
    }
}

impl HttpCheck {
    /// What a response means; `says` tells whether it has a header.
    pub(super) fn judge(&self, status: u16, body: &[u8], says: impl Fn(&str) -> bool) -> Found {
        let is_in = |ranges: &[std::ops::RangeInclusive<u16>]| {
            ranges.iter().any(|range| range.contains(&status))
        };
        if !is_in(&self.expected) {
            return if is_in(&self.retriable) {
                Found::Retriable
            } else {
                Found::Unhealthy
            };
        }
        if says("x-envoy-immediate-health-check-fail") || !contains(body, &self.receive) {
            Found::Unhealthy
        } else if says("x-envoy-degraded") {
            Found::Degraded
        } else {
            Found::Healthy
        }
    }
}

/// Whether all parts are there, in this order.
pub(super) fn contains(mut text: &[u8], parts: &[Vec<u8>]) -> bool {
    parts.iter().all(|part| {
        let found = memchr::memmem::find(text, part);
        if let Some(at) = found {
            text = &text[at + part.len()..];
        }
        found.is_some()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_responses_mean() {
        let rules = HttpCheck {
            host: String::new(),
            path: "/".to_owned(),
            method: "GET",
            headers: Vec::new(),
            expected: vec![200..=299],
            retriable: vec![503..=503],
            receive: vec![b"ready".to_vec(), b"yes".to_vec()],
            response_buffer_size: 1024,
            is_http2: false,
        };
        let no = |_: &str| false;
        assert_eq!(rules.judge(204, b"ready: yes", no), Found::Healthy);
        assert_eq!(
            rules.judge(200, b"yes, ready", no),
            Found::Unhealthy,
            "another order"
        );
        assert_eq!(rules.judge(503, b"", no), Found::Retriable);
        assert_eq!(rules.judge(500, b"", no), Found::Unhealthy);
        let says = |wanted: &'static str| move |name: &str| name == wanted;
        let degraded = rules.judge(200, b"ready: yes", says("x-envoy-degraded"));
        assert_eq!(degraded, Found::Degraded);
        let failed = says("x-envoy-immediate-health-check-fail");
        assert_eq!(rules.judge(200, b"ready: yes", failed), Found::Unhealthy);
    }
}
