//! JSON Web Tokens (RFC 7519): how they are read, and what they are signed with. Whoever asks for one says what it
//! must say.

mod keys;
mod problem;
mod token;

pub use self::keys::{Algorithm, Keys, is_public};
pub use self::problem::Problem;
pub use self::token::{Token, URL_SAFE, payload_text};
