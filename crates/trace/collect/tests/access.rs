//! A guard before the routers of tenants.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::routing::any;
use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use periplus_collect::access::{Access, Guard, Need, Needs, Routers, Scope};
use tower_service::Service as _;

const ADA: &str = "ada-secret-0123456789";
const BOB: &str = "bob-secret-0123456789";

fn guard() -> Router {
    let config = format!(
        r#"{{"tenants": {{"known": {{"shop": {{}}, "full": {{}}}}}}, "tokens": [
            {{"name": "ada", "token": "{ADA}", "scopes": ["read", "write"]}},
            {{"name": "bob", "token": "{BOB}", "tenant": "shop", "scopes": ["read"]}}]}}"#
    );
    let access = Access::new(&serde_json::from_str(&config).unwrap()).unwrap();
    let needs: Needs = Arc::new(|method: &Method, path: &str| match path {
        "/public" => Need::Nothing,
        "/strategies" => Need::Token,
        _ if method == Method::POST => Need::Scope(Scope::Write),
        _ => Need::Scope(Scope::Read),
    });
    let routers: Routers = Arc::new(|tenant| {
        Box::pin(async move {
            let name = tenant.unwrap().to_string();
            match name.as_str() {
                "full" => Err("too many tenants".to_owned()),
                _ => Ok(Router::new().fallback(any(async move || name))),
            }
        })
    });
    let public = Router::new().fallback(any(async || "for everybody"));
    Guard::new(Arc::new(access), needs, routers, public, false).into_router()
}

async fn ask(request: http::request::Builder) -> (Response<()>, String) {
    let response = guard().call(request.body(Body::empty()).unwrap()).await;
    let (head, body) = response.unwrap().into_parts();
    let text = body.collect().await.unwrap().to_bytes();
    (
        Response::from_parts(head, ()),
        String::from_utf8(text.to_vec()).unwrap(),
    )
}

fn of(token: &str) -> String {
    format!("Bearer {token}")
}

#[tokio::test]
async fn requests_go_to_their_tenant_or_no_further() {
    let get = |token: &str, tenant: &str, path: &str| {
        let mut request = Request::get(path);
        if !token.is_empty() {
            request = request.header("authorization", of(token));
        }
        if !tenant.is_empty() {
            request = request.header("x-tenant", tenant);
        }
        request
    };
    let cases = [
        (get("", "", "/public"), 200, "for everybody"),
        (get(BOB, "", "/strategies"), 200, "for everybody"),
        (
            get("nobodys-secret-0123", "shop", "/strategies"),
            401,
            "unknown token",
        ),
        (get(ADA, "shop", "/x"), 200, "shop"),
        (get(BOB, "", "/x"), 200, "shop"),
        (
            get(BOB, "", "/x").method(Method::POST),
            403,
            "token 'bob' lacks the scope 'write'",
        ),
        (get(ADA, "", "/x"), 401, "missing tenant header"),
        (get(ADA, "mill", "/x"), 401, "unknown tenant"),
        (
            get("nobodys-secret-0123", "shop", "/x"),
            401,
            "unknown token",
        ),
        (get(ADA, "full", "/x"), 503, "too many tenants"),
        (
            get("", "", "/x").method(Method::OPTIONS),
            200,
            "for everybody",
        ),
    ];
    for (request, status, text) in cases {
        let (head, body) = ask(request).await;
        assert_eq!((head.status().as_u16(), body.as_str()), (status, text));
    }
    let (head, body) = ask(get("", "shop", "/x")).await;
    assert_eq!(head.status(), 401);
    assert_eq!(
        head.headers()["www-authenticate"],
        "Bearer realm=\"periplus\""
    );
    assert!(body.starts_with("missing token: "), "{body}");
}

#[tokio::test]
async fn denials_over_grpc_are_statuses() {
    for (tenant, token, code, message) in [
        ("shop", "", "16", "missing%20token"),
        ("", ADA, "16", "missing%20tenant%20header"),
        ("mill", ADA, "7", "unknown%20tenant"),
        ("full", ADA, "14", "too%20many%20tenants"),
        ("shop", BOB, "7", "token"),
    ] {
        let mut request = Request::post("/jaeger.api_v2.CollectorService/PostSpans")
            .header("content-type", "application/grpc+proto");
        if !token.is_empty() {
            request = request.header("authorization", of(token));
        }
        if !tenant.is_empty() {
            request = request.header("x-tenant", tenant);
        }
        let (head, _) = ask(request).await;
        assert_eq!(head.status(), 200);
        assert_eq!(head.headers()["grpc-status"], code);
        let found = head.headers()["grpc-message"].to_str().unwrap();
        assert!(found.starts_with(message), "{found}");
    }
}

#[tokio::test]
async fn a_browser_gets_a_cookie_for_its_token() {
    let uri = format!("/search?service=a&token={BOB}&limit=5");
    let (head, _) = ask(Request::get(uri)).await;
    assert_eq!(head.status(), 303);
    assert_eq!(head.headers()["location"], "/search?service=a&limit=5");
    let cookie = head.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert_eq!(
        cookie,
        format!("periplus-token={BOB}; Path=/; HttpOnly; SameSite=Strict")
    );
    let pair = cookie.split(';').next().unwrap();
    let (_, body) = ask(Request::get("/x").header("cookie", pair)).await;
    assert_eq!(body, "shop");
    // Neither a wrong token nor a path that leads elsewhere.
    let (head, _) = ask(Request::get("/public?token=nobodys")).await;
    assert_eq!(head.status(), 200);
    let (head, _) = ask(Request::get(format!("//evil.example/?token={BOB}"))).await;
    assert_eq!(head.headers()["location"], "/evil.example/");
}
