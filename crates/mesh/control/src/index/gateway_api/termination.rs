//! Where TLS ends at listeners: their certificates, and those of the authorities of their clients.

use periplus_identity::check_authorities;
use periplus_resources::gateway_api::{FrontendValidation, ObjectRef};
use periplus_resources::{
    Authorities as Trusted, ClientCheck, ConfigMap, Credential, Meta, SecretRef, Strictness,
    Termination,
};

use super::backends::Lookup;
use super::status::Flaw;
use crate::index::Entry;

/// Where certificates of authorities are.
pub(super) type Authorities<'a> = &'a [Entry<ConfigMap>];

/// How TLS ends at a listener, and what is wrong with that.
pub(super) struct Ends {
    pub(super) termination: Termination,
    pub(super) unaccepted: Option<Flaw>,
    pub(super) unresolved: Option<Flaw>,
}

/// What a listener's references come to. Those that lead nowhere are left out; without any certificate nobody is let
/// in, and neither is anybody where clients are to be asked for certificates that none can have.
pub(super) fn terminate(
    certificates: &[ObjectRef],
    frontend: Option<&FrontendValidation>,
    gateway: &Meta,
    (lookup, maps): (Lookup<'_>, Authorities<'_>),
) -> Ends {
    let mut unresolved = None;
    let mut note = |flaw: Flaw| {
        unresolved.get_or_insert(flaw);
    };
    let found = certificates.iter().filter_map(|object| {
        let found = certificate(object, gateway, lookup);
        found.map_err(&mut note).ok()
    });
    let mut termination = Termination::with(found.collect());
    let mut unaccepted = None;
    if let Some(frontend) = frontend {
        let found = frontend.authorities.iter().filter_map(|object| {
            let found = authority(object, gateway, lookup, maps);
            found.map_err(&mut note).ok()
        });
        let pem: String = found.collect();
        if pem.is_empty() {
            let message = "no client can have a certificate: there is none of an authority";
            let flaw = Flaw::new("NoValidCACertificate", frontend.at.0, message.to_owned());
            unaccepted = Some(flaw);
            termination = Termination::with(Vec::new());
        }
        termination.clients = Some(ClientCheck {
            strictness: match frontend.is_insecure {
                true => Strictness::Ignored,
                false => Strictness::Required,
            },
            authorities: Trusted::Pem(pem),
            revoked: None,
            names: Vec::new(),
            keys: Vec::new(),
            hashes: Vec::new(),
        });
    }
    Ends {
        termination,
        unaccepted,
        unresolved,
    }
}

/// A certificate that a Gateway may refer to.
fn certificate(object: &ObjectRef, gateway: &Meta, lookup: Lookup<'_>) -> Result<Credential, Flaw> {
    let flaw = |reason, message| Err(Flaw::new(reason, object.at.0, message));
    if !object.group.is_empty() || object.kind != "Secret" {
        let message = format!(
            "`{}` of group `{}` holds no certificates: expected a Secret of group `\"\"`",
            object.kind, object.group
        );
        return flaw("InvalidCertificateRef", message);
    }
    permitted(object, gateway, lookup)?;
    let secrets = lookup.index.secrets();
    if let Err(message) = secrets.certificate(&object.namespace, &object.name) {
        return flaw("InvalidCertificateRef", message);
    }
    Ok(Credential::Secret(SecretRef {
        namespace: Some(object.namespace.clone()),
        name: object.name.clone(),
        at: object.at,
    }))
}

/// Certificates of authorities that a Gateway may refer to.
fn authority(
    object: &ObjectRef,
    gateway: &Meta,
    lookup: Lookup<'_>,
    maps: Authorities<'_>,
) -> Result<String, Flaw> {
    let flaw = |reason, message| Err(Flaw::new(reason, object.at.0, message));
    if !object.group.is_empty() || object.kind != "ConfigMap" {
        let message = format!(
            "`{}` of group `{}` holds no certificates of authorities: expected a ConfigMap of group `\"\"`",
            object.kind, object.group
        );
        return flaw("InvalidCACertificateKind", message);
    }
    permitted(object, gateway, lookup)?;
    let pem = ca_of(maps, &object.namespace, &object.name);
    pem.or_else(|message| flaw("InvalidCACertificateRef", message))
}

/// The certificates in a ConfigMap.
///
/// # Errors
///
/// Why there are none.
pub(super) fn ca_of(maps: Authorities<'_>, namespace: &str, name: &str) -> Result<String, String> {
    let mut named = maps.iter();
    let map = named.find(|map| map.meta.namespace == namespace && map.meta.name == name);
    let pem = map.and_then(|map| map.spec.authorities.as_deref());
    let Some(pem) = pem else {
        return Err(format!(
            "there is no ConfigMap {namespace}/{name} with certificates in its key `ca.crt`"
        ));
    };
    match check_authorities(pem) {
        Ok(_) => Ok(format!("{}\n", pem.trim())),
        Err(error) => Err(format!("`ca.crt` of ConfigMap {namespace}/{name}: {error}")),
    }
}

fn permitted(object: &ObjectRef, gateway: &Meta, lookup: Lookup<'_>) -> Result<(), Flaw> {
    if lookup.permits(gateway, object) {
        return Ok(());
    }
    let message = format!(
        "no ReferenceGrant in namespace {} lets a {} of {} refer to {} {}",
        object.namespace, gateway.kind, gateway.namespace, object.kind, object.name
    );
    Err(Flaw::new("RefNotPermitted", object.at.0, message))
}
