//! Tokens.

use crate::parse::Refused;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// A word: a name, `true`, `false`, `in`.
    Word(String),
    Int(i64),
    Text(String),
    /// An operator or a bracket.
    Sign(&'static str),
}

/// Longer ones first: `<=` begins with `<`.
const SIGNS: [&str; 23] = [
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "!", "?", ":", ".", ",", "(", ")", "[", "]", "{",
    "}", "+", "-", "*", "/",
];

pub(crate) fn tokens(text: &str) -> Result<Vec<Token>, Refused> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, length) = if first.is_ascii_alphabetic() || first == '_' {
            word(rest)?
        } else if first.is_ascii_digit() {
            number(rest)?
        } else if first == '"' || first == '\'' {
            quoted(rest, first)?
        } else {
            let sign = SIGNS.into_iter().find(|sign| rest.starts_with(sign));
            let sign = sign.ok_or_else(|| Refused::of(format!("{first:?} is not expected")))?;
            (Token::Sign(sign), sign.len())
        };
        tokens.push(token);
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

fn word(rest: &str) -> Result<(Token, usize), Refused> {
    let is_part = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let end = rest.find(|character| !is_part(character));
    let word = &rest[..end.unwrap_or(rest.len())];
    if rest[word.len()..].starts_with(['"', '\'']) {
        let reason = format!("texts with the prefix `{word}` are not supported");
        return Err(Refused::of(reason));
    }
    Ok((Token::Word(word.to_owned()), word.len()))
}

fn number(rest: &str) -> Result<(Token, usize), Refused> {
    let end = rest.find(|character: char| !character.is_ascii_digit());
    let digits = &rest[..end.unwrap_or(rest.len())];
    let after = rest[digits.len()..].chars().next();
    if after.is_some_and(|after| after.is_ascii_alphabetic() || after == '.') {
        return Err(Refused::of(
            "numbers have digits only, such as 404".to_owned(),
        ));
    }
    let number = digits.parse();
    let number = number.map_err(|_| Refused::of(format!("{digits} is too large")))?;
    Ok((Token::Int(number), digits.len()))
}

fn quoted(rest: &str, quote: char) -> Result<(Token, usize), Refused> {
    let mut text = String::new();
    let mut characters = rest.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        match character {
            _ if character == quote => return Ok((Token::Text(text), at + 1)),
            '\\' => {
                let escaped = characters.next().map(|(_, escaped)| escaped);
                text.push(match escaped {
                    Some(plain @ ('\\' | '"' | '\'' | '`' | '?')) => plain,
                    Some('n') => '\n',
                    Some('t') => '\t',
                    Some('r') => '\r',
                    other => {
                        let other = other.unwrap_or(' ');
                        return Err(Refused::of(format!(
                            "`\\{other}` is not supported in a text"
                        )));
                    }
                });
            }
            '\n' => break,
            _ => text.push(character),
        }
    }
    Err(Refused::of("a text does not end".to_owned()))
}
