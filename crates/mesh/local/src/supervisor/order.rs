//! Who starts before whom.

use std::collections::{HashMap, HashSet};

use super::PlanningError;
use crate::Part;

/// For each part, the length of the longest chain of parts before it.
pub(super) fn levels(parts: &[Part]) -> Result<Vec<usize>, PlanningError> {
    let mut names = HashSet::new();
    for part in parts {
        if !names.insert(part.name.as_str()) {
            return Err(PlanningError::Duplicate(part.name.clone()));
        }
    }
    for part in parts {
        if let Some(missing) = part
            .after
            .iter()
            .find(|name| !names.contains(name.as_str()))
        {
            return Err(PlanningError::Missing {
                part: part.name.clone(),
                missing: missing.clone(),
            });
        }
    }
    let mut levels: HashMap<&str, usize> = HashMap::new();
    let mut rest: Vec<&Part> = parts.iter().collect();
    while !rest.is_empty() {
        let level = levels.values().max().map_or(0, |&level| level + 1);
        let (free, bound): (Vec<&Part>, Vec<&Part>) = rest.iter().partition(|part| {
            part.after
                .iter()
                .all(|name| levels.contains_key(name.as_str()))
        });
        if free.is_empty() {
            return Err(PlanningError::Cycle(
                bound.iter().map(|part| part.name.clone()).collect(),
            ));
        }
        levels.extend(free.iter().map(|part| (part.name.as_str(), level)));
        rest = bound;
    }
    Ok(parts
        .iter()
        .map(|part| levels[part.name.as_str()])
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Probe, Restart};

    fn part(name: &str, after: &[&str]) -> Part {
        Part {
            name: name.to_owned(),
            program: "true".into(),
            directory: None,
            arguments: Vec::new(),
            environment: Vec::new(),
            after: after.iter().map(|&name| name.to_owned()).collect(),
            ready: Probe::Started,
            restart: Restart::Never,
            log: "log".into(),
        }
    }

    #[test]
    fn chains() {
        let parts = [part("c", &["b", "a"]), part("b", &["a"]), part("a", &[])];
        assert_eq!(levels(&parts), Ok(vec![2, 1, 0]));
    }

    #[test]
    fn plans_that_cannot_be() {
        let twice = [part("a", &[]), part("a", &[])];
        assert_eq!(
            levels(&twice),
            Err(PlanningError::Duplicate("a".to_owned()))
        );
        let error = levels(&[part("a", &["b"])]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "part a is to start after b, which is no part"
        );
        let error = levels(&[part("a", &["b"]), part("b", &["a"]), part("c", &[])]).unwrap_err();
        assert_eq!(error.to_string(), "these parts wait for each other: a, b");
    }
}
