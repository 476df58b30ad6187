/** The trace is not in the store: why that may be, and a watch for it. */

import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { fetchBoot } from '../../api/client.ts';
import type { Boot } from '../../api/types.ts';
import { Notice } from '../../app/states.tsx';
import { formatCount, plural } from '../../core/time.ts';
import { at } from '../../core/base.ts';

const LOOK_AGAIN_MS = 2000;

export function NotHere({ id, onRetry }: { id: string; onRetry: () => void }) {
  const watching = useSignal(false);
  const boot = useSignal<Boot | undefined>(undefined);
  useEffect(() => {
    void fetchBoot().then(
      (facts) => (boot.value = facts),
      () => undefined,
    );
  }, []);
  useEffect(() => {
    if (!watching.value) return undefined;
    const timer = window.setInterval(() => {
      void fetch(at(`/api/periplus/v1/traces/${encodeURIComponent(id)}`), { method: 'GET' }).then(
        (response) => response.ok && onRetry(),
        () => undefined,
      );
    }, LOOK_AGAIN_MS);
    return () => window.clearInterval(timer);
  }, [watching.value, id, onRetry]);
  const store = boot.value?.store;
  return (
    <Notice title="Not here (yet)">
      <p>
        There is no trace <code>{id}</code>
        {store ? ` among the ${plural(store.traces, 'trace')} of this server` : ''}.
      </p>
      <ul>
        <li>
          <b>On its way?</b> Proxies and SDKs send spans in batches, some seconds after the request.
        </li>
        <li>
          <b>Sampled?</b> A request is recorded only if its first hop decided so: look for <code>x-b3-sampled: 1</code>, or a <code>traceparent</code> that ends in <code>-01</code>.
        </li>
        <li>
          <b>Sent here?</b> If an application does not forward the tracing headers, the rest of its calls has another trace id: search by service and time.
        </li>
        {store && (
          <li>
            <b>Kept?</b>{' '}
            {store.evictedTraces > 0
              ? `The store is full and has let ${formatCount(store.evictedTraces)} older traces go.`
              : 'The store has let no trace go so far.'}
          </li>
        )}
      </ul>
      <p class="actions">
        <button type="button" class="primary" onClick={onRetry}>
          Look again
        </button>
        <button type="button" aria-pressed={watching.value} onClick={() => (watching.value = !watching.value)}>
          {watching.value ? 'Watching: opens when it arrives' : 'Watch for it'}
        </button>
        <a class="button" href={at('/search')}>
          Search
        </a>
      </p>
    </Notice>
  );
}
