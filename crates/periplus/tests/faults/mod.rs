//! Rules that change ten times a second, some of them half-written, and a control plane that is killed meanwhile: no
//! request is lost, and in the end everybody has the last rules.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};

use crate::child_with;
use crate::support::{Demo, free_base, get, get_json, patiently};

const EDITS: u32 = 100;
const EVERY: Duration = Duration::from_millis(100);
/// When the control plane dies, and when a file is cut short.
const KILLED_AT: u32 = 40;
const HALF_WRITTEN: u32 = 7;

const NEVER: &str = "a request is lost";

#[test]
fn a_restless_and_mortal_control_plane_loses_no_request() {
    let base = free_base();
    let mut demo = Demo::start(base, &["--no-traffic"]);
    demo.wait_for(&["Ctrl-C stops everything"]);
    let example = |name: &str| {
        let path = demo.directory().join("examples").join(name);
        std::fs::read_to_string(path).unwrap()
    };
    let rules = [
        "virtual-service-all-v1.yaml",
        "virtual-service-reviews-v3.yaml",
    ]
    .map(example);
    let over = AtomicBool::new(false);
    let pages = thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut pages = BTreeMap::<String, usize>::new();
            while !over.load(Ordering::Relaxed) {
                let page = get(base, "/productpage");
                let is_whole = page.status == 200
                    && page.body.contains("Reviewer1")
                    && !page.body.contains("class=\"error\"");
                let what = match is_whole {
                    true => "whole".to_owned(),
                    false => format!("{NEVER}: {} {}", page.head, page.body),
                };
                *pages.entry(what).or_default() += 1;
            }
            pages
        });
        let begun = Instant::now();
        for n in 0..EDITS {
            let text = &rules[n as usize % rules.len()];
            if n % HALF_WRITTEN == 0 {
                demo.edit(&text[..text.len() * 2 / 3]);
            } else {
                demo.edit(text);
            }
            if n == KILLED_AT {
                let control = child_with(demo.id(), "periplus\0control");
                kill_process(control, Signal::KILL).unwrap();
            }
            let due = EVERY * (n + 1);
            thread::park_timeout(due.saturating_sub(begun.elapsed()));
        }
        // The last of them is whole.
        demo.edit(&rules[1]);
        patiently("v3 alone", || {
            let mut pages = (0..10).map(|_| get(base, "/productpage").body);
            pages
                .all(|page| page.contains("data-color=\"red\""))
                .then_some(())
        });
        over.store(true, Ordering::Relaxed);
        load.join().unwrap()
    });
    assert_eq!(pages.keys().collect::<Vec<_>>(), ["whole"], "{pages:?}");
    assert!(pages["whole"] > 100, "{pages:?}");

    let said = demo.log("control");
    assert!(said.contains("the last good content stays"), "{said}");
    patiently("every proxy to have everything", || {
        let page = get_json(base + 6, "/debug/syncz");
        let rows = page.as_array()?;
        let is_settled = |state: &serde_json::Value| state["status"] == "SYNCED";
        let settled = rows.iter().filter(|row| {
            let resources = row["resources"].as_object();
            resources.is_some_and(|types| types.values().all(is_settled))
        });
        (rows.len() == 7 && settled.count() == 7).then_some(())
    });
    let problems = get_json(base + 6, "/debug/config_errors");
    let errors = problems.as_array().unwrap().iter();
    let errors: Vec<_> = errors.filter(|one| one["severity"] == "error").collect();
    assert!(errors.is_empty(), "{errors:?}");
    assert!(
        get(base + 6, "/metrics")
            .body
            .contains("pilot_total_xds_rejects 0")
    );
}
