use std::cell::Cell;

use proptest::prelude::*;

use super::*;
use crate::snapshot::{Pattern, RouteAction, ValueMatch};

fn routes(paths: impl IntoIterator<Item = PathMatch>) -> Vec<Arc<Route>> {
    let action = || RouteAction::Respond {
        status: 200,
        body: String::new(),
    };
    let made = paths.into_iter();
    made.map(|path| Arc::new(Route::new(path, action())))
        .collect()
}

/// The first route for a path, and how many were asked.
fn find(routes: &[Arc<Route>], path: &str) -> (Option<usize>, usize) {
    let asked = Cell::new(0);
    let is_for = |at: usize, has_prefix: bool| {
        asked.set(asked.get() + 1);
        let matches = routes[at].path.matches(path.as_bytes());
        assert!(matches || !has_prefix || !matches!(routes[at].path, PathMatch::Prefix(_)));
        matches
    };
    let index = Index::new(routes).expect("enough routes");
    let first = index.first(path.as_bytes(), |_| Values::Several(Vec::new()), is_for);
    (first, asked.get())
}

#[test]
fn a_thousand_routes_cost_what_ten_do() {
    type Kind = fn(String) -> PathMatch;
    let regex = |text: String| regex(&format!("{text}(/.*)?"));
    let kinds: [Kind; 4] = [
        PathMatch::Exact,
        PathMatch::Prefix,
        PathMatch::PathSeparatedPrefix,
        regex,
    ];
    for kind in kinds {
        let all = (0..1000).map(|at| kind(format!("/service-{at:04}/v1")));
        let all = routes(all.chain([PathMatch::Prefix("/".to_owned())]));
        let (ten, thousand) = (&all[990..], &all[..]);
        for (path, few, many) in [
            ("/service-0995/v1", 5, 995),
            ("/elsewhere", 10, 1000),
            ("/service-0995", 10, 1000),
        ] {
            let (found, asked) = find(ten, path);
            assert_eq!(
                (found, find(thousand, path)),
                (Some(few), (Some(many), asked))
            );
            assert!(asked <= 2, "{asked} routes were asked for {path}");
        }
    }
}

#[test]
fn texts_are_found_whatever_they_begin_with() {
    let texts: [&[&str]; 5] = [
        &[
            "/",
            "/a",
            "/ab",
            "/abcdefgh",
            "/abcdefghi",
            "/abcdefghij",
            "/abcdefgi",
            "/b",
            "/b/",
        ],
        &[
            "/common/1",
            "/common/10",
            "/common/1/",
            "/common/2",
            "/common/3",
            "/common/4",
            "/common/5",
            "/common/6",
            "/common/77777777x",
        ],
        &[
            "",
            "\0",
            "\0\0",
            "a",
            "a\0",
            "a\0\0\0\0\0\0\0",
            "a\0\0\0\0\0\0\0\0",
            "b",
            "c",
        ],
        &["/x", "/x1", "/x2", "/x3", "/x4", "/x5", "/x6", "/x7", "/x8"],
        &["/é", "/éa", "/éb", "/ü", "/üa", "/z", "/zz", "/zzz", "/~"],
    ];
    for texts in texts {
        let all = routes(
            texts
                .iter()
                .rev()
                .map(|text| PathMatch::Prefix((*text).to_owned())),
        );
        let longer = texts.iter().flat_map(|text| {
            [
                format!("{text}\0"),
                format!("{text}/"),
                format!("{text}~~~~~~~~~"),
            ]
        });
        let shorter = texts.iter().filter_map(|text| {
            Some(
                text[..text
                    .len()
                    .checked_sub(1)?
                    .min(text.floor_char_boundary(text.len() - 1))]
                    .to_owned(),
            )
        });
        for path in longer
            .chain(shorter)
            .chain(texts.iter().map(ToString::to_string))
        {
            let expected = all
                .iter()
                .position(|route| route.path.matches(path.as_bytes()));
            assert_eq!(find(&all, &path).0, expected, "{path:?} of {texts:?}");
        }
    }
}

#[test]
fn few_routes_have_no_index() {
    let all = routes((0..FEW).map(|at| PathMatch::Exact(at.to_string())));
    assert!(Index::new(&all).is_none());
}

#[test]
fn routes_of_one_path_are_told_apart_by_a_header() {
    let name = FieldName::from("x-tenant");
    let all = (0..1000).map(|at| {
        let route = routes([PathMatch::Prefix("/".to_owned())]).remove(0);
        let headers = vec![HeaderMatch {
            name: name.clone(),
            value: ValueMatch::Exact(format!("tenant-{}", at / 2)),
            invert: at == 999,
            missing_is_empty: false,
        }];
        Arc::new(Route {
            headers,
            ..Route::clone(&route)
        })
    });
    let all: Vec<_> = all.collect();
    let index = Index::new(&all).expect("enough routes");
    for (values, first, most) in [
        (&["tenant-7"][..], Some(14), 3),
        (&["tenant-499"], Some(998), 2),
        (&["nobody"], Some(999), 1),
        // Who has no such header does not have another value either.
        (&[], None, 1),
        // Each line counts.
        (&["nobody", "tenant-7"], Some(14), 3),
        (&["tenant-7", "tenant-3"], Some(6), 5),
    ] {
        let asked = Cell::new(0);
        let values = || values.iter().map(|value| value.as_bytes());
        let is_for = |at: usize, _| {
            asked.set(asked.get() + 1);
            all[at].headers[0].matches_lines(values())
        };
        let found = index.first(b"/", |_| Values::of(values()), is_for);
        let values: Vec<_> = values().collect();
        assert_eq!(found, first, "{values:?}");
        assert!(
            asked.get() <= most,
            "{} were asked for {values:?}",
            asked.get()
        );
    }
}

#[test]
fn an_expression_tells_what_its_matches_begin_with() {
    for (source, prefix) in [
        ("/api/[^/]+/items", "/api/"),
        ("^/api", "/api"),
        (r"/a\.b/.*", "/a.b/"),
        (r"/a\d", "/a"),
        ("/ab?c", "/a"),
        ("/ab*", "/a"),
        ("/ab{0,2}", "/a"),
        ("/ab+c", "/ab"),
        ("/ab+*c", "/a"),
        ("/ab+{0}", "/a"),
        (r"/a\<b", "/a<b"),
        ("/a|/b", ""),
        ("/a(b|c)", "/a"),
        ("/a(b|c)|/d", ""),
        (r"/a\|b", "/a|b"),
        ("/a[(]|/b", ""),
        ("(?i)/a", ""),
        (".*", ""),
    ] {
        let pattern = Pattern::new(source).expect("valid");
        assert_eq!(pattern.prefix(), prefix, "{source}");
    }
}

fn regex(source: &str) -> PathMatch {
    PathMatch::Regex(Pattern::new(source).expect("valid"))
}

fn path() -> impl Strategy<Value = String> {
    "[/ab]{0,6}"
}

fn condition() -> impl Strategy<Value = PathMatch> {
    let ignoring_case = |path| PathMatch::IgnoringCase(Box::new(PathMatch::Prefix(path)));
    prop_oneof![
        path().prop_map(PathMatch::Prefix),
        path().prop_map(PathMatch::Exact),
        path().prop_map(PathMatch::PathSeparatedPrefix),
        "[/ab.?*+()|]{0,6}".prop_filter_map("an expression", |source| {
            Pattern::new(&source).ok().map(PathMatch::Regex)
        }),
        path().prop_map(ignoring_case),
        Just(PathMatch::Connect),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_first_route_wins_as_without_an_index(
        conditions in prop::collection::vec(condition(), FEW + 1..40),
        paths in prop::collection::vec(path(), 1..20),
    ) {
        let all = routes(conditions);
        for path in paths {
            let first = all.iter().position(|route| route.path.matches(path.as_bytes()));
            prop_assert_eq!(find(&all, &path).0, first);
        }
    }
}
