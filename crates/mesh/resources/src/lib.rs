//! Istio resources: types, parsing with positions, validation.
//!
//! [`parse_resources`] reads the documents of one file into typed [`Resource`]s, and
//! [`parse_mesh_config`] the mesh configuration. What comes out is valid: host names are checked
//! and in lower case, weights add up, ports are in range. What the mesh cannot do yet is refused by
//! name, never ignored, and each complaint is a [`Diagnostic`] with file, line, column and field.
//!
//! Nothing here does I/O.

mod authentication;
mod authorization;
mod client_tls;
mod connection_pool;
mod destination_rule;
mod diagnostic;
mod duration;
mod gateway;
pub mod gateway_api;
mod host;
mod ingress;
mod jwks;
mod keepalive;
mod kind;
mod kubernetes;
mod load_balancer;
mod locality;
mod mesh_config;
mod meta;
mod node;
mod outlier_detection;
mod parse;
mod path;
mod peer_authentication;
mod port;
mod refused;
mod secret;
mod server_tls;
mod service_entry;
mod sidecar;
mod string_match;
mod suggest;
mod target;
mod telemetry;
mod values;
mod view;
mod virtual_service;
mod workload;

pub use authentication::{JwksSource, JwtRule, RequestAuthentication, TokenHeader};
pub use authorization::{
    AuthorizationPolicy, ConditionKey, Operation, PolicyAction, PolicyCondition, PolicyRule,
    PolicySource, Values, parse_block,
};
pub use client_tls::{Authorities, ClientTls, TlsFiles};
pub use connection_pool::{ConnectionPool, HttpVersion};
pub use destination_rule::{
    DestinationRule, PortPolicy, ProxyProtocol, RetryBudget, Subset, TrafficPolicy,
};
pub use diagnostic::{At, Diagnostic, Position};
pub use gateway::{Gateway, Server, ServerHost};
pub use host::Host;
pub use ingress::{
    IngressBackend, IngressPath, IngressRule, IngressSecret, KubernetesIngress, PathType,
};
pub use keepalive::TcpKeepalive;
pub use kind::Kind;
pub use kubernetes::{ConfigMap, EndpointSlice, KubernetesService, Pod, SliceEndpoint};
pub use load_balancer::{HashKey, HashTable, LoadBalancer, LoadBalancing, Warmup};
pub use locality::{Locality, LocalityBalancing, LocalityKind};
pub use mesh_config::{
    AccessLog, AccessLogFormat, Authorizer, Bucket, CheckedBody, ExportDefaults, ExtensionProvider,
    HttpAuthorizer, LimitProvider, LocalLimit, LogProvider, MeshConfig, OpenTelemetryLog,
    PathNormalization, ProvidedLog, ProviderKind, ProxyConfig, ProxyTracing, QuotaAction,
    QuotaLimit, QuotaProvider, TagSource, TraceContext,
};
pub use meta::{ExportTo, Labels, Meta, Source};
pub use outlier_detection::OutlierDetection;
pub use parse::{Parsed, Resource, Spec, parse_mesh_config, parse_proxy_config, parse_resources};
pub use peer_authentication::{MutualTls, PeerAuthentication};
pub use port::{Port, Protocol};
pub use refused::{Refused, may_hold_policies};
pub use secret::{Private, Secret};
pub use server_tls::{
    ClientCheck, Credential, SecretRef, ServerIdentity, ServerTls, Strictness, Termination,
    TlsVersion,
};
pub use service_entry::{Endpoints, Location, Resolution, ServiceEntry};
pub use sidecar::{Egress, EgressHost, Ingress, OutboundPolicy, Sidecar};
pub use string_match::StringMatch;
pub use suggest::did_you_mean;
pub use target::{GATEWAY_NAME_LABEL, Target};
pub use telemetry::{
    LogFilter, LoggingRule, MetricRule, SAMPLING, SamplingOf, SamplingRule, StatusFilter,
    Telemetry, TelemetryMode, TracingRule,
};
pub use values::is_token;
pub use view::Ignored;
pub use virtual_service::{
    Abort, Action, ConnectionMatch, ConnectionRoute, CorsPolicy, Delegate, Destination,
    DirectResponse, Fault, GatewayRef, HeaderOperations, Headers, HttpMatch, HttpRoute, Mirror,
    Redirect, Retries, Rewrite, Semantics, VirtualService, WeightedDestination, claim_path,
    merge_rules,
};
pub use workload::{Address, WorkloadEntry};
