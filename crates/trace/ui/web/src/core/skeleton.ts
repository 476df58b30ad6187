/** The trace as the server sends it to the waterfall: columns in depth-first order. */

import { at, siblings, type Siblings } from './tree.ts';

export const FLAG = {
  error: 1,
  orphan: 2,
  skewed: 4,
  shared: 8,
  duplicate: 16,
  warning: 32,
  events: 64,
  links: 128,
} as const;

export const KINDS = ['unspecified', 'internal', 'server', 'client', 'producer', 'consumer'] as const;

export interface Trace {
  id: string;
  /** Another one when spans have arrived, so that rows may have moved. */
  revision: string;
  /** Unix µs of the earliest start. */
  t0: number;
  duration: number;
  /** The number of spans. */
  size: number;
  services: readonly string[];
  operations: readonly string[];
  ids: readonly string[];
  depth: Int32Array;
  parent: Int32Array;
  service: Int32Array;
  operation: Int32Array;
  kind: Int32Array;
  start: Float64Array;
  length: Float64Array;
  self: Float64Array;
  flags: Int32Array;
  siblings: Siblings;
  critical: CriticalPath;
  /** When the events of a row were, in µs from the trace's start. */
  events: ReadonlyMap<number, readonly number[]>;
  /** Ids of spans that others name as their parent and that are not here. */
  missing: readonly string[];
}

export interface CriticalPath {
  row: Int32Array;
  start: Float64Array;
  end: Float64Array;
  /** For each row the segments that lie on it, as indices into the columns above. */
  ofRow: ReadonlyMap<number, readonly number[]>;
}

/** The server's answer is not what this page can draw. */
export class BadSkeleton extends Error {}

type Json = Readonly<Record<string, unknown>>;

function record(value: unknown, what: string): Json {
  if (typeof value !== 'object' || value === null) throw new BadSkeleton(`${what} is missing`);
  return value as Json;
}

function list(value: unknown, what: string): readonly unknown[] {
  if (!Array.isArray(value)) throw new BadSkeleton(`${what} is not a list`);
  return value;
}

function strings(value: unknown, what: string): readonly string[] {
  return list(value, what).map(String);
}

function column<T extends Int32Array | Float64Array>(rows: Json, name: string, out: T): T {
  const values = list(rows[name], name);
  if (values.length !== out.length) throw new BadSkeleton(`${name} has another length than id`);
  // The built-in copy does not wait for a loop to be compiled: the page is drawn before that would pay.
  out.set(values as readonly number[]);
  return out;
}

export function parseSkeleton(value: unknown): Trace {
  const top = record(value, 'the trace');
  const rows = record(top['rows'], 'rows');
  const ids = strings(rows['id'], 'id');
  const size = ids.length;
  if (size === 0) throw new BadSkeleton('the trace has no spans');
  const ints = (name: string): Int32Array => column(rows, name, new Int32Array(size));
  const floats = (name: string): Float64Array => column(rows, name, new Float64Array(size));
  const parent = ints('parent');
  for (let row = 0; row < size; row += 1) {
    if (at(parent, row) >= row || at(parent, row) < -1) throw new BadSkeleton('parents do not come before their children');
  }
  const start = floats('start');
  const length = floats('duration');
  return {
    id: String(top['traceId'] ?? ''),
    revision: String(top['revision'] ?? size),
    t0: Number(top['t0']),
    duration: Math.max(Number(top['durationUs']) || 0, extent(start, length), 1),
    size,
    services: strings(top['services'], 'services'),
    operations: strings(top['operations'], 'operations'),
    ids,
    depth: ints('depth'),
    parent,
    service: ints('service'),
    operation: ints('operation'),
    kind: ints('kind'),
    start,
    length,
    self: floats('self'),
    flags: ints('flags'),
    siblings: siblings(parent),
    critical: parseCritical(list(top['critical'] ?? [], 'critical'), size),
    events: parseEvents(list(top['events'] ?? [], 'events'), size),
    missing: strings(top['missing'] ?? [], 'missing'),
  };
}

function extent(start: Float64Array, length: Float64Array): number {
  let end = 0;
  for (let row = 0; row < start.length; row += 1) end = Math.max(end, at(start, row) + at(length, row));
  return end;
}

function parseCritical(segments: readonly unknown[], size: number): CriticalPath {
  const count = segments.length;
  const path = { row: new Int32Array(count), start: new Float64Array(count), end: new Float64Array(count) };
  const ofRow = new Map<number, number[]>();
  segments.forEach((segment, index) => {
    const [row, start, end] = list(segment, 'a critical segment').map(Number);
    if (row === undefined || start === undefined || end === undefined || row < 0 || row >= size) {
      throw new BadSkeleton('a critical segment names no row');
    }
    path.row[index] = row;
    path.start[index] = start;
    path.end[index] = end;
    const known = ofRow.get(row);
    if (known) known.push(index);
    else ofRow.set(row, [index]);
  });
  return { ...path, ofRow };
}

function parseEvents(events: readonly unknown[], size: number): Map<number, number[]> {
  const ofRow = new Map<number, number[]>();
  for (const event of events) {
    const [row, time] = list(event, 'an event').map(Number);
    if (row === undefined || time === undefined || row < 0 || row >= size) throw new BadSkeleton('an event names no row');
    const known = ofRow.get(row);
    if (known) known.push(time);
    else ofRow.set(row, [time]);
  }
  return ofRow;
}

/** The name of the row's service. */
export function serviceOf(trace: Trace, row: number): string {
  return trace.services[at(trace.service, row)] ?? '';
}

/** The name of the row's operation. */
export function operationOf(trace: Trace, row: number): string {
  return trace.operations[at(trace.operation, row)] ?? '';
}

export function hasFlag(trace: Trace, row: number, flag: number): boolean {
  return (at(trace.flags, row) & flag) !== 0;
}

/** How many rows carry the flag. */
export function countFlag(trace: Trace, flag: number): number {
  let count = 0;
  for (let row = 0; row < trace.size; row += 1) if (hasFlag(trace, row, flag)) count += 1;
  return count;
}

/** The number of levels. */
export function levels(trace: Trace): number {
  let deepest = 0;
  for (let row = 0; row < trace.size; row += 1) deepest = Math.max(deepest, at(trace.depth, row));
  return deepest + 1;
}
