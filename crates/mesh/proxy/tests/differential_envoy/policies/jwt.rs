//! Tokens, who accepts them, and a server that publishes their keys.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
    ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaEncoding,
    RsaKeyPair,
};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::config::core::v3::http_uri::HttpUpstreamType;
use envoy_types::pb::envoy::config::core::v3::{DataSource, HttpUri};
use envoy_types::pb::envoy::config::rbac::v3::principal::Identifier;
use envoy_types::pb::envoy::config::rbac::v3::rbac::Action;
use envoy_types::pb::envoy::config::route::v3::route::Action as RouteAction;
use envoy_types::pb::envoy::config::route::v3::{DirectResponseAction, Route, RouteMatch};
use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3::jwt_provider::{
    JwksSourceSpecifier, NormalizePayload,
};
use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3::jwt_requirement::RequiresType;
use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3::per_route_config::RequirementSpecifier;
use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3::requirement_rule::RequirementType;
use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3::{
    JwtAuthentication, JwtCacheConfig, JwtClaimToHeader, JwtHeader, JwtProvider, JwtRequirement,
    JwtRequirementAndList, JwtRequirementOrList, PerRouteConfig, ProviderWithAudiences, RemoteJwks,
    RequirementRule,
};
use envoy_types::pb::envoy::r#type::matcher::v3::metadata_matcher::{PathSegment, path_segment};
use envoy_types::pb::envoy::r#type::matcher::v3::value_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{
    ListMatcher, MetadataMatcher, ValueMatcher, list_matcher,
};
use envoy_types::pb::google::protobuf::{Any, Duration, Empty};
use envoy_types::util::pack_any;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::rbac::{allow_whom, enforced, exact, who};
use super::{Filters, filter};
use crate::xds_support::resources::path_prefix;

const ISSUER: &str = "https://issuer.example";
const OTHER_ISSUER: &str = "other@issuer.example";

/// Keys of all kinds, and what is signed with them.
pub(super) struct Signer {
    rsa: RsaKeyPair,
    curves: [(&'static str, &'static str, EcdsaKeyPair); 3],
    ed25519: Ed25519KeyPair,
    secret: [u8; 64],
    other: EcdsaKeyPair,
}

fn text(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

impl Signer {
    pub(super) fn new() -> Self {
        let curve = |parameters| EcdsaKeyPair::generate(parameters).expect("a key");
        Self {
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).expect("a key"),
            curves: [
                ("ES256", "P-256", curve(&ECDSA_P256_SHA256_FIXED_SIGNING)),
                ("ES384", "P-384", curve(&ECDSA_P384_SHA384_FIXED_SIGNING)),
                ("ES512", "P-521", curve(&ECDSA_P521_SHA512_FIXED_SIGNING)),
            ],
            ed25519: Ed25519KeyPair::generate().expect("a key"),
            secret: std::array::from_fn(|at| at as u8),
            other: curve(&ECDSA_P256_SHA256_FIXED_SIGNING),
        }
    }

    /// The keys: public ones, a secret for any hash and a short one for one hash.
    pub(super) fn keys(&self) -> Value {
        // RFC 8017 §A.1.1: the modulus stands behind its tag, its length and a zero.
        let der = self.rsa.public_key().as_ref();
        let tag = [2, 0x82, 1, 1, 0];
        let at = der.windows(tag.len()).position(|part| part == tag);
        let modulus = &der[at.expect("a modulus") + tag.len()..][..256];
        let mut keys = vec![
            json!({"kty": "RSA", "kid": "rsa", "n": text(modulus), "e": "AQAB"}),
            json!({"kty": "OKP", "kid": "ed", "crv": "Ed25519",
                "x": text(self.ed25519.public_key())}),
            json!({"kty": "oct", "kid": "hs", "k": text(self.secret)}),
            json!({"kty": "oct", "kid": "hs256", "alg": "HS256", "k": text(&self.secret[..32])}),
        ];
        for (algorithm, curve, key) in &self.curves {
            let point = &key.public_key().as_ref()[1..];
            let (x, y) = point.split_at(point.len() / 2);
            keys.push(
                json!({"kty": "EC", "kid": algorithm, "alg": algorithm, "crv": curve,
                "x": text(x), "y": text(y)}),
            );
        }
        json!({"keys": keys})
    }

    fn sign(&self, algorithm: &str, key_id: &str, claims: &Value) -> String {
        let header = json!({"alg": algorithm, "kid": key_id, "typ": "JWT"});
        let signed = format!("{}.{}", text(header.to_string()), text(claims.to_string()));
        let random = SystemRandom::new();
        let by_rsa = |encoding: &'static dyn RsaEncoding| {
            let mut signature = vec![0; self.rsa.public_modulus_len()];
            let done = self
                .rsa
                .sign(encoding, &random, signed.as_bytes(), &mut signature);
            done.expect("a signature");
            signature
        };
        let by_curve = |key: &EcdsaKeyPair| {
            let signature = key.sign(&random, signed.as_bytes()).expect("a signature");
            signature.as_ref().to_vec()
        };
        let by_secret = |algorithm| {
            let secret = match key_id {
                "hs" => &self.secret[..],
                "hs256" => &self.secret[..32],
                // Whoever knows a public key tries to sign with it.
                _ => self.rsa.public_key().as_ref(),
            };
            let key = hmac::Key::new(algorithm, secret);
            hmac::sign(&key, signed.as_bytes()).as_ref().to_vec()
        };
        let signature = match algorithm {
            "HS256" => by_secret(hmac::HMAC_SHA256),
            "HS384" => by_secret(hmac::HMAC_SHA384),
            "HS512" => by_secret(hmac::HMAC_SHA512),
            "RS256" => by_rsa(&signature::RSA_PKCS1_SHA256),
            "RS384" => by_rsa(&signature::RSA_PKCS1_SHA384),
            "RS512" => by_rsa(&signature::RSA_PKCS1_SHA512),
            "PS256" => by_rsa(&signature::RSA_PSS_SHA256),
            "PS384" => by_rsa(&signature::RSA_PSS_SHA384),
            "PS512" => by_rsa(&signature::RSA_PSS_SHA512),
            "EdDSA" => self.ed25519.sign(signed.as_bytes()).as_ref().to_vec(),
            _ if key_id == "stolen" => by_curve(&self.other),
            _ => {
                let mut curves = self.curves.iter();
                by_curve(
                    &curves
                        .find(|(name, ..)| *name == algorithm)
                        .expect("a curve")
                        .2,
                )
            }
        };
        format!("{signed}.{}", text(signature))
    }

    /// A good token that says this besides.
    pub(super) fn token(&self, more: &Value) -> String {
        let mut claims = json!({"iss": ISSUER, "exp": 4_000_000_000_u64});
        for (key, value) in more.as_object().expect("an object") {
            claims[key] = value.clone();
        }
        self.sign("ES256", "ES256", &claims)
    }

    /// Requests with tokens of many kinds, by name.
    pub(super) fn requests(&self) -> Vec<(String, String)> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("after 1970");
        let now = now.as_secs();
        let claims = |change: Value| {
            let mut claims = json!({"iss": ISSUER, "sub": "alice", "aud": ["bookinfo", "other"],
                "exp": now + 3600, "scope": "read write", "groups": ["a", "b"], "level": 3,
                "admin": true, "nested": {"key": "value"}});
            for (key, value) in change.as_object().expect("an object") {
                claims[key] = value.clone();
            }
            claims
        };
        let es256 = |change: Value| self.sign("ES256", "ES256", &claims(change));
        let request = |path: &str, headers: &str| {
            let headers = headers.replace('\n', "\r\n");
            format!("GET {path} HTTP/1.1\r\nhost: test\r\n{headers}connection: close\r\n\r\n")
        };
        let bearer = |token: &str| request("/ok", &format!("authorization: Bearer {token}\n"));
        let good = es256(json!({}));
        let escaped = good.replace('.', "%2E").replace('e', "%65");
        let mut requests = vec![
            ("none".to_owned(), request("/ok", "")),
            ("untold".to_owned(), request("/ok/untold", "")),
            ("named-without".to_owned(), request("/ok/named", "")),
            (
                "named".to_owned(),
                request("/ok/named", &format!("authorization: Bearer {good}\n")),
            ),
            ("claim-of-nobody".to_owned(), request("/ok/claim", "")),
            (
                "claim".to_owned(),
                request("/ok/claim", &format!("authorization: Bearer {good}\n")),
            ),
            (
                "claim-of-others".to_owned(),
                request(
                    "/ok/claim",
                    &format!(
                        "authorization: Bearer {}\n",
                        es256(json!({"groups": ["c"]}))
                    ),
                ),
            ),
            ("open".to_owned(), request("/api/open?x=y", "")),
            (
                "basic".to_owned(),
                request("/ok", "authorization: Basic YTpi\n"),
            ),
            (
                "no-bearer".to_owned(),
                request("/ok", &format!("authorization: {good}\n")),
            ),
            (
                "lower-bearer".to_owned(),
                request("/ok", &format!("authorization: bearer {good}\n")),
            ),
            ("good".to_owned(), bearer(&good)),
            ("again".to_owned(), bearer(&good)),
            (
                "forged-headers".to_owned(),
                request(
                    "/ok",
                    &format!("x-sub: root\nx-payload: forged\nauthorization: Bearer {good}\n"),
                ),
            ),
            (
                "forged-alone".to_owned(),
                request("/ok", "x-sub: root\nx-payload: forged\n"),
            ),
            (
                "query".to_owned(),
                request(&format!("/ok?a=b&access_token={good}"), ""),
            ),
            (
                "own-query".to_owned(),
                request(&format!("/ok?token={good}&a=b"), ""),
            ),
            (
                "query-sorted".to_owned(),
                request(&format!("/ok?z=1&token={good}&access_token={good}&a=b"), ""),
            ),
            (
                "query-escaped".to_owned(),
                request(&format!("/ok?a=b&access%5Ftoken={escaped}"), ""),
            ),
            (
                "own-query-escaped".to_owned(),
                request(&format!("/ok?%74oken={escaped}&a=b"), ""),
            ),
            (
                "query-empty".to_owned(),
                request(&format!("/ok?token&token={good}"), ""),
            ),
            (
                "of-other-in-mine".to_owned(),
                request(
                    "/ok",
                    &format!("x-jwt: Token={}\n", es256(json!({"iss": OTHER_ISSUER}))),
                ),
            ),
            (
                "of-other-in-its-own".to_owned(),
                request(
                    "/ok",
                    &format!("x-other: {}\n", es256(json!({"iss": OTHER_ISSUER}))),
                ),
            ),
            (
                "own-header".to_owned(),
                request("/ok", &format!("x-jwt: Token={good}\n")),
            ),
            (
                "cookie".to_owned(),
                request("/ok", &format!("cookie: a=b; session={good}\n")),
            ),
            ("not-a-token".to_owned(), bearer("abc")),
            ("two-parts".to_owned(), bearer("abc.def")),
            ("bad-header".to_owned(), bearer("a.b.c")),
            (
                "header-no-json".to_owned(),
                bearer(&format!("{}.e30.YQ", text("x"))),
            ),
            (
                "no-alg".to_owned(),
                bearer(&format!("{}.e30.YQ", text("{}"))),
            ),
            (
                "alg-none".to_owned(),
                bearer(&format!("{}.e30.YQ", text(r#"{"alg":"none"}"#))),
            ),
            (
                "kid-number".to_owned(),
                bearer(&format!("{}.e30.YQ", text(r#"{"alg":"ES256","kid":1}"#))),
            ),
            (
                "bad-payload".to_owned(),
                bearer(&format!("{}.!!.YQ", text(r#"{"alg":"ES256"}"#))),
            ),
            (
                "payload-no-json".to_owned(),
                bearer(&format!("{}.{}.YQ", text(r#"{"alg":"ES256"}"#), text("x"))),
            ),
            (
                "no-issuer".to_owned(),
                bearer(&format!(
                    "{}.e30.YQ",
                    text(r#"{"alg":"ES256","kid":"ES256"}"#)
                )),
            ),
            ("endless".to_owned(), {
                let mut claims = claims(json!({}));
                claims.as_object_mut().expect("an object").remove("exp");
                bearer(&self.sign("ES256", "ES256", &claims))
            }),
            ("cut".to_owned(), bearer(&good[..good.len() - 8])),
            ("cut-hmac".to_owned(), {
                let token = self.sign("HS256", "hs", &claims(json!({})));
                bearer(&token[..token.len() - 4])
            }),
            ("other-payload".to_owned(), {
                let mut parts: Vec<_> = good.split('.').map(str::to_owned).collect();
                parts[1] = text(claims(json!({"sub": "root"})).to_string());
                bearer(&parts.join("."))
            }),
            (
                "stolen".to_owned(),
                bearer(&self.sign("ES256", "stolen", &claims(json!({})))),
            ),
            (
                "no-kid".to_owned(),
                bearer(&self.sign("ES256", "", &claims(json!({})))),
            ),
            (
                "two".to_owned(),
                request(
                    "/ok",
                    &format!("x-jwt: Token={good}\nauthorization: Bearer a.b.c\n"),
                ),
            ),
        ];
        let changed = [
            ("expired", json!({"exp": now - 3600})),
            ("just-expired", json!({"exp": now - 30})),
            ("not-yet", json!({"nbf": now + 3600})),
            ("soon", json!({"nbf": now + 30})),
            ("no-end", json!({"exp": null})),
            ("end-of-zero", json!({"exp": 0})),
            ("exp-text", json!({"exp": "soon"})),
            ("other-issuer", json!({"iss": OTHER_ISSUER})),
            ("unknown-issuer", json!({"iss": "nobody"})),
            ("iss-number", json!({"iss": 1})),
            ("sub-number", json!({"sub": 1})),
            ("aud-text", json!({"aud": "bookinfo"})),
            ("aud-other", json!({"aud": "nobody"})),
            ("aud-slash", json!({"aud": "https://bookinfo/"})),
            ("aud-number", json!({"aud": 1})),
            (
                "bob",
                json!({"sub": "bob", "groups": ["c"], "scope": "write"}),
            ),
        ];
        for (name, change) in changed {
            requests.push((name.to_owned(), bearer(&es256(change))));
        }
        for (algorithm, key) in [
            ("RS256", "rsa"),
            ("RS384", "rsa"),
            ("RS512", "rsa"),
            ("PS256", "rsa"),
            ("PS384", "rsa"),
            ("PS512", "rsa"),
            ("ES384", "ES384"),
            ("ES512", "ES512"),
            ("EdDSA", "ed"),
            ("ES256", "ES384"),
            ("HS256", "hs"),
            ("HS384", "hs"),
            ("HS512", "hs"),
            ("HS256", "hs256"),
            ("HS512", "hs256"),
            ("HS256", "rsa"),
            ("HS512", "rsa"),
            ("HS256", "ES256"),
            ("HS256", "nobody"),
            ("RS256", "hs256"),
        ] {
            let token = self.sign(algorithm, key, &claims(json!({})));
            requests.push((format!("{algorithm}-{key}"), bearer(&token)));
        }
        requests
    }
}

fn requires(kind: RequiresType) -> JwtRequirement {
    JwtRequirement {
        requires_type: Some(kind),
    }
}

fn named(provider: &str) -> JwtRequirement {
    requires(RequiresType::ProviderName(provider.to_owned()))
}

fn any(requirements: Vec<JwtRequirement>) -> JwtRequirement {
    requires(RequiresType::RequiresAny(JwtRequirementOrList {
        requirements,
    }))
}

fn missing() -> JwtRequirement {
    requires(RequiresType::AllowMissing(Empty {}))
}

fn missing_or_failed() -> JwtRequirement {
    requires(RequiresType::AllowMissingOrFailed(Empty {}))
}

fn local(keys: &Value) -> Option<JwksSourceSpecifier> {
    Some(JwksSourceSpecifier::LocalJwks(DataSource {
        specifier: Some(Specifier::InlineString(keys.to_string())),
        ..Default::default()
    }))
}

fn remote(cluster: &str, path: &str) -> Option<JwksSourceSpecifier> {
    let seconds = |seconds| Some(Duration { seconds, nanos: 0 });
    Some(JwksSourceSpecifier::RemoteJwks(RemoteJwks {
        http_uri: Some(HttpUri {
            uri: format!("http://keys.example{path}"),
            timeout: seconds(5),
            http_upstream_type: Some(HttpUpstreamType::Cluster(cluster.to_owned())),
        }),
        cache_duration: seconds(600),
        ..Default::default()
    }))
}

fn chain(
    providers: Vec<(&str, JwtProvider)>,
    requirement: JwtRequirement,
    rbac: Option<envoy_types::pb::envoy::extensions::filters::http::rbac::v3::Rbac>,
) -> Filters {
    let providers = providers
        .into_iter()
        .map(|(name, one)| (name.to_owned(), one));
    let rule = |prefix: &str, requirement: Option<JwtRequirement>| RequirementRule {
        r#match: Some(path_prefix(prefix)),
        requirement_type: requirement.map(RequirementType::Requires),
    };
    let authentication = JwtAuthentication {
        providers: providers.collect(),
        rules: vec![rule("/api/open", None), rule("/", Some(requirement))],
        ..Default::default()
    };
    let mut filters = vec![filter("envoy.filters.http.jwt_authn", authentication)];
    filters.extend(rbac.map(|rbac| filter("envoy.filters.http.rbac", rbac)));
    filters
}

/// Of the payload that the filter of tokens has left.
#[expect(deprecated, reason = "this is the form that Istio sends")]
fn claim(path: &[&str], value: MatchPattern) -> Identifier {
    Identifier::Metadata(payload(path, value))
}

fn payload(path: &[&str], value: MatchPattern) -> MetadataMatcher {
    let segment = |key: &&str| PathSegment {
        segment: Some(path_segment::Segment::Key((*key).to_owned())),
    };
    MetadataMatcher {
        filter: "envoy.filters.http.jwt_authn".to_owned(),
        path: path.iter().map(segment).collect(),
        value: Some(ValueMatcher {
            match_pattern: Some(value),
        }),
        invert: false,
    }
}

/// Routes of one path, by what the token says.
pub(crate) fn by_claim() -> Vec<Route> {
    let answering = |status, asked: MetadataMatcher| Route {
        r#match: Some(RouteMatch {
            dynamic_metadata: vec![asked],
            ..path_prefix("/ok/claim")
        }),
        action: Some(RouteAction::DirectResponse(DirectResponseAction {
            status,
            ..Default::default()
        })),
        ..Default::default()
    };
    let is_there = payload(&["payload", "iss"], MatchPattern::PresentMatch(true));
    // Without a token there is no route at all.
    let only = Route {
        r#match: Some(RouteMatch {
            dynamic_metadata: vec![is_there.clone()],
            ..path_prefix("/only/claim")
        }),
        ..answering(297, is_there.clone())
    };
    vec![
        only,
        answering(299, payload(&["payload", "groups"], one_of("b"))),
        answering(
            298,
            MetadataMatcher {
                invert: true,
                ..is_there
            },
        ),
    ]
}

fn one_of(value: &str) -> MatchPattern {
    MatchPattern::ListMatch(Box::new(ListMatcher {
        match_pattern: Some(list_matcher::MatchPattern::OneOf(Box::new(ValueMatcher {
            match_pattern: Some(MatchPattern::StringMatch(exact(value))),
        }))),
    }))
}

/// How many filters there are.
pub(crate) fn count() -> usize {
    filters(&Signer::new()).len()
}

/// The filters by name.
pub(super) fn filters(signer: &Signer) -> Vec<(&'static str, Filters)> {
    let keys = signer.keys();
    let of = |issuer: &str| JwtProvider {
        issuer: issuer.to_owned(),
        jwks_source_specifier: local(&keys),
        ..Default::default()
    };
    let mine = || of(ISSUER);
    let for_audiences = JwtProvider {
        audiences: vec!["bookinfo".to_owned()],
        ..mine()
    };
    let expiring = JwtProvider {
        require_expiration: true,
        jwt_cache_config: Some(JwtCacheConfig::default()),
        ..for_audiences.clone()
    };
    let claim_header = |header: &str, claim: &str| JwtClaimToHeader {
        header_name: header.to_owned(),
        claim_name: claim.to_owned(),
        ..Default::default()
    };
    let telling = JwtProvider {
        forward: true,
        forward_payload_header: "x-payload".to_owned(),
        pad_forward_payload_header: true,
        claim_to_headers: vec![
            claim_header("x-sub", "sub"),
            claim_header("x-level", "level"),
            claim_header("x-admin", "admin"),
            claim_header("x-key", "nested.key"),
            claim_header("x-missing", "nested.nothing"),
        ],
        jwt_cache_config: Some(JwtCacheConfig::default()),
        ..mine()
    };
    let elsewhere = JwtProvider {
        from_headers: vec![JwtHeader {
            name: "x-jwt".to_owned(),
            value_prefix: "Token=".to_owned(),
        }],
        from_params: vec!["token".to_owned()],
        from_cookies: vec!["session".to_owned()],
        ..mine()
    };
    let leaving = JwtProvider {
        payload_in_metadata: "payload".to_owned(),
        normalize_payload_in_metadata: Some(NormalizePayload {
            space_delimited_claims: vec!["scope".to_owned()],
        }),
        ..mine()
    };
    let leaving_too = leaving.clone();
    let clearing = |provider| JwtProvider {
        clear_route_cache: true,
        ..provider
    };
    let fetching = |cluster: &str, path: &str| JwtProvider {
        jwks_source_specifier: remote(cluster, path),
        ..mine()
    };
    let anybody = || JwtProvider {
        issuer: String::new(),
        ..mine()
    };
    let of_alice = claim(
        &["payload", "sub"],
        MatchPattern::StringMatch(exact("alice")),
    );
    let of_group = claim(&["payload", "groups"], one_of("b"));
    let reading = claim(&["payload", "scope"], one_of("read"));
    let present = claim(&["payload", "sub"], MatchPattern::PresentMatch(true));
    let object = claim(&["payload", "nested"], MatchPattern::PresentMatch(true));
    let list = claim(&["payload", "groups"], MatchPattern::PresentMatch(true));
    let deny_bob = enforced(
        Action::Deny,
        vec![(
            "no bob",
            vec![super::rbac::anything()],
            vec![who(claim(
                &["payload", "sub"],
                MatchPattern::StringMatch(exact("bob")),
            ))],
        )],
    );
    let both = requires(RequiresType::RequiresAll(JwtRequirementAndList {
        requirements: vec![named("mine"), named("elsewhere")],
    }));
    let other_audiences = requires(RequiresType::ProviderAndAudiences(ProviderWithAudiences {
        provider_name: "mine".to_owned(),
        audiences: vec!["nobody".to_owned()],
    }));
    let leave = |principal: Identifier| {
        let optional = any(vec![named("mine"), missing()]);
        chain(
            vec![("mine", leaving.clone())],
            optional,
            Some(allow_whom(who(principal))),
        )
    };
    let optional = || any(vec![named("mine"), missing()]);
    let two = || vec![("mine", mine()), ("other", of(OTHER_ISSUER))];
    let in_header = |name: &str, value_prefix: &str| {
        vec![JwtHeader {
            name: name.to_owned(),
            value_prefix: value_prefix.to_owned(),
        }]
    };
    let placed = || {
        let mine = JwtProvider {
            from_headers: in_header("x-jwt", "Token="),
            ..mine()
        };
        let other = JwtProvider {
            from_headers: in_header("x-other", ""),
            ..of(OTHER_ISSUER)
        };
        vec![("mine", mine), ("other", other)]
    };
    let of_nobody = JwtProvider {
        audiences: vec!["nobody".to_owned()],
        ..anybody()
    };
    let mapped = JwtAuthentication {
        providers: [("mine".to_owned(), mine())].into(),
        requirement_map: [("of route".to_owned(), named("mine"))].into(),
        ..Default::default()
    };
    vec![
        (
            "mapped",
            vec![filter("envoy.filters.http.jwt_authn", mapped)],
        ),
        (
            "required",
            chain(vec![("mine", mine())], named("mine"), None),
        ),
        (
            "audiences",
            chain(vec![("mine", for_audiences)], named("mine"), None),
        ),
        (
            "expiring",
            chain(vec![("mine", expiring)], named("mine"), None),
        ),
        (
            "other-audiences",
            chain(vec![("mine", mine())], other_audiences, None),
        ),
        ("optional", chain(vec![("mine", mine())], optional(), None)),
        (
            "lenient",
            chain(
                vec![("mine", mine())],
                any(vec![named("mine"), missing_or_failed()]),
                None,
            ),
        ),
        ("just-missing", chain(two(), missing(), None)),
        ("just-lenient", chain(two(), missing_or_failed(), None)),
        (
            "either",
            chain(two(), any(vec![named("mine"), named("other")]), None),
        ),
        (
            "either-or-none",
            chain(
                two(),
                any(vec![named("mine"), named("other"), missing()]),
                None,
            ),
        ),
        (
            "both",
            chain(
                vec![("mine", mine()), ("elsewhere", elsewhere.clone())],
                both,
                None,
            ),
        ),
        (
            "anybody",
            chain(vec![("mine", anybody())], named("mine"), None),
        ),
        ("telling", chain(vec![("mine", telling)], optional(), None)),
        (
            "elsewhere",
            chain(vec![("mine", elsewhere)], named("mine"), None),
        ),
        ("placed", chain(placed(), missing(), None)),
        ("placed-lenient", chain(placed(), missing_or_failed(), None)),
        (
            "anybody-or-mine",
            chain(vec![("a", of_nobody), ("mine", mine())], missing(), None),
        ),
        ("alice", leave(of_alice)),
        ("group", leave(of_group)),
        ("scope", leave(reading)),
        ("present", leave(present)),
        ("object", leave(object)),
        ("list", leave(list)),
        (
            "deny-bob",
            chain(vec![("mine", leaving)], optional(), Some(deny_bob)),
        ),
        (
            "reroute",
            chain(vec![("mine", clearing(leaving_too))], optional(), None),
        ),
        (
            "reroute-for-nothing",
            chain(vec![("mine", clearing(mine()))], optional(), None),
        ),
        (
            "remote",
            chain(
                vec![("mine", fetching("keys", "/keys"))],
                named("mine"),
                None,
            ),
        ),
        (
            "remote-500",
            chain(
                vec![("mine", fetching("keys", "/broken"))],
                named("mine"),
                None,
            ),
        ),
        (
            "remote-no-cluster",
            chain(
                vec![("mine", fetching("missing", "/keys"))],
                named("mine"),
                None,
            ),
        ),
    ]
}

/// A filter whose keys are fetched once; the endpoint gets the tokens or not.
pub(super) fn fetching(forward: bool) -> Filters {
    let provider = JwtProvider {
        issuer: ISSUER.to_owned(),
        jwks_source_specifier: remote("keys", "/keys"),
        forward,
        ..Default::default()
    };
    chain(vec![("mine", provider)], named("mine"), None)
}

/// A filter whose keys are fetched again all the time.
pub(super) fn refreshing() -> Filters {
    let mut provider = JwtProvider {
        issuer: ISSUER.to_owned(),
        jwks_source_specifier: remote("keys", "/keys"),
        ..Default::default()
    };
    if let Some(JwksSourceSpecifier::RemoteJwks(remote)) = &mut provider.jwks_source_specifier {
        remote.cache_duration = Some(Duration {
            seconds: 0,
            nanos: 1_000_000,
        });
    }
    chain(vec![("mine", provider)], named("mine"), None)
}

/// What is published; none is an error.
pub(super) type Published = Arc<Mutex<Option<String>>>;

/// Publishes keys at `/keys`, and 500 anywhere else.
pub(super) async fn publish(keys: Published) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let keys = keys.clone();
            tokio::spawn(async move {
                let mut request = [0; 4096];
                while let Ok(n @ 1..) = stream.read(&mut request).await {
                    let keys = keys.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    let answer = match keys {
                        Some(keys) if request[..n].starts_with(b"GET /keys ") => {
                            let length = keys.len();
                            format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{keys}")
                        }
                        _ => "HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n".to_owned(),
                    };
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    address
}

/// What routes say of the filter, by path.
pub(crate) fn by_route() -> Vec<(&'static str, Any)> {
    let wanted = |specifier| {
        pack_any(PerRouteConfig {
            requirement_specifier: Some(specifier),
        })
    };
    let named = RequirementSpecifier::RequirementName("of route".to_owned());
    vec![
        ("/ok/untold", wanted(RequirementSpecifier::Disabled(true))),
        ("/ok/named", wanted(named)),
    ]
}
