/** The trace page: loading, following a trace that still arrives, and the ways in which it is not there. */

import { useSignal, useSignalEffect } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import { ApiError, fetchTrace } from '../../api/client.ts';
import { address, refine } from '../../app/router.ts';
import { Failure, LoadingBar } from '../../app/states.tsx';
import { operationOf, serviceOf, type Trace } from '../../core/skeleton.ts';
import { formatDuration } from '../../core/time.ts';
import { parseTraceId, parseTraceView, traceUrl } from '../../core/trace-url.ts';
import { NotHere } from './not-here.tsx';
import { TraceModel } from './model.ts';
import { TraceView } from './trace-view.tsx';

type Load =
  | { state: 'loading' }
  | { state: 'ready'; model: TraceModel; receiving: boolean }
  | { state: 'absent' }
  | { state: 'failed'; error: Error };

/** A trace that ended longer ago than this is complete, or will never be. */
const FRESH_MS = 10_000;
/** When to look again whether spans have come. */
const LOOKS_MS = [1000, 1000, 2000, 3000, 3000];

function isFresh(trace: Trace): boolean {
  return Date.now() - (trace.t0 + trace.duration) / 1000 < FRESH_MS;
}

function viewOf(id: string) {
  return parseTraceView(id, address.value.searchParams);
}

export function TracePage({ id: text }: { id: string }) {
  const id = parseTraceId(text) ?? text;
  const load = useSignal<Load>({ state: 'loading' });
  const attempt = useSignal(0);
  useEffect(() => {
    document.title = `Trace ${id.slice(0, 8)} · Periplus`;
    const stop = new AbortController();
    void follow(id, stop.signal, (next) => (load.value = next), load.peek());
    return () => stop.abort();
  }, [id, attempt.value]);
  useSignalEffect(() => {
    const now = load.value;
    if (now.state === 'ready' && now.model.details.outdated.value) attempt.value += 1;
  });
  useAddress(id, load.value.state === 'ready' ? load.value.model : undefined);
  const again = (): void => {
    load.value = { state: 'loading' };
    attempt.value += 1;
  };
  const now = load.value;
  switch (now.state) {
    case 'loading':
      return <LoadingBar what="Loading the trace" />;
    case 'absent':
      return <NotHere id={id} onRetry={again} />;
    case 'failed':
      return <Failure what="The trace cannot be shown" error={now.error} retry={again} />;
    case 'ready':
      return <TraceView model={now.model} receiving={now.receiving} />;
  }
}

/** Loads the trace, and loads it again while it may still grow. */
async function follow(id: string, signal: AbortSignal, put: (load: Load) => void, before: Load): Promise<void> {
  let model = before.state === 'ready' ? before.model : undefined;
  try {
    for (let look = 0; ; look += 1) {
      const trace = await fetchTrace(id, signal);
      if (!model) model = new TraceModel(trace, parseTraceView(id, address.peek().searchParams));
      else if (model.trace.revision !== trace.revision) model = TraceModel.renewed(trace, model);
      const wait = LOOKS_MS[look];
      const receiving = wait !== undefined && isFresh(trace);
      put({ state: 'ready', model, receiving });
      document.title = `${serviceOf(trace, 0)} ${operationOf(trace, 0)} · ${formatDuration(trace.duration)} · Trace ${id.slice(0, 8)}`;
      if (!receiving) return;
      await new Promise((done) => window.setTimeout(done, wait));
      if (signal.aborted) return;
    }
  } catch (error) {
    if (signal.aborted || (model && error instanceof ApiError && error.status === 0)) return;
    if (error instanceof ApiError && error.status === 404) put({ state: 'absent' });
    else put({ state: 'failed', error: error instanceof Error ? error : new Error(String(error)) });
  }
}

/** Browsers refuse to rewrite the address too often, and a held key would. */
const SETTLE_MS = 250;

/** Keeps the address bar and the model saying the same. */
function useAddress(id: string, model: TraceModel | undefined): void {
  const written = useRef('');
  useSignalEffect(() => {
    const url = address.value.pathname + address.value.search;
    if (!model || url === written.current || !written.current) return;
    written.current = url;
    model.follow(viewOf(id));
  });
  useEffect(() => {
    if (!model) return undefined;
    let timer = 0;
    const stop = model.view.subscribe((view) => {
      window.clearTimeout(timer);
      const write = (): void => {
        const url = traceUrl(view);
        if (address.peek().pathname !== `/trace/${id}` && written.current) return;
        written.current = url;
        refine(url);
      };
      if (written.current) timer = window.setTimeout(write, SETTLE_MS);
      else write();
    });
    return () => {
      window.clearTimeout(timer);
      stop();
    };
  }, [model]);
}
