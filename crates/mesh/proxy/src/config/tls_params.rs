//! `TlsParameters`: versions, cipher suites and groups, as far as rustls has them.

use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as pb;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::tls_parameters::TlsProtocol;
use rustls::crypto::aws_lc_rs::{ALL_CIPHER_SUITES, cipher_suite};
use rustls::version::{TLS12, TLS13};
use rustls::{NamedGroup, SupportedCipherSuite};

use super::check::{At, Refused, nothing_else};
use crate::tls::Parameters;

/// OpenSSL's names of the TLS 1.2 suites.
const SUITES: [(&str, SupportedCipherSuite); 6] = [
    (
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "ECDHE-RSA-AES256-GCM-SHA384",
        cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "ECDHE-RSA-AES128-GCM-SHA256",
        cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "ECDHE-RSA-CHACHA20-POLY1305",
        cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
];

/// Suites without forward secrecy or without AEAD, which Envoy can offer and rustls does not have:
/// they are left out of the list.
const LEFT_OUT: [&str; 10] = [
    "AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-SHA",
    "AES256-SHA",
    "DES-CBC3-SHA",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-RSA-AES256-SHA",
    "ECDHE-RSA-AES128-SHA256",
];

pub(super) fn compile(
    mut given: pb::TlsParameters,
    alpn: Vec<String>,
    at: &At<'_>,
) -> Result<Parameters, Refused> {
    let version = |number: &mut i32, at: &At<'_>| {
        TlsProtocol::try_from(std::mem::take(number)).map_err(|_| at.refuse("is not known"))
    };
    let at_min = at.field("tls_minimum_protocol_version");
    let min = version(&mut given.tls_minimum_protocol_version, &at_min)?;
    let at_max = at.field("tls_maximum_protocol_version");
    let max = version(&mut given.tls_maximum_protocol_version, &at_max)?;
    if let TlsProtocol::TlSv10 | TlsProtocol::TlSv11 = max {
        return Err(at_max.refuse("is not supported, TLSv1_2 and TLSv1_3 are"));
    }
    let mut versions = Vec::new();
    if max != TlsProtocol::TlSv12 {
        versions.push(&TLS13);
    }
    if min != TlsProtocol::TlSv13 {
        // A lower minimum only allows more: what is spoken is no less than 1.2.
        versions.push(&TLS12);
    }
    if versions.is_empty() {
        return Err(at_min.refuse("it is above the maximum"));
    }
    let suites = std::mem::take(&mut given.cipher_suites);
    let suites = suites_of(&suites, &at.field("cipher_suites"))?;
    let groups = std::mem::take(&mut given.ecdh_curves);
    let groups = groups_of(&groups, &at.field("ecdh_curves"))?;
    nothing_else(&given, at)?;
    Ok(Parameters {
        versions,
        suites,
        groups,
        alpn: alpn.into_iter().map(String::into_bytes).collect(),
    })
}

/// The suites of TLS 1.3, which cannot be chosen, and those that are named.
fn suites_of(names: &[String], at: &At<'_>) -> Result<Vec<SupportedCipherSuite>, Refused> {
    if names.is_empty() {
        return Ok(ALL_CIPHER_SUITES.to_vec());
    }
    let is_of_1_3 = |suite: &&SupportedCipherSuite| suite.version() == &TLS13;
    let mut suites: Vec<_> = ALL_CIPHER_SUITES
        .iter()
        .filter(is_of_1_3)
        .copied()
        .collect();
    let always = suites.len();
    for (index, group) in names.iter().enumerate() {
        // `[A|B]` are equally good; so either comes first.
        let group = group.trim_start_matches('[').trim_end_matches(']');
        for name in group.split('|') {
            match SUITES.iter().find(|(known, _)| *known == name) {
                Some((_, suite)) if suites.contains(suite) => {}
                Some((_, suite)) => suites.push(*suite),
                None if LEFT_OUT.contains(&name) => {}
                None => {
                    let reason = format!("{name:?} is not supported");
                    return Err(at.index(index).refuse(reason));
                }
            }
        }
    }
    if suites.len() == always {
        return Err(at.refuse("none of them is supported"));
    }
    Ok(suites)
}

fn groups_of(names: &[String], at: &At<'_>) -> Result<Vec<NamedGroup>, Refused> {
    let group = |(index, name): (usize, &String)| match name.as_str() {
        "X25519" => Ok(NamedGroup::X25519),
        "P-256" => Ok(NamedGroup::secp256r1),
        "P-384" => Ok(NamedGroup::secp384r1),
        "X25519MLKEM768" => Ok(NamedGroup::X25519MLKEM768),
        other => Err(at
            .index(index)
            .refuse(format!("{other:?} is not supported"))),
    };
    names.iter().enumerate().map(group).collect()
}
