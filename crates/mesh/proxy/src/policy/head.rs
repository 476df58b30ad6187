//! What is changed about the head of a request before it goes on: it stays the text that a client could have sent.

use crate::call::Call;
use crate::http1::edit::{append_field, is_one_field};
use crate::http1::head::{Field, Limits, MOST_FIELDS, list};
use crate::http1::name::Name;
use crate::http1::request::{RequestHead, Tunnel};
use crate::policy::jwt::without_parameters;
use crate::reply::Reply;

impl Call {
    /// Takes out the lines that `Connection` nominates, before anybody looks at them.
    #[cold]
    pub(crate) fn leave_out_nominated(&mut self) {
        let text = without_nominated(&self.request, self.buffer.head());
        // A head without them is as valid as with them.
        let _ = self.replace_head(text);
    }

    /// Takes lines out of the head and adds others. The head is checked again as if the client had sent it
    /// so; an answer if it could not have.
    pub(crate) fn edit_head(
        &mut self,
        removed: &[String],
        added: &[(String, Vec<u8>)],
    ) -> Option<Reply<'static>> {
        let head = self.buffer.head();
        let fields = &self.request.fields;
        if added.is_empty() && !fields.iter().any(|field| is_among(field, removed, head)) {
            return None;
        }
        if !added.iter().all(|(name, value)| is_one_field(name, value)) {
            return Some(Reply::new(500, "a filter adds what is no field"));
        }
        let text = edited(&self.request, head, removed, added);
        self.replace_head(text)
    }

    /// Takes parameters out of the query: an answer, if there can be no such request.
    pub(super) fn leave_out_parameters(&mut self, names: &[String]) -> Option<Reply<'static>> {
        if names.is_empty() {
            return None;
        }
        let target = self.request.target.path.get(self.buffer.head());
        let target = String::from_utf8_lossy(target);
        let target = without_parameters(&target, names);
        let is_done = self.retarget(target.as_bytes());
        (!is_done).then(|| Reply::new(500, "the target is none after the filters"))
    }

    /// Puts another target in the place of the request's: whether there can be such a request.
    pub(crate) fn retarget(&mut self, target: &[u8]) -> bool {
        if !target.iter().all(u8::is_ascii_graphic) {
            return false;
        }
        let head = self.buffer.head();
        let mut text = request_line(&self.request, head, target);
        let first = self.request.fields.iter().next();
        let lines = first.map_or(head.len() - 2, |field| field.name.start());
        text.extend_from_slice(&head[lines..]);
        self.replace_head(text).is_none()
    }

    /// Takes another head, which is checked as if the client had sent it: an answer if it could not have.
    fn replace_head(&mut self, mut text: Vec<u8>) -> Option<Reply<'static>> {
        let limits = Limits {
            bytes: usize::MAX,
            fields: MOST_FIELDS,
        };
        let mut edited = RequestHead {
            is_https: self.request.is_https,
            came_by_https: self.request.came_by_https,
            ..RequestHead::default()
        };
        match edited.parse(&mut text, limits) {
            // The body is on the wire as the client has announced it.
            Ok(Some(length)) if length != text.len() => Some(Reply::new(
                500,
                "there is more than one head after the filters",
            )),
            Ok(Some(_)) if edited.framing != self.request.framing => Some(Reply::new(
                500,
                "the head says after the filters that the body ends elsewhere",
            )),
            Ok(Some(_)) => {
                self.request = edited;
                self.buffer.replace_head(&text);
                None
            }
            Ok(None) => Some(Reply::new(500, "the head is incomplete after the filters")),
            Err(refused) => Some(Reply::new(refused.status, refused.reason)),
        }
    }
}

/// A head without the lines that `Connection` nominates: as in Envoy, what concerns the connection to the client alone is
/// not there for routes and filters, and the client has no say in what these add.
pub(crate) fn without_nominated(request: &RequestHead, head: &[u8]) -> Vec<u8> {
    let mut removed = vec!["connection".to_owned()];
    let mut kept: Vec<&[u8]> = Vec::new();
    for option in request.fields.all(Name::Connection, head).flat_map(list) {
        if option.eq_ignore_ascii_case(b"close") || Name::of(option).is_hop_by_hop() {
            kept.push(option);
        } else {
            removed.push(String::from_utf8_lossy(option).into_owned());
        }
    }
    let connection = ("connection".to_owned(), kept.join(&b", "[..]));
    let added = match kept.is_empty() {
        true => vec![],
        false => vec![connection],
    };
    edited(request, head, &removed, &added)
}

/// A head without some lines, and with others.
fn edited(
    request: &RequestHead,
    head: &[u8],
    removed: &[String],
    added: &[(String, Vec<u8>)],
) -> Vec<u8> {
    let fields = &request.fields;
    let mut text = request_line(request, head, request.target.path.get(head));
    let starts = fields.iter().map(|field| field.name.start());
    let ends = starts.skip(1).chain([head.len() - 2]);
    for (field, end) in fields.iter().zip(ends) {
        if !is_among(field, removed, head) {
            text.extend_from_slice(&head[field.name.start()..end]);
        }
    }
    for (name, value) in added {
        append_field(&mut text, name, value);
    }
    text.extend_from_slice(b"\r\n");
    text
}

fn is_among(field: &Field, names: &[String], head: &[u8]) -> bool {
    let name = field.name.get(head);
    let mut names = names.iter();
    names.any(|one| name.eq_ignore_ascii_case(one.as_bytes()))
}

/// The first line of the request with this target.
fn request_line(request: &RequestHead, head: &[u8], target: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(head.len() + 256);
    text.extend_from_slice(request.method(head));
    text.push(b' ');
    if request.target.absolute {
        // It says what the host is (RFC 9112 §3.2.2).
        if request.tunnel != Tunnel::Connect {
            text.extend_from_slice(b"http://");
        }
        text.extend_from_slice(request.target.authority.get(head));
    }
    // In absolute form that is no path at all (RFC 9112 §3.2.4).
    if !request.target.absolute || target != b"*" {
        text.extend_from_slice(target);
    }
    text.extend_from_slice(match request.minor_version {
        0 => b" HTTP/1.0\r\n",
        _ => b" HTTP/1.1\r\n",
    });
    text
}
