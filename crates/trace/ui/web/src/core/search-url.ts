/** The state of the search page is its URL; the parameter names are Jaeger's. */

import { parseDuration } from './time.ts';
import { formatTags, parseTags, type Tags } from './tags.ts';
import { parseTraceId } from './trace-url.ts';

export const SORTS = ['newest', 'oldest', 'longest', 'shortest', 'spans', 'errors'] as const;
export type Sort = (typeof SORTS)[number];

export const LOOKBACKS = ['5m', '15m', '1h', '6h', '12h', '1d', '2d', '7d'] as const;

export const DEFAULT_LIMIT = 20;
export const MAX_LIMIT = 1500;

export interface Search {
  /** Empty: all services. */
  service: string;
  operation: string;
  tags: Tags;
  /** Such as `1h`, or `custom` when `start` and `end` say the range. */
  lookback: string;
  /** Unix microseconds. */
  start: number | undefined;
  end: number | undefined;
  minDuration: string;
  maxDuration: string;
  limit: number;
  sort: Sort;
  /** These very traces, whatever else is asked for; ids as they were written. */
  traceIds: readonly string[];
  /** Parameters that this page does not know, kept as they came. */
  rest: ReadonlyArray<readonly [string, string]>;
}

export const EMPTY_SEARCH: Search = {
  service: '',
  operation: '',
  tags: {},
  lookback: '1h',
  start: undefined,
  end: undefined,
  minDuration: '',
  maxDuration: '',
  limit: DEFAULT_LIMIT,
  sort: 'newest',
  traceIds: [],
  rest: [],
};

const KNOWN = new Set([
  'service',
  'operation',
  'tags',
  'tag',
  'lookback',
  'start',
  'end',
  'minDuration',
  'maxDuration',
  'limit',
  'sort',
  'traceID',
]);

function micros(text: string | null): number | undefined {
  return text !== null && /^\d{1,17}$/.test(text) ? Number(text) : undefined;
}

/** Reads Jaeger's links and our own. `start` and `end` win over `lookback`. */
export function parseSearch(query: URLSearchParams): Search {
  const start = micros(query.get('start'));
  const end = micros(query.get('end'));
  const custom = start !== undefined && end !== undefined;
  const lookback = query.get('lookback') ?? '';
  const limit = Number(query.get('limit') ?? DEFAULT_LIMIT);
  const operation = query.get('operation') ?? '';
  const tags: Record<string, string> = { ...parseTags(query.get('tags') ?? '') };
  for (const pair of query.getAll('tag')) {
    const colon = pair.indexOf(':');
    if (colon > 0) tags[pair.slice(0, colon)] = pair.slice(colon + 1);
  }
  return {
    service: query.get('service') ?? '',
    operation: operation === 'all' ? '' : operation,
    tags,
    lookback: custom ? 'custom' : parseDuration(lookback) === undefined ? '1h' : lookback,
    start: custom ? start : undefined,
    end: custom ? end : undefined,
    minDuration: query.get('minDuration') ?? '',
    maxDuration: query.get('maxDuration') ?? '',
    limit: Number.isInteger(limit) && limit > 0 ? Math.min(limit, MAX_LIMIT) : DEFAULT_LIMIT,
    sort: SORTS.find((name) => name === query.get('sort')) ?? 'newest',
    traceIds: query.getAll('traceID').filter(Boolean),
    rest: [...query].filter(([key]) => !KNOWN.has(key)),
  };
}

function filters(search: Search): URLSearchParams {
  const query = new URLSearchParams();
  if (search.service) query.set('service', search.service);
  if (search.operation) query.set('operation', search.operation);
  if (Object.keys(search.tags).length > 0) query.set('tags', JSON.stringify(search.tags));
  if (search.minDuration) query.set('minDuration', search.minDuration);
  if (search.maxDuration) query.set('maxDuration', search.maxDuration);
  if (search.start !== undefined && search.end !== undefined) {
    query.set('start', String(search.start));
    query.set('end', String(search.end));
  } else {
    query.set('lookback', search.lookback);
  }
  query.set('limit', String(search.limit));
  return query;
}

/** The page's address. */
export function searchUrl(search: Search): string {
  const query = filters(search);
  for (const id of search.traceIds) query.append('traceID', id);
  if (search.sort !== 'newest') query.set('sort', search.sort);
  for (const [key, value] of search.rest) query.append(key, value);
  return `/search?${query}`;
}

/** Where a result leads. Jaeger's `span=ID ID@TRACE` names spans of a trace: the first is selected, all are lit. */
export function resultUrl(search: Search, traceId: string): string {
  const query = new URLSearchParams();
  for (const [key, value] of search.rest) {
    const [ids = '', trace = ''] = key === 'span' ? value.split('@') : [];
    const spans = ids.toLowerCase().split(/[\s,]+/).filter((id) => /^[0-9a-f]{1,16}$/.test(id));
    if (spans.length === 0 || sameTrace(trace) !== sameTrace(traceId)) continue;
    query.set('span', (spans[0] ?? '').padStart(16, '0'));
    if (spans.length > 1) query.set('find', `id:${spans.map((id) => id.padStart(16, '0')).join(',')}`);
  }
  const text = query.toString();
  return `/trace/${traceId}${text ? `?${text}` : ''}`;
}

/** Links leave out leading zeros, or not. */
function sameTrace(id: string): string {
  return (parseTraceId(id) ?? id).replace(/^0+/, '');
}

/** Whether the link is to the dependency graph of what is found. */
export function wantsGraph(search: Search): boolean {
  return search.rest.some(([key, value]) => key === 'view' && value === 'ddg');
}

/** The query of the API. */
export function searchApiQuery(search: Search): string {
  return filters(search).toString();
}

/** What was asked, as a sentence without its full stop. */
export function describeSearch(search: Search): string {
  if (search.traceIds.length > 0) return `the traces ${search.traceIds.join(', ')}`;
  const terms = [search.service ? `traces through ${search.service}` : 'traces of any service'];
  if (search.operation) terms.push(`with the operation ${search.operation}`);
  const tags = formatTags(search.tags);
  if (tags) terms.push(`with a span that has ${tags}`);
  if (search.minDuration) terms.push(`with a span of at least ${search.minDuration}`);
  if (search.maxDuration) terms.push(`with a span of at most ${search.maxDuration}`);
  terms.push(search.start === undefined ? `in the last ${search.lookback}` : 'in the chosen time range');
  return terms.join(', ');
}
