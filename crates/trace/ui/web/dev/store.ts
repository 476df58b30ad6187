/** A stand-in for the server's store, for work on the UI without a Rust build. It follows docs/periplus-api.md. */

import type { ExportRequest, KeyValue, OtlpSpan } from './otlp.ts';

export interface Stored {
  span: OtlpSpan;
  service: string;
  resource: KeyValue[];
  scope: { name: string; version?: string };
  start: number;
  duration: number;
  failed: boolean;
}

const micros = (nano: string): number => Number(BigInt(nano) / 1000n);

export class Store {
  readonly traces = new Map<string, Stored[]>();

  add(request: ExportRequest): number {
    let count = 0;
    for (const { resource, scopeSpans } of request.resourceSpans) {
      const service = resource.attributes.find((item) => item.key === 'service.name')?.value.stringValue ?? 'unknown';
      for (const { scope, spans } of scopeSpans) {
        for (const span of spans) {
          const start = micros(span.startTimeUnixNano);
          const stored = { span, service, resource: resource.attributes, scope, start, duration: micros(span.endTimeUnixNano) - start, failed: span.status?.code === 2 };
          const trace = this.traces.get(span.traceId);
          if (trace) trace.push(stored);
          else this.traces.set(span.traceId, [stored]);
          count += 1;
        }
      }
    }
    return count;
  }

  trace(id: string): Stored[] | undefined {
    return this.traces.get(id.toLowerCase().padStart(32, '0'));
  }

  spans(): number {
    return [...this.traces.values()].reduce((sum, spans) => sum + spans.length, 0);
  }

  services(): string[] {
    return [...new Set([...this.traces.values()].flat().map((stored) => stored.service))].sort();
  }

  operations(service: string): string[] {
    const all = [...this.traces.values()].flat().filter((stored) => stored.service === service);
    return [...new Set(all.map((stored) => stored.span.name))].sort();
  }
}

/** Rows in depth-first order, children by their start. */
export function order(spans: readonly Stored[]): Array<{ stored: Stored; parent: number; depth: number; orphan: boolean }> {
  const ids = new Set(spans.map((stored) => stored.span.spanId));
  const children = new Map<string, Stored[]>();
  for (const stored of spans) {
    const parent = stored.span.parentSpanId;
    const key = parent && ids.has(parent) ? parent : '';
    const list = children.get(key);
    if (list) list.push(stored);
    else children.set(key, [stored]);
  }
  const rows: Array<{ stored: Stored; parent: number; depth: number; orphan: boolean }> = [];
  const visit = (key: string, parent: number, depth: number): void => {
    for (const stored of [...(children.get(key) ?? [])].sort((a, b) => a.start - b.start)) {
      const orphan = stored.span.parentSpanId !== undefined && !ids.has(stored.span.parentSpanId);
      rows.push({ stored, parent, depth, orphan });
      visit(stored.span.spanId, rows.length - 1, depth + 1);
    }
  };
  visit('', -1, 0);
  // A trace begins with its true root, whenever its orphans began.
  return rows;
}

export function rootOf(spans: readonly Stored[]): Stored | undefined {
  const sorted = [...spans].sort((a, b) => a.start - b.start);
  return sorted.find((stored) => !stored.span.parentSpanId) ?? sorted[0];
}
