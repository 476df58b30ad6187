//! The proxies that are connected: whether they run on what they were sent, and how they are themselves.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use http::Method;
use serde_json::Value;

use super::step::Step;
use crate::commands::client::{Client, Failure, Peer};
use crate::commands::instant;
use crate::commands::proxy_status::{is_bad, text};

/// A proxy's admin port, as its bootstrap has told the control plane.
pub(super) const ADMIN: Peer = Peer {
    default: "http://127.0.0.1:15000",
    flag: "ADMIN_ADDRESS",
    advice: "its admin port, as its bootstrap names it, does not answer",
};

/// Whether all run on what they were sent.
pub(super) fn in_sync(rows: &[Value]) -> Step {
    const NAME: &str = "in sync";
    let mut stale = Vec::new();
    let mut notes = Vec::new();
    for row in rows {
        for (kind, resource) in row["resources"].as_object().into_iter().flatten() {
            let error = text(resource, "lastError");
            if is_bad(text(resource, "status")) {
                let why = match error {
                    "" => "has not acknowledged",
                    error => error,
                };
                stale.push(format!("{} {kind}: {why}", text(row, "proxy")));
            }
        }
        let own = row["notes"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str);
        notes.extend(own.map(|note| format!("{}: {note}", text(row, "proxy"))));
    }
    match (rows.len(), stale.is_empty(), notes.first()) {
        (0, ..) => Step::failed(NAME, "no proxy is connected".to_owned())
            .advice("start proxies with the control plane's xDS port in their bootstrap"),
        (_, false, _) => {
            Step::failed(NAME, stale.join("; ")).advice("see `periplus proxy-status -v`")
        }
        (_, true, Some(note)) => Step::warned(NAME, note.clone()),
        (1, ..) => Step::passed(NAME, "the proxy that is connected".to_owned()),
        (n, ..) => Step::passed(NAME, format!("all {n} proxies that are connected")),
    }
}

/// The admin ports of proxies that have told theirs, by name.
pub(super) fn admins(rows: &[Value], timeout: Duration) -> Vec<(String, Result<Client, Failure>)> {
    let told = rows.iter().filter(|row| !text(row, "admin").is_empty());
    told.map(|row| {
        let client = Client::plain(text(row, "admin"), &ADMIN, timeout);
        (text(row, "proxy").to_owned(), client)
    })
    .collect()
}

/// So many proxies are asked at once.
const AT_ONCE: usize = 64;

/// Asks all of them something, and has the answers in their order.
pub(super) async fn ask<'a, T>(
    admins: &'a [(String, Result<Client, Failure>)],
    question: impl AsyncFn(&'a Result<Client, Failure>) -> T,
) -> Vec<(&'a str, T)> {
    let question = &question;
    let asked = admins
        .iter()
        .map(|(name, client)| async move { (name.as_str(), question(client).await) });
    stream::iter(asked).buffered(AT_ONCE).collect().await
}

/// Whether they serve, and until when their certificates hold.
pub(super) async fn running(rows: &[Value], timeout: Duration) -> Step {
    const NAME: &str = "proxies";
    let mut failed = Vec::new();
    let mut warned = Vec::new();
    let admins = admins(rows, timeout);
    for (name, looked) in ask(&admins, look).await {
        match looked {
            Ok(None) => {}
            Ok(Some(warning)) => warned.push(format!("{name}: {warning}")),
            Err(error) => failed.push(format!("{name}: {error}")),
        }
    }
    match (admins.len(), failed.is_empty(), warned.is_empty()) {
        (0, ..) => Step::skipped(NAME, "none tells where its admin port is".to_owned())
            .advice("write it into bootstraps as node.metadata.ADMIN_ADDRESS"),
        (_, false, _) => Step::failed(NAME, failed.join("; ")),
        (_, _, false) => Step::warned(NAME, warned.join("; ")),
        (n, ..) => Step::passed(NAME, format!("{n} serve, and their certificates hold")),
    }
}

/// What is to be warned of.
async fn look(client: &Result<Client, Failure>) -> Result<Option<String>, String> {
    let client = client.as_ref().map_err(ToString::to_string)?;
    let told = |failure: Failure| failure.to_string();
    client
        .text(Method::GET, "/ready")
        .await
        .map_err(|failure| match failure {
            Failure::Refused { message, .. } => format!("it does not serve: {message}"),
            other => other.to_string(),
        })?;
    let certificates: Value = client.get("/certs").await.map_err(told)?;
    judge(&certificates, instant::now_us() * 1_000)
}

/// What is to be warned of in the certificates of a proxy's `/certs`, at a time in nanoseconds.
fn judge(page: &Value, now: u64) -> Result<Option<String>, String> {
    let contexts = page["certificates"].as_array().into_iter().flatten();
    let mut warning = None;
    for context in contexts {
        let each = |key: &str| {
            let all = context[key].as_array().into_iter().flatten();
            all.filter_map(|one| {
                let from = instant::parse(text(one, "valid_from")).ok()?;
                let until = instant::parse(text(one, "expiration_time")).ok()?;
                Some((until, from, text(one, "expiration_time")))
            })
        };
        for (until, from, at) in each("cert_chain") {
            if until <= now {
                return Err(format!("its certificate has expired at {at}"));
            }
            // They are renewed at half of their time.
            if (until - now) * 4 < until.saturating_sub(from) {
                warning = Some(format!(
                    "its certificate expires at {at} and has not been renewed"
                ));
            }
        }
        // Of those that it believes, one replaces another: the last one counts.
        let Some((until, from, at)) = each("ca_cert").max() else {
            continue;
        };
        if until <= now {
            return Err(format!(
                "the last authority that it believes has expired at {at}"
            ));
        }
        if (until - now) * 5 < until.saturating_sub(from) && warning.is_none() {
            warning = Some(format!(
                "the last authority that it believes expires at {at}"
            ));
        }
    }
    Ok(warning)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn certificates_and_authorities_that_end_are_told() {
        let now = instant::parse("2026-06-01T00:00:00Z").unwrap();
        let show = |until: &&str| json!({"valid_from": "2026-01-01T00:00:00Z", "expiration_time": format!("{until}T00:00:00Z")});
        const LONG: &str = "2027-01-01";
        const SOON: &str = "2026-06-10";
        const OVER: &str = "2026-05-30";
        for (own, believed, expected) in [
            (&[LONG][..], &[LONG][..], Ok(None)),
            (&[], &[], Ok(None)),
            (
                &[SOON],
                &[LONG],
                Ok(Some("its certificate expires at 2026-06-10T00:00:00Z")),
            ),
            (
                &[LONG, OVER],
                &[LONG],
                Err("its certificate has expired at 2026-05-30T00:00:00Z"),
            ),
            (&[LONG], &[SOON], Ok(Some("believes expires at 2026-06-10"))),
            (&[LONG], &[OVER], Err("believes has expired at 2026-05-30")),
            // One root replaces another.
            (&[LONG], &[OVER, LONG], Ok(None)),
            (&[LONG], &[LONG, SOON], Ok(None)),
            (&[SOON], &[SOON], Ok(Some("its certificate expires"))),
            (&[SOON], &[OVER], Err("believes has expired")),
        ] {
            let chain: Vec<_> = own.iter().map(show).collect();
            let roots: Vec<_> = believed.iter().map(show).collect();
            let page = json!({"certificates": [{"cert_chain": chain, "ca_cert": roots}]});
            let found = judge(&page, now);
            let is_expected = match (&found, expected) {
                (Ok(None), Ok(None)) => true,
                (Ok(Some(said)), Ok(Some(part))) | (Err(said), Err(part)) => said.contains(part),
                _ => false,
            };
            assert!(is_expected, "{own:?} {believed:?}: {found:?}");
        }
    }
}
