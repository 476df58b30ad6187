//! Conditions on the subject alternative names of a peer.

use crate::snapshot::ValueMatch;
use crate::tls::Certificate;

/// The kind of a subject alternative name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SanKind {
    /// A DNS name.
    Dns,
    /// A URI, such as a SPIFFE id.
    Uri,
    /// Either: the older field `match_subject_alt_names` does not say.
    Any,
}

/// `SubjectAltNameMatcher`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SanMatch {
    pub(crate) kind: SanKind,
    pub(crate) value: ValueMatch,
}

impl SanMatch {
    /// Whether one of the certificate's names is asked for.
    pub(crate) fn holds(&self, certificate: &Certificate) -> bool {
        let dns = || certificate.dns_names.iter().any(|name| self.is_dns(name));
        let uri = || certificate.uris.iter().any(|uri| self.is(uri));
        match self.kind {
            SanKind::Dns => dns(),
            SanKind::Uri => uri(),
            SanKind::Any => dns() || uri(),
        }
    }

    /// DNS names are compared as such: without case, and `*.` of the certificate stands for one label.
    fn is_dns(&self, name: &str) -> bool {
        let ValueMatch::Exact(wanted) = &self.value else {
            return self.is(name);
        };
        let rest = wanted.find('.').map(|dot| &wanted[dot..]);
        let by_wildcard = name
            .strip_prefix('*')
            .is_some_and(|suffix| rest.is_some_and(|rest| rest.eq_ignore_ascii_case(suffix)));
        by_wildcard || wanted.eq_ignore_ascii_case(name)
    }

    fn is(&self, name: &str) -> bool {
        self.value.matches(name.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Pattern;

    #[test]
    fn names_are_matched_by_kind() {
        let mut params =
            rcgen::CertificateParams::new(vec!["a.example".to_owned(), "*.b.example".to_owned()])
                .expect("names");
        let id = "spiffe://cluster.local/ns/default/sa/reviews";
        let uri = rcgen::string::Ia5String::try_from(id).expect("a URI");
        params.subject_alt_names.push(rcgen::SanType::URI(uri));
        let key = rcgen::KeyPair::generate().expect("a key");
        let made = params.self_signed(&key).expect("a certificate");
        let certificate = Certificate::read(made.der()).expect("a certificate");
        let text = str::to_owned;
        let trust_domain = ValueMatch::Prefix(text("spiffe://cluster.local/"));
        for (kind, value, expected) in [
            (SanKind::Uri, ValueMatch::Exact(text(id)), true),
            (SanKind::Dns, ValueMatch::Exact(text(id)), false),
            (SanKind::Any, ValueMatch::Exact(text(id)), true),
            (
                SanKind::Uri,
                ValueMatch::Exact(text(&id.to_uppercase())),
                false,
            ),
            (SanKind::Uri, trust_domain, true),
            (
                SanKind::Uri,
                ValueMatch::Prefix(text("spiffe://cluster.loca1/")),
                false,
            ),
            (SanKind::Uri, ValueMatch::Suffix(text("/sa/reviews")), true),
            (
                SanKind::Uri,
                ValueMatch::Contains(text("/ns/default/")),
                true,
            ),
            (
                SanKind::Uri,
                ValueMatch::Regex(Pattern::new("spiffe://.*/reviews").expect("valid")),
                true,
            ),
            (
                SanKind::Uri,
                ValueMatch::Regex(Pattern::new("spiffe://.*/review").expect("valid")),
                false,
            ),
            (SanKind::Dns, ValueMatch::Exact(text("A.example")), true),
            (SanKind::Dns, ValueMatch::Exact(text("x.b.example")), true),
            (
                SanKind::Dns,
                ValueMatch::Exact(text("x.y.b.example")),
                false,
            ),
            (SanKind::Dns, ValueMatch::Exact(text("b.example")), false),
            (SanKind::Uri, ValueMatch::Exact(text("a.example")), false),
        ] {
            let san = SanMatch { kind, value };
            assert_eq!(san.holds(&certificate), expected, "{san:?}");
        }
    }
}
