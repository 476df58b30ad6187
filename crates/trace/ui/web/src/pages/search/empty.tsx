/** A search that found nothing: because nothing has arrived yet, or because nothing matches. */

import { useEffect } from 'preact/hooks';
import { copy } from '../../app/announce.ts';
import { Icon } from '../../app/icon.tsx';
import { Notice } from '../../app/states.tsx';
import { describeSearch, EMPTY_SEARCH, type Search } from '../../core/search-url.ts';
import { formatTags } from '../../core/tags.ts';
import { parseDuration } from '../../core/time.ts';
import { boot, loadServices } from './store.ts';

const LOOK_AGAIN_MS = 2000;

/** The first run: how to send a span. Looks by itself whether one has come. */
export function WaitingForSpans({ onSpans }: { onSpans: () => void }) {
  useEffect(() => {
    const timer = window.setInterval(() => {
      void loadServices().then(() => {
        if ((boot.value?.store.spans ?? 0) > 0) onSpans();
      });
    }, LOOK_AGAIN_MS);
    return () => window.clearInterval(timer);
  }, [onSpans]);
  const host = window.location.hostname;
  return (
    <Notice title="Waiting for the first span">
      <p>
        <span class="pulse" aria-hidden="true" /> This page shows traces as soon as they arrive. Three ways to send some:
      </p>
      <ol class="ways">
        <li>
          <h2>An application with OpenTelemetry</h2>
          <p>Point its OTLP exporter here (4317 is gRPC, 4318 is HTTP), then restart it:</p>
          <Command text={`export OTEL_EXPORTER_OTLP_ENDPOINT=http://${host}:4318`} />
        </li>
        <li>
          <h2>Envoy, Istio or a Zipkin client</h2>
          <p>Zipkin v2 JSON, on Zipkin's own port:</p>
          <Command text={`http://${host}:9411/api/v2/spans`} />
        </li>
        <li>
          <h2>The demo: Bookinfo behind sidecars</h2>
          <p>Starts the whole mesh on this machine and prints the address of the product page:</p>
          <Command text="periplus demo" />
        </li>
      </ol>
    </Notice>
  );
}

function Command({ text }: { text: string }) {
  return (
    <p class="command">
      <code>{text}</code>
      <button type="button" class="plain square" aria-label={`Copy ${text}`} onClick={() => void copy(text, 'text')}>
        <Icon name="copy" />
      </button>
    </p>
  );
}

interface Change {
  label: string;
  search: Search;
}

/** What may be left out to find something. */
function changes(search: Search): Change[] {
  const wider = ['6h', '1d', '7d'].find((lookback) => search.start === undefined && micros(lookback) > micros(search.lookback));
  const options: Array<Change | false> = [
    wider !== undefined && { label: `Look back ${wider}`, search: { ...search, lookback: wider } },
    search.start !== undefined && { label: 'Look at the last day', search: { ...search, lookback: '1d', start: undefined, end: undefined } },
    search.operation !== '' && { label: 'Any operation', search: { ...search, operation: '' } },
    formatTags(search.tags) !== '' && { label: `Without ${formatTags(search.tags)}`, search: { ...search, tags: {} } },
    (search.minDuration !== '' || search.maxDuration !== '') && { label: 'Any duration', search: { ...search, minDuration: '', maxDuration: '' } },
    search.service !== '' && { label: 'All services', search: { ...search, service: '', operation: '' } },
  ];
  return options.filter((option) => option !== false);
}

function micros(lookback: string): number {
  return parseDuration(lookback) ?? 0;
}

export function NothingFound({ search, onSubmit }: { search: Search; onSubmit: (search: Search) => void }) {
  const evicted = boot.value?.store.evictedTraces ?? 0;
  return (
    <Notice title="Nothing matches">
      <p>There are no {describeSearch(search)}.</p>
      {evicted > 0 && <p>The store is full: it let {evicted} older traces go to make room.</p>}
      <p class="actions">
        {changes(search).map((change) => (
          <button key={change.label} type="button" onClick={() => onSubmit(change.search)}>
            {change.label}
          </button>
        ))}
        <button type="button" onClick={() => onSubmit(EMPTY_SEARCH)}>
          Start over
        </button>
      </p>
    </Notice>
  );
}
