/** The server, as functions. Every answer is checked before a page sees it. */

import { summaryOf, type ServiceCount, type Summary } from '../core/results.ts';
import { parseSkeleton, type Trace } from '../core/skeleton.ts';
import { parseTraceId } from '../core/trace-url.ts';
import { bool, list, nullableText, number, object, text, type Fields } from './decode.ts';
import type { Attribute, Boot, SearchAnswer, SpanDetails } from './types.ts';
import { at } from '../core/base.ts';

const ROOT = '/api/periplus/v1';

/** The server refused, or did not answer. */
export class ApiError extends Error {
  /** The HTTP status; 0 when there was no answer. */
  readonly status: number;
  /** What was asked for. */
  readonly path: string;

  constructor(status: number, path: string, message: string) {
    super(message);
    this.status = status;
    this.path = path;
  }
}

/** Most rows that one request for details may name. */
export const DETAIL_ROWS = 200;

async function getJson(path: string, signal?: AbortSignal): Promise<unknown> {
  let response: Response;
  try {
    response = await fetch(at(path), { headers: { accept: 'application/json' }, ...(signal ? { signal } : {}) });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, path, 'the server does not answer; is periplus still running?');
  }
  const body = await response.text();
  if (!response.ok) throw new ApiError(response.status, path, errorText(body) || response.statusText);
  try {
    return JSON.parse(body);
  } catch {
    throw new ApiError(response.status, path, 'the answer is not JSON; does a proxy stand in between?');
  }
}

/** Ours is `{"error": …}`, Jaeger's `{"errors": [{"msg": …}]}`. */
function errorText(body: string): string {
  try {
    const answer = object(JSON.parse(body));
    if (typeof answer['error'] === 'string') return answer['error'];
    return list(answer['errors']).map((item) => text(object(item)['msg'])).join('; ');
  } catch {
    return body.slice(0, 200);
  }
}

export async function fetchBoot(signal?: AbortSignal): Promise<Boot> {
  const answer = object(await getJson(`${ROOT}/boot`, signal));
  const store = object(answer['store']);
  return {
    version: text(answer['version']),
    store: {
      engine: text(store['engine']),
      traces: number(store['traces']),
      spans: number(store['spans']),
      evictedTraces: number(store['evictedTraces']),
      evictedSpans: number(store['evictedSpans']),
    },
  };
}

async function names(path: string, signal?: AbortSignal): Promise<string[]> {
  const answer = object(await getJson(path, signal));
  return list(answer['data']).map(text).sort();
}

export function fetchServices(signal?: AbortSignal): Promise<string[]> {
  return names('/api/services', signal);
}

export function fetchOperations(service: string, signal?: AbortSignal): Promise<string[]> {
  return names(`/api/services/${encodeURIComponent(service)}/operations`, signal);
}

export async function fetchSearch(query: string, signal?: AbortSignal): Promise<SearchAnswer> {
  const answer = object(await getJson(`${ROOT}/search?${query}`, signal));
  return {
    traces: list(answer['traces']).map(summary),
    limit: number(answer['limit']),
    truncated: bool(answer['truncated']),
    absent: [],
  };
}

/** More traces than these are not fetched one by one. */
const MOST_TRACES = 50;

/** The traces of these ids, in any form that links carry. */
export async function fetchTraces(written: readonly string[], signal?: AbortSignal): Promise<SearchAnswer> {
  const ids = [...new Set(written.map((text) => parseTraceId(text) ?? text))];
  const asked = ids.slice(0, MOST_TRACES);
  const found = await Promise.all(
    asked.map((id) =>
      fetchTrace(id, signal).then(summaryOf, (error: unknown) => {
        if (error instanceof ApiError && (error.status === 404 || error.status === 400)) return undefined;
        throw error;
      }),
    ),
  );
  return {
    traces: found.filter((trace) => trace !== undefined),
    limit: MOST_TRACES,
    truncated: ids.length > asked.length,
    absent: asked.filter((_, index) => found[index] === undefined),
  };
}

function summary(value: unknown): Summary {
  const fields = object(value);
  const root = object(fields['root']);
  const code = fields['statusCode'];
  return {
    traceId: text(fields['traceId']),
    root: { service: text(root['service']), operation: text(root['operation']), missing: bool(root['missing']) },
    startUs: number(fields['startUs']),
    durationUs: number(fields['durationUs']),
    spans: number(fields['spans']),
    errors: number(fields['errors']),
    depth: number(fields['depth']),
    services: list(fields['services']).map(serviceCount),
    ...(typeof code === 'string' || typeof code === 'number' ? { statusCode: String(code) } : {}),
  };
}

function serviceCount(value: unknown): ServiceCount {
  const fields = object(value);
  return { name: text(fields['name']), spans: number(fields['spans']), errors: number(fields['errors']) };
}

export async function fetchTrace(id: string, signal?: AbortSignal): Promise<Trace> {
  return parseSkeleton(await getJson(`${ROOT}/traces/${encodeURIComponent(id)}`, signal));
}

/** The status of a request for rows that may have moved since the skeleton was sent. */
export const MOVED = 409;

/** Details of rows of this very skeleton, `0,4,10-19`; at most {@link DETAIL_ROWS}. */
export async function fetchDetails(trace: Trace, rows: string, signal?: AbortSignal): Promise<SpanDetails[]> {
  const revision = encodeURIComponent(trace.revision);
  const path = `${ROOT}/traces/${encodeURIComponent(trace.id)}/spans?rows=${rows}&revision=${revision}`;
  return list(object(await getJson(path, signal))['spans']).map(details);
}

function details(value: unknown): SpanDetails {
  const fields = object(value);
  const status = object(fields['status']);
  const scope = object(fields['scope']);
  return {
    row: number(fields['row']),
    spanId: text(fields['spanId']),
    parentSpanId: nullableText(fields['parentSpanId']),
    service: text(fields['service']),
    operation: text(fields['operation']),
    kind: text(fields['kind']),
    startUs: number(fields['startUs']),
    durationUs: number(fields['durationUs']),
    status: { code: text(status['code']), message: text(status['message'] ?? '') },
    traceState: text(fields['traceState'] ?? ''),
    flags: number(fields['flags'] ?? 0),
    attributes: attributes(fields),
    resource: list(fields['resource'] ?? []).map(attribute),
    scope: { name: text(scope['name'] ?? ''), version: text(scope['version'] ?? ''), attributes: attributes(scope) },
    events: list(fields['events'] ?? []).map((item) => {
      const event = object(item);
      return { timeUs: number(event['timeUs']), name: text(event['name']), attributes: attributes(event) };
    }),
    links: list(fields['links'] ?? []).map((item) => {
      const link = object(item);
      return { traceId: text(link['traceId']), spanId: text(link['spanId']), attributes: attributes(link) };
    }),
    warnings: list(fields['warnings'] ?? []).map(text),
  };
}

function attributes(fields: Fields): Attribute[] {
  return list(fields['attributes'] ?? []).map(attribute);
}

function attribute(value: unknown): Attribute {
  const fields = object(value);
  return { key: text(fields['key']), type: text(fields['type']), value: fields['value'] };
}
