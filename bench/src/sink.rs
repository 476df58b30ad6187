//! The span sink: our own receivers in front of one that only counts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::routing::get;
use periplus_collect::{AllowedOrigins, Collector, Limits, otlp, zipkin};
use periplus_model::Batch;
use periplus_store::{BoxFuture, SpanSink, StoreError};
use tokio::net::TcpListener;

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

/// Serves until it is killed.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let counter = Arc::new(Counter::default());
        let collector = Collector::new(counter.clone(), Limits::default());
        let stats = Router::new().route(
            "/__stats",
            get(async move || format!(r#"{{"spans":{}}}"#, counter.spans.load(Ordering::Relaxed))),
        );
        let origins = AllowedOrigins::new([]);
        let zipkin = zipkin::router(collector.clone(), origins.clone());
        let otlp_http = otlp::http::router(collector.clone(), origins);
        let otlp_grpc = otlp::grpc::router(collector);
        tokio::try_join!(
            serve(args.zipkin, zipkin),
            serve(args.otlp_http, otlp_http),
            serve(args.otlp_grpc, otlp_grpc),
            serve(args.stats, stats),
        )?;
        Ok(())
    })
}

async fn serve(address: SocketAddr, router: Router) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address).await?;
    Ok(periplus_collect::serve(listener, router, std::future::pending()).await?)
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
