use futures_util::StreamExt as _;
use periplus_sampling::tail::{DryRun, DryRunReport, Policies};
use periplus_store::{Outcome, SpanStore, StoreError, TraceQuery};

/// What policies would do with the stored traces that a query finds.
///
/// # Errors
///
/// Those of the search.
pub async fn dry_run(
    store: &dyn SpanStore,
    policies: Policies,
    query: TraceQuery,
) -> Result<DryRunReport, StoreError> {
    let mut run = DryRun::new(policies);
    let limit = query.limit;
    let mut search = store.search(query)?;
    while let Some(trace) = search.next().await {
        let trace = trace?;
        run.add(trace.id, &trace.groups);
    }
    let mut report = run.finish();
    report.partial = match search.outcome() {
        Some(Outcome::Partial { reason }) => Some(reason.to_owned()),
        Some(Outcome::Limit) => Some(format!("only the newest {limit} traces were looked at")),
        _ => None,
    };
    Ok(report)
}
