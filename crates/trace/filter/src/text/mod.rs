//! The query line: a filter as text that a person reads and writes.
//!
//! ```text
//! service=checkout http.status_code>=500 duration>1s !error
//! ```
//!
//! * **Conditions** are `key op value`; those beside each other (or joined by `AND`) must all hold,
//!   `OR` binds less, `NOT x`, `-x` and `!x` negate, `( )` group. Keywords are upper case.
//! * **Operators**: `=`, `!=`, `<`, `<=`, `>`, `>=`, `=~` or `~` and `!~` (a regular expression that
//!   matches all of the text), `contains`. `key?` means that the key is there, `!key` that it is not.
//! * **Keys**: `service`, `name` (or `op`, `operation`), `kind`, `status`, `duration` (or `dur`), for
//!   these `:` is as good as `=`; with TraceQL's names `trace:id`, `span:id`, `span:parentID`,
//!   `span:statusMessage`, `event:name`, `event:timeSinceStart`, `link:traceID`, `link:spanID`,
//!   `instrumentation:name`, `instrumentation:version`; of the whole trace `trace:duration`,
//!   `trace:rootService`, `trace:rootName`, `trace:spans`. Every other key is an attribute: of any
//!   scope, or behind `span.`, `resource.`, `instrumentation.`, `event.`, `link.` of that one.
//!   `."a key"` and `span."a key"` take a key as it is.
//! * **Values**: a bare word equals whatever is written like that, a number, a text or a boolean;
//!   quoted it is text only. `*` in a bare word stands for any text. Durations have a unit: `1.5s`.
//!   `int:5`, `double:0.5`, `bool:true` and `untyped:"a word"` name the type.
//! * **Flags**: `error` (the status, or the tag that Zipkin's and OpenTracing's clients set; also
//!   `error=true`), `root` (a span without a parent), `*` (every span).
//! * **One span or several**: a line without braces is about one span, on which all of it must hold.
//!   `{…}` is some span of the trace, so `{service=a} {error} NOT {service=b}` is about several;
//!   what stands outside of braces there, side by side, is one span too.
//! * **Relatives**: `parent{…}`, `child{…}`, `ancestor{…}`, `descendant{…}`, `sibling{…}` and
//!   `trace{…}` (any span of it) are conditions on a span: it has such a relative, or, with a number
//!   behind, as in `child{error}>=2`, so many. `event{…}` and `link{…}` are conditions of which all
//!   hold on the same event or link. `{a} >> {b}` is short for `{b ancestor{a}}`, and so are
//!   `>` for a parent, `<` a child, `<<` a descendant and `~` a sibling; `!>>` and so on for none.

mod literal;
mod parse;
mod scan;
mod show;
mod words;

pub use parse::{ParseError, parse};

#[cfg(test)]
mod tests;
