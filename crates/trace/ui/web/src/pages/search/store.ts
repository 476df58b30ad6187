/** What the search page knows: the services, the operations and the result of the URL's search. */

import { batch, signal } from '@preact/signals';
import { fetchBoot, fetchOperations, fetchSearch, fetchServices, fetchTraces } from '../../api/client.ts';
import type { Boot, SearchAnswer } from '../../api/types.ts';
import { announce } from '../../app/announce.ts';
import { now } from '../../app/clock.ts';
import { searchApiQuery, type Search } from '../../core/search-url.ts';
import { plural } from '../../core/time.ts';

export type Outcome =
  | { state: 'loading' }
  | { state: 'found'; answer: SearchAnswer; tookMs: number }
  | { state: 'failed'; error: Error };

export const outcome = signal<Outcome>({ state: 'loading' });
/** Whether a search is under way; the result before it stays in view. */
export const busy = signal(false);
export const services = signal<readonly string[]>([]);
export const operations = signal<{ service: string; names: readonly string[] }>({ service: '', names: [] });
export const boot = signal<Boot | undefined>(undefined);

let running: AbortController | undefined;

export async function runSearch(search: Search): Promise<void> {
  running?.abort();
  const mine = new AbortController();
  running = mine;
  busy.value = true;
  const begun = performance.now();
  try {
    const { traceIds } = search;
    const answer = traceIds.length > 0 ? await fetchTraces(traceIds, mine.signal) : await fetchSearch(searchApiQuery(search), mine.signal);
    if (mine.signal.aborted) return;
    batch(() => {
      outcome.value = { state: 'found', answer, tookMs: performance.now() - begun };
      now.value = Date.now() * 1000;
    });
    announce(`${plural(answer.traces.length, 'trace')} found`);
  } catch (error) {
    if (mine.signal.aborted) return;
    outcome.value = { state: 'failed', error: asError(error) };
  } finally {
    if (running === mine) busy.value = false;
  }
  void loadServices();
}

export function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}

/** The lists of the form; a failure leaves them as they are, since the search itself says what is wrong. */
export async function loadServices(): Promise<void> {
  try {
    const [names, facts] = await Promise.all([fetchServices(), fetchBoot()]);
    batch(() => {
      if (names.join('\n') !== services.value.join('\n')) services.value = names;
      boot.value = facts;
    });
  } catch {
    boot.value = undefined;
  }
}

export async function loadOperations(service: string): Promise<void> {
  if (service === operations.value.service) return;
  operations.value = { service, names: [] };
  if (!service) return;
  try {
    const names = await fetchOperations(service);
    if (operations.value.service === service) operations.value = { service, names };
  } catch {
    operations.value = { service: '', names: [] };
  }
}
