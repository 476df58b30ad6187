use crate::client_tls::Authorities;
use crate::diagnostic::At;
use crate::view::{Object, Shape, View};

/// What a gateway's server does with TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerTls {
    /// `PASSTHROUGH`: connections are routed by the name that their TLS asks for, which stays theirs.
    Passthrough,
    /// It ends here.
    Terminate(Box<Termination>),
}

/// How TLS ends at a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Termination {
    /// What it shows to clients.
    pub identity: ServerIdentity,
    /// What is asked of clients; nothing if they need no certificates.
    pub clients: Option<ClientCheck>,
    /// The oldest and the newest version that is spoken; the proxy's own if nothing is said.
    pub versions: (Option<TlsVersion>, Option<TlsVersion>),
    /// The suites of TLS 1.2, under OpenSSL's names; none are the proxy's own.
    pub cipher_suites: Vec<String>,
}

/// What a server shows to clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerIdentity {
    /// `ISTIO_MUTUAL`: the certificate that the mesh has given to the gateway.
    Mesh,
    /// Certificates of its own; without any, nobody is let in.
    Own(Vec<Credential>),
}

/// A certificate with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A Secret.
    Secret(SecretRef),
    /// Files of the proxy's machine: the certificate and its key.
    Files(String, String),
}

/// The name of a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretRef {
    /// Its namespace; `None` is that of whichever proxy asks for it.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Where it is referred to.
    pub at: At,
}

/// What is asked of clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCheck {
    /// How strictly.
    pub strictness: Strictness,
    /// Whom certificates must come from.
    pub authorities: Authorities,
    /// A file of the proxy's machine with lists of those that are revoked. A Secret with the authorities has its own.
    pub revoked: Option<String>,
    /// Names, one of which a certificate must have; none are all.
    pub names: Vec<String>,
    /// SHA-256 of keys that are taken, in Base64.
    pub keys: Vec<String>,
    /// SHA-256 of certificates that are taken, in hexadecimal digits.
    pub hashes: Vec<String>,
}

/// How strictly clients are asked for certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    /// Each must have a good one.
    Required,
    /// Who has one must have a good one.
    Optional,
    /// It is only looked at: good, bad or none.
    Ignored,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each variant is named for its number")]
pub enum TlsVersion {
    V1_0,
    V1_1,
    V1_2,
    V1_3,
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Passthrough,
    AutoPassthrough,
    Simple,
    Mutual,
    OptionalMutual,
    Mesh,
}

const TLS: Shape = Shape {
    known: &[
        "mode",
        "httpsRedirect",
        "credentialName",
        "credentialNames",
        "caCertCredentialName",
        "serverCertificate",
        "privateKey",
        "caCertificates",
        "tlsCertificates",
        "caCrl",
        "subjectAltNames",
        "verifyCertificateSpki",
        "verifyCertificateHash",
        "minProtocolVersion",
        "maxProtocolVersion",
        "cipherSuites",
    ],
    refused: &[],
};

const OF_CLIENTS: [&str; 6] = [
    "caCrl",
    "caCertificates",
    "caCertCredentialName",
    "subjectAltNames",
    "verifyCertificateSpki",
    "verifyCertificateHash",
];

/// The suites that there are in TLS 1.2, of Envoy and so of Istio. Those without forward secrecy or with other modes
/// than GCM are left out by proxies that do not have them.
const SUITES: [&str; 16] = [
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES256-SHA",
    "AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-SHA",
    "AES256-SHA",
    "DES-CBC3-SHA",
    "ECDHE-RSA-AES128-SHA256",
];
/// How many of them every proxy has.
const EVERYWHERE: usize = 6;

impl ServerTls {
    /// Reads `tls`, and whether it only sends clients of plain HTTP to HTTPS.
    pub(crate) fn read(view: &View<'_>) -> Option<(Option<Self>, bool)> {
        let object = view.object(&TLS)?;
        let redirects = object.optional("httpsRedirect", View::bool)?;
        let redirects = redirects.unwrap_or(false);
        let others = object.present(&TLS.known[2..]);
        if object.get("mode").is_none() && others.is_empty() {
            if object.get("httpsRedirect").is_none() {
                object.require("mode")?;
            }
            return Some((None, redirects));
        }
        let modes = [
            ("PASSTHROUGH", Mode::Passthrough),
            ("AUTO_PASSTHROUGH", Mode::AutoPassthrough),
            ("SIMPLE", Mode::Simple),
            ("MUTUAL", Mode::Mutual),
            ("OPTIONAL_MUTUAL", Mode::OptionalMutual),
            ("ISTIO_MUTUAL", Mode::Mesh),
        ];
        let at_mode = object.require("mode")?;
        let mode = at_mode.choice(&modes)?;
        let senseless = match mode {
            Mode::Passthrough => &TLS.known[2..],
            Mode::Simple => &OF_CLIENTS[..],
            Mode::Mesh => &TLS.known[2..10],
            Mode::AutoPassthrough => {
                at_mode.fail(
                    "`AUTO_PASSTHROUGH` is not supported: there are no gateways between networks; use \
                     `PASSTHROUGH` with rules for each name",
                );
                return None;
            }
            Mode::Mutual | Mode::OptionalMutual => &[],
        };
        for name in object.present(senseless) {
            object.fail(format!("`{name}` has no effect in this `mode`, remove it"));
        }
        if mode == Mode::Passthrough {
            return Some((Some(Self::Passthrough), redirects));
        }
        let termination = Termination::read(&object, mode)?;
        Some((Some(Self::Terminate(Box::new(termination))), redirects))
    }
}

impl Termination {
    /// As nothing else is said, with these certificates.
    pub fn with(certificates: Vec<Credential>) -> Self {
        Self {
            identity: ServerIdentity::Own(certificates),
            clients: None,
            versions: (None, None),
            cipher_suites: Vec::new(),
        }
    }

    fn read(object: &Object<'_>, mode: Mode) -> Option<Self> {
        let identity = match mode {
            Mode::Mesh => ServerIdentity::Mesh,
            _ => ServerIdentity::Own(read_credentials(object)?),
        };
        let clients = match mode {
            Mode::Mutual => Some(read_clients(object, Strictness::Required)?),
            Mode::OptionalMutual => Some(read_clients(object, Strictness::Optional)?),
            _ => None,
        };
        Some(Self {
            identity,
            clients,
            versions: read_versions(object)?,
            cipher_suites: read_suites(object)?,
        })
    }
}

impl SecretRef {
    /// The name of a Secret in the namespace of whichever proxy asks for it.
    pub(crate) fn read(view: &View<'_>) -> Option<Self> {
        let name = view.some_text()?;
        if name.contains(['/', ':']) {
            view.fail(format!(
                "`{name}` is no name of a Secret: write the name alone, it is looked for in the proxy's namespace"
            ));
            return None;
        }
        Some(Self {
            namespace: None,
            name,
            at: At(view.at()),
        })
    }
}

/// The one of the ways to say what a server shows.
fn read_credentials(object: &Object<'_>) -> Option<Vec<Credential>> {
    const WAYS: [&str; 4] = [
        "credentialName",
        "credentialNames",
        "serverCertificate",
        "tlsCertificates",
    ];
    const PAIR: Shape = Shape {
        known: &["serverCertificate", "privateKey"],
        refused: &[(
            "caCertificates",
            "the clients of all certificates have the same authorities: name them beside `tlsCertificates`",
        )],
    };
    let secret = |view: &View<'_>| SecretRef::read(view).map(Credential::Secret);
    let pair = |object: &Object<'_>| {
        let certificate = object.require("serverCertificate");
        let (certificate, key) = certificate.zip(object.require("privateKey"))?;
        Some(Credential::Files(
            certificate.some_text()?,
            key.some_text()?,
        ))
    };
    if object.get("privateKey").is_some() && object.get("serverCertificate").is_none() {
        object.require("serverCertificate")?;
    }
    match object.present(&WAYS).as_slice() {
        ["credentialName"] => Some(vec![secret(object.get("credentialName")?)?]),
        ["credentialNames"] => some(object, "credentialNames")?
            .iter()
            .map(secret)
            .collect(),
        ["serverCertificate"] => Some(vec![pair(object)?]),
        ["tlsCertificates"] => {
            let items = some(object, "tlsCertificates")?;
            let pair = |view: &View<'_>| pair(&view.object(&PAIR)?);
            items.iter().map(pair).collect()
        }
        [] => {
            object.fail(
                "this `mode` needs a certificate: `credentialName` names a Secret, `serverCertificate` and \
                 `privateKey` are files of the gateway's machine",
            );
            None
        }
        several => {
            object.fail(format!("expected one of {}", quoted(several)));
            None
        }
    }
}

fn read_clients(object: &Object<'_>, strictness: Strictness) -> Option<ClientCheck> {
    let from_secret = object
        .get("caCertCredentialName")
        .or(object.get("credentialName"));
    let authorities = match (object.get("caCertificates"), from_secret) {
        (Some(file), None) => Authorities::File(file.some_text()?),
        (None, Some(secret)) => Authorities::Secret(SecretRef::read(secret)?),
        (Some(file), Some(_)) => {
            file.fail("the Secret holds certificates of authorities too: remove one of the two");
            return None;
        }
        (None, None) => {
            object.fail(
                "this `mode` needs the authorities of clients: `caCertCredentialName` names a Secret, \
                 `caCertificates` is a file of the gateway's machine",
            );
            return None;
        }
    };
    let texts = |name: &str| -> Option<Vec<String>> {
        let items = object.items(name);
        items.iter().map(View::some_ascii).collect()
    };
    Some(ClientCheck {
        strictness,
        authorities,
        revoked: object.optional("caCrl", View::some_text)?,
        names: texts("subjectAltNames")?,
        keys: texts("verifyCertificateSpki")?,
        hashes: texts("verifyCertificateHash")?,
    })
}

fn read_versions(object: &Object<'_>) -> Option<(Option<TlsVersion>, Option<TlsVersion>)> {
    let versions = [
        ("TLS_AUTO", None),
        ("TLSV1_0", Some(TlsVersion::V1_0)),
        ("TLSV1_1", Some(TlsVersion::V1_1)),
        ("TLSV1_2", Some(TlsVersion::V1_2)),
        ("TLSV1_3", Some(TlsVersion::V1_3)),
    ];
    let version = |name: &str| object.optional(name, |view| view.choice(&versions));
    let least = version("minProtocolVersion")?.flatten();
    let most = version("maxProtocolVersion")?.flatten();
    let at_most = object.get("maxProtocolVersion");
    if let (Some(view), Some(most)) = (at_most, most) {
        if most < TlsVersion::V1_2 {
            view.fail("versions before 1.2 are not spoken: expected `TLSV1_2` or `TLSV1_3`");
            return None;
        }
        if least.is_some_and(|least| least > most) {
            view.fail("it is older than `minProtocolVersion`");
            return None;
        }
    }
    Some((least, most))
}

fn read_suites(object: &Object<'_>) -> Option<Vec<String>> {
    let choices = SUITES.map(|name| (name, name));
    let items = object.items("cipherSuites");
    let names = items.iter().map(|view| view.choice(&choices));
    let names: Vec<_> = names.collect::<Option<_>>()?;
    if let (Some(view), false) = (object.get("cipherSuites"), names.is_empty())
        && !names.iter().any(|name| SUITES[..EVERYWHERE].contains(name))
    {
        view.fail(format!(
            "none of these is safe enough to be spoken: expected one of {} among them",
            quoted(&SUITES[..EVERYWHERE])
        ));
        return None;
    }
    Some(names.into_iter().map(str::to_owned).collect())
}

/// A list that has something.
fn some<'a>(object: &Object<'a>, name: &str) -> Option<Vec<View<'a>>> {
    let items = object.items(name);
    if items.is_empty() {
        object.fail(format!("`{name}` must have at least one item"));
        return None;
    }
    Some(items)
}

fn quoted(names: &[&str]) -> String {
    let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}
