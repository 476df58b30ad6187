//! What is in Secrets and ends: told before it does.

use std::time::{Duration, SystemTime};

use periplus_identity::is_nearly_over;

use crate::index::{Index, Problem, attribute, code};

/// How long something holds still, for people: `12 days`.
pub fn time_left(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        172_800.. => format!("{} days", seconds / 86_400),
        7_200.. => format!("{} hours", seconds / 3_600),
        _ => format!("{seconds} seconds"),
    }
}

/// A problem for each part of a Secret that has ended, or of whose time less than a fifth is left.
pub(crate) fn problems(index: &Index, now: SystemTime) -> Vec<Problem> {
    let parts = index.secrets().parts();
    let ending = parts.filter(|(_, _, part)| is_nearly_over(part.from, part.until, now));
    let mut problems: Vec<Problem> = ending
        .map(|(meta, position, part)| {
            let what = format!("{meta}: {} (`{}`)", part.what, part.key);
            let problem = match part.until.duration_since(now) {
                Ok(time) if !time.is_zero() => {
                    let message = format!("{what} ends in {}: replace it", time_left(time));
                    Problem::warning(&meta.source, position, message)
                }
                _ => {
                    let message =
                        format!("{what} has ended: nobody believes it any more, replace it");
                    Problem::error(&meta.source, position, message)
                }
            };
            problem.code(code::SECRET_ENDS)
        })
        .collect();
    attribute(
        &mut problems,
        index.secrets().parts().map(|(meta, ..)| meta),
    );
    problems
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use periplus_resources::{MeshConfig, parse_resources};
    use rcgen::{
        BasicConstraints, CertificateParams, CertificateRevocationListParams, IsCa, Issuer,
        KeyIdMethod, KeyPair, KeyUsagePurpose, SerialNumber, date_time_ymd,
    };

    use super::*;
    use crate::index::Severity;

    const DAY: Duration = Duration::from_secs(86_400);

    /// A Secret whose certificate holds for the year 2026, its authority for ten, and its list for January.
    fn secret() -> String {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(["a.test".to_owned()]).expect("a name");
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2027, 1, 1);
        let own = params.self_signed(&key).expect("a certificate").pem();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_after = date_time_ymd(2036, 1, 1);
        let authority = params.self_signed(&key).expect("a certificate").pem();
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(2026, 2, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let pem = key.serialize_pem();
        let issuer = Issuer::new(params, key);
        let list = list.signed_by(&issuer).expect("a list").pem().expect("PEM");
        let indented = |pem: &str| pem.trim().replace('\n', "\n    ");
        format!(
            "apiVersion: v1
kind: Secret
metadata: {{name: edge}}
stringData:
  tls.crt: |
    {}
  tls.key: |
    {}
  ca.crt: |
    {}
  ca.crl: |
    {}
",
            indented(&own),
            indented(&pem),
            indented(&authority),
            indented(&list)
        )
    }

    #[test]
    fn what_ends_is_told_before_it_does() {
        let parsed = parse_resources("edge.yaml", &secret());
        assert!(parsed.errors.is_empty(), "{:?}", parsed.errors);
        let index = Index::new(&parsed.resources, MeshConfig::default());
        // 2026-01-01.
        let begin = UNIX_EPOCH + DAY * 20_454;
        for (day, expected) in [
            (1, &[][..]),
            (24, &[]),
            (26, &[(Severity::Warning, "`ca.crl`) ends in 5 days")]),
            (31, &[(Severity::Error, "`ca.crl`) has ended")]),
            (
                300,
                &[
                    (Severity::Warning, "`tls.crt`) ends in 65 days"),
                    (Severity::Error, "`ca.crl`) has ended"),
                ],
            ),
            (
                4_000,
                &[
                    (Severity::Error, "`tls.crt`) has ended"),
                    (Severity::Error, "`ca.crt`) has ended"),
                    (Severity::Error, "`ca.crl`) has ended"),
                ],
            ),
        ] {
            let found = problems(&index, begin + DAY * day);
            assert_eq!(found.len(), expected.len(), "{day}: {found:#?}");
            for (problem, (severity, part)) in found.iter().zip(expected) {
                let said = problem.to_string();
                assert_eq!(problem.severity, *severity, "{said}");
                assert!(
                    said.contains(part) && said.contains("Secret default/edge"),
                    "{said}"
                );
                assert_eq!(problem.code.id, "PER0108");
            }
        }
    }
}
