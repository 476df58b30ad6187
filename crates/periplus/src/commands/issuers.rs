//! Issuers of tokens other than the control plane: their rules, and their newest keys.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use http::Method;
use periplus_control::IssuerKeys;
use periplus_identity::jwt::Keys;
use periplus_identity::{Issuer, Published};
use serde::Deserialize;
use serde_json::Value;
use tokio::task::JoinHandle;

use super::client::{Client, Failure, Peer};

const ISSUER: Peer = Peer {
    default: "https://issuer.example/keys",
    flag: "the issuer's address",
    advice: "the control plane must reach it",
};
/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often files of keys are looked at.
const LOOK: Duration = Duration::from_secs(5);
/// After the first failure, and before a token that asks for another key is believed that there is one.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause between failures.
const LONG_PAUSE: Duration = Duration::from_secs(60);
/// The largest set.
const MAX_BYTES: usize = 1024 * 1024;

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

/// Keeps the keys of an issuer of workloads' tokens new for ever; a token that asks for a key that is not there is a
/// reason to ask for others.
pub(super) async fn keep(issuer: Arc<Issuer>, refresh: Duration) {
    let interval = match issuer.published() {
        Published::Here => return,
        Published::At(url) if url.starts_with("file:") => LOOK,
        Published::At(_) | Published::Discovered => refresh,
    };
    let mut watch = Watch::new(issuer.name(), interval);
    loop {
        let fetched = fetch(issuer.name(), issuer.published(), TIMEOUT).await;
        let pause = watch.note(&fetched);
        issuer.take(fetched.map(|(keys, _)| keys));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = issuer.wants_others() => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Looks the keys up of all issuers of requests' tokens that are wanted, for ever.
pub(super) async fn follow(keys: Arc<IssuerKeys>, refresh: Duration) {
    let mut wanted = keys.wanted();
    let mut kept: BTreeMap<String, (Duration, JoinHandle<()>)> = BTreeMap::new();
    loop {
        let now = wanted.borrow_and_update().clone();
        kept.retain(|issuer, (timeout, task)| {
            let stays = now.get(issuer) == Some(&*timeout);
            if !stays {
                task.abort();
            }
            stays
        });
        for (issuer, timeout) in now {
            kept.entry(issuer).or_insert_with_key(|issuer| {
                let looking = look_up(Arc::clone(&keys), issuer.clone(), (timeout, refresh));
                (timeout, tokio::spawn(looking))
            });
        }
        if wanted.changed().await.is_err() {
            return;
        }
    }
}

async fn look_up(keys: Arc<IssuerKeys>, issuer: String, (timeout, refresh): (Duration, Duration)) {
    let mut watch = Watch::new(&issuer, refresh);
    loop {
        let fetched = fetch(&issuer, &Published::Discovered, timeout).await;
        let pause = watch.note(&fetched);
        keys.take(&issuer, fetched.map(|(_, set)| set.to_string()));
        tokio::time::sleep(pause).await;
    }
}

/// What was said of an issuer last, and when it is asked again.
struct Watch<'a> {
    issuer: &'a str,
    interval: Duration,
    pause: Duration,
    /// None if its keys were there the last time.
    trouble: Option<String>,
}

impl<'a> Watch<'a> {
    fn new(issuer: &'a str, interval: Duration) -> Self {
        Self {
            issuer,
            interval,
            pause: PAUSE,
            trouble: Some(String::new()),
        }
    }

    /// Says what is different. How long to wait after this.
    fn note<T>(&mut self, fetched: &Result<T, String>) -> Duration {
        let issuer = self.issuer;
        let trouble = fetched.as_ref().err();
        if trouble != self.trouble.as_ref() {
            match trouble {
                None => tracing::info!(issuer, "has the keys of tokens"),
                Some(error) => tracing::warn!(
                    issuer,
                    error,
                    "cannot get the keys of tokens; if there were some before, they stay in use"
                ),
            }
            self.trouble = trouble.cloned();
        }
        if trouble.is_none() {
            self.pause = PAUSE;
            return self.interval;
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(LONG_PAUSE.min(self.interval));
        pause
    }
}

/// The keys of an issuer, and the set that they are read from.
async fn fetch(
    issuer: &str,
    published: &Published,
    timeout: Duration,
) -> Result<(Keys, Value), String> {
    let fetched = try_fetch(issuer, published, timeout).await;
    fetched.map_err(|error| format!("{error:#}"))
}

async fn try_fetch(
    issuer: &str,
    published: &Published,
    timeout: Duration,
) -> anyhow::Result<(Keys, Value)> {
    /// OpenID Connect Discovery §3.
    #[derive(Deserialize)]
    struct Provider {
        issuer: String,
        jwks_uri: String,
    }
    let url = match published {
        Published::Here => anyhow::bail!("the keys stand in the rule"),
        Published::At(url) => url.clone(),
        Published::Discovered => {
            let base = issuer.trim_end_matches('/');
            let url = format!("{base}/.well-known/openid-configuration");
            let found: Provider = serde_json::from_value(get(&url, timeout).await?)
                .with_context(|| format!("{url} is no description of an issuer"))?;
            anyhow::ensure!(
                found.issuer == issuer,
                "{url} describes another issuer, {}",
                found.issuer
            );
            // Whoever is on the way could replace the keys of one that is asked over TLS.
            let schemes = match issuer.starts_with("https://") {
                true => &["https://"][..],
                false => &["http://", "https://"],
            };
            anyhow::ensure!(
                schemes
                    .iter()
                    .any(|scheme| found.jwks_uri.starts_with(scheme)),
                "{url} says that the keys are at {}: expected a URL of {}",
                found.jwks_uri,
                schemes.join(" or ")
            );
            found.jwks_uri
        }
    };
    let mut set = match url.strip_prefix("file://") {
        Some(path) => read_file(Path::new(path)).await?,
        None => get(&url, timeout).await?,
    };
    // What is published is no secret: nobody may check tokens with it.
    if let Some(Value::Array(keys)) = set.get_mut("keys") {
        keys.retain(|key| key.get("kty") != Some(&"oct".into()));
    }
    match Keys::read(&set) {
        Ok(keys) => Ok((keys, set)),
        Err(problem) => anyhow::bail!("{url}: {problem}"),
    }
}

async fn read_file(path: &Path) -> anyhow::Result<Value> {
    let about = || format!("cannot read {}", path.display());
    let size = tokio::fs::metadata(path).await.with_context(about)?.len();
    anyhow::ensure!(
        size <= MAX_BYTES as u64,
        "{} has more than {MAX_BYTES} bytes",
        path.display()
    );
    let text = tokio::fs::read(path).await.with_context(about)?;
    serde_json::from_slice(&text).with_context(|| format!("{} is no JSON", path.display()))
}

async fn get(url: &str, timeout: Duration) -> anyhow::Result<Value> {
    let after = url.find("://").map_or(0, |at| at + 3);
    let path = url[after..].find('/').map_or(url.len(), |at| after + at);
    let (server, path) = url.split_at(path);
    let client = Client::plain(server, &ISSUER, timeout)?.up_to(MAX_BYTES);
    let path = if path.is_empty() { "/" } else { path };
    let answer = client.text(Method::GET, path).await;
    let text = answer.map_err(|failure| match failure {
        Failure::Refused { status, .. } => anyhow::anyhow!("{url} answers {status}"),
        Failure::Timeout { after, .. } => {
            anyhow::anyhow!("no answer from {url} within {} s", after.as_secs_f32())
        }
        Failure::Unreadable { cause, .. } => anyhow::anyhow!("{url}: {cause}"),
        other => other.into(),
    })?;
    serde_json::from_str(&text).with_context(|| format!("{url} has no JSON"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Whoever reads what is published could issue tokens with it.
    #[tokio::test]
    async fn secrets_that_are_published_are_none() {
        let secret = json!({"kty": "oct", "k": "A".repeat(43)});
        let public = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
        let file = tempfile::NamedTempFile::new().unwrap();
        let published = Published::At(format!("file://{}", file.path().display()));
        let fetched = async |keys: Value| {
            std::fs::write(file.path(), json!({ "keys": keys }).to_string()).unwrap();
            fetch("me", &published, TIMEOUT).await.map(|(_, set)| set)
        };
        let set = fetched(json!([secret, public])).await.unwrap();
        assert_eq!(set, json!({"keys": [public]}));
        fetched(json!([secret])).await.unwrap_err();
    }
}
