/** The mock server: OTLP/JSON in, our API out. */

import type { IncomingMessage, ServerResponse } from 'node:http';
import { details, search, skeleton } from './api.ts';
import type { ExportRequest } from './otlp.ts';
import { Store } from './store.ts';

function send(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(body));
}

async function read(request: IncomingMessage): Promise<string> {
  let body = '';
  for await (const chunk of request) body += String(chunk);
  return body;
}

/** Answers what belongs to the API, and tells whether it did. */
export function handler(store: Store): (request: IncomingMessage, response: ServerResponse) => boolean {
  return (request, response) => {
    const url = new URL(request.url ?? '/', 'http://mock');
    const path = url.pathname;
    if (path === '/v1/traces') {
      void read(request).then((body) => {
        store.add(JSON.parse(body) as ExportRequest);
        send(response, 200, { partialSuccess: {} });
      });
      return true;
    }
    const answer = answerTo(store, path, url.searchParams);
    if (answer === undefined) return false;
    if (answer === MOVED) send(response, 409, { error: 'spans have arrived since; load the trace again' });
    else if (answer === null) send(response, 404, { error: 'no such trace' });
    else send(response, 200, answer);
    return true;
  };
}

/** The rows of the request are those of an older skeleton. */
const MOVED = Symbol('moved');

/** Undefined for what is not the API's, null for a trace that is not there. */
function answerTo(store: Store, path: string, query: URLSearchParams): unknown {
  if (path === '/api/services') return { data: store.services(), total: store.services().length, limit: 0, offset: 0, errors: null };
  const operations = /^\/api\/services\/([^/]+)\/operations$/.exec(path);
  if (operations) {
    const data = store.operations(decodeURIComponent(operations[1] ?? ''));
    return { data, total: data.length, limit: 0, offset: 0, errors: null };
  }
  if (path === '/api/periplus/v1/boot') {
    const counts = { traces: store.traces.size, spans: store.spans(), bytes: 0, maxBytes: 0, acceptedSpans: store.spans(), evictedTraces: 0, evictedSpans: 0 };
    return { version: 'mock', store: { engine: 'mock', ...counts } };
  }
  if (path === '/api/periplus/v1/search') return search(store, query);
  const trace = /^\/api\/periplus\/v1\/traces\/([0-9a-f]+)(\/spans)?$/i.exec(path);
  if (!trace) return undefined;
  const id = (trace[1] ?? '').toLowerCase();
  const spans = store.trace(id);
  if (!spans) return null;
  const revision = query.get('revision');
  if (revision !== null && revision !== String(spans.length)) return MOVED;
  return trace[2] ? details(spans, query.get('rows') ?? '') : skeleton(id.padStart(32, '0'), spans);
}
