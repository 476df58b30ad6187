/** Search: the form, the picture of the result, the result. */

import { useComputed, useSignal, useSignalEffect } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { address, navigate, refine } from '../../app/router.ts';
import { Failure, LoadingBar } from '../../app/states.tsx';
import { identitiesOf } from '../../core/colours.ts';
import { servicesOf, sortResults } from '../../core/results.ts';
import { parseSearch, resultUrl, searchUrl, wantsGraph, type Search, type Sort } from '../../core/search-url.ts';
import { formatCount, formatDuration, plural } from '../../core/time.ts';
import { parseTraceId } from '../../core/trace-url.ts';
import { NothingFound, WaitingForSpans } from './empty.tsx';
import { SearchForm } from './form.tsx';
import { ResultTable } from './result-table.tsx';
import { ScatterCard } from './scatter-card.tsx';
import { boot, busy, outcome, runSearch } from './store.ts';

/** What the search asks for; the order of the list is not part of it. */
function question(search: Search): string {
  return searchUrl({ ...search, sort: 'newest', rest: [] });
}

export function SearchPage() {
  const search = useComputed(() => parseSearch(address.value.searchParams));
  const asked = useComputed(() => question(search.value));
  const hovered = useSignal('');
  useSignalEffect(() => {
    void asked.value;
    const now = search.peek();
    const only = now.traceIds.length === 1 ? parseTraceId(now.traceIds[0] ?? '') : undefined;
    if (only) refine(resultUrl(now, only));
    else void runSearch(now);
  });
  useEffect(() => {
    document.title = search.value.service ? `${search.value.service} · Search · Periplus` : 'Search · Periplus';
  });
  const again = (): void => void runSearch(search.value);
  const submit = (next: Search): void => {
    // The form asks for what its fields say, no longer for the traces that a link has named.
    const url = searchUrl({ ...next, traceIds: [] });
    if (question({ ...next, traceIds: [] }) === asked.value) again();
    else navigate(url);
  };
  const sort = (order: Sort): void => refine(searchUrl({ ...search.value, sort: order }));
  return (
    <div class="search-page">
      <h1 class="visually-hidden">Search</h1>
      {busy.value && <LoadingBar what="Searching" />}
      <SearchForm search={search.value} onSubmit={submit} />
      <div class="search-result" aria-busy={busy.value}>
        <Result search={search.value} hovered={hovered.value} onHover={(id) => (hovered.value = id)} onSort={sort} onSubmit={submit} onRetry={again} />
      </div>
    </div>
  );
}

interface ResultProps {
  search: Search;
  hovered: string;
  onHover: (traceId: string) => void;
  onSort: (sort: Sort) => void;
  onSubmit: (search: Search) => void;
  onRetry: () => void;
}

function Result({ search, hovered, onHover, onSort, onSubmit, onRetry }: ResultProps) {
  const result = outcome.value;
  if (result.state === 'loading') return null;
  if (result.state === 'failed') return <Failure what="The search failed" error={result.error} retry={onRetry} />;
  const { traces, truncated, absent } = result.answer;
  if (traces.length === 0) {
    return boot.value?.store.spans === 0 ? <WaitingForSpans onSpans={onRetry} /> : <NothingFound search={search} onSubmit={onSubmit} />;
  }
  const sorted = sortResults(traces, search.sort);
  const identities = identitiesOf(servicesOf(traces));
  const failed = traces.filter((trace) => trace.errors > 0).length;
  return (
    <>
      <div class="search-facts">
        <p>
          <b>{formatCount(traces.length)}</b> {traces.length === 1 ? 'trace' : 'traces'}
          {truncated ? <span class="chip warn">◐ the newest {formatCount(traces.length)}; more match</span> : <span class="muted"> · all that match</span>}
          {absent.length > 0 && <span class="chip warn" title={absent.join(', ')}>◌ {formatCount(absent.length)} not here</span>}
          {failed > 0 && <span class="chip err">✕ {formatCount(failed)} with errors</span>}
        </p>
        <p class="muted">
          {plural(identities.size, 'service')} · {formatDuration(result.tookMs * 1000)}
        </p>
      </div>
      {wantsGraph(search) && <p class="muted">The link asks for a graph of these traces. There is none on this page yet: here they are one by one.</p>}
      <ScatterCard traces={traces} hovered={hovered} onHover={onHover} />
      <ResultTable traces={sorted} urlOf={(id) => resultUrl(search, id)} identities={identities} sort={search.sort} hovered={hovered} onHover={onHover} onSort={onSort} />
    </>
  );
}
