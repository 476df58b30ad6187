//! `periplus diff` tells what an edit changes.

use serde_json::Value;

use super::{RULES, directory, printed, run_in};

#[test]
fn a_change_is_told_before_it_is_made() {
    let mesh = directory(RULES);
    let edit = |name: &str, text: &str| std::fs::write(mesh.path().join(name), text).unwrap();
    edit("same.yaml", RULES);
    edit("other.yaml", &RULES.replace("subset: v1}", "subset: v2}"));
    edit("wrong.yaml", &RULES.replace("subset: v1}", "subset: v4}"));
    edit("broken.yaml", &RULES.replace("http:", "https:"));
    let diff = |file| printed(mesh.path(), &["diff", file, "--dir", "mesh"]);
    assert_eq!(diff("same.yaml"), "0\nnothing changes at any proxy\n");
    insta::assert_snapshot!("diff", diff("other.yaml"));
    insta::assert_snapshot!("diff_with_errors", diff("wrong.yaml"));
    assert!(diff("broken.yaml").starts_with("1\nError [IST0106]"));
    let keys = |file: &str| -> Vec<String> {
        let line = ["diff", file, "--dir", "mesh", "-o", "json"];
        let output = run_in(mesh.path(), &line);
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        json.as_object().unwrap().keys().cloned().collect()
    };
    for file in ["same.yaml", "other.yaml", "wrong.yaml", "broken.yaml"] {
        let all = ["errors", "introduced", "mended", "proxies"];
        assert_eq!(keys(file), all, "{file}");
    }
    edit("config.yaml", "accessLogFile: /dev/stdout\n");
    let flags = ["--new-mesh-config", "config.yaml", "--dir", "mesh"];
    let of_mesh = printed(mesh.path(), &[&["diff"][..], &flags].concat());
    assert!(
        of_mesh.starts_with("1\n") && of_mesh.contains("~ listener 127.0.0.1_21003"),
        "{of_mesh}"
    );
    edit("config.yaml", "accessLogFil: /dev/stdout\n");
    let misspelt = printed(mesh.path(), &[&["diff"][..], &flags].concat());
    assert!(
        misspelt.starts_with("1\n") && misspelt.contains("accessLogFil"),
        "{misspelt}"
    );
    // What is wrong with another file stays so.
    edit("mesh/other.yaml", "kind: [");
    let beside = diff("same.yaml");
    assert!(
        beside.starts_with("0\nnothing changes at any proxy\n") && !beside.contains("Gone"),
        "{beside}"
    );
    std::fs::remove_file(mesh.path().join("mesh/other.yaml")).unwrap();
    let all = printed(
        mesh.path(),
        &["diff", "same.yaml", "--replace", "--dir", "mesh"],
    );
    assert!(
        all.starts_with("79\n") && all.contains("- listener"),
        "{all}"
    );
}
