/** The answers of `/api/periplus/v1`; docs/periplus-api.md describes them. */

import type { Summary } from '../core/results.ts';

export interface Boot {
  version: string;
  store: { engine: string; traces: number; spans: number; evictedTraces: number; evictedSpans: number };
}

export interface SearchAnswer {
  traces: readonly Summary[];
  limit: number;
  truncated: boolean;
  /** What was asked for by its id, and is not there. */
  absent: readonly string[];
}

export interface Attribute {
  key: string;
  type: string;
  value: unknown;
}

export interface SpanEvent {
  timeUs: number;
  name: string;
  attributes: readonly Attribute[];
}

export interface SpanLink {
  traceId: string;
  spanId: string;
  attributes: readonly Attribute[];
}

export interface SpanDetails {
  row: number;
  spanId: string;
  parentSpanId: string | null;
  service: string;
  operation: string;
  kind: string;
  startUs: number;
  durationUs: number;
  status: { code: string; message: string };
  traceState: string;
  flags: number;
  attributes: readonly Attribute[];
  resource: readonly Attribute[];
  scope: { name: string; version: string; attributes: readonly Attribute[] };
  events: readonly SpanEvent[];
  links: readonly SpanLink[];
  warnings: readonly string[];
}

/** The value as text: as it is for scalars, as JSON for the rest. */
export function valueText(value: unknown): string {
  return typeof value === 'object' && value !== null ? JSON.stringify(value) : String(value);
}
