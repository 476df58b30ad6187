/** The details of spans, fetched when they are wanted: one for the panel, many at once for the find box. */

import { signal } from '@preact/signals';
import { ApiError, DETAIL_ROWS, fetchDetails, MOVED } from '../../api/client.ts';
import { valueText, type Attribute, type SpanDetails } from '../../api/types.ts';
import type { RowDetails } from '../../core/find.ts';
import type { Trace } from '../../core/skeleton.ts';

/** In bigger traces the find box looks at names only. */
export const MOST_INDEXED = 2000;

export class Details {
  private readonly trace: Trace;
  private readonly known = new Map<number, SpanDetails>();
  /** What the find box searches, by row. */
  readonly texts = signal<ReadonlyMap<number, RowDetails>>(new Map());
  /** Spans have arrived since: the rows of this trace are no longer the server's. */
  readonly outdated = signal(false);
  readonly indexing = signal<'no' | 'running' | 'done' | 'failed'>('no');

  constructor(trace: Trace) {
    this.trace = trace;
  }

  of(row: number): SpanDetails | undefined {
    return this.known.get(row);
  }

  async load(row: number, abort: AbortSignal): Promise<SpanDetails | undefined> {
    const known = this.known.get(row);
    if (known) return known;
    await this.fetch(String(row), abort);
    return this.known.get(row);
  }

  private async fetch(rows: string, abort?: AbortSignal): Promise<void> {
    try {
      for (const span of await fetchDetails(this.trace, rows, abort)) this.known.set(span.row, span);
    } catch (error) {
      if (error instanceof ApiError && error.status === MOVED) this.outdated.value = true;
      throw error;
    }
  }

  /** Fetches the details of every row once, if the trace is not too big for that. */
  async indexAll(): Promise<void> {
    if (this.indexing.value !== 'no' || this.trace.size > MOST_INDEXED) return;
    this.indexing.value = 'running';
    try {
      for (let first = 0; first < this.trace.size; first += DETAIL_ROWS) {
        const last = Math.min(this.trace.size, first + DETAIL_ROWS) - 1;
        await this.fetch(`${first}-${last}`);
      }
      this.texts.value = new Map([...this.known].map(([row, span]) => [row, textsOf(span)]));
      this.indexing.value = 'done';
    } catch {
      this.indexing.value = 'failed';
    }
  }
}

function pairs(attributes: readonly Attribute[]): string[] {
  return attributes.map((attribute) => `${attribute.key}=${valueText(attribute.value)}`.toLowerCase());
}

function textsOf(span: SpanDetails): RowDetails {
  return [
    ...pairs(span.attributes),
    ...pairs(span.resource),
    ...span.events.flatMap((event) => [event.name.toLowerCase(), ...pairs(event.attributes)]),
    ...(span.status.message ? [span.status.message.toLowerCase()] : []),
  ];
}
