//! What the first bytes of a connection tell, as pure functions over them.

pub mod client_hello;
pub mod http;
pub mod proxy_protocol;

/// What can be said of the bytes that have come so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look<T> {
    /// Too few have come.
    More,
    /// They are something else.
    No,
    /// They are it.
    Found(T),
}
