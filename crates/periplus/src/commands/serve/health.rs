use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use periplus_store::embedded::EmbeddedStore;
use serde::Serialize;

/// When the server became healthy, and what may have changed that.
#[derive(Clone, Debug)]
struct Since {
    instant: Instant,
    text: String,
    store: Option<Arc<EmbeddedStore>>,
}

/// Jaeger v1's answer on its admin port, at both places where probes look: `/` (v1) and `/status`
/// (v2). 503 with the reason when the store takes no more spans until a restart.
pub(super) fn router(store: Option<Arc<EmbeddedStore>>) -> Router {
    let since = Since {
        instant: Instant::now(),
        text: rfc3339(SystemTime::now()),
        store,
    };
    Router::new()
        .route("/", get(health))
        .route("/status", get(health))
        .with_state(since)
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Health {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    up_since: String,
    uptime: String,
}

async fn health(State(since): State<Since>) -> Response {
    let failure = since.store.as_ref().and_then(|store| store.health().err());
    let (code, status) = match failure {
        None => (StatusCode::OK, "Server available"),
        Some(_) => (StatusCode::SERVICE_UNAVAILABLE, "Server not available"),
    };
    let body = Json(Health {
        status,
        reason: failure.map(|error| {
            let error = anyhow::Error::from(error);
            format!("no spans are taken until a restart: {error:#}")
        }),
        up_since: since.text.clone(),
        uptime: format!("{:.3}s", since.instant.elapsed().as_secs_f64()),
    });
    (code, body).into_response()
}

/// The instant in UTC, to the second (RFC 3339).
fn rfc3339(time: SystemTime) -> String {
    let seconds = time
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs());
    let (days, seconds) = (seconds / 86_400, seconds % 86_400);
    // Days are counted from 0000-03-01, so that the leap day ends the year.
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use periplus_model::{Batch, Resource, Scope, Span, SpanGroup};
    use periplus_store::SpanSink as _;
    use periplus_store::embedded::Options;
    use periplus_store::embedded::disk::{Fault, SimulatedDisk};

    use super::*;

    #[tokio::test]
    async fn a_store_that_takes_nothing_makes_the_server_unhealthy() {
        let disk = SimulatedDisk::new();
        let options = Options {
            background: false,
            log_file_bytes: 1 << 16,
            ..Options::default()
        };
        let opened = EmbeddedStore::open_on(Arc::new(disk.clone()), Path::new("/"), options);
        let store = Arc::new(opened.expect("an empty store"));
        let since = Since {
            instant: Instant::now(),
            text: String::new(),
            store: Some(Arc::clone(&store)),
        };
        let answer = health(State(since.clone())).await;
        assert_eq!(answer.status(), StatusCode::OK);
        disk.plan(Fault::FailedSync(disk.operations()));
        let span = SpanGroup {
            resource: Resource::of_service("s").into(),
            scope: Scope::default().into(),
            spans: vec![Span::default()],
        };
        let refused = store.append(Batch { groups: vec![span] }).await;
        assert!(refused.is_err());
        let answer = health(State(since)).await;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        let body = axum::body::to_bytes(answer.into_body(), 10_000).await;
        let body = String::from_utf8(body.expect("a body").to_vec()).expect("text");
        assert!(body.contains("Server not available"), "{body}");
        assert!(
            body.contains("no spans are taken until a restart"),
            "{body}"
        );
    }

    #[test]
    fn instants_are_written_as_utc() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_795_332_558, "2026-11-22T07:29:18Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }
}
