//! What people see: the page, signing in and out, and what it says when a part is missing.

use std::net::SocketAddr;
use std::time::Duration;

use crate::support::{Recorder, get, nobody, send, start, start_with};
use http::Method;
use periplus_bookinfo::Role;
use tokio::net::TcpListener;
use tokio::time::Instant;

async fn page_with(reviews_version: &str) -> SocketAddr {
    let ratings = start(Role::Ratings, "v1", &[]).await;
    let details = start(Role::Details, "v1", &[]).await;
    let backends = [(Role::Ratings, ratings)];
    let reviews = start_with(Role::Reviews, reviews_version, &backends, &[]).await;
    let backends = [(Role::Details, details), (Role::Reviews, reviews)];
    start_with(Role::Productpage, "v1", &backends, &[]).await
}

#[tokio::test]
async fn stars_by_version() {
    for (version, stars) in [("v1", None), ("v2", Some("black")), ("v3", Some("red"))] {
        let page = get(page_with(version).await, "/productpage").await;
        assert_eq!(page.status, 200);
        assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
        assert!(page.body.contains("<title>Simple Bookstore App</title>"));
        assert!(page.body.contains("PublisherA"));
        assert!(page.body.contains("The slapstick humour is refreshing!"));
        assert!(
            page.body
                .contains(&format!("<code>reviews-{version}</code>"))
        );
        assert_eq!(page.body.contains('★'), stars.is_some(), "{version}");
        if let Some(color) = stars {
            assert!(
                page.body
                    .contains(&format!("style=\"color:{color}\">★★★★★<"))
            );
            assert!(
                page.body
                    .contains(&format!("style=\"color:{color}\">★★★★☆<"))
            );
        }
    }
}

#[tokio::test]
async fn missing_parts_are_named() {
    let details = start(Role::Details, "v1", &[]).await;
    let reviews = start(Role::Reviews, "v1", &[]).await;
    let no_ratings = [(Role::Ratings, nobody().await)];
    let starless = start_with(Role::Reviews, "v2", &no_ratings, &[]).await;
    let gone = nobody().await;
    for (details, reviews, texts) in [
        (
            gone,
            reviews,
            &["Error fetching product details", "product details are"][..],
        ),
        (
            details,
            gone,
            &["Error fetching product reviews", "product reviews are"],
        ),
        (
            details,
            starless,
            &["Ratings service is currently unavailable"],
        ),
    ] {
        let backends = [(Role::Details, details), (Role::Reviews, reviews)];
        let page = start_with(Role::Productpage, "v1", &backends, &[]).await;
        let page = get(page, "/productpage").await;
        assert_eq!(page.status, 200);
        for text in texts {
            assert!(page.body.contains(text), "{text} in {}", page.body);
        }
        assert!(!page.body.contains('★'));
    }
}

#[tokio::test]
async fn other_pages() {
    let page = page_with("v1").await;
    for (path, status, text) in [
        ("/", 200, "simple bookstore application"),
        ("/index.html", 200, "simple bookstore application"),
        ("/health", 200, "Product page is healthy"),
        ("/static/bookinfo.css", 200, "color-scheme"),
        ("/static/nothing.css", 404, ""),
        ("/login", 405, ""),
    ] {
        let answer = get(page, path).await;
        assert_eq!(answer.status, status, "{path}");
        assert!(answer.body.contains(text), "{path}");
    }
    assert_eq!(
        send(page, Method::POST, "/productpage", &[], "")
            .await
            .status,
        405
    );
}

#[tokio::test]
async fn signing_in_and_out() {
    let page = page_with("v1").await;
    assert!(get(page, "/productpage").await.body.contains("Sign in"));

    let login = send(page, Method::POST, "/login", &[], "username=jason&passwd=").await;
    assert_eq!(
        (login.status, login.header("location")),
        (302, "/productpage")
    );
    let cookie = login.header("set-cookie").split(';').next().unwrap();
    let signed_in = send(page, Method::GET, "/productpage", &[("cookie", cookie)], "").await;
    assert!(signed_in.body.contains("<span class=\"user\">jason</span>"));
    assert!(signed_in.body.contains("Sign out"));

    let logout = get(page, "/logout").await;
    assert_eq!(
        (logout.status, logout.header("location")),
        (302, "/productpage")
    );
    assert!(logout.header("set-cookie").contains("Max-Age=0"));

    for form in [
        "",
        "username=",
        "user=jason",
        "username=a%0d%0aset-cookie:b",
    ] {
        let answer = send(page, Method::POST, "/login", &[], form).await;
        assert_eq!(answer.status, 400, "{form}");
    }
}

#[tokio::test]
async fn redirects_stay_on_this_host() {
    let page = page_with("v1").await;
    let host = page.to_string();
    for (referrer, expected) in [
        (
            format!("http://{host}/productpage?u=test"),
            "/productpage?u=test",
        ),
        (format!("http://{host}//elsewhere.example/"), "/productpage"),
        ("http://elsewhere.example/x".to_owned(), "/productpage"),
        ("nonsense".to_owned(), "/productpage"),
    ] {
        let headers = [("referer", referrer.as_str())];
        let answer = send(page, Method::POST, "/login", &headers, "username=a").await;
        assert_eq!(answer.header("location"), expected, "{referrer}");
    }
}

/// A service that accepts and never answers.
async fn silent() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    address
}

/// The time limits are the originals': on them hang the fault-injection tutorials.
#[tokio::test]
async fn how_long_callers_wait() {
    let silent = silent().await;
    let reviews = async {
        let reviews = start_with(Role::Reviews, "v3", &[(Role::Ratings, silent)], &[]).await;
        let begun = Instant::now();
        let answer = get(reviews, "/reviews/0").await;
        assert!(
            answer
                .body
                .contains("Ratings service is currently unavailable")
        );
        begun.elapsed()
    };
    let page = async {
        let details = Recorder::start(200, "{}").await;
        let backends = [(Role::Details, details.address), (Role::Reviews, silent)];
        let page = start_with(Role::Productpage, "v1", &backends, &[]).await;
        let begun = Instant::now();
        let answer = get(page, "/productpage").await;
        assert!(answer.body.contains("Error fetching product reviews"));
        begun.elapsed()
    };
    let (reviews, page) = tokio::join!(reviews, page);
    for (what, took, expected_ms) in [("reviews v3", reviews, 2500), ("page", page, 6000)] {
        let expected = Duration::from_millis(expected_ms);
        assert!(took >= expected, "{what}: {took:?}");
        assert!(took < expected + Duration::from_secs(2), "{what}: {took:?}");
    }
}
