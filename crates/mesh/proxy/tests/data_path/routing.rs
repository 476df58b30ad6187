//! Which route and which cluster a request gets.

use periplus_proxy::snapshot::{
    Forward, HeaderMatch, PathMatch, RouteAction, ValueMatch, WeightedCluster,
};

use crate::support::config::{Mesh, cluster};
use crate::support::origin::Origin;
use crate::support::{Config, forward, route};

fn say(text: &str) -> RouteAction {
    RouteAction::Respond {
        status: 200,
        body: text.into(),
    }
}

fn ask(mesh: &Mesh, host: &str, path: &str, headers: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n{headers}\r\n");
    mesh.client().exchange(request).text()
}

#[test]
fn hosts_match_exactly_then_by_suffix_then_by_prefix() {
    let origin = Origin::saying("");
    let mesh = Config::to(&origin)
        .with_manager(|manager| {
            let table = manager.routes.take().expect("routes");
            let mut table = std::sync::Arc::into_inner(table).expect("not shared");
            let mut host = |name: &str| {
                table
                    .virtual_hosts
                    .push(periplus_proxy::snapshot::VirtualHost::new(
                        name,
                        vec![route("/", say(name)).into()],
                    ));
                table.virtual_hosts.len() - 1
            };
            let (exact, suffix, longer) = (host("exact"), host("suffix"), host("longer"));
            let (prefix, any) = (host("prefix"), host("any"));
            table.exact.insert("reviews.example.com".into(), exact);
            table.suffixes = vec![
                (".b.example.com".into(), longer),
                (".example.com".into(), suffix),
            ];
            table.prefixes = vec![("reviews.".into(), prefix)];
            table.any = Some(any);
            manager.routes = Some(table.into());
        })
        .start();
    let cases = [
        ("reviews.example.com", "exact"),
        ("Reviews.EXAMPLE.com", "exact"),
        ("reviews.example.com:8080", "exact"),
        ("a.example.com", "suffix"),
        ("a.b.example.com", "longer"),
        ("reviews.org", "prefix"),
        ("example.com", "any"),
        (".example.com", "any"),
        ("[::1]:80", "any"),
        ("", "any"),
    ];
    for (host, expected) in cases {
        assert_eq!(ask(&mesh, host, "/", ""), expected, "{host}");
    }
    let long = "x".repeat(1000);
    assert_eq!(ask(&mesh, &long, "/", ""), "any");
}

#[test]
fn a_port_counts_if_the_table_says_so() {
    let origin = Origin::saying("");
    let mesh = Config::to(&origin)
        .with_manager(|manager| {
            let table = manager.routes.take().expect("routes");
            let mut table = std::sync::Arc::into_inner(table).expect("not shared");
            table.ignore_port = false;
            table.virtual_hosts[0].routes = vec![route("/", say("with port")).into()];
            table.exact.insert("reviews:9080".into(), 0);
            table.any = None;
            manager.routes = Some(table.into());
        })
        .start();
    assert_eq!(ask(&mesh, "reviews:9080", "/", ""), "with port");
    assert_eq!(ask(&mesh, "reviews", "/", ""), "", "404");
}

#[test]
fn paths_match_without_their_query_and_the_first_route_wins() {
    let origin = Origin::saying("");
    let mut exact = route("/", say("exact"));
    exact.path = PathMatch::Exact("/exact".into());
    let mut separated = route("/", say("separated"));
    separated.path = PathMatch::PathSeparatedPrefix("/api".into());
    let mesh = Config::to(&origin)
        .routes(vec![
            exact,
            separated,
            route("/pre", say("prefix")),
            route("/", say("rest")),
        ])
        .start();
    for (path, expected) in [
        ("/exact", "exact"),
        ("/exact?a=b", "exact"),
        ("/exact/", "rest"),
        ("/api", "separated"),
        ("/api?x=/", "separated"),
        ("/api/v1", "separated"),
        ("/apis", "rest"),
        ("/prefix", "prefix"),
        ("/?/pre", "rest"),
    ] {
        assert_eq!(ask(&mesh, "h", path, ""), expected, "{path}");
    }
}

#[test]
fn headers_match_by_value_pseudo_headers_and_cookies_included() {
    let origin = Origin::saying("");
    let with = |name: &str, value, invert, answer| {
        let mut route = route("/", say(answer));
        route.headers = vec![HeaderMatch {
            name: name.into(),
            value,
            invert,
            missing_is_empty: false,
        }];
        route
    };
    let mesh = Config::to(&origin)
        .routes(vec![
            with(
                "end-user",
                ValueMatch::Exact("jason".into()),
                false,
                "jason",
            ),
            with(
                "cookie",
                ValueMatch::Contains("session=1".into()),
                false,
                "cookie",
            ),
            with(":method", ValueMatch::Exact("PUT".into()), false, "put"),
            with(
                ":authority",
                ValueMatch::Prefix("special".into()),
                false,
                "authority",
            ),
            with("x-list", ValueMatch::Exact("b".into()), false, "list"),
            with("user-agent", ValueMatch::Suffix("bot".into()), false, "bot"),
            with("x-there", ValueMatch::Present, false, "present"),
            with("x-not", ValueMatch::Exact("1".into()), true, "inverted"),
            route("/", say("rest")),
        ])
        .start();
    for (headers, expected) in [
        ("end-user: jason\r\n", "jason"),
        ("End-User: jason\r\n", "jason"),
        ("end-user: Jason\r\n", "rest"),
        ("cookie: a=b; session=1\r\n", "cookie"),
        // Each line for itself.
        ("x-list: a\r\nx-list: b\r\n", "list"),
        ("x-list: a,b\r\n", "rest"),
        ("x-not: 2\r\nx-not: 1\r\n", "rest"),
        ("user-agent: some-bot\r\n", "bot"),
        ("x-there:\r\n", "present"),
        ("x-not: 2\r\n", "inverted"),
        ("x-not: 1\r\n", "rest"),
        ("", "rest"),
    ] {
        assert_eq!(ask(&mesh, "h", "/", headers), expected, "{headers:?}");
    }
    assert_eq!(ask(&mesh, "special.host", "/", ""), "authority");
    let put = mesh.client().exchange("PUT / HTTP/1.1\r\nhost: h\r\n\r\n");
    assert_eq!(put.text(), "put");
}

#[test]
fn weights_split_the_requests() {
    let heavy = Origin::saying("heavy");
    let light = Origin::saying("light");
    let split = RouteAction::Forward(Forward {
        clusters: [("heavy", 90), ("light", 10), ("never", 0)]
            .map(|(name, weight)| WeightedCluster::new(name, weight))
            .to_vec(),
        total_weight: 100,
        ..Forward::default()
    });
    let mesh = Config::to(&heavy)
        .cluster(cluster("heavy", &[heavy.address]))
        .cluster(cluster("light", &[light.address]))
        .routes(vec![route("/", split)])
        .start();
    let mut client = mesh.client();
    for _ in 0..1000 {
        assert_eq!(client.get("/").status, 200);
    }
    // Five standard deviations.
    let share = light.received().len();
    assert!((53..=147).contains(&share), "{share} of 1000");
}

#[test]
fn a_request_body_for_a_direct_answer_is_passed_over() {
    let origin = Origin::saying("app");
    let mesh = Config::to(&origin)
        .routes(vec![
            route("/direct", say("direct")),
            route("/", forward("app")),
        ])
        .start();
    let mut client = mesh.client();
    let request = "POST /direct HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\n\r\nGET /";
    assert_eq!(client.exchange(request).text(), "direct");
    assert_eq!(client.get("/x").text(), "app", "the body was no request");
    let response =
        client.exchange("POST /direct HTTP/1.1\r\nhost: h\r\ncontent-length: 50\r\n\r\nhalf");
    assert_eq!(response.header("connection").as_deref(), Some("close"));
}

#[test]
fn an_answer_that_can_have_no_body_has_none_whatever_it_is_told_to_say() {
    let origin = Origin::saying("hello");
    let answers = [204, 304].map(|status| {
        let body = "more".to_owned();
        let answer = RouteAction::Respond { status, body };
        route(&format!("/{status}"), answer)
    });
    let mut routes = answers.to_vec();
    routes.push(route("/", forward("app")));
    let mesh = Config::to(&origin).routes(routes).start();
    let mut client = mesh.client();
    for status in [204, 304] {
        client.send(format!("GET /{status} HTTP/1.1\r\nhost: h\r\n\r\n"));
        let head = client.head().expect("a head");
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        assert!(!head.contains("content-length"), "{head}");
        // It would be the beginning of the next answer.
        assert_eq!(client.get("/").text(), "hello");
    }
}
