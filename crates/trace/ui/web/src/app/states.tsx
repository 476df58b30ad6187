/** What a page shows when it has nothing else to show. */

import type { ComponentChildren } from 'preact';
import { ApiError } from '../api/client.ts';
import { copy } from './announce.ts';

/** A thin bar at the top of the page; it appears only when the wait is long enough to notice. */
export function LoadingBar({ what }: { what: string }) {
  return (
    <div class="loading" role="progressbar" aria-label={what}>
      <div />
    </div>
  );
}

export function Notice({ title, children }: { title: string; children: ComponentChildren }) {
  return (
    <section class="notice">
      <h1>{title}</h1>
      {children}
    </section>
  );
}

/** What failed, in whose words, and the way on. */
export function Failure({ what, error, retry }: { what: string; error: Error; retry: () => void }) {
  const status = error instanceof ApiError ? error.status : undefined;
  const path = error instanceof ApiError ? error.path : '';
  const details = [what, error.message, status ? `HTTP ${status}` : '', path].filter(Boolean).join('\n');
  return (
    <section class="notice failure" role="alert">
      <h1>{what}</h1>
      <p>
        {error.message}
        {status ? <span class="muted"> (HTTP {status})</span> : null}
      </p>
      <p class="actions">
        <button type="button" class="primary" onClick={retry}>
          Try again
        </button>
        <button type="button" onClick={() => void copy(details, 'details')}>
          Copy the details
        </button>
      </p>
    </section>
  );
}
