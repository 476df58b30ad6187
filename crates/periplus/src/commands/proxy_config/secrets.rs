//! Secrets by their names, as the proxy has them by SDS or from its bootstrap; and the other certificates that it uses,
//! such as those of files.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use periplus_identity::Facts;
use serde_json::{Value, json};

use super::dump::Dump;
use super::text;
use crate::commands::client::{Client, Failure};
use crate::commands::instant;
use crate::commands::output::{Table, Tone, clean, left};

/// An object for each certificate: those of `/config_dump`, and those of `/certs` that are not among them.
pub(super) async fn fetch(client: &Client, dump: &Dump) -> Result<Vec<Value>, Failure> {
    let mut all = named(dump);
    let key = |one: &Value| {
        let serial = text(one, "serialNumber").trim_start_matches('0');
        let (kind, after) = (text(one, "type"), text(one, "notAfter"));
        [kind, after, serial].join(" ")
    };
    let known: BTreeSet<String> = all.iter().map(key).collect();
    let others = distinct(&client.get("/certs").await?).into_iter();
    all.extend(others.filter(|one| !known.contains(&key(one))));
    Ok(all)
}

/// The secrets of a dump: of a chain the first certificate, of authorities each.
fn named(dump: &Dump) -> Vec<Value> {
    let mut all = Vec::new();
    for (secret, is_there) in dump.secrets() {
        let content = &secret["secret"];
        let (kind, source) = match content["validation_context"].is_null() {
            true => (
                "Cert Chain",
                &content["tls_certificate"]["certificate_chain"],
            ),
            false => ("CA", &content["validation_context"]["trusted_ca"]),
        };
        let (name, pem) = (text(secret, "name"), inline(source));
        let mut facts = pem
            .and_then(|pem| Facts::of_pem(&pem).ok())
            .unwrap_or_default();
        if kind == "Cert Chain" {
            facts.truncate(1);
        }
        all.extend(facts.iter().map(|facts| of(name, kind, facts)));
        // One that is waited for, or is in a file.
        if facts.is_empty() && !is_there {
            all.push(json!({
                "name": name, "type": "", "status": "WARMING", "valid": false, "serialNumber": "",
                "notAfter": "", "notBefore": "", "identity": "",
            }));
        }
    }
    all
}

/// The text of a `DataSource`.
fn inline(source: &Value) -> Option<String> {
    match source["inline_bytes"].as_str() {
        Some(bytes) => String::from_utf8(BASE64_STANDARD.decode(bytes).ok()?).ok(),
        None => source["inline_string"].as_str().map(str::to_owned),
    }
}

fn of(name: &str, kind: &str, facts: &Facts) -> Value {
    let at = |time: SystemTime| {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        instant::rfc3339(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    };
    let now = SystemTime::now();
    json!({
        "name": name,
        "type": kind,
        "status": "ACTIVE",
        "valid": facts.not_before <= now && now < facts.not_after,
        "serialNumber": facts.serial,
        "notAfter": at(facts.not_after),
        "notBefore": at(facts.not_before),
        "identity": facts.uris.first(),
    })
}

/// Each certificate once.
fn distinct(all: &Value) -> Vec<Value> {
    let contexts = all["certificates"].as_array().into_iter().flatten();
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for context in contexts {
        for (key, kind) in [("cert_chain", "Cert Chain"), ("ca_cert", "CA")] {
            for certificate in context[key].as_array().into_iter().flatten() {
                let shown = shown(certificate, kind);
                if seen.insert((
                    kind,
                    text(&shown, "name").to_owned(),
                    fingerprint(certificate),
                )) {
                    found.push(shown);
                }
            }
        }
    }
    found
}

/// What tells a certificate from others: serial numbers are their issuers' own. An Envoy does not tell the digest of
/// one; its serial number and its time stand for it there.
fn fingerprint(certificate: &Value) -> String {
    match text(certificate, "sha256_fingerprint") {
        "" => ["serial_number", "valid_from", "expiration_time"]
            .map(|key| text(certificate, key))
            .join(" "),
        own => own.to_owned(),
    }
}

fn shown(certificate: &Value, kind: &str) -> Value {
    let names = certificate["subject_alt_names"].as_array();
    let names = names.into_iter().flatten();
    let mut names = names.filter_map(|name| name["uri"].as_str().or(name["dns"].as_str()));
    let identity = names.next();
    let fallback = match kind {
        "CA" => "ROOTCA",
        _ => "default",
    };
    let (before, after) = (
        text(certificate, "valid_from"),
        text(certificate, "expiration_time"),
    );
    let at = |text| instant::parse(text).ok();
    let now = instant::now_us() * 1_000;
    let is_valid =
        at(before).is_none_or(|before| before <= now) && at(after).is_none_or(|after| now < after);
    json!({
        "name": identity.unwrap_or(fallback),
        "type": kind,
        "status": "ACTIVE",
        "valid": is_valid,
        "serialNumber": text(certificate, "serial_number"),
        "notAfter": after,
        "notBefore": before,
        "identity": identity,
    })
}

pub(super) fn table(certificates: &[Value]) -> Table {
    let mut table = Table::new(&[
        left("RESOURCE NAME"),
        left("TYPE"),
        left("STATUS"),
        left("VALID CERT"),
        left("SERIAL NUMBER"),
        left("NOT AFTER"),
        left("NOT BEFORE"),
        left("IDENTITY"),
    ]);
    for one in certificates {
        let is_valid = one["valid"] == true;
        let tone = match is_valid {
            true => Tone::Plain,
            false => Tone::Bad,
        };
        let plain = |key: &str| (Tone::Plain, clean(text(one, key)));
        table.row(vec![
            plain("name"),
            plain("type"),
            plain("status"),
            (tone, is_valid.to_string()),
            plain("serialNumber"),
            plain("notAfter"),
            plain("notBefore"),
            plain("identity"),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_told_apart_by_name_and_fingerprint() {
        let certificate = |name: &str, serial: &str, fingerprint: &str| {
            json!({
                "serial_number": serial,
                "sha256_fingerprint": fingerprint,
                "subject_alt_names": [{"uri": name}],
                "valid_from": "2026-01-01T00:00:00Z",
                "expiration_time": "2036-01-01T00:00:00Z",
            })
        };
        let of = |own: Value| json!({"cert_chain": [own], "ca_cert": []});
        let page = json!({"certificates": [
            of(certificate("a", "01", "aa")),
            // In use twice,
            of(certificate("a", "01", "aa")),
            // of another issuer, which numbers alike,
            of(certificate("a", "01", "bb")),
            // of an Envoy, and of its next one.
            of(certificate("e", "01", "")),
            of(certificate("e", "02", "")),
            of(certificate("e", "02", "")),
        ]});
        let shown = distinct(&page);
        let names: Vec<_> = shown.iter().map(|one| text(one, "name")).collect();
        assert_eq!(names, ["a", "a", "e", "e"]);
    }
}
