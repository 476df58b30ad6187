use anyhow::{Context as _, bail};
use periplus_collect::access::{TenantsConfig, TokenConfig};
use periplus_collect::forward::EndpointConfig;
use serde_json::Value;

use super::jaeger_tls::JaegerTls;

/// Settings from one place.
#[derive(Debug, Default)]
pub(super) struct Settings {
    pub(super) flags: Vec<Flag>,
    pub(super) tls: JaegerTls,
    pub(super) tenants: Option<TenantsConfig>,
    pub(super) tokens: Option<Vec<TokenConfig>>,
    /// What is said about endpoints besides where they are.
    pub(super) endpoints: Vec<EndpointConfig>,
    /// Policies of tail sampling, as YAML.
    pub(super) tail_sampling: Option<String>,
    /// What has no effect.
    pub(super) notes: Vec<String>,
}

/// A flag of ours.
#[derive(Debug)]
pub(super) struct Flag {
    /// Without dashes.
    pub(super) name: String,
    pub(super) value: Value,
    /// Which setting of Jaeger's it comes from.
    pub(super) origin: Option<String>,
}

impl Flag {
    pub(super) fn new(name: &str, value: impl Into<Value>) -> Self {
        Self {
            name: name.to_owned(),
            value: value.into(),
            origin: None,
        }
    }
}

/// What a setting of Jaeger's means here.
#[derive(Clone, Copy, Debug)]
pub(super) enum Meaning {
    /// The same as this flag.
    Flag(&'static str),
    /// An address and a port, `HOST:PORT`, for this flag; empty turns the port off.
    Listen(&'static str),
    /// Go's form of a duration, for this flag.
    Duration(&'static str),
    /// Nothing, and nobody would miss it; why.
    Needless(&'static str),
    /// It asks for what is not done here: why, and what to do.
    Refused(&'static str),
}

impl Settings {
    pub(super) fn flag(&mut self, name: &str, value: impl Into<Value>) {
        self.flags.push(Flag::new(name, value));
    }

    pub(super) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Takes one of Jaeger's settings.
    pub(super) fn apply(
        &mut self,
        origin: &str,
        meaning: Meaning,
        value: &Value,
    ) -> anyhow::Result<()> {
        let (flag, value) = match meaning {
            Meaning::Flag(flag) => (flag, value.clone()),
            Meaning::Listen(flag) => {
                let text = value.as_str().context("expected HOST:PORT")?;
                (flag, listen(text).into())
            }
            Meaning::Duration(flag) => {
                let text = value
                    .as_str()
                    .context("expected a duration such as 72h0m0s")?;
                (flag, duration(text)?.into())
            }
            Meaning::Needless(why) => {
                tracing::debug!("{origin} has no effect: {why}");
                return Ok(());
            }
            Meaning::Refused(why) => bail!("it cannot be done: {why}"),
        };
        self.flags.push(Flag {
            origin: Some(origin.to_owned()),
            ..Flag::new(flag, value)
        });
        Ok(())
    }
}

/// What our flags take for Jaeger's `HOST:PORT`: a host that is no address is one of this machine.
fn listen(text: &str) -> String {
    match text.trim() {
        "" => "off".to_owned(),
        text => match text.strip_prefix("localhost:") {
            Some(port) => format!("127.0.0.1:{port}"),
            None => text.to_owned(),
        },
    }
}

/// Go's `72h0m0s` as seconds or milliseconds of ours.
fn duration(text: &str) -> anyhow::Result<String> {
    let wrong = || format!("'{text}' is no duration such as 72h, 1h30m or 500ms");
    let mut rest = text.trim();
    let mut ms = 0.0;
    while !rest.is_empty() && rest != "0" {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (number, unit) = rest.split_at(end.with_context(wrong)?);
        let end = unit.find(|c: char| c.is_ascii_digit());
        let (unit, after) = unit.split_at(end.unwrap_or(unit.len()));
        let factor = match unit {
            "ms" => 1.0,
            "s" => 1e3,
            "m" => 60e3,
            "h" => 3_600e3,
            _ => bail!(wrong()),
        };
        ms += number.parse::<f64>().with_context(wrong)? * factor;
        rest = after;
    }
    Ok(match ms % 1e3 == 0.0 {
        true => format!("{}s", ms / 1e3),
        false => format!("{ms}ms"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_of_go_become_ours() {
        for (text, ours) in [
            ("72h0m0s", "259200s"),
            ("1h30m", "5400s"),
            ("500ms", "500ms"),
            ("1.5s", "1500ms"),
            ("0", "0s"),
            ("0s", "0s"),
        ] {
            assert_eq!(duration(text).unwrap(), ours, "{text}");
        }
        for text in ["72", "h", "1d", "1h30"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_of_jaeger_become_ours() {
        for (text, ours) in [
            ("", "off"),
            (":9411", ":9411"),
            ("localhost:4317", "127.0.0.1:4317"),
            ("0.0.0.0:16686", "0.0.0.0:16686"),
            ("[::]:16686", "[::]:16686"),
        ] {
            assert_eq!(listen(text), ours, "{text}");
        }
    }
}
