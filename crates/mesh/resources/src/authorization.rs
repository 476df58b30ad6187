mod check;

use crate::meta::{Labels, Meta};
use crate::target::{Target, read_target};
use crate::values::is_token;
use crate::view::{Object, Shape, View};

pub use self::check::parse_block;
use self::check::{
    Check, check_account, check_block, check_nothing, check_path, check_port, check_trust_domain,
    check_wildcard,
};

/// Who may do what at the workloads with some labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizationPolicy {
    /// The workloads' labels; none is all of the namespace, and of the mesh in its root namespace.
    pub selector: Labels,
    /// The Gateways whose workloads it is for, in place of labels.
    pub targets: Vec<Target>,
    /// What happens to requests that match.
    pub action: PolicyAction,
    /// One of them must match; without any, nothing does.
    pub rules: Vec<PolicyRule>,
    /// The annotation `istio.io/dry-run`: what would happen is told, and nothing happens.
    pub is_dry_run: bool,
}

/// `action`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyAction {
    /// They are allowed, and no others are.
    Allow,
    /// They are denied.
    Deny,
    /// They are marked.
    Audit,
    /// A service is asked: the provider of this name.
    Custom(String),
}

/// A rule: one of its sources, one of its operations and all of its conditions must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyRule {
    /// Who asks; none is anybody.
    pub from: Vec<PolicySource>,
    /// What is asked for; none is anything.
    pub to: Vec<Operation>,
    /// What must hold besides.
    pub when: Vec<PolicyCondition>,
}

/// Values of which one must match, and those of which none may.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values {
    /// One of them, if there are some.
    pub one_of: Vec<String>,
    /// None of them.
    pub none_of: Vec<String>,
}

/// `from[].source`: all of its fields must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicySource {
    /// `TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT`.
    pub principals: Values,
    /// `ISSUER/SUBJECT`.
    pub request_principals: Values,
    /// The namespace of the identity.
    pub namespaces: Values,
    /// `NAMESPACE/ACCOUNT`; the policy's own namespace if it does not say.
    pub service_accounts: Values,
    /// What names begin with.
    pub trust_domains: Values,
    /// Blocks of addresses that connections come from.
    pub ip_blocks: Values,
    /// Blocks of addresses of clients, as whoever is trusted says.
    pub remote_ip_blocks: Values,
}

/// `to[].operation`: all of its fields must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Operation {
    /// The authority, in any case.
    pub hosts: Values,
    /// Ports of the workload.
    pub ports: Values,
    /// The method.
    pub methods: Values,
    /// The path without its query; may be a template.
    pub paths: Values,
}

/// `when[]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyCondition {
    /// What is asked about.
    pub key: ConditionKey,
    /// What it must be.
    pub values: Values,
}

/// What a condition asks about.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is named for its attribute")]
pub enum ConditionKey {
    RequestHeader(String),
    SourceIp,
    RemoteIp,
    SourceNamespace,
    SourcePrincipal,
    SourceServiceAccount,
    SourceTrustDomain,
    RequestPrincipal,
    RequestAudiences,
    RequestPresenter,
    /// The path of a claim.
    RequestClaim(Vec<String>),
    DestinationIp,
    DestinationPort,
    Sni,
}

const POLICY: Shape = Shape {
    known: &[
        "selector",
        "targetRef",
        "targetRefs",
        "action",
        "provider",
        "rules",
    ],
    refused: &[],
};
const RULE: Shape = Shape {
    known: &["from", "to", "when"],
    refused: &[],
};
const FROM: Shape = Shape {
    known: &["source"],
    refused: &[],
};
const TO: Shape = Shape {
    known: &["operation"],
    refused: &[],
};
const SOURCE: Shape = Shape {
    known: &[
        "principals",
        "notPrincipals",
        "requestPrincipals",
        "notRequestPrincipals",
        "namespaces",
        "notNamespaces",
        "serviceAccounts",
        "notServiceAccounts",
        "trustDomains",
        "notTrustDomains",
        "ipBlocks",
        "notIpBlocks",
        "remoteIpBlocks",
        "notRemoteIpBlocks",
    ],
    refused: &[],
};
const OPERATION: Shape = Shape {
    known: &[
        "hosts",
        "notHosts",
        "ports",
        "notPorts",
        "methods",
        "notMethods",
        "paths",
        "notPaths",
    ],
    refused: &[],
};
const CONDITION: Shape = Shape {
    known: &["key", "values", "notValues"],
    refused: &[],
};

/// The annotation that makes a policy one that is only tried out.
const DRY_RUN: &str = "istio.io/dry-run";

const KEYS: [(&str, ConditionKey); 12] = [
    ("source.ip", ConditionKey::SourceIp),
    ("remote.ip", ConditionKey::RemoteIp),
    ("source.namespace", ConditionKey::SourceNamespace),
    ("source.principal", ConditionKey::SourcePrincipal),
    ("source.serviceAccount", ConditionKey::SourceServiceAccount),
    ("source.trustDomain", ConditionKey::SourceTrustDomain),
    ("request.auth.principal", ConditionKey::RequestPrincipal),
    ("request.auth.audiences", ConditionKey::RequestAudiences),
    ("request.auth.presenter", ConditionKey::RequestPresenter),
    ("destination.ip", ConditionKey::DestinationIp),
    ("destination.port", ConditionKey::DestinationPort),
    ("connection.sni", ConditionKey::Sni),
];

/// What a request has besides headers, by the names that Envoy gives it.
const PSEUDO_HEADERS: [&str; 4] = [":method", ":authority", ":path", ":scheme"];

impl AuthorizationPolicy {
    pub(crate) fn read(view: &View<'_>, meta: &Meta) -> Option<Self> {
        let object = view.object(&POLICY)?;
        let action = Self::read_action(&object)?;
        let is_dry_run = match meta.annotations.get(DRY_RUN).map(String::as_str) {
            None | Some("false") => false,
            Some("true") => true,
            Some(other) => {
                view.fail(format!(
                    "the annotation `{DRY_RUN}` is `{other}`, it must be `true` or `false`"
                ));
                return None;
            }
        };
        let rules = object.items("rules");
        let rules: Vec<_> = rules.iter().filter_map(PolicyRule::read).collect();
        if is_dry_run && action == PolicyAction::Audit {
            object.fail("`AUDIT` cannot be tried out, it never does anything");
        }
        if is_dry_run && matches!(action, PolicyAction::Custom(_)) {
            object.fail("`CUSTOM` cannot be tried out, the provider would be asked all the same");
        }
        let (selector, targets) = read_target(&object, &meta.namespace)?;
        Some(Self {
            selector,
            targets,
            action,
            rules,
            is_dry_run,
        })
    }

    fn read_action(object: &Object<'_>) -> Option<PolicyAction> {
        const PROVIDER: Shape = Shape {
            known: &["name"],
            refused: &[],
        };
        let provider = object.get("provider");
        let is_custom = object.get("action").and_then(View::text).as_deref() == Some("CUSTOM");
        if is_custom {
            let Some(provider) = provider else {
                object.fail("`CUSTOM` asks a provider, name it: `provider: {name: …}`");
                return None;
            };
            let name = provider.object(&PROVIDER)?.require("name")?.some_text()?;
            return Some(PolicyAction::Custom(name));
        }
        if let Some(provider) = provider {
            provider.fail("only `action: CUSTOM` asks a provider");
        }
        let action = object.optional("action", |view| {
            view.choice(&[
                ("ALLOW", PolicyAction::Allow),
                ("DENY", PolicyAction::Deny),
                ("AUDIT", PolicyAction::Audit),
            ])
        })?;
        Some(action.unwrap_or(PolicyAction::Allow))
    }
}

impl PolicyRule {
    fn read(view: &View<'_>) -> Option<Self> {
        let object = view.object(&RULE)?;
        let from = object.items("from");
        let from = from.iter().filter_map(|view| {
            let source = view.object(&FROM)?;
            PolicySource::read(source.require("source")?)
        });
        let to = object.items("to");
        let to = to.iter().filter_map(|view| {
            let operation = view.object(&TO)?;
            Operation::read(operation.require("operation")?)
        });
        let when = object.items("when");
        Some(Self {
            from: from.collect(),
            to: to.collect(),
            when: when.iter().filter_map(PolicyCondition::read).collect(),
        })
    }
}

impl PolicySource {
    fn read(view: &View<'_>) -> Option<Self> {
        let object = view.object(&SOURCE)?;
        let of = |one_of, none_of, check| Values::read(&object, [one_of, none_of], check);
        let source = Self {
            principals: of("principals", "notPrincipals", check_wildcard),
            request_principals: of("requestPrincipals", "notRequestPrincipals", check_wildcard),
            namespaces: of("namespaces", "notNamespaces", check_nothing),
            service_accounts: of("serviceAccounts", "notServiceAccounts", check_account),
            trust_domains: of("trustDomains", "notTrustDomains", check_trust_domain),
            ip_blocks: of("ipBlocks", "notIpBlocks", check_block),
            remote_ip_blocks: of("remoteIpBlocks", "notRemoteIpBlocks", check_block),
        };
        let accounts = &source.service_accounts;
        let others = [&source.principals, &source.namespaces];
        if !accounts.is_empty() && others.iter().any(|other| !other.is_empty()) {
            object.fail("`serviceAccounts` excludes `principals` and `namespaces`");
        }
        if source == Self::default() {
            object.fail("it must name somebody, leave `from` out for anybody");
        }
        Some(source)
    }
}

impl Operation {
    fn read(view: &View<'_>) -> Option<Self> {
        let object = view.object(&OPERATION)?;
        let of = |one_of, none_of, check| Values::read(&object, [one_of, none_of], check);
        let operation = Self {
            hosts: of("hosts", "notHosts", check_wildcard),
            ports: of("ports", "notPorts", check_port),
            methods: of("methods", "notMethods", check_wildcard),
            paths: of("paths", "notPaths", check_path),
        };
        if operation == Self::default() {
            object.fail("it must name something, leave `to` out for anything");
        }
        Some(operation)
    }
}

impl PolicyCondition {
    fn read(view: &View<'_>) -> Option<Self> {
        let object = view.object(&CONDITION)?;
        let key = object.require("key").and_then(ConditionKey::read)?;
        let values = Values::read(&object, ["values", "notValues"], key.check());
        if values.is_empty() {
            object.fail("`values` or `notValues` must be given");
        }
        Some(Self { key, values })
    }
}

impl ConditionKey {
    fn read(view: &View<'_>) -> Option<Self> {
        let text = view.some_text()?;
        if let Some((_, key)) = KEYS.iter().find(|(name, _)| *name == text) {
            return Some(key.clone());
        }
        let brackets = |prefix| {
            let inner = text
                .strip_prefix(prefix)?
                .strip_prefix('[')?
                .strip_suffix(']')?;
            Some(inner).filter(|inner| !inner.is_empty())
        };
        if let Some(name) = brackets("request.headers") {
            let name = name.to_ascii_lowercase();
            if !is_token(&name) && !PSEUDO_HEADERS.contains(&name.as_str()) {
                view.fail(format!("`{text}`: `{name}` is no header name"));
                return None;
            }
            return Some(Self::RequestHeader(name));
        }
        if let Some(claim) = brackets("request.auth.claims") {
            let path: Vec<_> = claim.split("][").map(str::to_owned).collect();
            if path.iter().any(String::is_empty) {
                view.fail(format!("`{text}`: there is nothing between two brackets"));
                return None;
            }
            return Some(Self::RequestClaim(path));
        }
        if text.starts_with("experimental.envoy.filters.") {
            view.fail(format!(
                "`{text}` is not supported: it asks about what a filter of Envoy's has found, by the filter's own name"
            ));
            return None;
        }
        let names: Vec<_> = KEYS.iter().map(|(name, _)| *name).collect();
        view.fail(format!(
            "unknown key `{text}`, expected request.headers[NAME], request.auth.claims[NAME] or one \
             of {}",
            names.join(", ")
        ));
        None
    }

    fn check(&self) -> Check {
        match self {
            Self::SourceIp | Self::RemoteIp | Self::DestinationIp => check_block,
            Self::DestinationPort => check_port,
            Self::SourceServiceAccount => check_account,
            Self::SourceTrustDomain => check_trust_domain,
            Self::SourceNamespace => check_nothing,
            _ => check_wildcard,
        }
    }
}
