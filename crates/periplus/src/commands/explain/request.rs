use std::str::FromStr;

use serde_json::Value;

/// A request, as it is written on the command line.
#[derive(Clone, Debug)]
pub(super) struct Request {
    /// As it was written.
    pub(super) text: String,
    method: String,
    pub(super) host: String,
    /// Its client speaks TLS.
    pub(super) is_tls: bool,
    pub(super) port: u16,
    /// Somebody has written it.
    pub(super) has_port: bool,
    /// With its query.
    path: String,
}

impl FromStr for Request {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = "expected 'METHOD HOST[:PORT]/PATH', such as 'GET reviews:9080/reviews/1'";
        let mut words = text.split_whitespace();
        let (method, target) = match (words.next(), words.next(), words.next()) {
            (Some(target), None, _) => ("GET", target),
            (Some(method), Some(target), None) => (method, target),
            _ => return Err(expected.to_owned()),
        };
        let (is_tls, target) = match target.split_once("://") {
            None | Some(("http", _)) => (false, target.trim_start_matches("http://")),
            Some(("https", rest)) => (true, rest),
            Some((scheme, _)) => {
                return Err(format!(
                    "`{scheme}` cannot be looked into: {expected}, or https://HOST[:PORT]/PATH"
                ));
            }
        };
        let at = target.find(['/', '?']).unwrap_or(target.len());
        let (authority, path) = target.split_at(at);
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !host.ends_with(':') && !port.ends_with(']') => {
                let port = port
                    .parse()
                    .map_err(|_| format!("`{port}` is no port: {expected}"))?;
                (host, Some(port))
            }
            _ => (authority, None),
        };
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if host.is_empty() || method.is_empty() || !method.chars().all(is_token) {
            return Err(expected.to_owned());
        }
        Ok(Self {
            text: text.to_owned(),
            method: method.to_owned(),
            host: host.to_owned(),
            is_tls,
            port: port.unwrap_or(if is_tls { 443 } else { 80 }),
            has_port: port.is_some(),
            path: match path.starts_with('/') {
                true => path.to_owned(),
                false => format!("/{path}"),
            },
        })
    }
}

impl Request {
    /// Its head; to a forward proxy the whole URL is in its first line.
    pub(super) fn head(&self, headers: &[(String, String)], is_proxied: bool) -> String {
        let Self {
            method, host, path, ..
        } = self;
        let authority = match self.has_port {
            true => format!("{host}:{}", self.port),
            false => host.clone(),
        };
        let target = match is_proxied {
            true => format!("http://{authority}{path}"),
            false => path.clone(),
        };
        let mut head = format!("{method} {target} HTTP/1.1\r\n");
        let named = headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("host"));
        if !named {
            head += &format!("host: {authority}\r\n");
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head + "\r\n"
    }
}

/// `NAME:VALUE`
pub(super) fn header(text: &str) -> Result<(String, String), String> {
    let expected = "expected NAME:VALUE, such as end-user:jason";
    let (name, value) = text.split_once(':').ok_or(expected)?;
    let (name, value) = (name.trim(), value.trim());
    let name = http::HeaderName::from_bytes(name.as_bytes()).map_err(|_| expected)?;
    http::HeaderValue::from_str(value).map_err(|_| expected)?;
    Ok((name.as_str().to_owned(), value.to_owned()))
}

/// What a request's token says: `none`, JSON, or a file of that.
#[derive(Clone, Debug)]
pub(super) enum Claims {
    None,
    Said(Value),
}

impl FromStr for Claims {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected =
            "expected none, a file, or JSON such as {\"iss\": \"me\", \"sub\": \"jason\"}";
        let text = match text.trim_start() {
            "none" => return Ok(Self::None),
            json if json.starts_with('{') => json.to_owned(),
            path => std::fs::read_to_string(path)
                .map_err(|error| format!("cannot read {path}: {error}; {expected}"))?,
        };
        match serde_json::from_str(&text) {
            Ok(claims @ Value::Object(_)) => Ok(Self::Said(claims)),
            Ok(_) => Err(format!("the claims are no object: {expected}")),
            Err(error) => Err(format!("{error}: {expected}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_written_in_a_line() {
        for (text, head) in [
            (
                "GET reviews:9080/reviews/1",
                "GET http://reviews:9080/reviews/1 HTTP/1.1\r\nhost: reviews:9080\r\n\r\n",
            ),
            (
                "reviews",
                "GET http://reviews/ HTTP/1.1\r\nhost: reviews\r\n\r\n",
            ),
            (
                "POST http://a.b/?x=1",
                "POST http://a.b/?x=1 HTTP/1.1\r\nhost: a.b\r\n\r\n",
            ),
            (
                "https://a.b/x",
                "GET http://a.b/x HTTP/1.1\r\nhost: a.b\r\n\r\n",
            ),
            (
                "PUT a.b?x",
                "PUT http://a.b/?x HTTP/1.1\r\nhost: a.b\r\n\r\n",
            ),
        ] {
            let request: Request = text.parse().unwrap();
            assert_eq!(request.head(&[], true), head, "{text}");
        }
        for text in ["", "a b c", "GET /path", "ftp://a/", "G@T a/", "a:x/"] {
            assert!(text.parse::<Request>().is_err(), "{text}");
        }
    }
}
