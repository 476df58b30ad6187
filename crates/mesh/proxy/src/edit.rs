//! What routes change about heads: fields, paths and hosts; and what format strings say.
//!
//! Only requests of routes that change something come here. A head is edited as the text that it is in
//! everywhere: lines are taken out of it and put behind it.

mod rewrite;

use std::borrow::Cow;
use std::io::Write as _;
use std::net::SocketAddr;

use self::rewrite::{host_of, mirror_host, path_of, rewrite_host, rewrite_path};
use crate::call::Call;
use crate::exchange::Exchange;
use crate::http1::edit::{Names, append_field};
use crate::http1::head::Limits;
use crate::http1::name::Name;
use crate::http1::request::RequestHead;
use crate::snapshot::{
    AddressPart, AppendAction, Command, FieldEdits, Format, Forward, Part, Redirect, RouteAction,
    WeightedCluster,
};

/// The request as the endpoint gets it: what spans and format strings tell of it.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) text: Vec<u8>,
    pub(crate) head: RequestHead,
}

/// The text of a head, without its last empty line or with it.
#[derive(Clone, Copy)]
struct Head<'a>(&'a [u8]);

impl<'a> Head<'a> {
    /// The first line, and the others.
    fn split(self) -> (&'a [u8], &'a [u8]) {
        let end = memchr::memchr(b'\n', self.0).map_or(self.0.len(), |at| at + 1);
        self.0.split_at(end)
    }

    fn lines(self) -> impl Iterator<Item = &'a [u8]> {
        self.split().1.split_inclusive(|byte| *byte == b'\n')
    }

    /// The value of the first field of a name.
    fn field(self, name: &str) -> Option<&'a [u8]> {
        let mut lines = self.lines().filter(|line| is_field(line, name));
        lines.next().map(|line| line[name.len() + 1..].trim_ascii())
    }

    /// The method, the target or the version of a request.
    fn word(self, index: usize) -> &'a [u8] {
        let mut words = self.split().0.split(|byte| *byte == b' ');
        words.nth(index).unwrap_or_default().trim_ascii()
    }

    /// A field of a request, or a pseudo header.
    fn asked(self, name: &str, scheme: &'static str) -> Option<&'a [u8]> {
        match name {
            ":method" => Some(self.word(0)),
            ":path" => Some(self.word(1)),
            ":scheme" => Some(scheme.as_bytes()),
            ":authority" | "host" => self.field("host"),
            name => self.field(name),
        }
    }
}

fn is_field(line: &[u8], name: &str) -> bool {
    line.get(name.len()) == Some(&b':') && line[..name.len()].eq_ignore_ascii_case(name.as_bytes())
}

/// Takes the fields of a name out of the head that begins at `from`.
pub(crate) fn remove(out: &mut Vec<u8>, from: usize, name: &str) {
    let mut at = from + Head(&out[from..]).split().0.len();
    while at < out.len() {
        let end = memchr::memchr(b'\n', &out[at..]).map_or(out.len(), |end| at + end + 1);
        if is_field(&out[at..end], name) {
            out.drain(at..end);
        } else {
            at = end;
        }
    }
}

/// Gives a field one value, whatever it was.
pub(crate) fn set(out: &mut Vec<u8>, from: usize, name: &str, value: &[u8]) {
    remove(out, from, name);
    append_field(out, name, value);
}

fn set_path(out: &mut Vec<u8>, from: usize, path: &[u8]) {
    let first = Head(&out[from..]).split().0;
    let start = memchr::memchr(b' ', first).map_or(0, |at| at + 1);
    let end = memchr::memchr(b' ', &first[start..]).map_or(first.len(), |at| start + at);
    out.splice(from + start..from + end, path.iter().copied());
}

/// Whether a head has a field.
pub(crate) fn has(head: &[u8], name: &str) -> bool {
    Head(head).field(name).is_some()
}

/// A field with its value, worked out.
pub(crate) struct Field<'a> {
    pub(crate) name: &'a str,
    pub(crate) value: Cow<'a, [u8]>,
    pub(crate) action: AppendAction,
}

/// Adds fields: as in Envoy, what is there already is asked before anything is added, and replacing comes
/// before adding.
pub(crate) fn add(out: &mut Vec<u8>, from: usize, fields: &[Field<'_>]) {
    let is_there: Vec<bool> = fields
        .iter()
        .map(|field| has(&out[from..], field.name))
        .collect();
    for (field, is_there) in fields.iter().zip(&is_there) {
        if field.action == AppendAction::Overwrite
            || field.action == AppendAction::OverwriteIfExists && *is_there
        {
            set(out, from, field.name, &field.value);
        }
    }
    for (field, is_there) in fields.iter().zip(&is_there) {
        if field.action == AppendAction::Append
            || field.action == AppendAction::AddIfAbsent && !is_there
        {
            append_field(out, field.name, &field.value);
        }
    }
}

/// What format strings tell about.
struct Facts<'a> {
    call: &'a Call,
    exchange: &'a Exchange,
    /// The request, unless it is the head that is being edited,
    request: Option<&'a [u8]>,
    /// and whether that is a response.
    is_response: bool,
}

impl Facts<'_> {
    /// Makes the changes, but for fields among `except`.
    fn apply(&self, edits: &[FieldEdits], except: Names, out: &mut Vec<u8>, from: usize) {
        let is_free = |name: &str| !except.has(Name::of(name.as_bytes()));
        for level in edits {
            for name in level.remove.iter().filter(|name| is_free(name)) {
                remove(out, from, name);
            }
            let mut fields = Vec::with_capacity(level.add.len());
            for addition in level.add.iter().filter(|addition| is_free(&addition.name)) {
                let value = self.format(&addition.value, &out[from..]);
                if !value.is_empty() || addition.keeps_empty {
                    fields.push(Field {
                        name: &addition.name,
                        value,
                        action: addition.action,
                    });
                }
            }
            add(out, from, &fields);
        }
    }

    fn format<'f>(&self, format: &'f Format, head: &[u8]) -> Cow<'f, [u8]> {
        match &*format.0 {
            [] => Cow::Borrowed(b""),
            [Part::Text(text)] => Cow::Borrowed(text.as_bytes()),
            parts => {
                let mut value = Vec::new();
                for part in parts {
                    match part {
                        Part::Text(text) => value.extend_from_slice(text.as_bytes()),
                        Part::Command(command, most) => {
                            let before = value.len();
                            self.append(command, head, &mut value);
                            value.truncate(most.map_or(value.len(), |most| before + most));
                        }
                    }
                }
                Cow::Owned(value)
            }
        }
    }

    fn append(&self, command: &Command, head: &[u8], value: &mut Vec<u8>) {
        let (call, exchange) = (self.call, self.exchange);
        let secured = call.client.secured.as_deref();
        let mut put = |text: Option<&[u8]>| value.extend_from_slice(text.unwrap_or_default());
        match command {
            Command::Request(name, other) => {
                let request = Head(self.request.unwrap_or(head));
                let field = |name| request.asked(name, call.scheme());
                put(field(name).or_else(|| field(other.as_deref()?)));
            }
            Command::Response(name, other) if self.is_response => {
                let response = Head(head);
                let field = |name: &str| match name {
                    ":status" => Some(response.word(1)),
                    name => response.field(name),
                };
                put(field(name).or_else(|| field(other.as_deref()?)));
            }
            Command::Response(..) => {}
            Command::Remote(part) => append_address(value, Some(call.remote()), *part),
            Command::DirectRemote(part) => {
                let client = &call.client;
                append_address(value, Some(client.direct.unwrap_or(client.peer)), *part);
            }
            Command::Local(part) => {
                let local = call.client.original.or(call.client.local);
                append_address(value, local, *part);
            }
            Command::Upstream(part) => {
                let attempt = exchange.attempt.as_ref().filter(|_| self.is_response);
                append_address(value, attempt.map(|attempt| attempt.address.address), *part);
            }
            Command::Cluster => {
                let cluster = exchange.cluster.as_ref();
                put(cluster.map(|cluster| cluster.cluster.observability_name.as_bytes()));
            }
            Command::Protocol => put(Some(call.protocol_text().as_bytes())),
            Command::RouteName => {
                let router = call.view.router.as_ref().zip(exchange.route);
                put(router.map(|(router, at)| router.route(at).name.as_bytes()));
            }
            Command::Status => {
                // It is not known before there is a response of an endpoint, as with Envoy.
                let status = if self.is_response { exchange.status } else { 0 };
                value.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
            }
            Command::Flags => value.extend_from_slice(exchange.flags.to_string().as_bytes()),
            Command::PeerUriSan => {
                let uris = secured.and_then(|secured| secured.peer.as_ref());
                put(uris
                    .map(|peer| peer.uris.join(","))
                    .as_deref()
                    .map(str::as_bytes));
            }
            Command::LocalUriSan => {
                let uris = secured.and_then(|secured| secured.own.as_deref());
                put(uris
                    .map(|own| own.uris.join(","))
                    .as_deref()
                    .map(str::as_bytes));
            }
        }
    }
}

fn append_address(value: &mut Vec<u8>, address: Option<SocketAddr>, part: AddressPart) {
    let Some(address) = address else {
        return;
    };
    let address = SocketAddr::new(address.ip().to_canonical(), address.port());
    // Writing to a vector cannot fail.
    let _ = match part {
        AddressPart::Whole => write!(value, "{address}"),
        AddressPart::Ip => write!(value, "{}", address.ip()),
        AddressPart::Port => write!(value, "{}", address.port()),
    };
}

impl Call {
    pub(crate) fn scheme(&self) -> &'static str {
        if self.request.is_https {
            "https"
        } else {
            "http"
        }
    }

    /// Finds out by which scheme the client has come, once the head is there; `told` is the scheme that it names itself.
    ///
    /// A proxy in front of this one says it in `x-forwarded-proto`, unless this is the edge. As in Envoy what is no
    /// scheme there stands for that of the connection.
    #[inline]
    pub(crate) fn take_scheme(&mut self, told: Option<bool>) {
        let is_secured = self.client.secured.is_some();
        let trusts = !self.view.manager.use_remote_address;
        let (mut is_https, mut came_by_https) = (is_secured, is_secured);
        if trusts && self.request.fields.has(Name::XForwardedProto) {
            let told = self
                .request
                .fields
                .only(Name::XForwardedProto, self.buffer.head());
            let told = told.unwrap_or_default();
            came_by_https = told == b"https";
            // A target in absolute form has a scheme of its own.
            if !self.request.target.absolute && told.eq_ignore_ascii_case(b"https") {
                is_https = true;
            } else if !self.request.target.absolute && told.eq_ignore_ascii_case(b"http") {
                is_https = false;
            }
        }
        self.request.is_https = told.unwrap_or(is_https);
        self.request.came_by_https = came_by_https;
    }

    /// What the endpoint is told in `x-forwarded-proto`.
    fn forwarded_proto(&self) -> &str {
        let told = self
            .request
            .fields
            .value(Name::XForwardedProto, self.buffer.head());
        match told.filter(|_| !self.view.manager.use_remote_address) {
            Some(told) => std::str::from_utf8(told).unwrap_or_default(),
            None if self.client.secured.is_some() => "https",
            None => "http",
        }
    }

    /// The client's address: what proxies before this one say has no port.
    fn remote(&self) -> SocketAddr {
        let ip = self.client_address();
        let peer = self.client.peer;
        if ip == peer.ip().to_canonical() {
            peer
        } else {
            SocketAddr::new(ip, 0)
        }
    }

    /// Changes the head of a request that begins at `from`, but for fields among `except`.
    #[cold]
    pub(crate) fn edit_request(
        &self,
        exchange: &Exchange,
        except: Names,
        out: &mut Vec<u8>,
        from: usize,
    ) {
        let Some((router, at)) = self.view.router.as_ref().zip(exchange.route) else {
            return;
        };
        let route = router.route(at);
        let RouteAction::Forward(forward) = &route.action else {
            return;
        };
        let facts = Facts {
            call: self,
            exchange,
            request: None,
            is_response: false,
        };
        let choice = forward.clusters.get(at.choice());
        if let Some(WeightedCluster { edits, host, .. }) = choice {
            if let Some(edits) = edits {
                facts.apply(&edits.request, except, out, from);
            }
            if let Some(host) = host {
                set(out, from, "host", host.as_bytes());
            }
        }
        if let Some(edits) = &route.edits {
            facts.apply(&edits.request, except, out, from);
        }
        if let Some(rewrite) = &forward.rewrite {
            rewrite_host(rewrite, exchange, out, from);
            if let Some(path) = &rewrite.path {
                let matched = route.path.matched(path_of(&out[from..]).0);
                rewrite_path(path, matched, out, from);
            }
        }
        if let Some(mirror) = exchange.mirror().and_then(|at| forward.mirrors.get(at)) {
            mirror_host(&mirror.host, out, from);
            self.append_own_address(out, from);
            set(out, from, "x-envoy-internal", b"true");
        }
    }

    /// A copy comes from this proxy itself.
    fn append_own_address(&self, out: &mut Vec<u8>, from: usize) {
        const NAME: &str = "x-forwarded-for";
        let Some(own) = self.worker.own_address else {
            return;
        };
        let own = own.to_string();
        let before = Head(&out[from..]).field(NAME).map(<[u8]>::to_vec);
        let value = match before {
            Some(before) => [&before, &b","[..], own.as_bytes()].concat(),
            None => own.into_bytes(),
        };
        set(out, from, NAME, &value);
    }

    /// Whether a copy has a span if the request has one.
    pub(crate) fn traces_mirror(&self, exchange: &Exchange, index: usize) -> bool {
        let router = self.view.router.as_ref().zip(exchange.route);
        let action = router.map(|(router, at)| &router.route(at).action);
        let Some(RouteAction::Forward(forward)) = action else {
            return false;
        };
        forward
            .mirrors
            .get(index)
            .is_some_and(|mirror| mirror.is_traced)
    }

    /// Changes the head of a response that begins at `from`.
    #[cold]
    pub(crate) fn edit_response(
        &self,
        exchange: &Exchange,
        except: Names,
        out: &mut Vec<u8>,
        from: usize,
    ) {
        let Some((router, at)) = self.view.router.as_ref().zip(exchange.route) else {
            return;
        };
        let route = router.route(at);
        let sent = exchange.sent().map(|sent| &*sent.text);
        let facts = Facts {
            call: self,
            exchange,
            request: Some(sent.unwrap_or(self.buffer.head())),
            is_response: true,
        };
        if let RouteAction::Forward(Forward { clusters, .. }) = &route.action
            && let Some(WeightedCluster {
                edits: Some(edits), ..
            }) = clusters.get(at.choice())
        {
            facts.apply(&edits.response, except, out, from);
        }
        if let Some(edits) = &route.edits {
            facts.apply(&edits.response, except, out, from);
        }
    }

    /// Keeps the head of the request as it is sent, for spans and for the response's changes.
    #[cold]
    pub(crate) fn keep_sent(&self, exchange: &mut Exchange, text: &[u8]) {
        let mut sent = Box::new(Sent {
            text: text.to_vec(),
            head: RequestHead::default(),
        });
        let limits = Limits {
            bytes: usize::MAX,
            fields: usize::MAX,
        };
        // A route may add so many fields that it is no head any more: the span tells of the one that came.
        if let Ok(Some(_)) = sent.head.parse(&mut sent.text, limits) {
            sent.head.minor_version = self.request.minor_version;
            sent.head.is_https = self.request.is_https;
            exchange.rare().sent = Some(sent);
        }
    }

    /// Where a redirection leads to.
    pub(crate) fn redirection(&self, exchange: &Exchange, redirect: &Redirect) -> String {
        // Without the empty line, so that fields can be added.
        let head = self.buffer.head();
        let mut text = head.strip_suffix(b"\r\n").unwrap_or(head).to_vec();
        if self.request.target.absolute {
            set_path(&mut text, 0, self.request.target.path.get(head));
        }
        if let Some((router, at)) = self.view.router.as_ref().zip(exchange.route)
            && let Some(path) = &redirect.rewrite
        {
            let matched = router.route(at).path.matched(path_of(&text).0);
            rewrite_path(path, matched, &mut text, 0);
        }
        let head = Head(&text);
        let came_by = self.scheme();
        let scheme = redirect.scheme.as_deref().unwrap_or(came_by);
        let port = redirect.port.map(|port| format!(":{port}"));
        let asked = self.request.target.authority.get(self.buffer.head());
        let asked = String::from_utf8_lossy(asked);
        let host = match redirect.host.as_deref() {
            Some(host) => host,
            None if redirect.keeps_host => &*asked,
            None => host_of(&asked, (self.forwarded_proto(), scheme), port.is_some()),
        };
        let (path, query) = path_of(head.0);
        let (path, query) = (
            String::from_utf8_lossy(path),
            String::from_utf8_lossy(query),
        );
        let target = match &redirect.path {
            // A query of its own stands for that of the request, and stays.
            Some(own) if own.contains('?') => own.clone(),
            Some(own) if redirect.strips_query => own.clone(),
            Some(own) => format!("{own}{query}"),
            None if redirect.strips_query => path.into_owned(),
            None => format!("{path}{query}"),
        };
        format!("{scheme}://{host}{}{target}", port.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests;
