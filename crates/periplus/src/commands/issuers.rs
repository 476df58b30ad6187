//! Issuers of tokens other than the control plane: their rules, and their newest keys.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use periplus_identity::jwt::Keys;
use periplus_identity::{Issuer, Published};
use serde::Deserialize;
use serde_json::Value;

use super::client::{Client, Peer};

const ISSUER: Peer = Peer {
    default: "https://issuer.example/keys",
    flag: "--jwt-rule",
    advice: "tokens of this issuer are refused until it can be reached",
};
/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often keys are looked at again, and files of them.
const REFRESH: Duration = Duration::from_secs(300);
const LOOK: Duration = Duration::from_secs(5);
/// After a failure, and before a token that asks for another key is believed that there is one.
const PAUSE: Duration = Duration::from_secs(1);
/// The largest set.
const MAX_BYTES: u64 = 1024 * 1024;

/// A rule, or the file that it is in.
pub(super) fn read(rule: &str) -> anyhow::Result<Arc<Issuer>> {
    let text = match rule.trim_start().starts_with('{') {
        true => rule.to_owned(),
        false => std::fs::read_to_string(rule)
            .with_context(|| format!("cannot read {rule}, which --jwt-rule names"))?,
    };
    let issuer = Issuer::read(&text).context("--jwt-rule makes no sense")?;
    Ok(Arc::new(issuer))
}

/// Keeps the keys of an issuer new for ever; what goes wrong is told once, and tried again.
pub(super) async fn keep(issuer: Arc<Issuer>) {
    let interval = match issuer.published() {
        Published::Here => return,
        Published::At(url) if url.starts_with("file:") => LOOK,
        Published::At(_) | Published::Discovered => REFRESH,
    };
    let mut trouble = Some(String::new());
    loop {
        let fetched = fetch(&issuer).await;
        let is_there = fetched.is_ok();
        let now = fetched.map(|keys| issuer.take(keys)).err();
        let now = now.map(|error| format!("{error:#}"));
        if now != trouble {
            match &now {
                None => tracing::info!(issuer = issuer.name(), "has the keys of tokens"),
                Some(error) => {
                    tracing::warn!(
                        issuer = issuer.name(),
                        error,
                        "cannot get the keys of tokens"
                    );
                }
            }
            trouble = now;
        }
        if !is_there {
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = issuer.wants_others() => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn fetch(issuer: &Issuer) -> anyhow::Result<Keys> {
    /// OpenID Connect Discovery §3.
    #[derive(Deserialize)]
    struct Provider {
        issuer: String,
        jwks_uri: String,
    }
    let url = match issuer.published() {
        Published::Here => anyhow::bail!("the keys stand in the rule"),
        Published::At(url) => url.clone(),
        Published::Discovered => {
            let base = issuer.name().trim_end_matches('/');
            let url = format!("{base}/.well-known/openid-configuration");
            let found: Provider = serde_json::from_value(get(&url).await?)
                .with_context(|| format!("{url} is no description of an issuer"))?;
            anyhow::ensure!(
                found.issuer == issuer.name(),
                "{url} describes another issuer, {}",
                found.issuer
            );
            found.jwks_uri
        }
    };
    let set = match url.strip_prefix("file://") {
        Some(path) => read_file(Path::new(path)).await?,
        None => get(&url).await?.to_string().into_bytes(),
    };
    Keys::parse(&set).map_err(|problem| anyhow::anyhow!("{url}: {problem}"))
}

async fn read_file(path: &Path) -> anyhow::Result<Vec<u8>> {
    let about = || format!("cannot read {}", path.display());
    let size = tokio::fs::metadata(path).await.with_context(about)?.len();
    anyhow::ensure!(
        size <= MAX_BYTES,
        "{} has more than {MAX_BYTES} bytes",
        path.display()
    );
    tokio::fs::read(path).await.with_context(about)
}

async fn get(url: &str) -> anyhow::Result<Value> {
    let after = url.find("://").map_or(0, |at| at + 3);
    let path = url[after..].find('/').map_or(url.len(), |at| after + at);
    let (server, path) = url.split_at(path);
    let client = Client::plain(server, &ISSUER, TIMEOUT)?;
    Ok(client.get(if path.is_empty() { "/" } else { path }).await?)
}
