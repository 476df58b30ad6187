//! Conditions made of conditions, as one flat program.

use std::num::NonZeroU64;
use std::ops::Range;

use crate::policy::{Asked, Condition};

/// A condition made of others, as it is being built. Each node stands before its parts, and knows where they end.
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
    /// Until it is taken into the program.
    Test(Option<Condition>),
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
            kind: Kind::Test(Some(condition)),
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

    /// What decides whether its first condition holds; an expression without any never does.
    pub(crate) fn compile(mut self) -> Program {
        let mut tests = Vec::new();
        let begin = match self.nodes.is_empty() {
            true => DOES_NOT,
            false => self.place(0, (HOLDS, DOES_NOT), &mut tests),
        };
        Program { tests, begin }
    }

    /// Adds the tests of a node, the last one first: the place at which it begins. What follows if it holds, and if
    /// not, has its place already.
    fn place(
        &mut self,
        at: usize,
        (holds, does_not): (usize, usize),
        tests: &mut Vec<Test>,
    ) -> usize {
        let how = match &mut self.nodes[at].kind {
            Kind::Combined(how) => *how,
            Kind::Test(condition) => {
                tests.extend(condition.take().map(|condition| Test {
                    condition,
                    shared: None,
                    holds,
                    does_not,
                }));
                return tests.len() - 1;
            }
        };
        // None of them holds where it is not so that one does.
        let (holds, does_not) = match how {
            Combination::None => (does_not, holds),
            Combination::All | Combination::Any => (holds, does_not),
        };
        let end = self.nodes[at].end;
        let next = |part: &usize| Some(self.nodes[*part].end).filter(|next| *next < end);
        let parts = std::iter::successors(Some(at + 1).filter(|first| *first < end), next);
        let parts: Vec<usize> = parts.collect();
        // What an empty list of parts leads to.
        let mut begin = match how {
            Combination::All => holds,
            Combination::Any | Combination::None => does_not,
        };
        for part in parts.into_iter().rev() {
            begin = match how {
                Combination::All => self.place(part, (begin, does_not), tests),
                Combination::Any | Combination::None => self.place(part, (holds, begin), tests),
            };
        }
        begin
    }
}

/// The end of a program.
const HOLDS: usize = usize::MAX;
const DOES_NOT: usize = usize::MAX - 1;

/// Simple conditions, each with what follows it: no more of them are tested than it takes.
#[derive(Debug)]
pub(crate) struct Program {
    tests: Vec<Test>,
    begin: usize,
}

#[derive(Debug)]
struct Test {
    condition: Condition,
    /// Its bit in [`Known`], if others ask the same.
    shared: Option<NonZeroU64>,
    /// The place of what follows if it holds,
    holds: usize,
    /// and if it does not.
    does_not: usize,
}

/// Programs of which the first that holds is looked for, as one: what one of them does not hold for goes on with
/// the next.
#[derive(Debug, Default)]
pub(crate) struct Programs {
    tests: Vec<Test>,
    /// Where the first begins.
    begin: usize,
    /// The tests of each.
    ranges: Vec<Range<usize>>,
    /// The place at which each begins.
    begins: Vec<usize>,
}

/// None of them has held.
const NONE: usize = usize::MAX - 2;

/// The place that says that this one has held.
const fn held(program: usize) -> usize {
    NONE - 1 - program
}

/// More conditions are not compared, so that reading a great many policies takes no more time for it.
const MOST_COMPARED: usize = 256;

impl FromIterator<Program> for Programs {
    fn from_iter<T: IntoIterator<Item = Program>>(programs: T) -> Self {
        let mut all = Self::default();
        for program in programs {
            let (offset, at) = (all.tests.len(), all.begins.len());
            // Where it does not hold is put right below, when it is known where the next one begins.
            let moved = |place: usize| match place {
                HOLDS => held(at),
                DOES_NOT => DOES_NOT,
                place => offset + place,
            };
            all.begins.push(moved(program.begin));
            all.tests.extend(program.tests.into_iter().map(|test| Test {
                holds: moved(test.holds),
                does_not: moved(test.does_not),
                ..test
            }));
            all.ranges.push(offset..all.tests.len());
        }
        let mut next = NONE;
        for (range, begin) in all.ranges.iter().zip(&mut all.begins).rev() {
            let goes_on = |place: &mut usize| {
                if *place == DOES_NOT {
                    *place = next;
                }
            };
            for test in &mut all.tests[range.clone()] {
                goes_on(&mut test.holds);
                goes_on(&mut test.does_not);
            }
            goes_on(begin);
            next = *begin;
        }
        all.begin = next;
        share(&mut all.tests);
        all
    }
}

/// Finds what several tests ask, so that it is asked once.
fn share(tests: &mut [Test]) {
    let most = tests.len().min(MOST_COMPARED);
    let tests = &mut tests[..most];
    let mut next = NonZeroU64::new(1);
    for at in 0..tests.len() {
        let (before, from) = tests.split_at_mut(at);
        let Some((test, after)) = from.split_first_mut() else {
            continue;
        };
        let is_same = |other: &Test| other.condition == test.condition;
        if before.iter().any(is_same) || !after.iter().any(is_same) {
            continue;
        }
        for same in after.iter_mut().filter(|after| is_same(after)) {
            same.shared = next;
        }
        test.shared = next;
        next = next.and_then(|bit| NonZeroU64::new(bit.get() << 1));
    }
}

/// What was found out about conditions that several tests ask: a bit for each.
#[derive(Debug, Default)]
struct Known {
    asked: u64,
    held: u64,
}

impl Test {
    #[inline(always)]
    fn holds(&self, asked: &Asked<'_>, known: &mut Known) -> bool {
        let Some(bit) = self.shared.map(NonZeroU64::get) else {
            return self.condition.holds(asked);
        };
        if known.asked & bit == 0 {
            known.asked |= bit;
            if self.condition.holds(asked) {
                known.held |= bit;
            }
        }
        known.held & bit != 0
    }
}

impl Programs {
    /// The simple conditions that they are made of.
    pub(crate) fn tests(&self) -> impl Iterator<Item = &Condition> {
        self.tests.iter().map(|test| &test.condition)
    }

    /// Which is the first that holds.
    pub(crate) fn first(&self, asked: &Asked<'_>) -> Option<usize> {
        let mut known = Known::default();
        let mut at = self.begin;
        while let Some(test) = self.tests.get(at) {
            at = match test.holds(asked, &mut known) {
                true => test.holds,
                false => test.does_not,
            };
        }
        (NONE - 1).checked_sub(at)
    }

    /// Whether one of them holds where nobody has looked at the tokens of the request; none if what they say decides.
    pub(crate) fn holds_untold(&self, program: usize, asked: &Asked<'_>) -> Option<bool> {
        let range = self.ranges.get(program)?.clone();
        // What follows a test stands before it.
        let mut said: Vec<Option<bool>> = Vec::with_capacity(range.len());
        let at = |said: &[Option<bool>], place: usize| match place {
            place if place == held(program) => Some(true),
            place if range.contains(&place) => said[place - range.start],
            _ => Some(false),
        };
        for test in &self.tests[range.clone()] {
            let (holds, does_not) = (at(&said, test.holds), at(&said, test.does_not));
            said.push(match test.condition.is_about_tokens() {
                true => holds.filter(|_| holds == does_not),
                false if test.condition.holds(asked) => holds,
                false => does_not,
            });
        }
        at(&said, *self.begins.get(program)?)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::policy::jwt::FILTER;
    use crate::policy::{Metadata, MetadataMatch, Subject, ValueTest};

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
            direct: IpAddr::V4(Ipv4Addr::LOCALHOST),
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
            ("!)", true),
            ("!00)", true),
            ("!01)", false),
            ("&!|01))1)", false),
            ("|!&11))!!1)))", true),
        ] {
            let mut expression = Expression::default();
            parse(&mut text.chars(), &mut expression);
            let programs = Programs::from_iter([expression.compile()]);
            let asked = Asked::of(&subject);
            assert_eq!(programs.first(&asked), expected.then_some(0), "{text}");
            let said = programs.holds_untold(0, &asked);
            assert_eq!(said, Some(expected), "{text}");
        }
        for (texts, expected) in [
            (&[][..], None),
            (&["", "0", "1", "1"], Some(2)),
            (&["&10)", "", "!1)"], None),
            (&["0", "&1|01))", ""], Some(1)),
            (&["!!0))", "&?1)", "1"], Some(2)),
            (&["|00&01))", "&11!1)1)", "|&10)&11))", "1"], Some(2)),
        ] {
            let programs: Programs = texts
                .iter()
                .map(|text| {
                    let mut expression = Expression::default();
                    parse(&mut text.chars(), &mut expression);
                    expression.compile()
                })
                .collect();
            let asked = Asked::of(&subject);
            assert_eq!(programs.first(&asked), expected, "{texts:?}");
            // What each is by itself does not depend on the others.
            for (at, text) in texts.iter().enumerate() {
                let mut expression = Expression::default();
                parse(&mut text.chars(), &mut expression);
                let alone = Programs::from_iter([expression.compile()]);
                let said =
                    [(&programs, at), (&alone, 0)].map(|(of, at)| of.holds_untold(at, &asked));
                assert_eq!(said[0], said[1], "{text}");
            }
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
            let programs = Programs::from_iter([expression.compile()]);
            let said = programs.holds_untold(0, &Asked::of(&subject));
            assert_eq!(said, expected, "{text}");
        }
    }
}
