//! Conditions made of conditions, as one flat list.

use crate::policy::{Condition, Subject};

/// A condition made of others. Each node stands before its parts, and knows where they end.
#[derive(Debug, Default)]
pub(crate) struct Expression {
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    kind: Kind,
    /// Behind the last of its parts.
    end: usize,
}

#[derive(Debug)]
enum Kind {
    Combined(Combination),
    Test(Condition),
}

/// How the parts of a condition are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Combination {
    /// All must hold.
    All,
    /// One must hold.
    Any,
    /// None may hold.
    None,
}

impl Expression {
    /// Adds a simple condition.
    pub(crate) fn test(&mut self, condition: Condition) {
        self.nodes.push(Node {
            kind: Kind::Test(condition),
            end: self.nodes.len() + 1,
        });
    }

    /// Adds a condition whose parts are what `fill` adds.
    pub(crate) fn combine<E>(
        &mut self,
        how: Combination,
        fill: impl FnOnce(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        let at = self.nodes.len();
        self.nodes.push(Node {
            kind: Kind::Combined(how),
            end: at,
        });
        fill(self)?;
        self.nodes[at].end = self.nodes.len();
        Ok(())
    }

    /// The simple conditions that it is made of.
    pub(crate) fn tests(&self) -> impl Iterator<Item = &Condition> {
        self.nodes.iter().filter_map(|node| match &node.kind {
            Kind::Test(condition) => Some(condition),
            Kind::Combined(_) => None,
        })
    }

    /// Whether its first condition holds; an expression without any never does.
    pub(crate) fn holds(&self, subject: &Subject<'_>) -> bool {
        !self.nodes.is_empty() && self.holds_at(0, subject)
    }

    fn holds_at(&self, at: usize, subject: &Subject<'_>) -> bool {
        match &self.nodes[at].kind {
            Kind::Test(condition) => condition.holds(subject),
            Kind::Combined(Combination::All) => {
                self.parts(at).all(|part| self.holds_at(part, subject))
            }
            Kind::Combined(Combination::Any) => {
                self.parts(at).any(|part| self.holds_at(part, subject))
            }
            Kind::Combined(Combination::None) => {
                !self.parts(at).any(|part| self.holds_at(part, subject))
            }
        }
    }

    /// The same where nobody has looked at the tokens of the request; none if what they say decides.
    pub(crate) fn holds_untold(&self, subject: &Subject<'_>) -> Option<bool> {
        match self.nodes.is_empty() {
            true => Some(false),
            false => self.holds_untold_at(0, subject),
        }
    }

    fn holds_untold_at(&self, at: usize, subject: &Subject<'_>) -> Option<bool> {
        // What one part says whatever the others do decides; else each of them must be known.
        let one_is = |decisive: bool| {
            let parts = self.parts(at);
            let mut said = parts.map(|part| self.holds_untold_at(part, subject));
            let known = |known: bool, one| match (known, one) {
                (_, Some(is)) if is == decisive => Err(()),
                (known, one) => Ok(known && one.is_some()),
            };
            match said.try_fold(true, known) {
                Err(()) => Some(true),
                Ok(is_known) => is_known.then_some(false),
            }
        };
        match &self.nodes[at].kind {
            Kind::Test(condition) if condition.is_about_tokens() => None,
            Kind::Test(condition) => Some(condition.holds(subject)),
            Kind::Combined(Combination::All) => one_is(false).map(|fails| !fails),
            Kind::Combined(Combination::Any) => one_is(true),
            Kind::Combined(Combination::None) => one_is(true).map(|holds| !holds),
        }
    }

    fn parts(&self, at: usize) -> impl Iterator<Item = usize> {
        let end = self.nodes[at].end;
        let next = move |part: &usize| Some(self.nodes[*part].end).filter(|next| *next < end);
        std::iter::successors(Some(at + 1).filter(|first| *first < end), next)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::policy::jwt::FILTER;
    use crate::policy::{Metadata, MetadataMatch, ValueTest};

    /// Builds an expression from a text in prefix form: `&`, `|` and `!` begin a group that `)` ends;
    /// `1` holds and `0` does not; what `?` does, a token says.
    fn parse(text: &mut std::str::Chars<'_>, into: &mut Expression) {
        while let Some(character) = text.next() {
            let how = match character {
                '1' => {
                    into.test(Condition::Always);
                    continue;
                }
                '0' => {
                    into.test(Condition::DestinationPort(0, 0));
                    continue;
                }
                '?' => {
                    into.test(Condition::Metadata(MetadataMatch {
                        filter: FILTER.to_owned(),
                        path: vec!["payload".to_owned()],
                        value: ValueTest::Present,
                        invert: false,
                    }));
                    continue;
                }
                '&' => Combination::All,
                '|' => Combination::Any,
                '!' => Combination::None,
                _ => return,
            };
            let group = into.combine(how, |into| {
                parse(text, into);
                Ok::<(), ()>(())
            });
            assert_eq!(group, Ok(()));
        }
    }

    #[test]
    fn combinations() {
        let subject = Subject {
            request: None,
            scheme: "http",
            peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
            client: IpAddr::V4(Ipv4Addr::LOCALHOST),
            destination: None,
            secured: None,
            server_name: None,
            metadata: &Metadata::default(),
        };
        for (text, expected) in [
            ("", false),
            ("1", true),
            ("0", false),
            ("&)", true),
            ("|)", false),
            ("&11)", true),
            ("&110)", false),
            ("|001)", true),
            ("|000)", false),
            ("!0)", true),
            ("!1)", false),
            ("&|01)!0)1)", true),
            ("&|00)!0)1)", false),
            ("|&10)&11))", true),
            ("|&1!1))&1!&1|0)))))", true),
        ] {
            let mut expression = Expression::default();
            parse(&mut text.chars(), &mut expression);
            assert_eq!(expression.holds(&subject), expected, "{text}");
            assert_eq!(expression.holds_untold(&subject), Some(expected), "{text}");
        }
        for (text, expected) in [
            ("?", None),
            ("!?)", None),
            ("&1?)", None),
            ("&?0)", Some(false)),
            ("|0?)", None),
            ("|?1)", Some(true)),
            ("!?1)", Some(false)),
            ("!&?0))", Some(true)),
            ("&|?0)!?)1)", None),
        ] {
            let mut expression = Expression::default();
            parse(&mut text.chars(), &mut expression);
            assert_eq!(expression.holds_untold(&subject), expected, "{text}");
        }
    }
}
