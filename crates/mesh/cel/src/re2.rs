//! Expressions of RE2, which is what Envoy's are, in the notation of the `regex` crate.

use std::convert::Infallible;

use regex_syntax::ast::parse::Parser;
use regex_syntax::ast::{
    AssertionKind, Ast, ClassPerl, ClassPerlKind, ClassSetItem, Span, Visitor, visit,
};

/// An expression that matches what RE2 matches with this one; the error says what is wrong with it.
///
/// It is for expressions over bytes. Both take texts as UTF-8, but RE2's `\d`, `\s`, `\w` and `\b` know ASCII only, and
/// its `\<` and `\>` are characters.
///
/// # Errors
///
/// It is no expression by itself: whatever stands around it makes it no other one.
pub fn translated(source: &str) -> Result<String, String> {
    let ast = Parser::new().parse(source);
    let ast = ast.map_err(|error| error.to_string())?;
    let Ok(changes) = visit(&ast, Changes::default());
    let mut text = String::with_capacity(source.len());
    let mut done = 0;
    for (span, by) in changes {
        text.push_str(&source[done..span.start.offset]);
        text.push_str(by);
        done = span.end.offset;
    }
    text.push_str(&source[done..]);
    Ok(text)
}

/// Parts of an expression in their order, and what stands in place of each.
#[derive(Default)]
struct Changes(Vec<(Span, &'static str)>);

impl Changes {
    fn class(&mut self, class: &ClassPerl) {
        let by = match (&class.kind, class.negated) {
            (ClassPerlKind::Digit, false) => "[0-9]",
            (ClassPerlKind::Digit, true) => "[^0-9]",
            (ClassPerlKind::Space, false) => r"[\t\n\f\r\x20]",
            (ClassPerlKind::Space, true) => r"[^\t\n\f\r\x20]",
            (ClassPerlKind::Word, false) => "[0-9A-Za-z_]",
            (ClassPerlKind::Word, true) => "[^0-9A-Za-z_]",
        };
        self.0.push((class.span, by));
    }
}

impl Visitor for Changes {
    type Output = Vec<(Span, &'static str)>;
    type Err = Infallible;

    fn finish(self) -> Result<Self::Output, Infallible> {
        Ok(self.0)
    }

    fn visit_pre(&mut self, part: &Ast) -> Result<(), Infallible> {
        match part {
            Ast::ClassPerl(class) => self.class(class),
            Ast::Assertion(assertion) => {
                let by = match assertion.kind {
                    AssertionKind::WordBoundary => r"(?-u:\b)",
                    AssertionKind::NotWordBoundary => r"(?-u:\B)",
                    AssertionKind::WordBoundaryStartAngle => "<",
                    AssertionKind::WordBoundaryEndAngle => ">",
                    _ => return Ok(()),
                };
                self.0.push((assertion.span, by));
            }
            _ => {}
        }
        Ok(())
    }

    fn visit_class_set_item_pre(&mut self, item: &ClassSetItem) -> Result<(), Infallible> {
        if let ClassSetItem::Perl(class) = item {
            self.class(class);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::translated;

    #[test]
    fn expressions_are_those_of_re2() {
        for (source, expected) in [
            ("", ""),
            (r"a\d+", "a[0-9]+"),
            (r"[\D-]|\W", "[[^0-9]-]|[^0-9A-Za-z_]"),
            (r"\<a\>\.", r"<a>\."),
            (r"é\b(\s)", r"é(?-u:\b)([\t\n\f\r\x20])"),
        ] {
            assert_eq!(translated(source).as_deref(), Ok(expected), "{source}");
        }
        assert!(translated("a)(b").is_err());
    }
}
