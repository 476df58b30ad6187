use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::diagnostic::{At, Position};
use crate::view::View;

/// `v1` Secret, of which certificates and their keys are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Secret {
    /// Certificate and key, in PEM: `tls.crt` and `tls.key`, or `cert` and `key`.
    pub certificate: Option<(String, Private)>,
    /// Certificates of authorities, in PEM: `cacert`, or `ca.crt`.
    pub authorities: Option<String>,
    /// Lists of certificates that the authorities have revoked, in PEM: `ca.crl`.
    pub revoked: Option<String>,
    /// Where `data` begins.
    pub at: At,
}

/// A text that is shown to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct Private(String);

impl fmt::Debug for Private {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(private)")
    }
}

impl Private {
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }

    /// The text.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// The keys that are read; whatever else a Secret holds is for others.
const KEYS: [&str; 7] = [
    "tls.crt", "tls.key", "ca.crt", "cert", "key", "cacert", "ca.crl",
];

impl Secret {
    pub(crate) fn read(document: &View<'_>) -> Option<Self> {
        let mut texts: BTreeMap<&str, String> = BTreeMap::new();
        let data = document.loose("data");
        let plain = document.loose("stringData");
        let position = data.as_ref().or(plain.as_ref()).map(View::at);
        for name in KEYS {
            if let Some(view) = data.as_ref().and_then(|data| data.loose(name)) {
                texts.insert(name, decode(&view)?);
            }
            // As in Kubernetes, it goes before what is encoded.
            if let Some(view) = plain.as_ref().and_then(|plain| plain.loose(name)) {
                texts.insert(name, view.text()?);
            }
        }
        let mut take = |name| texts.remove(name).filter(|text| !text.trim().is_empty());
        // Istio's older names go before those of Kubernetes, as there.
        let generic = take("cert").zip(take("key"));
        let certificate = generic.or(take("tls.crt").zip(take("tls.key")));
        Some(Self {
            certificate: certificate.map(|(certificate, key)| (certificate, Private(key))),
            authorities: take("cacert").or(take("ca.crt")),
            revoked: take("ca.crl"),
            at: At(position.unwrap_or(Position { line: 1, column: 1 })),
        })
    }
}

/// Base64, over as many lines as it likes. What is wrong is not shown.
fn decode(view: &View<'_>) -> Option<String> {
    let mut encoded = view.text()?;
    encoded.retain(|character| !character.is_ascii_whitespace());
    let bytes = BASE64_STANDARD.decode(encoded).ok();
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    if text.is_none() {
        view.fail(
            "expected a text in PEM that is encoded in Base64; `stringData` takes it as it is",
        );
    }
    text
}
