//! TLS as Jaeger asks for it: port by port. Ours is one certificate for all ports but some.

use anyhow::{Context as _, bail};
use serde_json::{Map, Value};

use super::setting::Flag;
use crate::commands::serve::tls::PORTS;

/// What was asked for, by port.
#[derive(Debug, Default)]
pub(super) struct JaegerTls {
    ports: Vec<(&'static str, Files)>,
}

#[derive(Debug, PartialEq, Eq)]
struct Files {
    certificate: String,
    key: String,
    client_authorities: Option<String>,
}

impl JaegerTls {
    /// TLS on this port, with these files; `origin` says who asks.
    pub(super) fn add(
        &mut self,
        port: &'static str,
        origin: &str,
        certificate: Option<String>,
        key: Option<String>,
        client_authorities: Option<String>,
    ) -> anyhow::Result<()> {
        let (Some(certificate), Some(key)) = (certificate, key) else {
            bail!("{origin} asks for TLS, and does not name both a certificate and a key");
        };
        let files = Files {
            certificate,
            key,
            client_authorities: client_authorities.filter(|path| !path.is_empty()),
        };
        self.ports.push((port, files));
        Ok(())
    }

    /// As flags of ours.
    pub(super) fn flags(self) -> anyhow::Result<Vec<Flag>> {
        let mut ports = self.ports.iter();
        let Some((first, files)) = ports.next() else {
            return Ok(Vec::new());
        };
        if let Some((other, _)) = ports.find(|(_, others)| others != files) {
            bail!(
                "the ports {first} and {other} have different certificates, keys or authorities: \
                 all ports share them here; name them with --tls-cert, --tls-key and --tls-client-ca"
            );
        }
        let plain = PORTS
            .iter()
            .filter(|name| !self.ports.iter().any(|(port, _)| port == *name));
        let plain: Vec<Value> = plain.map(|name| Value::from(*name)).collect();
        let mut flags = vec![
            Flag::new("tls-cert", files.certificate.as_str()),
            Flag::new("tls-key", files.key.as_str()),
            Flag::new("tls-except", plain),
        ];
        if let Some(path) = &files.client_authorities {
            flags.push(Flag::new("tls-client-ca", path.as_str()));
        }
        Ok(flags)
    }
}

/// The `tls` of a server in a collector's file; returns the keys that have no effect.
pub(super) fn of_server(
    tls: &mut JaegerTls,
    port: &'static str,
    path: &str,
    value: Value,
) -> anyhow::Result<Vec<String>> {
    let Value::Object(mut keys) = value else {
        bail!("{path} is no group of keys and values");
    };
    let certificate = text(&mut keys, "cert_file");
    let key = text(&mut keys, "key_file");
    let authorities = text(&mut keys, "client_ca_file");
    (tls.add(port, path, certificate, key, authorities)).context("cannot turn TLS on")?;
    Ok(keys.keys().map(|key| format!("{path}.{key}")).collect())
}

fn text(keys: &mut Map<String, Value>, key: &str) -> Option<String> {
    match keys.remove(key)? {
        Value::String(text) if !text.is_empty() => Some(text),
        _ => None,
    }
}
