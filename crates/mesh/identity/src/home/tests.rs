use super::*;
use std::fs;

use rcgen::{
    CertificateRevocationListParams, Issuer, KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber,
};

use super::files::{MAX_FILE_BYTES, ROOTS, TLS_KEY, TLS_ROOTS};
use super::rotation::TEN_YEARS;

const LEAVES: Duration = Duration::from_secs(100);

fn rotation() -> Rotation {
    Rotation::new(Duration::from_secs(5000), LEAVES)
}

#[test]
fn a_root_is_made_once() {
    let directory = tempfile::tempdir().unwrap();
    let inner = directory.path().join("ca");
    let open = || Home::own(&inner, "cluster.local", rotation()).unwrap();
    let serial = |home: &Home| home.authority().borrow().facts().serial.clone();
    assert_eq!(serial(&open()), serial(&open()));
    private::read_secret(&inner.join(KEY), MAX_FILE_BYTES).expect("for us alone");
    fs::remove_file(inner.join(ROOTS)).unwrap();
    let error = Home::own(&inner, "cluster.local", rotation()).unwrap_err();
    assert!(
        error.to_string().contains("has no root-cert.pem"),
        "{error}"
    );
}

#[test]
fn what_is_plugged_in_is_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let make = || Material::self_signed("cluster.local", TEN_YEARS, SystemTime::now()).unwrap();
    let (one, two) = (make(), make());
    write(directory.path(), &one).unwrap();
    let mut home = Home::plugged_in(directory.path(), "cluster.local").unwrap();
    let serial = |home: &Home| home.authority().borrow().facts().serial.clone();
    let first = serial(&home);
    private::write(&directory.path().join(CERTIFICATE), &two.certificate).unwrap();
    home.look(SystemTime::now());
    assert_eq!(serial(&home), first, "a certificate without its key");
    assert!(
        home.trouble
            .as_ref()
            .unwrap()
            .contains("it is not the key of ca-cert.pem")
    );
    write(directory.path(), &two).unwrap();
    home.look(SystemTime::now());
    assert_ne!(serial(&home), first);
    assert_eq!(home.trouble, None);
    let now = SystemTime::now();
    for (at, warned) in [
        (now, None),
        (now + TEN_YEARS / 2, None),
        (now + TEN_YEARS * 9 / 10, Some(now + TEN_YEARS * 9 / 10)),
        (
            now + TEN_YEARS * 9 / 10 + LEAVES,
            Some(now + TEN_YEARS * 9 / 10),
        ),
    ] {
        home.look(at);
        assert_eq!(home.warned.values().max().copied(), warned);
    }
}

/// A list of an authority with these serial numbers.
fn revocation_list(material: &Material, serials: &[u64]) -> String {
    let key = KeyPair::from_pem(&material.key).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&material.certificate, key).unwrap();
    let now = time::OffsetDateTime::now_utc();
    let revoked = |serial: &u64| RevokedCertParams {
        serial_number: SerialNumber::from(*serial),
        revocation_time: now,
        reason_code: None,
        invalidity_date: None,
    };
    let params = CertificateRevocationListParams {
        this_update: now - Duration::from_secs(60),
        next_update: now + Duration::from_secs(3600),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: serials.iter().map(revoked).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(&issuer).unwrap().pem().unwrap()
}

/// Each at the times at which something is to be said of it.
#[test]
fn lists_that_nobody_replaces_are_warned_of_before_they_end() {
    let directory = tempfile::tempdir().unwrap();
    let began = SystemTime::now();
    let made = Material::self_signed("cluster.local", TEN_YEARS, began).unwrap();
    write(directory.path(), &made).unwrap();
    let list = revocation_list(&made, &[]);
    private::write(&directory.path().join(REVOKED), &list).unwrap();
    let mut home = Home::plugged_in(directory.path(), "cluster.local").unwrap();
    let minutes = |n: u64| began + Duration::from_secs(n * 60);
    let mut said = |at: u64| {
        home.look(minutes(at));
        let said = home
            .warned
            .iter()
            .map(|(what, at)| (what.starts_with("true"), *at));
        said.collect::<Vec<_>>()
    };
    assert_eq!(said(0), []);
    assert_eq!(said(47), []);
    assert_eq!(said(50), [(false, minutes(50))]);
    assert_eq!(said(59), [(false, minutes(50))], "once a day");
    assert_eq!(said(61), [(true, minutes(61))]);
    assert_eq!(said(90), [(true, minutes(61))]);
    assert_eq!(said(24 * 60 + 62), [(true, minutes(24 * 60 + 62))]);
}

#[test]
fn a_root_that_replaces_itself_has_no_lists() {
    let directory = tempfile::tempdir().unwrap();
    Home::own(directory.path(), "cluster.local", rotation()).unwrap();
    private::write(&directory.path().join(REVOKED), "").unwrap();
    let error = Home::own(directory.path(), "cluster.local", rotation()).unwrap_err();
    assert!(error.to_string().contains("replaces itself"), "{error}");
}

#[test]
fn the_names_of_what_is_plugged_in() {
    let made = Material::self_signed("cluster.local", TEN_YEARS, SystemTime::now()).unwrap();
    let other = Material::self_signed("cluster.local", TEN_YEARS, SystemTime::now()).unwrap();
    let pem = [
        (CERTIFICATE, &made.certificate),
        (KEY, &made.key),
        (ROOTS, &made.roots),
    ];
    let tls = [
        (TLS_CERTIFICATE, &made.certificate),
        (TLS_KEY, &made.key),
        (TLS_ROOTS, &made.roots),
    ];
    let empty = (REVOKED, &made.roots);
    let list = revocation_list(&made, &[]);
    let revoked = (REVOKED, &list);
    let strange = revocation_list(&other, &[]);
    let strange = (REVOKED, &strange);
    let foreign = (TLS_KEY, &other.key);
    for (files, refused) in [
        (pem.to_vec(), None),
        (tls.to_vec(), None),
        ([&pem[..], &[revoked]].concat(), None),
        ([&tls[..], &[revoked]].concat(), None),
        (
            [&pem[..], &[empty]].concat(),
            Some("ca-crl.pem: it has no list of revoked certificates"),
        ),
        (
            [&tls[..], &[strange]].concat(),
            Some("with ca-crl.pem nobody would be believed"),
        ),
        ([&pem[..], &tls[..1]].concat(), Some("remove one of them")),
        (tls[..2].to_vec(), Some("has no ca.crt")),
        (tls[..1].to_vec(), Some("has no tls.key")),
        (Vec::new(), Some("has no ca-cert.pem: it must have")),
        (
            [&tls[..], &[foreign]].concat(),
            Some("its tls.key ca-key.pem"),
        ),
    ] {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in &files {
            private::write(&directory.path().join(name), text).unwrap();
        }
        let names: Vec<_> = files.iter().map(|(name, _)| *name).collect();
        let opened = Home::plugged_in(directory.path(), "cluster.local");
        match (opened, refused) {
            (Ok(_), None) => {}
            (Err(error), Some(expected)) => {
                let error = crate::with_causes(&error);
                assert!(error.contains(expected), "{names:?}: {error}");
            }
            (opened, _) => panic!("{names:?}: {opened:?}"),
        }
    }
}
