//! The span sink: it counts the spans of each report, and has our own receivers read some of the reports.
//!
//! What it takes of the core that also makes the load keeps proxies from having as much to do as they can, so it does
//! little: most reports are only looked through.

mod count;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body_util::{BodyExt as _, Full};
use periplus_collect::{AllowedOrigins, Collector, Limits, otlp, zipkin};
use periplus_model::Batch;
use periplus_store::{BoxFuture, SpanSink, StoreError};
use tokio::net::TcpListener;
use tower_service::Service as _;

use self::count::Format;

/// Flags of the sink.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where Zipkin JSON arrives
    #[arg(long)]
    zipkin: SocketAddr,
    /// Where OTLP over HTTP arrives
    #[arg(long)]
    otlp_http: SocketAddr,
    /// Where OTLP over gRPC arrives
    #[arg(long)]
    otlp_grpc: SocketAddr,
    /// Where `GET /__stats` is answered
    #[arg(long)]
    stats: SocketAddr,
}

/// The first report, and each one after so many more, is read by our receivers as well.
const READ_EACH: u64 = 64;

/// The largest report.
const MOST_BYTES: usize = 16 << 20;

/// Serves until it is killed.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let counts = Arc::new(Counts::default());
        let read = Arc::new(Counter::default());
        let collector = Collector::new(read.clone(), Limits::default());
        let origins = AllowedOrigins::new([]);
        let receivers = [
            (
                args.zipkin,
                Format::Zipkin,
                zipkin::router(collector.clone(), origins.clone()),
            ),
            (
                args.otlp_http,
                Format::Otlp,
                otlp::http::router(collector.clone(), origins),
            ),
            (
                args.otlp_grpc,
                Format::OtlpGrpc,
                otlp::grpc::router(collector),
            ),
        ];
        let [zipkin, otlp_http, otlp_grpc] = receivers.map(|(address, format, receiver)| {
            let receiver = Receiver {
                format,
                router: receiver,
                read: read.clone(),
                counts: counts.clone(),
            };
            let take = move |request| receiver.clone().take(request);
            serve(address, Router::new().fallback(take))
        });
        let stats = get(async move || counts.show());
        let stats = serve(args.stats, Router::new().route("/__stats", stats));
        tokio::try_join!(zipkin, otlp_http, otlp_grpc, stats)?;
        Ok(())
    })
}

async fn serve(address: SocketAddr, router: Router) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address).await?;
    Ok(periplus_collect::serve(listener, router, std::future::pending()).await?)
}

/// What came.
#[derive(Default)]
struct Counts {
    reports: AtomicU64,
    spans: AtomicU64,
    /// The first report that is not what it should be.
    complaint: Mutex<Option<String>>,
    /// Buffers for reports.
    buffers: Mutex<Vec<Vec<u8>>>,
    /// One report is read at a time.
    reading: tokio::sync::Mutex<()>,
}

impl Counts {
    fn show(&self) -> Result<String, (StatusCode, String)> {
        let complaint = self.complaint.lock();
        let complaint = complaint.unwrap_or_else(PoisonError::into_inner);
        match &*complaint {
            None => Ok(format!(
                r#"{{"spans":{}}}"#,
                self.spans.load(Ordering::Relaxed)
            )),
            Some(complaint) => Err((StatusCode::INTERNAL_SERVER_ERROR, complaint.clone())),
        }
    }

    fn complain(&self, complaint: String) {
        let mut first = self
            .complaint
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(complaint);
    }
}

#[derive(Clone)]
struct Receiver {
    format: Format,
    router: Router,
    /// What the router hands its spans to.
    read: Arc<Counter>,
    counts: Arc<Counts>,
}

impl Receiver {
    /// Counts a report's spans and answers that it was taken; whatever is wrong with it is shown by the counts.
    async fn take(mut self, request: Request) -> Response {
        let (parts, mut body) = request.into_parts();
        let counts = self.counts.clone();
        let buffers = || {
            counts
                .buffers
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        let mut report = buffers().pop().unwrap_or_default();
        while let Some(Ok(frame)) = body.frame().await {
            if let Some(data) = frame.data_ref() {
                report.extend_from_slice(data);
            }
            if report.len() > MOST_BYTES {
                return StatusCode::PAYLOAD_TOO_LARGE.into_response();
            }
        }
        let is_plain = !parts.headers.contains_key(CONTENT_ENCODING);
        let counted = self.format.count(&report).filter(|_| is_plain);
        let number = counts.reports.fetch_add(1, Ordering::Relaxed);
        let spans = match counted {
            Some(spans) if !number.is_multiple_of(READ_EACH) => spans,
            _ => {
                let body = Bytes::copy_from_slice(&report);
                let read = self
                    .read(Request::from_parts(parts, Body::from(body)))
                    .await;
                match (read, counted) {
                    (Ok(read), Some(counted)) if read != counted => {
                        counts.complain(format!("{counted} spans are {read}"));
                        read
                    }
                    (Ok(read), _) => read,
                    (Err(complaint), _) => {
                        counts.complain(complaint);
                        0
                    }
                }
            }
        };
        counts.spans.fetch_add(spans, Ordering::Relaxed);
        report.clear();
        buffers().push(report);
        self.format.answer()
    }

    /// Has a report read: how many spans it has.
    async fn read(&mut self, report: Request) -> Result<u64, String> {
        let _one = self.counts.reading.lock().await;
        let path = report.uri().path().to_owned();
        let before = self.read.spans.load(Ordering::Relaxed);
        let Ok(answer) = self.router.call(report).await;
        let status = answer.status();
        let grpc_status = answer.headers().get("grpc-status");
        if !status.is_success() || grpc_status.is_some_and(|status| status != "0") {
            return Err(format!("a report to {path} was refused: {status}"));
        }
        Ok(self.read.spans.load(Ordering::Relaxed) - before)
    }
}

impl Format {
    /// That a report was taken.
    fn answer(self) -> Response {
        match self {
            Self::Zipkin => StatusCode::ACCEPTED.into_response(),
            Self::Otlp => [(CONTENT_TYPE, "application/x-protobuf")].into_response(),
            Self::OtlpGrpc => {
                let trailers = HeaderMap::from_iter([(
                    HeaderName::from_static("grpc-status"),
                    HeaderValue::from_static("0"),
                )]);
                // An empty message.
                let message = Full::new(Bytes::from_static(&[0; 5]));
                let body = message.with_trailers(std::future::ready(Some(Ok(trailers))));
                ([(CONTENT_TYPE, "application/grpc")], Body::new(body)).into_response()
            }
        }
    }
}

/// Keeps nothing and counts everything.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    spans: AtomicU64,
}

impl SpanSink for Counter {
    fn append(&self, batch: Batch) -> BoxFuture<'_, Result<(), StoreError>> {
        self.spans
            .fetch_add(batch.span_count() as u64, Ordering::Relaxed);
        Box::pin(std::future::ready(Ok(())))
    }
}
