//! What is done to paths before anybody looks at them.

/// How the paths of requests are brought into one form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Paths {
    /// `normalize_path`: as RFC 3986 §6.2.2 has it.
    pub normalizes: bool,
    /// `merge_slashes`.
    pub merges_slashes: bool,
    /// `path_with_escaped_slashes_action`.
    pub escaped_slashes: EscapedSlashes,
}

/// What becomes of a path with `%2F` or `%5C`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EscapedSlashes {
    /// Nothing.
    #[default]
    Keep,
    /// It is refused with 400.
    Reject,
    /// The client is sent to the path with slashes (307).
    Redirect,
    /// The request goes on with slashes.
    Forward,
}
