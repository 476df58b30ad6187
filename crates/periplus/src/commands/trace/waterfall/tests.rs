use super::*;
use crate::commands::trace::skeleton::Skeleton;

const PLAIN: Style = Style {
    color: false,
    ascii: false,
    width: None,
};

/// A gateway that asks a shop, which asks for prices twice at the same time, and once in vain.
fn skeleton() -> Skeleton {
    serde_json::from_str(
        r#"{"v":1,"traceId":"463ac35c9f6413ad48485a3953bb6124","revision":"6","t0":1795332558270715,
        "durationUs":1240000,"services":["gateway","shop","prices"],
        "operations":["POST /checkout","PlaceOrder","Get\u001b[31m","a very long name of an operation that nobody can read to its end"],
        "rows":{"id":["0000000000000001","0000000000000002","0000000000000003","0000000000000004","0000000000000005","0000000000000006"],
          "depth":[0,1,2,2,2,0],"parent":[-1,0,1,1,1,-1],"service":[0,1,2,2,2,1],"operation":[0,1,2,2,3,1],
          "kind":[2,2,3,3,3,0],"start":[0,10000,20000,20000,700000,1230000],
          "duration":[1240000,1210000,600000,250000,500000,900],"self":[30000,110000,600000,250000,500000,900],
          "flags":[0,0,0,0,1,2]},
        "critical":[[0,0,10000],[1,10000,20000],[2,20000,620000],[1,620000,700000],[4,700000,1200000],[1,1200000,1220000],[0,1220000,1240000]],
        "missing":["00f067aa0ba902b7"],"warnings":[{"row":4,"text":"clock skew: moved by 5.2 ms into its parent"}]}"#,
    )
    .unwrap()
}

fn drawn(view: View<'_>) -> String {
    let skeleton = skeleton();
    render(&skeleton.spans().unwrap(), &skeleton.warnings, view)
}

const ALL: View<'static> = View {
    style: PLAIN,
    depth: None,
    critical_only: false,
    find: None,
};

#[test]
fn a_trace_is_drawn() {
    insta::assert_snapshot!(drawn(ALL));
}

#[test]
fn it_is_drawn_narrow_in_ascii() {
    let style = Style {
        ascii: true,
        width: Some(60),
        ..PLAIN
    };
    let text = drawn(View { style, ..ALL });
    assert!(text.is_ascii(), "{text}");
    assert!(
        text.lines()
            .all(|line| line.starts_with("warning") || line.len() <= 60),
        "{text}"
    );
    insta::assert_snapshot!(text);
}

#[test]
fn it_is_drawn_in_colours() {
    let style = Style {
        color: true,
        width: Some(70),
        ..PLAIN
    };
    let text = drawn(View { style, ..ALL });
    assert!(!text.contains("\u{1b}[31m["), "foreign colours: {text}");
    insta::assert_snapshot!(text.replace('\u{1b}', "ESC"));
}

#[test]
fn parts_of_it_are_drawn() {
    let critical = drawn(View {
        critical_only: true,
        ..ALL
    });
    let found = drawn(View {
        find: Some("LONG NAME"),
        ..ALL
    });
    let flat = drawn(View {
        depth: Some(1),
        ..ALL
    });
    let lines = |text: &str| {
        text.lines()
            .skip(4)
            .map(str::to_owned)
            .collect::<Vec<_>>()
            .join("\n")
    };
    insta::assert_snapshot!(format!(
        "critical:\n{}\nfind:\n{}\ndepth 1:\n{}",
        lines(&critical),
        lines(&found),
        lines(&flat)
    ));
}

#[test]
fn the_bars_of_a_trace_of_nothing_are_drawn() {
    let mut skeleton = skeleton();
    skeleton.duration_us = 0;
    let mut trace = skeleton.spans().unwrap();
    for span in &mut trace.spans {
        span.duration_us = 0;
        span.start_us = trace.start_us;
    }
    assert!(render(&trace, &[], ALL).contains("0µs"));
}

#[test]
fn columns_that_do_not_fit_together_are_refused() {
    let text = r#"{"traceId":"1","t0":0,"durationUs":0,"services":[],"operations":[],
        "rows":{"id":["1"],"depth":[0],"parent":[-1],"service":[0],"operation":[0],"kind":[0],"start":[0],"duration":[0],"self":[0],"flags":[0]},
        "critical":[],"warnings":[]}"#;
    let skeleton: Skeleton = serde_json::from_str(text).unwrap();
    assert!(skeleton.spans().is_none());
}
