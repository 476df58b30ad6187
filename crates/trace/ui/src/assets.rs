//! The files of `dist/`, each once as it is and once compressed.

use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::HeaderValue;

use crate::MenuLink;

/// Changes with the contents of the assets; the page refers to them by it.
const STAMP: &str = include_str!("../dist/BUILD");

/// One file, ready to be sent.
#[derive(Debug)]
pub(crate) struct Asset {
    pub(crate) name: &'static str,
    pub(crate) content_type: &'static str,
    pub(crate) body: Bytes,
    pub(crate) gzip: Bytes,
    pub(crate) etag: HeaderValue,
    pub(crate) gzip_etag: HeaderValue,
}

impl Asset {
    fn new(name: &'static str, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        let hash = fnv1a(&body);
        Self {
            name,
            content_type,
            gzip: compress(&body),
            body,
            etag: etag(&format!("\"{hash:016x}\"")),
            gzip_etag: etag(&format!("\"{hash:016x}-gzip\"")),
        }
    }
}

/// Everything that the UI consists of.
#[derive(Debug)]
pub(crate) struct Assets {
    page: Asset,
    favicon: Asset,
    loaded: [Asset; 2],
}

impl Assets {
    pub(crate) fn embedded(base_path: &str, menu: &[MenuLink]) -> Self {
        Self {
            page: Asset::new(
                "index.html",
                "text/html; charset=utf-8",
                page(base_path, menu),
            ),
            favicon: Asset::new(
                "favicon.svg",
                "image/svg+xml",
                include_bytes!("../dist/favicon.svg").as_slice(),
            ),
            loaded: [
                Asset::new(
                    "app.js",
                    "text/javascript; charset=utf-8",
                    include_bytes!("../dist/assets/app.js").as_slice(),
                ),
                Asset::new(
                    "app.css",
                    "text/css; charset=utf-8",
                    include_bytes!("../dist/assets/app.css").as_slice(),
                ),
            ],
        }
    }

    pub(crate) fn page(&self) -> &Asset {
        &self.page
    }

    pub(crate) fn favicon(&self) -> &Asset {
        &self.favicon
    }

    /// A file under `/assets/`; nothing for the stamp of another build, as its contents would be other ones.
    pub(crate) fn find(&self, stamp: &str, name: &str) -> Option<&Asset> {
        if stamp != STAMP.trim_end() {
            return None;
        }
        self.loaded.iter().find(|asset| asset.name == name)
    }
}

/// The page as it is below this path: what it loads, and what its script asks, is there too. What the script has to
/// know stands in `meta` elements, since the page has no script of its own.
fn page(base_path: &str, menu: &[MenuLink]) -> String {
    const PAGE: &str = include_str!("../dist/index.html");
    let page = PAGE
        .replace("href=\"/", &format!("href=\"{base_path}/"))
        .replace("src=\"/", &format!("src=\"{base_path}/"));
    let mut head = "<head>".to_owned();
    let mut meta = |name: &str, content: &str| {
        head.push_str(&format!(
            "\n    <meta name=\"{name}\" content=\"{}\" />",
            escaped(content)
        ));
    };
    if !base_path.is_empty() {
        meta("base-path", base_path);
    }
    for link in menu {
        meta("menu-link", &format!("{} {}", link.url, link.label));
    }
    page.replacen("<head>", &head, 1)
}

/// As the value of an attribute in double quotes.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '<' => out.push_str("&lt;"),
            c => out.push(c),
        }
    }
    out
}

fn etag(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("hexadecimal digits in quotes are a header value")
}

fn compress(body: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder
        .write_all(body)
        .expect("writing to memory does not fail");
    Bytes::from(encoder.finish().expect("writing to memory does not fail"))
}

/// FNV-1a: tells versions of a file apart, and protects against nothing.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
