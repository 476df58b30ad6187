//! Events and links by the span that has them.

/// For each span where its children begin, and where those of the last one end. Empty if nobody has
/// any.
pub(super) fn firsts(owners: &[u32], spans: usize) -> Vec<u32> {
    if owners.is_empty() {
        return Vec::new();
    }
    let mut firsts = vec![0_u32; spans + 1];
    for &owner in owners {
        firsts[owner as usize + 1] += 1;
    }
    for i in 1..firsts.len() {
        firsts[i] += firsts[i - 1];
    }
    firsts
}

/// How many children a span has.
pub(super) fn count(firsts: &[u32], row: usize) -> u32 {
    match firsts.get(row..=row + 1) {
        Some([begin, end]) => end - begin,
        _ => 0,
    }
}

/// The children of these spans.
pub(super) fn of_rows(firsts: &[u32], rows: &[u32]) -> impl Iterator<Item = u32> {
    let rows = if firsts.is_empty() { &[] } else { rows };
    rows.iter()
        .flat_map(|row| match firsts.get(*row as usize..=*row as usize + 1) {
            Some([begin, end]) => *begin..*end,
            _ => 0..0,
        })
}
