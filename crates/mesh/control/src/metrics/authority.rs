use std::time::SystemTime;

use periplus_identity::{CertificateServer, Facts, Reason};

use super::ends::seconds;
use super::page::Page;

/// Those of the certificate authority: istiod's, and refusals by their reasons.
pub(super) fn render(page: &mut Page, server: &CertificateServer) {
    let (authority, counts) = (server.authority(), server.counts());
    let ends = |facts: &Facts| seconds(facts.not_after);
    let now = seconds(SystemTime::now());
    let roots = authority.root_facts().iter().map(ends).min();
    let chain = authority.between_facts().iter().chain([authority.facts()]);
    let chain = chain.map(ends).min();
    let serving = counts.serving().as_ref().map(ends);
    let lists = authority.revocation_lists().iter();
    let lists = lists.map(|list| seconds(list.next_update)).min();
    for (name, what, end) in [
        ("citadel_server_root_cert", "the first of the roots", roots),
        (
            "citadel_server_cert_chain",
            "the certificate that signs, or the first of those between it and a root,",
            chain,
        ),
        (
            "periplus_control_cert",
            "the control plane's own certificate on its port with TLS",
            serving,
        ),
        (
            "periplus_revocation_list",
            "the first of the authority's lists of revoked certificates, which is its next update,",
            lists,
        ),
    ] {
        let Some(end) = end else { continue };
        let name = format!("{name}_expiry_timestamp");
        let help = format!("When {what} ends, in seconds since 1970");
        page.gauge(&name, &help, end);
        let name = name.replace("timestamp", "seconds");
        let help = format!("Seconds until {what} ends");
        page.gauge(&name, &help, end.saturating_sub(now));
    }
    let refused = |reasons: &[Reason]| reasons.iter().map(|it| counts.refused(*it)).sum();
    for (name, help, value) in [
        (
            "citadel_server_csr_count",
            "Requests for certificates",
            counts.requests(),
        ),
        (
            "citadel_server_success_cert_issuance_count",
            "Certificates that were issued",
            counts.issued(),
        ),
        (
            "citadel_server_authentication_failure_count",
            "Requests for certificates of unknown senders",
            refused(&[
                Reason::NoCredentials,
                Reason::BadToken,
                Reason::NoKeys,
                Reason::ExpiredToken,
                Reason::ForeignAudience,
                Reason::ForeignCertificate,
                Reason::ExpiredCertificate,
                Reason::RevokedCertificate,
                Reason::Contradiction,
            ]),
        ),
        (
            "citadel_server_csr_parsing_err_count",
            "Requests for certificates that could not be read",
            refused(&[Reason::MalformedCsr, Reason::TooLarge]),
        ),
    ] {
        page.counter(name, help, value);
    }
    let refusals = Reason::ALL.map(|reason| (reason.name(), counts.refused(reason)));
    page.counters(
        ("periplus_certificate_refusals_total", "reason"),
        "Certificates that were refused, by reason",
        refusals,
    );
}
