//! HTML.

use std::fmt::{self, Display, Formatter, Write as _};

use serde_json::Value;

use super::backends::{Backends, Failure};
use super::{CALLED, DESCRIPTION_HTML, TITLE};

/// The style sheet; pages carry it inside, so that one view of a page is one request.
pub(super) const STYLE: &str = include_str!("bookinfo.css");

/// The product page.
pub(super) struct Page<'a> {
    pub(super) user: Option<&'a str>,
    pub(super) details: &'a Result<Value, Failure>,
    pub(super) reviews: &'a Result<Value, Failure>,
}

/// Text in HTML, attribute values included.
struct Escaped<T>(T);

impl Display for Page<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        head(f)?;
        f.write_str("<header class=\"bar\"><a class=\"brand\" href=\"/productpage\">")?;
        f.write_str("BookInfo Sample</a>")?;
        self.account(f)?;
        write!(
            f,
            "</header>\n<main>\n<h1>{TITLE}</h1>\n<p class=\"summary\">{DESCRIPTION_HTML}</p>\n"
        )?;
        self.book(f)?;
        self.opinions(f)?;
        f.write_str("</main>\n</body>\n</html>\n")
    }
}

impl Page<'_> {
    fn account(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.user {
            Some(user) => write!(
                f,
                "<div class=\"account\"><span class=\"user\">{}</span> \
                 <a href=\"/logout\">Sign out</a></div>",
                Escaped(user)
            ),
            None => f.write_str(
                "<details class=\"account\"><summary>Sign in</summary>\
                 <form method=\"post\" action=\"/login\">\
                 <label>User name <input name=\"username\" required maxlength=\"128\" \
                 autocomplete=\"username\"></label>\
                 <label>Password <input name=\"passwd\" type=\"password\" \
                 autocomplete=\"current-password\"></label>\
                 <button type=\"submit\">Sign in</button>\
                 <p class=\"hint\">Any name and no password will do; <i>jason</i> is the one \
                 that the tutorials route by.</p></form></details>",
            ),
        }
    }

    fn book(&self, f: &mut Formatter<'_>) -> fmt::Result {
        const FACTS: [(&str, &str); 8] = [
            ("Author", "author"),
            ("Year", "year"),
            ("Type", "type"),
            ("Pages", "pages"),
            ("Publisher", "publisher"),
            ("Language", "language"),
            ("ISBN-10", "ISBN-10"),
            ("ISBN-13", "ISBN-13"),
        ];
        f.write_str("<section id=\"details\" class=\"card\">\n")?;
        match self.details {
            Ok(details) => {
                f.write_str("<h2>Book Details</h2>\n<dl>\n")?;
                for (label, key) in FACTS {
                    let fact = Escaped(Plain(&details[key]));
                    writeln!(f, "<div><dt>{label}:</dt><dd>{fact}</dd></div>")?;
                }
                f.write_str("</dl>\n")?;
            }
            Err(failure) => unavailable(f, "Error fetching product details", failure)?,
        }
        f.write_str("</section>\n")
    }

    fn opinions(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("<section id=\"reviews\" class=\"card\">\n")?;
        match self.reviews {
            Ok(answer) => {
                f.write_str("<h2>Book Reviews</h2>\n<div class=\"reviews\">\n")?;
                for review in answer["reviews"].as_array().into_iter().flatten() {
                    opinion(f, review)?;
                }
                let served_by = Escaped(Plain(&answer["podname"]));
                write!(
                    f,
                    "</div>\n<p class=\"served\">Reviews served by: <code>{served_by}</code>"
                )?;
                if answer["clustername"]
                    .as_str()
                    .is_some_and(|name| name != "null")
                {
                    let cluster = Escaped(Plain(&answer["clustername"]));
                    write!(f, " on cluster <code>{cluster}</code>")?;
                }
                f.write_str("</p>\n")?;
            }
            Err(failure) => unavailable(f, "Error fetching product reviews", failure)?,
        }
        f.write_str("</section>\n")
    }
}

fn opinion(f: &mut Formatter<'_>, review: &Value) -> fmt::Result {
    write!(
        f,
        "<figure><blockquote>{}</blockquote><figcaption>{}</figcaption>",
        Escaped(Plain(&review["text"])),
        Escaped(Plain(&review["reviewer"]))
    )?;
    let rating = &review["rating"];
    if let Some(stars) = rating["stars"].as_i64() {
        stars_of(f, stars.clamp(0, 5) as usize, rating["color"].as_str())?;
    } else if rating["error"].is_string() {
        write!(
            f,
            "<p class=\"error\">{}</p>",
            Escaped(Plain(&rating["error"]))
        )?;
    }
    f.write_str("</figure>\n")
}

fn stars_of(f: &mut Formatter<'_>, stars: usize, color: Option<&str>) -> fmt::Result {
    // The colour goes into a style: only a plain word may.
    let color = color
        .filter(|color| color.bytes().all(|byte| byte.is_ascii_lowercase()))
        .unwrap_or("black");
    write!(
        f,
        "<p class=\"stars\" role=\"img\" aria-label=\"{stars} of 5 stars\" data-color=\"{color}\" \
         style=\"color:{color}\">{}{}</p>",
        "★".repeat(stars),
        "☆".repeat(5 - stars)
    )
}

fn unavailable(f: &mut Formatter<'_>, headline: &str, failure: &Failure) -> fmt::Result {
    write!(
        f,
        "<h2 class=\"error\">{headline}</h2>\n<p>{}</p>\n",
        Escaped(&failure.text)
    )
}

/// The front door: the services and a link to the page.
pub(super) fn index(backends: &Backends) -> String {
    struct Index<'a>(&'a Backends);
    impl Display for Index<'_> {
        fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
            head(f)?;
            f.write_str(
                "<header class=\"bar\"><a class=\"brand\" href=\"/productpage\">BookInfo \
                 Sample</a></header>\n<main>\n<h1>Hello!</h1>\n<p class=\"summary\">This is a \
                 simple bookstore application consisting of the services shown below.</p>\n\
                 <section class=\"card\"><table>\n<tr><th>service</th><th>address</th></tr>\n",
            )?;
            for service in CALLED {
                let address = Escaped(self.0.base(service));
                writeln!(
                    f,
                    "<tr><td>{service}</td><td><code>{address}</code></td></tr>"
                )?;
            }
            f.write_str(
                "</table></section>\n<p><a href=\"/productpage\">Go to the product page</a></p>\n\
                 </main>\n</body>\n</html>\n",
            )
        }
    }
    Index(backends).to_string()
}

fn head(f: &mut Formatter<'_>) -> fmt::Result {
    // The icon is empty on purpose: a browser that finds none asks the server for one.
    write!(
        f,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Simple Bookstore App</title>\n<link rel=\"icon\" href=\"data:,\">\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n"
    )
}

/// A JSON value as people write it: strings without quotes, nothing for null.
struct Plain<'a>(&'a Value);

impl Display for Plain<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::Null => Ok(()),
            Value::String(text) => f.write_str(text),
            other => write!(f, "{other}"),
        }
    }
}

impl<T: Display> Display for Escaped<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(Escaper(f), "{}", self.0)
    }
}

struct Escaper<'a, 'b>(&'a mut Formatter<'b>);

impl fmt::Write for Escaper<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            match character {
                '&' => self.0.write_str("&amp;")?,
                '<' => self.0.write_str("&lt;")?,
                '>' => self.0.write_str("&gt;")?,
                '"' => self.0.write_str("&quot;")?,
                '\'' => self.0.write_str("&#39;")?,
                other => self.0.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_from_outside_becomes_markup() {
        let evil = "<script>alert('1')</script>\"&";
        let page = Page {
            user: Some(evil),
            details: &Ok(json!({"author": evil, "pages": [evil]})),
            reviews: &Ok(json!({"podname": evil, "clustername": evil, "reviews": [
                {"reviewer": evil, "text": evil, "rating": {"error": evil}},
                {"reviewer": evil, "text": evil, "rating": {"stars": 9, "color": "red;x:\"evil"}},
            ]})),
        }
        .to_string();
        assert!(!page.contains("<script"), "{page}");
        assert!(!page.contains("evil\""), "{page}");
        assert!(page.contains("&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&quot;&amp;"));
        assert!(page.contains("★★★★★"));
    }
}
