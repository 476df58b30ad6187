//! The UI over HTTP: which paths are the page, how assets are cached and compressed, which headers protect it.

use axum::body::Body;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use tower_service::Service as _;

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().expect("our headers are ASCII"))
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("the body is text")
    }
}

async fn ask(method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = periplus_ui::router("", &[])
        .call(
            request
                .body(Body::empty())
                .expect("the request is well-formed"),
        )
        .await
        .expect("a router does not fail");
    let (parts, body) = response.into_parts();
    Answer {
        status: parts.status,
        headers: parts.headers,
        body: body
            .collect()
            .await
            .expect("the body is in memory")
            .to_bytes()
            .to_vec(),
    }
}

async fn get(path: &str) -> Answer {
    ask(Method::GET, path, &[]).await
}

/// The addresses of the script and the style, as the page names them.
async fn asset_paths() -> Vec<String> {
    let page = get("/search").await.text();
    page.split('"')
        .filter(|part| part.starts_with("/assets/"))
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn the_paths_of_the_ui_are_the_page() {
    for path in [
        "/",
        "/search?service=a&lookback=1h",
        "/trace/463ac35c9f6413ad?uiFind=x",
    ] {
        let answer = get(path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
        assert_eq!(answer.header("cache-control"), "no-cache");
        assert!(answer.text().contains("<div id=\"app\">"), "{path}");
    }
}

#[tokio::test]
async fn other_paths_stay_404() {
    for path in [
        "/serch",
        "/api/trace",
        "/assets/app.js",
        "/trace/a/b",
        "/index.html",
    ] {
        assert_eq!(get(path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn the_page_loads_assets_that_exist_and_stay() {
    let paths = asset_paths().await;
    assert_eq!(paths.len(), 2, "a script and a style: {paths:?}");
    for path in paths {
        let answer = get(&path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        assert_eq!(
            answer.header("cache-control"),
            "public, max-age=31536000, immutable"
        );
        assert!(!answer.body.is_empty());
    }
    assert_eq!(
        get("/assets/0000000000000000/app.js").await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        get("/favicon.svg").await.header("content-type"),
        "image/svg+xml"
    );
}

#[tokio::test]
async fn foreign_text_cannot_become_a_script() {
    let answer = get("/search").await;
    let policy = answer.header("content-security-policy");
    for directive in [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "require-trusted-types-for 'script'",
    ] {
        assert!(policy.contains(directive), "{directive} in {policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert!(
        !answer.text().contains("style=\""),
        "inline style would be blocked"
    );
}

#[tokio::test]
async fn gzip_is_the_same_file_made_smaller() {
    for path in asset_paths().await {
        let plain = get(&path).await;
        let packed = ask(Method::GET, &path, &[("accept-encoding", "gzip, br")]).await;
        assert_eq!(packed.header("content-encoding"), "gzip");
        assert_eq!(packed.header("vary"), "accept-encoding");
        assert_ne!(
            packed.header("etag"),
            plain.header("etag"),
            "one tag, one representation"
        );
        assert!(packed.body.len() < plain.body.len() / 2, "{path}");
        let mut unpacked = Vec::new();
        std::io::copy(
            &mut flate2::read::GzDecoder::new(packed.body.as_slice()),
            &mut unpacked,
        )
        .unwrap();
        assert_eq!(unpacked, plain.body, "{path}");
    }
}

#[tokio::test]
async fn what_the_client_has_is_not_sent_again() {
    let first = get("/search").await;
    let again = ask(
        Method::GET,
        "/search",
        &[("if-none-match", first.header("etag"))],
    )
    .await;
    assert_eq!(again.status, StatusCode::NOT_MODIFIED);
    assert!(again.body.is_empty());
    assert_eq!(again.header("etag"), first.header("etag"));
}

#[tokio::test]
async fn the_first_load_stays_small() {
    let mut total = ask(Method::GET, "/search", &[("accept-encoding", "gzip")])
        .await
        .body
        .len();
    for path in asset_paths().await {
        total += ask(Method::GET, &path, &[("accept-encoding", "gzip")])
            .await
            .body
            .len();
    }
    assert!(total <= 90_000, "{total} bytes; the budget is 90 kB");
}

#[tokio::test]
async fn head_has_no_body_and_posting_is_refused() {
    let head = ask(Method::HEAD, "/search", &[]).await;
    assert_eq!(head.status, StatusCode::OK);
    assert!(head.body.is_empty());
    assert_eq!(
        ask(Method::POST, "/search", &[]).await.status,
        StatusCode::METHOD_NOT_ALLOWED
    );
}

#[tokio::test]
async fn below_a_base_path_the_page_says_so() {
    let menu = [periplus_ui::MenuLink {
        label: "Docs & \"more\" <x>".to_owned(),
        url: "https://docs.example/".to_owned(),
    }];
    let request = Request::builder().uri("/search").body(Body::empty());
    let response = periplus_ui::router("/jaeger", &menu)
        .call(request.expect("the request is well-formed"))
        .await
        .expect("a router does not fail");
    let body = response.into_body().collect().await;
    let page = body.expect("the body is in memory").to_bytes();
    let page = std::str::from_utf8(&page).expect("the page is text");
    for part in [
        r#"<meta name="base-path" content="/jaeger" />"#,
        r#"<meta name="menu-link" content="https://docs.example/ Docs &amp; &quot;more&quot; &lt;x>" />"#,
        r#"src="/jaeger/assets/"#,
        r#"href="/jaeger/favicon.svg""#,
    ] {
        assert!(page.contains(part), "{part} in {page}");
    }
}
