use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::text;
use crate::commands::client::{Client, Failure};
use crate::commands::instant;
use crate::commands::output::{Table, Tone, clean, left};

/// `/certs`: an object for each certificate that is in use.
pub(super) async fn fetch(client: &Client) -> Result<Vec<Value>, Failure> {
    Ok(distinct(&client.get("/certs").await?))
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
        "name": names.next().unwrap_or(fallback),
        "type": kind,
        "status": "ACTIVE",
        "valid": is_valid,
        "serialNumber": text(certificate, "serial_number"),
        "notAfter": after,
        "notBefore": before,
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
