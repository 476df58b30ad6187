/** Time inside a span that no child explains: what nobody instrumented, or the span's own work. */

import { at, subtreeEnds } from './tree.ts';
import type { Trace } from './skeleton.ts';

const SERVER = 2;
const INTERNAL = 1;
/** Shorter gaps are not worth a mark. */
const SHORTEST_US = 10_000;
const SHORTEST_SHARE = 0.05;

const caches = new WeakMap<Trace, Map<number, ReadonlyArray<readonly [number, number]>>>();
const ends = new WeakMap<Trace, Int32Array>();

/** Start and length of the gaps of a row, in the order of time; only spans with children have any. */
export function gapsOf(trace: Trace, row: number): ReadonlyArray<readonly [number, number]> {
  const kind = at(trace.kind, row);
  if (kind !== SERVER && kind !== INTERNAL) return [];
  if (at(trace.self, row) < Math.max(SHORTEST_US, trace.duration * SHORTEST_SHARE)) return [];
  let cache = caches.get(trace);
  if (!cache) caches.set(trace, (cache = new Map()));
  let gaps = cache.get(row);
  if (!gaps) cache.set(row, (gaps = compute(trace, row)));
  return gaps;
}

function compute(trace: Trace, row: number): Array<readonly [number, number]> {
  let end = ends.get(trace);
  if (!end) ends.set(trace, (end = subtreeEnds(trace.parent)));
  const least = Math.max(SHORTEST_US, trace.duration * SHORTEST_SHARE);
  const close = at(trace.start, row) + at(trace.length, row);
  const gaps: Array<readonly [number, number]> = [];
  let covered = at(trace.start, row);
  let children = 0;
  for (let child = row + 1; child < at(end, row); child = at(end, child)) {
    children += 1;
    const start = Math.min(at(trace.start, child), close);
    if (start - covered >= least) gaps.push([covered, start - covered]);
    covered = Math.max(covered, start + at(trace.length, child));
  }
  if (children === 0) return [];
  if (close - covered >= least) gaps.push([covered, close - covered]);
  return gaps;
}
