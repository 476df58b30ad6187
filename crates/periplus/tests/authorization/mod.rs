//! Istio's tutorial of authorization on Bookinfo, step by step: nobody may do anything, then one hop after the other is
//! allowed; tokens; a policy that is only tried; one that cannot be read.

use std::time::{Duration, Instant, SystemTime};

use periplus_identity::{AUDIENCE, Bearer, ServiceAccount, TokenKey};

use super::support::tokens::{ISSUER, keys};
use super::support::{Demo, get, get_json, get_with, patiently};

const HOUR: Duration = Duration::from_secs(3600);

const ROUTES: &str = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - route: [{destination: {host: reviews, subset: v3}}]
";

fn policy(name: &str, spec: &str) -> String {
    format!(
        "---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: {name}, namespace: default}}
spec: {spec}
"
    )
}

/// Who may GET from whom.
fn viewer(app: &str, callers: &[&str]) -> String {
    let callers: Vec<String> = callers
        .iter()
        .map(|caller| format!("cluster.local/ns/{caller}"))
        .collect();
    let from = match callers.as_slice() {
        [] => String::new(),
        callers => format!(
            "from: [{{source: {{principals: [{}]}}}}], ",
            callers.join(", ")
        ),
    };
    policy(
        &format!("{app}-viewer"),
        &format!(
            "{{selector: {{matchLabels: {{app: {app}}}}}, action: ALLOW, \
             rules: [{{{from}to: [{{operation: {{methods: [GET]}}}}]}}]}}"
        ),
    )
}

/// What a page lacks: all of it, details, reviews, stars.
fn lacks(base: u16) -> [bool; 4] {
    let page = get(base, "/productpage");
    let has = |text: &str| page.body.contains(text);
    let is_there = page.status == 200;
    [
        !is_there,
        is_there && has("Error fetching product details"),
        is_there && has("Error fetching product reviews"),
        is_there && has("Ratings service is currently unavailable"),
    ]
}

/// Waits until a page lacks this.
fn wait_for(demo: &Demo, expected: [bool; 4], more: &str, look: impl Fn() -> [bool; 4]) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let found = look();
        if found == expected {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{found:?} in place of {expected:?} with {more}\n{}",
            demo.log("control")
        );
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// Follows it on a demo whose workloads speak mutual TLS.
pub(crate) fn follow(demo: &Demo, base: u16) {
    let rules = |policies: &str| demo.edit(&format!("{}{policies}", base_rules(demo)));
    let mut allowed = policy("allow-nothing", "{}");
    let steps = [
        (
            String::new(),
            [true, false, false, false],
            "RBAC: access denied",
        ),
        (viewer("productpage", &[]), [false, true, true, false], ""),
        (
            viewer("details", &["default/sa/bookinfo-productpage"]),
            [false, false, true, false],
            "",
        ),
        (
            viewer("reviews", &["default/sa/bookinfo-productpage"]),
            [false, false, false, true],
            "",
        ),
        (
            viewer("ratings", &["default/sa/bookinfo-reviews"]),
            [false; 4],
            "",
        ),
    ];
    for (more, expected, said) in steps {
        allowed += &more;
        rules(&allowed);
        wait_for(demo, expected, &more, || lacks(base));
        if !said.is_empty() {
            assert_eq!(get(base, "/productpage").body, said);
        }
    }
    // Another method is another request.
    let posted = super::support::request(base, "POST", "/productpage", &[], "");
    assert_eq!(
        (posted.status, posted.body.as_str()),
        (403, "RBAC: access denied")
    );

    tokens(demo, base, &allowed, &rules);
    rules(&allowed);
    patiently("without tokens again", || {
        (lacks(base) == [false; 4]).then_some(())
    });

    // What is only tried is told by spans, and stops nobody.
    let tried = policy(
        "try",
        "{action: DENY, rules: [{to: [{operation: {methods: [GET]}}]}]}",
    )
    .replace(
        "namespace: default}",
        "namespace: default, annotations: {istio.io/dry-run: 'true'}}",
    );
    rules(&format!("{allowed}{tried}"));
    patiently("a span that tells what would have been denied", || {
        assert_eq!(get(base, "/productpage").status, 200);
        let found = get_json(base + 1, "/api/traces?service=productpage.default&limit=5");
        let text = found.to_string();
        text.contains("rbac.shadow_engine_result\",\"type\":\"string\",\"value\":\"denied")
            .then_some(())
    });

    // A policy that cannot be read any more changes nothing.
    rules(&format!(
        "{}{}",
        policy("allow-nothing", "{}"),
        viewer("productpage", &[])
    ));
    patiently("closed again", || {
        (lacks(base) == [false, true, true, false]).then_some(())
    });
    rules(&policy("allow-nothing", "{rule: []}"));
    patiently("the refusal of the file", || {
        demo.log("control")
            .contains("unknown field `rule`")
            .then_some(())
    });
    assert_eq!(lacks(base), [false, true, true, false]);
}

/// The routes as they are, and the rules that the demo cannot do without.
fn base_rules(demo: &Demo) -> String {
    let example = demo.directory().join("examples/mtls-strict.yaml");
    let strict = std::fs::read_to_string(example).unwrap();
    format!("{strict}\n---\n{ROUTES}")
}

/// Routes of the gateway by what a token says.
fn routed(base: u16, others: &str, [ada, bob]: [&str; 2], rules: &dyn Fn(&str)) {
    let asked = format!("'@request.auth.claims[iss]': {{exact: '{ISSUER}'}}");
    let routes = format!(
        "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: by-claim}}
spec:
  hosts: [claims.example]
  gateways: [bookinfo-gateway]
  http:
  - match: [{{headers: {{'@request.auth.claims.sub': {{prefix: 'system:serviceaccount:default:ada'}}, {asked}}}}}]
    directResponse: {{status: 202}}
  - match: [{{withoutHeaders: {{{asked}}}}}]
    directResponse: {{status: 404}}
  - directResponse: {{status: 410}}
"
    );
    rules(&format!("{others}{routes}"));
    let ask = |token: &str| {
        let value = format!("Bearer {token}");
        let headers = [
            ("host", "claims.example"),
            ("authorization", value.as_str()),
        ];
        let known = if token.is_empty() { 1 } else { 2 };
        get_with(base, "/", &headers[..known]).status
    };
    patiently("the routes by claim", || (ask(ada) == 202).then_some(()));
    for (token, status) in [("", 404), (bob, 410), ("a.b", 401)] {
        assert_eq!(ask(token), status, "{token}");
    }
}

/// RequestAuthentication: without a token, with a good one, with others.
fn tokens(demo: &Demo, base: u16, allowed: &str, rules: &dyn Fn(&str)) {
    let identity = demo.directory().join("identity");
    let key = TokenKey::load_or_create(&identity.join("token-key.pem")).unwrap();
    let issue = |account: &str, ago: Duration| {
        let bearer = Bearer {
            account: ServiceAccount::new("default", account).unwrap(),
            workload: String::new(),
        };
        key.issue(&bearer, AUDIENCE, HOUR, SystemTime::now() - ago)
    };
    let jwt = format!(
        "---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: jwt, namespace: default}}
spec:
  selector: {{matchLabels: {{app: productpage}}}}
  jwtRules: [{{issuer: '{ISSUER}', jwks: '{}'}}]
",
        keys(&identity.join("token-key.pem"))
    );
    let required = policy(
        "require-jwt",
        &format!(
            "{{selector: {{matchLabels: {{app: productpage}}}}, action: DENY, rules: [{{from: [{{source: \
             {{notRequestPrincipals: ['{ISSUER}/system:serviceaccount:default:ada']}}}}]}}]}}"
        ),
    );
    let (ada, bob) = (issue("ada", Duration::ZERO), issue("bob", Duration::ZERO));
    let expired = issue("ada", HOUR * 2);
    let mut forged = ada.clone();
    forged.truncate(forged.len() - 4);
    forged.push_str("AAAA");
    let ask = |token: &str| {
        let value = format!("Bearer {token}");
        let headers = [("authorization", value.as_str())];
        match token {
            "" => get(base, "/productpage").status,
            _ => get_with(base, "/productpage", &headers).status,
        }
    };
    rules(&format!("{allowed}{jwt}"));
    patiently("a forged token", || (ask(&forged) == 401).then_some(()));
    for (token, status) in [
        ("", 200),
        (&ada, 200),
        (&bob, 200),
        (&expired, 401),
        ("a.b", 401),
    ] {
        assert_eq!(ask(token), status, "{token}");
    }
    let at_gateway = jwt
        .replace("namespace: default", "namespace: istio-system")
        .replace("app: productpage", "istio: ingressgateway");
    routed(base, &format!("{allowed}{at_gateway}"), [&ada, &bob], rules);
    rules(&format!("{allowed}{jwt}{required}"));
    patiently("a request without a token", || {
        (ask("") == 403).then_some(())
    });
    for (token, status) in [(&ada, 200), (&bob, 403), (&forged, 401)] {
        assert_eq!(ask(token), status, "{token}");
    }
}
