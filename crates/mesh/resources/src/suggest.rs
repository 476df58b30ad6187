/// The candidate that somebody who wrote `written` probably meant.
pub(crate) fn nearest<'a>(
    written: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let written = written.to_lowercase();
    let tolerance = (written.chars().count() / 3).clamp(1, 4);
    candidates
        .into_iter()
        .map(|candidate| {
            (
                strsim::osa_distance(&written, &candidate.to_lowercase()),
                candidate,
            )
        })
        .filter(|(distance, _)| *distance <= tolerance)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `, did you mean …?`, or nothing when no name is near.
pub fn did_you_mean<'a>(written: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    nearest(written, names).map_or(String::new(), |name| format!(", did you mean `{name}`?"))
}

/// `, did you mean …?` or the list of what would be valid.
pub(crate) fn hint(written: &str, candidates: &[&str]) -> String {
    match nearest(written, candidates.iter().copied()) {
        Some(candidate) => format!(", did you mean `{candidate}`?"),
        None => format!("; valid: {}", list(candidates)),
    }
}

/// `` `a`, `b` and `c` ``
pub(crate) fn list(names: &[&str]) -> String {
    match names {
        [] => "nothing".into(),
        [only] => format!("`{only}`"),
        [first @ .., last] => {
            let first: Vec<_> = first.iter().map(|name| format!("`{name}`")).collect();
            format!("{} and `{last}`", first.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant() {
        let names = ["weight", "destination", "headers"];
        assert_eq!(nearest("wieght", names), Some("weight"));
        assert_eq!(nearest("Weight", names), Some("weight"));
        assert_eq!(nearest("destnation", names), Some("destination"));
        assert_eq!(nearest("colour", names), None);
        assert_eq!(nearest("w", names), None);
    }
}
