use crate::diagnostic::At;
use crate::host::Host;
use crate::meta::Meta;
use crate::path::check_path;
use crate::view::{Object, Shape, View};

/// `networking.k8s.io/v1` Ingress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubernetesIngress {
    /// `ingressClassName`, or the annotation that there was before it.
    pub class: Option<String>,
    /// Where requests go that no path takes.
    pub default_backend: Option<IngressBackend>,
    /// The rules; each is for one host.
    pub rules: Vec<IngressRule>,
    /// The Secrets of `tls`.
    pub secrets: Vec<IngressSecret>,
}

/// One of `rules`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngressRule {
    /// The host; none is all.
    pub host: Option<Host>,
    /// Its paths.
    pub paths: Vec<IngressPath>,
}

/// A path and where its requests go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngressPath {
    /// The path.
    pub path: String,
    /// How it is compared.
    pub kind: PathType,
    /// Where requests go.
    pub backend: IngressBackend,
}

/// `pathType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathType {
    /// The whole path.
    Exact,
    /// Whole segments from the beginning.
    Prefix,
    /// As Istio does it: a prefix if it ends in `/*` or `.*`, else the whole path.
    OfImplementation,
}

/// A service's port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngressBackend {
    /// The service, of the Ingress' own namespace.
    pub service: String,
    /// The number or the name of its port.
    pub port: Result<u16, String>,
    /// Where it is written.
    pub at: At,
}

/// One of `tls`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngressSecret {
    /// The hosts that it is for; none are all.
    pub hosts: Vec<Host>,
    /// Its name.
    pub secret: String,
    /// Where it is written.
    pub at: At,
}

impl KubernetesIngress {
    pub(crate) fn read(view: &View<'_>, meta: &Meta) -> Option<Self> {
        const INGRESS: Shape = Shape {
            known: &["ingressClassName", "defaultBackend", "rules", "tls"],
            refused: &[],
        };
        let object = view.object(&INGRESS)?;
        let annotation = meta.annotations.get("kubernetes.io/ingress.class");
        let class = object.optional("ingressClassName", View::some_text)?;
        let rules = object.items("rules");
        let secrets = object.items("tls");
        let ingress = Self {
            class: annotation.cloned().or(class),
            default_backend: object.optional("defaultBackend", IngressBackend::read)?,
            rules: rules.iter().map(IngressRule::read).collect::<Option<_>>()?,
            secrets: secrets
                .iter()
                .map(IngressSecret::read)
                .collect::<Option<_>>()?,
        };
        if ingress.default_backend.is_none() && ingress.rules.is_empty() {
            object.fail("expected `rules`, `defaultBackend` or both");
        }
        Some(ingress)
    }
}

impl IngressRule {
    fn read(view: &View<'_>) -> Option<Self> {
        const RULE: Shape = Shape {
            known: &["host", "http"],
            refused: &[],
        };
        const HTTP: Shape = Shape {
            known: &["paths"],
            refused: &[],
        };
        let object = view.object(&RULE)?;
        let paths = match object.get("http") {
            Some(http) => http.object(&HTTP)?.require("paths")?.items(),
            None => Vec::new(),
        };
        Some(Self {
            host: object.optional("host", View::host)?,
            paths: paths.iter().map(IngressPath::read).collect::<Option<_>>()?,
        })
    }
}

impl IngressPath {
    /// The prefix that a path of `ImplementationSpecific` stands for, if it ends as one does.
    pub fn cut(path: &str) -> Option<&str> {
        path.strip_suffix(".*").or(path.strip_suffix("/*"))
    }

    fn read(view: &View<'_>) -> Option<Self> {
        const PATH: Shape = Shape {
            known: &["path", "pathType", "backend"],
            refused: &[],
        };
        let object = view.object(&PATH)?;
        let kinds = [
            ("Exact", PathType::Exact),
            ("Prefix", PathType::Prefix),
            ("ImplementationSpecific", PathType::OfImplementation),
        ];
        let kind = object.require("pathType")?.choice(&kinds)?;
        let path = object.optional("path", View::some_ascii)?;
        let path = path.unwrap_or_else(|| "/".to_owned());
        let compared = match kind {
            PathType::OfImplementation if path == "*" => "",
            PathType::OfImplementation => Self::cut(&path).unwrap_or(&path),
            PathType::Exact | PathType::Prefix => &path,
        };
        let view = object.get("path").unwrap_or_else(|| object.view());
        if !(compared.is_empty() || check_path(view, compared)) {
            return None;
        }
        Some(Self {
            path,
            kind,
            backend: IngressBackend::read(object.require("backend")?)?,
        })
    }
}

impl IngressBackend {
    fn read(view: &View<'_>) -> Option<Self> {
        const BACKEND: Shape = Shape {
            known: &["service"],
            refused: &[("resource", "requests go to services only")],
        };
        const SERVICE: Shape = Shape {
            known: &["name", "port"],
            refused: &[],
        };
        let service = view.object(&BACKEND)?;
        let service = service.require("service")?.object(&SERVICE)?;
        Some(Self {
            service: service.require("name")?.some_text()?,
            port: read_port(&service)?,
            at: At(view.at()),
        })
    }
}

fn read_port(service: &Object<'_>) -> Option<Result<u16, String>> {
    const PORT: Shape = Shape {
        known: &["number", "name"],
        refused: &[],
    };
    let port = service.require("port")?.object(&PORT)?;
    match port.present(PORT.known).as_slice() {
        ["number"] => Some(Ok(port.get("number")?.port()?)),
        ["name"] => Some(Err(port.get("name")?.some_text()?)),
        _ => {
            port.fail("expected one of `number` and `name`");
            None
        }
    }
}

impl IngressSecret {
    fn read(view: &View<'_>) -> Option<Self> {
        const TLS: Shape = Shape {
            known: &["hosts", "secretName"],
            refused: &[],
        };
        let object = view.object(&TLS)?;
        let hosts = object.items("hosts");
        Some(Self {
            hosts: hosts.iter().map(View::host).collect::<Option<_>>()?,
            secret: object.require("secretName")?.some_text()?,
            at: At(view.at()),
        })
    }
}
