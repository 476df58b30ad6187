use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::text;
use crate::commands::client::{Client, Failure};
use crate::commands::instant;
use crate::commands::output::{Table, Tone, clean, left};

/// `/certs`: an object for each certificate that is in use.
pub(super) async fn fetch(client: &Client) -> Result<Vec<Value>, Failure> {
    let all: Value = client.get("/certs").await?;
    let contexts = all["certificates"].as_array().into_iter().flatten();
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for context in contexts {
        for (key, kind) in [("cert_chain", "Cert Chain"), ("ca_cert", "CA")] {
            for certificate in context[key].as_array().into_iter().flatten() {
                if seen.insert((kind, text(certificate, "serial_number").to_owned())) {
                    found.push(shown(certificate, kind));
                }
            }
        }
    }
    Ok(found)
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
