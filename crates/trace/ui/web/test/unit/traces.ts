/** Small traces for the tests of the pure modules. */

import { parseSkeleton, type Trace } from '../../src/core/skeleton.ts';

export interface Row {
  service?: string;
  operation?: string;
  parent?: number;
  start?: number;
  duration?: number;
  self?: number;
  kind?: number;
  flags?: number;
}

export function skeletonOf(rows: readonly Row[], more: Readonly<Record<string, unknown>> = {}): Record<string, unknown> {
  const services = [...new Set(rows.map((row) => row.service ?? 'a'))];
  const operations = [...new Set(rows.map((row) => row.operation ?? 'get'))];
  const depth: number[] = [];
  for (const row of rows) depth.push(row.parent === undefined || row.parent < 0 ? 0 : (depth[row.parent] ?? 0) + 1);
  return {
    v: 1,
    traceId: '1'.repeat(32),
    t0: 1_760_000_000_000_000,
    durationUs: 100_000,
    services,
    operations,
    rows: {
      id: rows.map((_, row) => row.toString(16).padStart(16, '0')),
      depth,
      parent: rows.map((row) => row.parent ?? -1),
      service: rows.map((row) => services.indexOf(row.service ?? 'a')),
      operation: rows.map((row) => operations.indexOf(row.operation ?? 'get')),
      kind: rows.map((row) => row.kind ?? 2),
      start: rows.map((row) => row.start ?? 0),
      duration: rows.map((row) => row.duration ?? 100_000),
      self: rows.map((row) => row.self ?? 0),
      flags: rows.map((row) => row.flags ?? 0),
    },
    critical: [],
    missing: [],
    warnings: [],
    ...more,
  };
}

export function traceOf(rows: readonly Row[], more: Readonly<Record<string, unknown>> = {}): Trace {
  return parseSkeleton(skeletonOf(rows, more));
}
