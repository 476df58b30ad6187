//! `x-forwarded-client-cert`: who the client has proven to be, told to whoever serves its request.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::call::Call;
use crate::http1::name::Name;
use crate::snapshot::{CertDetails, ForwardClientCert};
use crate::tls::Secured;

/// What is done with the header of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Header {
    /// It is taken away.
    Drop,
    /// It stays as it is.
    Keep,
    /// It becomes this.
    Set(Vec<u8>),
}

impl Call {
    /// What is done with the header of this request; never more than that it is taken away when the
    /// client has shown no certificate, unless anybody is believed.
    #[inline]
    pub(crate) fn client_cert_header(&self) -> Header {
        let manager = &self.view.manager;
        match (&self.client.secured, manager.client_cert.mode) {
            (_, ForwardClientCert::AlwaysForwardOnly) => Header::Keep,
            (None, _) | (_, ForwardClientCert::Sanitize) => Header::Drop,
            (Some(secured), mode) => self.proven(secured, mode),
        }
    }

    #[cold]
    fn proven(&self, secured: &Secured, mode: ForwardClientCert) -> Header {
        if secured.peer.is_none() {
            return Header::Drop;
        }
        let element = element(secured, &self.view.manager.client_cert.details);
        match mode {
            ForwardClientCert::SanitizeSet => Header::Set(element.into_bytes()),
            ForwardClientCert::AppendForward => {
                let head = self.buffer.head();
                let mut value = Vec::new();
                for before in self.request.fields.all(Name::XForwardedClientCert, head) {
                    value.extend_from_slice(before);
                    value.push(b',');
                }
                value.extend_from_slice(element.as_bytes());
                Header::Set(value)
            }
            _ => Header::Keep,
        }
    }
}

/// What one proxy says about its client.
fn element(secured: &Secured, details: &CertDetails) -> String {
    let Some(peer) = &secured.peer else {
        return String::new();
    };
    let own = secured.own.iter().flat_map(|own| &own.uris);
    let mut parts: Vec<String> = own.map(|uri| format!("By={uri}")).collect();
    parts.push(format!("Hash={}", peer.fingerprint()));
    let pem = |certificates: &mut dyn Iterator<Item = &[u8]>| {
        certificates.fold(String::new(), |mut text, der| {
            append_pem(der, &mut text);
            text
        })
    };
    if details.cert {
        let text = pem(&mut [&*peer.der].into_iter());
        parts.push(format!("Cert=\"{text}\""));
    }
    if details.chain {
        let others = secured.peer_issuers.iter().map(|der| &**der);
        let text = pem(&mut [&*peer.der].into_iter().chain(others));
        parts.push(format!("Chain=\"{text}\""));
    }
    if details.subject {
        let subject = peer.subject.replace('\\', "\\\\").replace('"', "\\\"");
        parts.push(format!("Subject=\"{subject}\""));
    }
    if details.uri {
        // The key is there even if no URI is.
        parts.extend(peer.uris.iter().map(|uri| format!("URI={uri}")));
        if peer.uris.is_empty() {
            parts.push("URI=".to_owned());
        }
    }
    if details.dns {
        parts.extend(peer.dns_names.iter().map(|name| format!("DNS={name}")));
    }
    parts.join(";")
}

/// PEM as it stands in a URL.
pub(crate) fn pem_in_url(der: &[u8]) -> String {
    let mut text = String::new();
    append_pem(der, &mut text);
    text
}

fn append_pem(der: &[u8], into: &mut String) {
    into.push_str("-----BEGIN%20CERTIFICATE-----%0A");
    let text = BASE64_STANDARD.encode(der);
    for (at, c) in text.chars().enumerate() {
        if at > 0 && at % 64 == 0 {
            into.push_str("%0A");
        }
        match c {
            '+' => into.push_str("%2B"),
            '/' => into.push_str("%2F"),
            '=' => into.push_str("%3D"),
            c => into.push(c),
        }
    }
    into.push_str("%0A-----END%20CERTIFICATE-----%0A");
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::tls::Certificate;

    fn certificate(name: &str, sans: Vec<rcgen::SanType>) -> Certificate {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        params.subject_alt_names = sans;
        let key = rcgen::KeyPair::generate().expect("a key");
        let made = params.self_signed(&key).expect("a certificate");
        Certificate::read(made.der()).expect("a certificate")
    }

    fn uri(text: &str) -> rcgen::SanType {
        rcgen::SanType::URI(text.try_into().expect("a URI"))
    }

    #[test]
    fn an_element_has_what_is_asked_for_in_envoys_order() {
        let dns = rcgen::SanType::DnsName("a.example".try_into().expect("a name"));
        let peer = certificate("a \"b\"", vec![uri("spiffe://x/peer"), dns]);
        let hash = peer.fingerprint();
        let secured = Secured {
            peer: Some(peer),
            peer_issuers: vec![vec![0xfb, 0xff, 1, 2].into()],
            own: Some(Arc::new(certificate("own", vec![uri("spiffe://x/own")]))),
            server_name: None,
            agreed: None,
        };
        let few = CertDetails {
            subject: true,
            uri: true,
            ..CertDetails::default()
        };
        assert_eq!(
            element(&secured, &few),
            format!(
                "By=spiffe://x/own;Hash={hash};Subject=\"CN=a \\\\\\\"b\\\\\\\"\";URI=spiffe://x/peer"
            )
        );
        let all = CertDetails {
            subject: true,
            cert: true,
            chain: true,
            dns: true,
            uri: true,
        };
        let text = element(&secured, &all);
        let keys: Vec<_> = text
            .split(';')
            .filter_map(|part| Some(part.split_once('=')?.0))
            .collect();
        assert_eq!(
            keys,
            ["By", "Hash", "Cert", "Chain", "Subject", "URI", "DNS"]
        );
        assert!(
            text.contains("-----BEGIN%20CERTIFICATE-----%0A%2B%2F8BAg%3D%3D%0A-----END"),
            "{text}"
        );
        let nobody = Secured {
            peer: Some(certificate("n", Vec::new())),
            peer_issuers: Vec::new(),
            own: None,
            server_name: None,
            agreed: None,
        };
        let text = element(&nobody, &few);
        assert!(
            text.starts_with("Hash=") && text.ends_with(";Subject=\"CN=n\";URI="),
            "{text}"
        );
    }
}
