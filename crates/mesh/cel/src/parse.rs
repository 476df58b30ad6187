//! From text to an expression whose parts fit together.

use regex::RegexBuilder;

use crate::LONGEST;
use crate::attribute::{Attribute, Headers, Type};
use crate::evaluate::{Comparison, Node, Question};
use crate::lex::{Token, tokens};

/// How deep parts may be within each other.
const DEEPEST: usize = 32;
/// The most memory that a regular expression may take.
const LARGEST_PATTERN: usize = 256 * 1024;

/// Why an expression is not supported.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refused {
    reason: String,
}

impl Refused {
    pub(crate) fn of(reason: String) -> Self {
        Self { reason }
    }
}

fn refused<T>(reason: impl Into<String>) -> Result<T, Refused> {
    Err(Refused::of(reason.into()))
}

pub(crate) fn parse(text: &str) -> Result<(Node, Type), Refused> {
    if text.len() > LONGEST {
        return refused(format!(
            "it has {} bytes, at most {LONGEST} are supported",
            text.len()
        ));
    }
    let tokens = tokens(text)?;
    let mut parser = Parser {
        rest: &tokens,
        depth: 0,
    };
    let node = parser.expression()?;
    match parser.rest.first() {
        None => {
            let of_type = node.of_type();
            Ok((node, of_type))
        }
        Some(token) => refused(format!("{} is not expected there", shown(token))),
    }
}

fn shown(token: &Token) -> String {
    match token {
        Token::Word(word) => format!("`{word}`"),
        Token::Int(number) => format!("`{number}`"),
        Token::Text(text) => format!("{text:?}"),
        Token::Sign(sign) => format!("`{sign}`"),
    }
}

struct Parser<'t> {
    rest: &'t [Token],
    depth: usize,
}

/// What a name can stand for.
enum Operand {
    Node(Node),
    /// A name that stands for no value yet: `request`, `request.headers`.
    Path(String),
}

impl<'t> Parser<'t> {
    /// `a ? b : c`
    fn expression(&mut self) -> Result<Node, Refused> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return refused(format!("it is more than {DEEPEST} brackets deep"));
        }
        let condition = self.either()?;
        let node = if self.takes("?") {
            let condition = typed(condition, Type::Bool, "?")?;
            let then = self.either()?;
            self.expect(":")?;
            let otherwise = self.expression()?;
            same_type(&then, &otherwise, "? :")?;
            Node::Choose(Box::new([condition, then, otherwise]))
        } else {
            condition
        };
        self.depth -= 1;
        Ok(node)
    }

    fn either(&mut self) -> Result<Node, Refused> {
        let mut node = self.all()?;
        while self.takes("||") {
            let parts = [node, self.all()?];
            node = Node::Or(Box::new(conditions(parts, "||")?));
        }
        Ok(node)
    }

    fn all(&mut self) -> Result<Node, Refused> {
        let mut node = self.relation()?;
        while self.takes("&&") {
            let parts = [node, self.relation()?];
            node = Node::And(Box::new(conditions(parts, "&&")?));
        }
        Ok(node)
    }

    fn relation(&mut self) -> Result<Node, Refused> {
        const SIGNS: [(&str, Comparison); 6] = [
            ("==", Comparison::Equal),
            ("!=", Comparison::NotEqual),
            ("<=", Comparison::AtMost),
            ("<", Comparison::Less),
            (">=", Comparison::AtLeast),
            (">", Comparison::Greater),
        ];
        let mut node = self.sum()?;
        loop {
            if self.takes_word("in") {
                node = self.member_of(node)?;
            } else if let Some((sign, comparison)) =
                SIGNS.into_iter().find(|(sign, _)| self.takes(sign))
            {
                let second = self.sum()?;
                same_type(&node, &second, sign)?;
                node = Node::Compare(comparison, Box::new([node, second]));
            } else {
                return Ok(node);
            }
        }
    }

    /// After `in`: a list, or headers of which one is asked for.
    fn member_of(&mut self, value: Node) -> Result<Node, Refused> {
        if self.takes("[") {
            let mut list = Vec::new();
            while !self.takes("]") {
                let one = self.expression()?;
                same_type(&value, &one, "in")?;
                list.push(one);
                if !self.takes(",") {
                    self.expect("]")?;
                    break;
                }
            }
            return Ok(Node::In(Box::new(value), list));
        }
        let operand = self.operand()?;
        match (&value, operand) {
            (Node::Text(name), Operand::Path(path)) => match Headers::of(&path) {
                Some(of) => {
                    let header = Node::Header(of, name.to_ascii_lowercase());
                    Ok(Node::Has(Box::new(header)))
                }
                None => unknown(&path),
            },
            _ => refused(
                "`in` wants a list, such as `response.code in [404, 503]`, or a header's name and headers, such \
                 as `'x-team' in request.headers`",
            ),
        }
    }

    fn sum(&mut self) -> Result<Node, Refused> {
        let mut node = self.unary()?;
        loop {
            if self.takes("+") {
                let second = self.unary()?;
                same_type(&node, &second, "+")?;
                if node.of_type() == Type::Bool {
                    return refused("`+` is not for conditions");
                }
                node = Node::Plus(Box::new([node, second]));
            } else if self.takes("-") {
                let first = typed(node, Type::Int, "-")?;
                let second = typed(self.unary()?, Type::Int, "-")?;
                node = Node::Minus(Box::new([first, second]));
            } else if self.takes("*") || self.takes("/") {
                return refused("`*` and `/` are not supported");
            } else {
                return Ok(node);
            }
        }
    }

    fn unary(&mut self) -> Result<Node, Refused> {
        let mut negations = 0;
        while self.takes("!") {
            negations += 1;
        }
        if negations > 0 {
            let inner = typed(self.value()?, Type::Bool, "!")?;
            let node = Node::Not(Box::new(inner));
            return Ok(match negations % 2 {
                1 => node,
                _ => Node::Not(Box::new(node)),
            });
        }
        if self.takes("-") {
            return match self.value()? {
                Node::Int(number) => Ok(Node::Int(-number)),
                other => {
                    let parts = [Node::Int(0), typed(other, Type::Int, "-")?];
                    Ok(Node::Minus(Box::new(parts)))
                }
            };
        }
        self.value()
    }

    /// An operand that has a value.
    fn value(&mut self) -> Result<Node, Refused> {
        settled(self.operand()?)
    }

    /// A literal, a name or something in brackets, and what follows it: `.name`, `.call(…)`, `[…]`.
    fn operand(&mut self) -> Result<Operand, Refused> {
        let mut operand = self.primary()?;
        loop {
            if self.takes(".") {
                let Some(Token::Word(name)) = self.next() else {
                    return refused("a name has to follow `.`");
                };
                operand = if self.takes("(") {
                    let whole = settled(operand)?;
                    Operand::Node(self.call_of(whole, name)?)
                } else {
                    field(operand, name)?
                };
            } else if self.takes("[") {
                operand = Operand::Node(self.index(operand)?);
            } else {
                return Ok(operand);
            }
        }
    }

    fn primary(&mut self) -> Result<Operand, Refused> {
        let Some(token) = self.next() else {
            return refused("it ends where a value is expected");
        };
        Ok(Operand::Node(match token.clone() {
            Token::Int(number) => Node::Int(number),
            Token::Text(text) => Node::Text(text),
            Token::Word(word) => match word.as_str() {
                "true" => Node::Bool(true),
                "false" => Node::Bool(false),
                "null" => {
                    return refused(
                        "`null` is not supported: has(…) says whether there is something",
                    );
                }
                _ if self.takes("(") => self.call(&word)?,
                _ => return Ok(Operand::Path(word)),
            },
            Token::Sign("(") => {
                let inner = self.expression()?;
                self.expect(")")?;
                inner
            }
            Token::Sign(sign) => {
                return refused(format!("`{sign}` stands where a value is expected"));
            }
        }))
    }

    /// `headers['name']`
    fn index(&mut self, operand: Operand) -> Result<Node, Refused> {
        let Operand::Path(path) = operand else {
            return refused("only headers have parts in brackets, as request.headers['x-team']");
        };
        let Some(of) = Headers::of(&path) else {
            return unknown(&path);
        };
        let name = match self.next() {
            Some(Token::Text(name)) if !name.is_empty() => name.to_ascii_lowercase(),
            _ => {
                return refused(
                    "the name of a header stands in quotes, as request.headers['x-team']",
                );
            }
        };
        self.expect("]")?;
        Ok(Node::Header(of, name))
    }

    /// `name(…)`
    fn call(&mut self, name: &str) -> Result<Node, Refused> {
        if name == "has" {
            let before = self.rest;
            let operand = self.operand()?;
            // As in CEL, it is about `.name` only.
            let in_brackets = before
                .get(before.len() - self.rest.len() - 1)
                .is_some_and(|last| *last == Token::Sign("]"));
            let inner = match operand {
                Operand::Node(node @ (Node::Attribute(_) | Node::Header(..))) if !in_brackets => {
                    node
                }
                _ => {
                    return refused(
                        "has(…) wants an attribute, as has(request.useragent); of a header ask `'x-team' in \
                         request.headers`",
                    );
                }
            };
            self.expect(")")?;
            return Ok(Node::Has(Box::new(inner)));
        }
        let inner = self.expression()?;
        self.expect(")")?;
        match (name, inner.of_type()) {
            ("string", _) => Ok(Node::ToText(Box::new(inner))),
            ("int", Type::Int | Type::Text) => Ok(Node::ToInt(Box::new(inner))),
            ("size", Type::Text) => Ok(Node::Size(Box::new(inner))),
            ("int" | "size", other) => refused(format!("`{name}` is not for what is {other}")),
            _ => refused(format!(
                "the function `{name}` is not supported, has, string, int and size are"
            )),
        }
    }

    /// `whole.name(…)`
    fn call_of(&mut self, whole: Node, name: &str) -> Result<Node, Refused> {
        let question = match name {
            "startsWith" => Some(Question::StartsWith),
            "endsWith" => Some(Question::EndsWith),
            "contains" => Some(Question::Contains),
            "matches" | "size" => None,
            _ => {
                return refused(format!(
                    "`.{name}()` is not supported, startsWith, endsWith, contains, matches and size are"
                ));
            }
        };
        let whole = typed(whole, Type::Text, name)?;
        if name == "size" {
            self.expect(")")?;
            return Ok(Node::Size(Box::new(whole)));
        }
        let part = typed(self.expression()?, Type::Text, name)?;
        self.expect(")")?;
        match (question, part) {
            (Some(question), part) => Ok(Node::Ask(question, Box::new([whole, part]))),
            (None, Node::Text(pattern)) => {
                let compiled = RegexBuilder::new(&pattern)
                    .size_limit(LARGEST_PATTERN)
                    .build();
                match compiled {
                    Ok(compiled) => Ok(Node::Matches(Box::new(whole), compiled)),
                    Err(error) => refused(format!("{pattern:?} is no regular expression: {error}")),
                }
            }
            (None, _) => refused("the pattern of `matches` has to be a text in quotes"),
        }
    }

    fn next(&mut self) -> Option<&'t Token> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    fn takes(&mut self, sign: &str) -> bool {
        let is_it = matches!(self.rest.first(), Some(Token::Sign(next)) if *next == sign);
        if is_it {
            self.rest = &self.rest[1..];
        }
        is_it
    }

    fn takes_word(&mut self, word: &str) -> bool {
        let is_it = matches!(self.rest.first(), Some(Token::Word(next)) if next == word);
        if is_it {
            self.rest = &self.rest[1..];
        }
        is_it
    }

    fn expect(&mut self, sign: &str) -> Result<(), Refused> {
        if self.takes(sign) {
            return Ok(());
        }
        match self.rest.first() {
            Some(token) => refused(format!("`{sign}` is expected before {}", shown(token))),
            None => refused(format!("`{sign}` is missing at its end")),
        }
    }
}

fn settled(operand: Operand) -> Result<Node, Refused> {
    match operand {
        Operand::Node(node) => Ok(node),
        Operand::Path(path) => unknown(&path),
    }
}

/// `.name` of what was read.
fn field(operand: Operand, name: &str) -> Result<Operand, Refused> {
    let Operand::Path(path) = operand else {
        return refused(format!("nothing has a part `.{name}` there"));
    };
    if let Some(of) = Headers::of(&path) {
        return Ok(Operand::Node(Node::Header(of, name.to_ascii_lowercase())));
    }
    let path = format!("{path}.{name}");
    Ok(match Attribute::of(&path) {
        Some(attribute) => Operand::Node(Node::Attribute(attribute)),
        None => Operand::Path(path),
    })
}

fn unknown<T>(path: &str) -> Result<T, Refused> {
    if Headers::of(path).is_some() {
        return refused(format!(
            "`{path}` wants the name of a header, as {path}['x-team']"
        ));
    }
    let known: Vec<_> = Attribute::ALL.iter().map(|one| one.path()).collect();
    refused(format!(
        "`{path}` is not supported: {}, request.headers['NAME'], response.headers['NAME'] and \
         response.trailers['NAME'] are",
        known.join(", ")
    ))
}

fn typed(node: Node, wanted: Type, by: &str) -> Result<Node, Refused> {
    let found = node.of_type();
    if found == wanted {
        return Ok(node);
    }
    refused(format!(
        "`{by}` is for what is {wanted}, and not for what is {found}"
    ))
}

fn conditions([first, second]: [Node; 2], by: &str) -> Result<[Node; 2], Refused> {
    Ok([
        typed(first, Type::Bool, by)?,
        typed(second, Type::Bool, by)?,
    ])
}

fn same_type(first: &Node, second: &Node, by: &str) -> Result<(), Refused> {
    let (first, second) = (first.of_type(), second.of_type());
    if first == second {
        return Ok(());
    }
    refused(format!(
        "`{by}` has what is {first} on its one side and what is {second} on the other"
    ))
}
