use crate::server_tls::{Credential, SecretRef};
use crate::view::{Object, Shape, View};

/// `trafficPolicy.tls`: how connections to a host are secured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientTls {
    /// `DISABLE`: not at all.
    Disable,
    /// `ISTIO_MUTUAL`: with the certificates of the mesh.
    Mesh {
        /// Names of the server, instead of those of the service's workloads.
        names: Vec<String>,
        /// The name that it is asked for, instead of the mesh's own.
        sni: Option<String>,
    },
    /// `SIMPLE` and `MUTUAL`: with certificates of others.
    Files(TlsFiles),
}

/// Certificates in files of the proxy's machine, or in Secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// The client's certificate and its key.
    pub own: Option<Credential>,
    /// What servers are believed by; the system's if nothing is said.
    pub authorities: Option<Authorities>,
    /// Names of the server; one of them must be in its certificate. The host if nothing is said.
    pub names: Vec<String>,
    /// The name that the server is asked for; the host if nothing is said.
    pub sni: Option<String>,
    /// A file of the proxy's machine with lists of certificates that are revoked. A Secret has its own.
    pub revoked: Option<String>,
    /// The server's certificate is not looked at.
    pub believes_all: bool,
}

/// Certificates of authorities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authorities {
    /// A file of the proxy's machine.
    File(String),
    /// They themselves, in PEM.
    Pem(String),
    /// Those of the Secret with this name and `-cacert`, or of the Secret itself.
    Secret(SecretRef),
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Disable,
    Simple,
    Mutual,
    Mesh,
}

const TLS: Shape = Shape {
    known: &[
        "mode",
        "clientCertificate",
        "privateKey",
        "caCertificates",
        "credentialName",
        "subjectAltNames",
        "sni",
        "insecureSkipVerify",
        "caCrl",
    ],
    refused: &[],
};

impl ClientTls {
    pub(crate) fn read(view: &View<'_>) -> Option<Self> {
        let object = view.object(&TLS)?;
        let modes = [
            ("DISABLE", Mode::Disable),
            ("SIMPLE", Mode::Simple),
            ("MUTUAL", Mode::Mutual),
            ("ISTIO_MUTUAL", Mode::Mesh),
        ];
        let mode = object.require("mode")?.choice(&modes)?;
        let files = ["clientCertificate", "privateKey"];
        let senseless = match mode {
            Mode::Disable => &TLS.known[1..],
            Mode::Mesh => &[
                "clientCertificate",
                "privateKey",
                "caCertificates",
                "credentialName",
                "insecureSkipVerify",
                "caCrl",
            ],
            Mode::Simple => &files[..],
            Mode::Mutual => &[],
        };
        for name in object.present(senseless) {
            object.fail(format!("`{name}` has no effect in this `mode`, remove it"));
        }
        let names = object.items("subjectAltNames");
        let names = names.iter().map(View::some_text).collect::<Option<_>>()?;
        let sni = object.optional("sni", View::some_text)?;
        let secret = match mode {
            Mode::Simple | Mode::Mutual => object.optional("credentialName", SecretRef::read)?,
            Mode::Disable | Mode::Mesh => None,
        };
        let of_files = ["clientCertificate", "privateKey", "caCertificates"];
        if secret.is_some()
            && let Some(name) = object.present(&of_files).first()
        {
            object.fail(format!(
                "`credentialName` and `{name}` exclude each other: the certificates are in the Secret"
            ));
            return None;
        }
        let believes_all = object
            .optional("insecureSkipVerify", View::bool)?
            .unwrap_or(false);
        if believes_all && object.get("caCrl").is_some() {
            object.fail("`caCrl` has no effect with `insecureSkipVerify`, remove one of the two");
        }
        Some(match mode {
            Mode::Disable => Self::Disable,
            Mode::Mesh => Self::Mesh { names, sni },
            Mode::Simple | Mode::Mutual => Self::Files(TlsFiles {
                own: match (mode, &secret) {
                    (Mode::Mutual, Some(secret)) => Some(Credential::Secret(secret.clone())),
                    (Mode::Mutual, None) => {
                        let (certificate, key) =
                            (file(&object, files[0])?, file(&object, files[1])?);
                        Some(Credential::Files(certificate, key))
                    }
                    _ => None,
                },
                authorities: match secret {
                    Some(secret) => Some(Authorities::Secret(secret)),
                    None => object
                        .optional("caCertificates", View::some_text)?
                        .map(Authorities::File),
                },
                names,
                sni,
                revoked: object.optional("caCrl", View::some_text)?,
                believes_all,
            }),
        })
    }
}

fn file(object: &Object<'_>, name: &str) -> Option<String> {
    object.require(name)?.some_text()
}
