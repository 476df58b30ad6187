//! Whether issuers give the keys of their tokens, and when what is in Secrets ends.

use std::time::{SystemTime, UNIX_EPOCH};

use periplus_identity::Standing;

use super::page::{Page, escaped};
use crate::index::Index;

/// Those of tokens of requests, and of workloads.
pub(super) fn of_issuers<'a>(
    page: &mut Page,
    standings: impl Iterator<Item = (&'a str, String, Standing)>,
) {
    let all: Vec<_> = standings
        .map(|(of, issuer, standing)| {
            let issuer = escaped(&issuer);
            (format!("{{issuer=\"{issuer}\",of=\"{of}\"}}"), standing)
        })
        .collect();
    if all.is_empty() {
        return;
    }
    let name = "periplus_issuer_reachable";
    let help = "Whether an issuer of tokens gave its keys when it was asked last";
    page.head(name, "gauge", help);
    for (labels, standing) in &all {
        let is_reachable = u8::from(standing.trouble.is_none());
        page.line(&format!("{name}{labels}"), is_reachable);
    }
    let name = "periplus_issuer_keys_timestamp";
    let help =
        "When an issuer of tokens gave its keys last, in seconds since 1970; 0 if it never did";
    page.head(name, "gauge", help);
    for (labels, standing) in &all {
        page.line(
            &format!("{name}{labels}"),
            standing.since.map_or(0, seconds),
        );
    }
}

/// The ends of what is in Secrets.
pub(super) fn of_secrets(page: &mut Page, index: &Index) {
    let mut parts = index.secrets().parts().peekable();
    if parts.peek().is_none() {
        return;
    }
    let name = "periplus_secret_expiry_timestamp";
    let help = "When a certificate in a Secret ends, its last authority, or its list of revoked certificates, in seconds \
                since 1970";
    page.head(name, "gauge", help);
    for (meta, _, part) in parts {
        let (namespace, secret, key) = (escaped(&meta.namespace), escaped(&meta.name), part.key);
        let labels = format!("{{namespace=\"{namespace}\",secret=\"{secret}\",key=\"{key}\"}}");
        page.line(&format!("{name}{labels}"), seconds(part.until));
    }
}

/// Since 1970.
pub(super) fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}
