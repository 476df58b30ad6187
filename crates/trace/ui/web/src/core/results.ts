/** The list of traces that a search found. */

import type { Sort } from './search-url.ts';
import { countFlag, FLAG, hasFlag, levels, operationOf, serviceOf, type Trace } from './skeleton.ts';
import { at } from './tree.ts';

export interface ServiceCount {
  name: string;
  spans: number;
  errors: number;
}

export interface Summary {
  traceId: string;
  root: { service: string; operation: string; missing: boolean };
  startUs: number;
  durationUs: number;
  spans: number;
  errors: number;
  depth: number;
  services: readonly ServiceCount[];
  statusCode?: string;
}

const ORDER: Readonly<Record<Sort, (a: Summary, b: Summary) => number>> = {
  newest: (a, b) => b.startUs - a.startUs,
  oldest: (a, b) => a.startUs - b.startUs,
  longest: (a, b) => b.durationUs - a.durationUs,
  shortest: (a, b) => a.durationUs - b.durationUs,
  spans: (a, b) => b.spans - a.spans,
  errors: (a, b) => b.errors - a.errors,
};

export function sortResults(traces: readonly Summary[], sort: Sort): Summary[] {
  return [...traces].sort((a, b) => ORDER[sort](a, b) || b.startUs - a.startUs);
}

/** The services of all results, those with most spans first. */
export function servicesOf(traces: readonly Summary[]): string[] {
  const spans = new Map<string, number>();
  for (const trace of traces) {
    for (const service of trace.services) spans.set(service.name, (spans.get(service.name) ?? 0) + service.spans);
  }
  return [...spans].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).map(([name]) => name);
}

export interface Scale {
  min: number;
  max: number;
}

/** From zero to a little above the longest, or logarithmic from the shortest when they differ by more than 50 times. */
export function durationScale(traces: readonly Summary[]): Scale & { log: boolean } {
  const longest = traces.reduce((most, trace) => Math.max(most, trace.durationUs), 1);
  const shortest = traces.reduce((least, trace) => Math.min(least, trace.durationUs), longest);
  const log = shortest > 0 && longest / shortest > 50;
  return log ? { min: shortest / 1.3, max: longest * 1.3, log } : { min: 0, max: longest * 1.12, log };
}

/** The time from the first start to the last, with room on both sides. */
export function timeScale(traces: readonly Summary[]): Scale {
  const first = traces.reduce((least, trace) => Math.min(least, trace.startUs), Number.POSITIVE_INFINITY);
  const last = traces.reduce((most, trace) => Math.max(most, trace.startUs), 0);
  const room = Math.max((last - first) * 0.03, 500_000);
  return { min: first - room, max: last + room };
}

/** A whole trace as a search would list it. */
export function summaryOf(trace: Trace): Summary {
  const services = trace.services.map((name) => ({ name, spans: 0, errors: 0 }));
  for (let row = 0; row < trace.size; row += 1) {
    const service = services[at(trace.service, row)];
    if (!service) continue;
    service.spans += 1;
    if (hasFlag(trace, row, FLAG.error)) service.errors += 1;
  }
  return {
    traceId: trace.id,
    root: { service: serviceOf(trace, 0), operation: operationOf(trace, 0), missing: hasFlag(trace, 0, FLAG.orphan) },
    startUs: trace.t0,
    durationUs: trace.duration,
    spans: trace.size,
    errors: countFlag(trace, FLAG.error),
    depth: levels(trace),
    services,
  };
}
