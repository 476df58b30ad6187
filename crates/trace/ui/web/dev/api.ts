/** The answers of the mock server, in the shapes of docs/periplus-api.md. */

import { order, rootOf, type Store, type Stored } from './store.ts';
import type { KeyValue } from './otlp.ts';
import { parseSearch, type Search } from '../src/core/search-url.ts';
import { parseDuration } from '../src/core/time.ts';

function plain(value: KeyValue['value']): [string, string | number | boolean] {
  if (value.intValue !== undefined) return ['int', Number(value.intValue)];
  if (value.boolValue !== undefined) return ['bool', value.boolValue];
  if (value.doubleValue !== undefined) return ['double', value.doubleValue];
  return ['string', value.stringValue ?? ''];
}

const typed = (list: readonly KeyValue[] = []) =>
  list.map(({ key, value }) => {
    const [type, content] = plain(value);
    return { key, type, value: content };
  });

function extent(spans: readonly Stored[]): [number, number] {
  let [from, to] = [Number.POSITIVE_INFINITY, 0];
  for (const stored of spans) {
    from = Math.min(from, stored.start);
    to = Math.max(to, stored.start + stored.duration);
  }
  return [from, to];
}

export function skeleton(id: string, spans: readonly Stored[]) {
  const rows = order(spans);
  const starts = rows.map(({ stored }) => stored.start);
  const skewed = new Set<number>();
  rows.forEach(({ parent, stored }, row) => {
    const above = rows[parent];
    const aboveStart = starts[parent];
    if (!above || aboveStart === undefined) return;
    if (stored.start > aboveStart + above.stored.duration && stored.duration <= above.stored.duration) {
      starts[row] = aboveStart + (above.stored.duration - stored.duration) / 2;
      skewed.add(row);
    }
  });
  const t0 = starts.reduce((least, start) => Math.min(least, start), Number.POSITIVE_INFINITY);
  const services = [...new Set(rows.map(({ stored }) => stored.service))];
  const operations = [...new Set(rows.map(({ stored }) => stored.span.name))];
  const start = starts.map((value) => value - t0);
  const duration = rows.map(({ stored }) => stored.duration);
  const parent = rows.map((row) => row.parent);
  const end = start.map((value, row) => value + (duration[row] ?? 0));
  const place = new Map(services.map((name, index) => [name, index]));
  const operationPlace = new Map(operations.map((name, index) => [name, index]));
  return {
    v: 1,
    traceId: id,
    revision: String(spans.length),
    t0,
    durationUs: end.reduce((most, value) => Math.max(most, value), 0),
    services,
    operations,
    rows: {
      id: rows.map(({ stored }) => stored.span.spanId),
      depth: rows.map((row) => row.depth),
      parent,
      service: rows.map(({ stored }) => place.get(stored.service)),
      operation: rows.map(({ stored }) => operationPlace.get(stored.span.name)),
      kind: rows.map(({ stored }) => stored.span.kind),
      start,
      duration,
      self: selfTimes(parent, start, end),
      flags: rows.map(({ stored, orphan }, row) => (stored.failed ? 1 : 0) | (orphan ? 2 : 0) | (skewed.has(row) ? 4 | 32 : 0) | (stored.span.events ? 64 : 0) | (stored.span.links ? 128 : 0)),
    },
    critical: criticalPath(parent, start, end),
    events: rows.flatMap(({ stored }, row) => (stored.span.events ?? []).map((event) => [row, Number(BigInt(event.timeUnixNano) / 1000n) - t0 + (starts[row] ?? 0) - stored.start])),
    missing: [...new Set(rows.filter((row) => row.orphan).map(({ stored }) => stored.span.parentSpanId))],
    warnings: [...skewed].map((row) => ({ row, text: 'clock skew: moved into its parent' })),
  };
}

function childrenOf(parent: readonly number[]): number[][] {
  const children: number[][] = parent.map(() => []);
  parent.forEach((above, row) => children[above]?.push(row));
  return children;
}

function selfTimes(parent: readonly number[], start: readonly number[], end: readonly number[]): number[] {
  return childrenOf(parent).map((children, row) => {
    let covered = start[row] ?? 0;
    let self = 0;
    for (const child of children) {
      const from = Math.min(start[child] ?? 0, end[row] ?? 0);
      self += Math.max(0, from - covered);
      covered = Math.max(covered, Math.min(end[child] ?? 0, end[row] ?? 0));
    }
    return self + Math.max(0, (end[row] ?? 0) - covered);
  });
}

/** From the end of the root backwards: always into the child that ended last. */
function criticalPath(parent: readonly number[], start: readonly number[], end: readonly number[]): Array<[number, number, number]> {
  const children = childrenOf(parent);
  const segments: Array<[number, number, number]> = [];
  const walk = (row: number, limit: number): void => {
    let at = Math.min(limit, end[row] ?? 0);
    const last = [...(children[row] ?? [])].sort((a, b) => (end[b] ?? 0) - (end[a] ?? 0));
    for (const child of last) {
      const [from, to] = [start[child] ?? 0, end[child] ?? 0];
      if (to > at || to <= from) continue;
      if (at > to) segments.push([row, to, at]);
      walk(child, to);
      at = from;
    }
    const begin = start[row] ?? 0;
    if (at > begin) segments.push([row, begin, at]);
  };
  if (parent.length > 0) walk(Math.max(0, parent.indexOf(-1)), Number.POSITIVE_INFINITY);
  return segments.sort((a, b) => a[1] - b[1]);
}

const KINDS = ['unspecified', 'internal', 'server', 'client', 'producer', 'consumer'];
const CODES = ['unset', 'ok', 'error'];

export function details(spans: readonly Stored[], wanted: string) {
  const rows = order(spans);
  const picked = wanted.split(',').flatMap((part) => {
    const [first = 0, last = first] = part.split('-').map(Number);
    return Array.from({ length: last - first + 1 }, (_, index) => first + index);
  });
  return {
    spans: picked.slice(0, 200).flatMap((row) => {
      const stored = rows[row]?.stored;
      if (!stored) return [];
      const { span } = stored;
      return [
        {
          row,
          spanId: span.spanId,
          parentSpanId: span.parentSpanId ?? null,
          service: stored.service,
          operation: span.name,
          kind: KINDS[span.kind],
          startUs: stored.start,
          durationUs: stored.duration,
          status: { code: CODES[span.status?.code ?? 0], message: span.status?.message ?? '' },
          traceState: '',
          flags: 1,
          attributes: typed(span.attributes),
          resource: typed(stored.resource),
          scope: { name: stored.scope.name, version: stored.scope.version ?? '', attributes: [] },
          events: (span.events ?? []).map((event) => ({ timeUs: Number(BigInt(event.timeUnixNano) / 1000n), name: event.name, attributes: typed(event.attributes) })),
          links: (span.links ?? []).map((link) => ({ traceId: link.traceId, spanId: link.spanId, attributes: typed(link.attributes) })),
          warnings: [],
        },
      ];
    }),
  };
}

function matches(stored: Stored, search: Search): boolean {
  const [least, most] = [parseDuration(search.minDuration), parseDuration(search.maxDuration)];
  const known = new Map(typed([...(stored.span.attributes ?? []), ...stored.resource]).map((item) => [item.key, String(item.value)]));
  if (stored.failed) known.set('error', 'true');
  return (
    (!search.service || stored.service === search.service) &&
    (!search.operation || stored.span.name === search.operation) &&
    (least === undefined || stored.duration >= least) &&
    (most === undefined || stored.duration <= most) &&
    Object.entries(search.tags).every(([key, value]) => known.get(key) === value)
  );
}

export function search(store: Store, query: URLSearchParams) {
  const wanted = parseSearch(query);
  const now = Date.now() * 1000;
  const from = wanted.start ?? now - (parseDuration(wanted.lookback) ?? 3600e6);
  const to = wanted.end ?? now;
  const found = [...store.traces]
    .filter(([, spans]) => spans.some((stored) => stored.start >= from && stored.start <= to && matches(stored, wanted)))
    .map(([id, spans]) => summary(id, spans))
    .sort((a, b) => b.startUs - a.startUs);
  return { traces: found.slice(0, wanted.limit), limit: wanted.limit, truncated: found.length > wanted.limit };
}

function summary(traceId: string, spans: readonly Stored[]) {
  const root = rootOf(spans);
  const [from, to] = extent(spans);
  const services = new Map<string, { name: string; spans: number; errors: number }>();
  for (const { stored } of order(spans)) {
    const entry = services.get(stored.service) ?? { name: stored.service, spans: 0, errors: 0 };
    entry.spans += 1;
    if (stored.failed) entry.errors += 1;
    services.set(stored.service, entry);
  }
  const code = typed(root?.span.attributes).find((item) => item.key === 'http.status_code' || item.key === 'http.response.status_code');
  return {
    traceId,
    root: { service: root?.service ?? '', operation: root?.span.name ?? '', missing: root?.span.parentSpanId !== undefined },
    startUs: from,
    durationUs: to - from,
    spans: spans.length,
    errors: spans.filter((stored) => stored.failed).length,
    depth: order(spans).reduce((most, row) => Math.max(most, row.depth + 1), 0),
    services: [...services.values()],
    ...(code ? { statusCode: String(code.value) } : {}),
  };
}
