//! Jaeger's UI configuration file: what our UI takes from it.

use std::path::Path;

use anyhow::{Context as _, bail};
use periplus_ui::MenuLink;
use serde_json::Value as Json;

/// The largest file, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// Links in the page's header.
const MAX_LINKS: usize = 20;

/// Reads a file; keys that our UI does nothing with are named in a warning.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<MenuLink>> {
    let shown = path.display();
    if path.extension().is_some_and(|extension| extension == "js") {
        bail!("{shown} is a program: only a configuration in JSON is taken, as NAME.json");
    }
    let bytes = std::fs::metadata(path)
        .with_context(|| format!("cannot read {shown}"))?
        .len();
    if bytes > MAX_BYTES {
        bail!("{shown} has {bytes} bytes, {MAX_BYTES} are allowed");
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
    let (links, unused) = parse(&text).with_context(|| format!("in {shown}"))?;
    if !unused.is_empty() {
        tracing::warn!(
            "{shown}: our UI has no use for {}; it takes only menu",
            unused.join(", ")
        );
    }
    Ok(links)
}

/// The links of `menu`, those of its groups among them, and the keys that are not used.
fn parse(text: &str) -> anyhow::Result<(Vec<MenuLink>, Vec<String>)> {
    let json: Json = serde_json::from_str(text).context("it is not JSON")?;
    let Json::Object(object) = json else {
        bail!("it is no JSON object");
    };
    let mut links = Vec::new();
    let mut unused = Vec::new();
    for (key, value) in object {
        match (key.as_str(), value) {
            ("menu", Json::Array(items)) => {
                for item in &items {
                    match item.get("items").and_then(Json::as_array) {
                        Some(items) => items.iter().try_for_each(|item| add(item, &mut links)),
                        None => add(item, &mut links),
                    }?;
                }
            }
            ("menu", _) => bail!("menu is no list"),
            _ => unused.push(key),
        }
    }
    Ok((links, unused))
}

fn add(item: &Json, links: &mut Vec<MenuLink>) -> anyhow::Result<()> {
    let text = |key: &str| item.get(key).and_then(Json::as_str);
    let (Some(label), Some(url)) = (text("label"), text("url")) else {
        bail!("{item} in menu has no label or no url, both of which are texts");
    };
    // A script in an address would run in the page.
    let is_link = ["https://", "http://", "/"]
        .iter()
        .any(|it| url.starts_with(it));
    if !is_link {
        bail!("the url {url:?} in menu begins neither with http://, https:// nor with /");
    }
    if links.len() >= MAX_LINKS {
        bail!("menu has more than {MAX_LINKS} links");
    }
    links.push(MenuLink {
        label: label.to_owned(),
        url: url.to_owned(),
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_menu_is_taken_and_the_rest_is_named() {
        let (links, unused) = parse(
            r#"{"search": {"maxLimit": 5}, "menu": [
                {"label": "Docs", "url": "https://docs.example/"},
                {"label": "More", "items": [{"label": "Home", "url": "/", "anchorTarget": "_self"}]}
            ], "archiveEnabled": true}"#,
        )
        .unwrap();
        let links: Vec<_> = (links.iter())
            .map(|link| (link.label.as_str(), link.url.as_str()))
            .collect();
        assert_eq!(links, [("Docs", "https://docs.example/"), ("Home", "/")]);
        assert_eq!(unused, ["archiveEnabled", "search"]);
    }

    #[test]
    fn what_is_no_menu_is_refused() {
        for (text, error) in [
            ("[]", "it is no JSON object"),
            (r#"{"menu": {}}"#, "menu is no list"),
            (
                r#"{"menu": [{"label": "x"}]}"#,
                "{\"label\":\"x\"} in menu has no label or no url, both of which are texts",
            ),
            (
                r#"{"menu": [{"label": "x", "url": "javascript:alert(1)"}]}"#,
                "the url \"javascript:alert(1)\" in menu begins neither with http://, https:// nor with /",
            ),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), error);
        }
    }
}
