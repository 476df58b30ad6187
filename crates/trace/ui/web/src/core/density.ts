/** How many spans run at once, per column of the minimap and per hue: its cost does not grow with what it shows. */

import { HUES } from './colours.ts';
import { FLAG, hasFlag, type Trace } from './skeleton.ts';
import { at } from './tree.ts';

export interface Density {
  columns: number;
  /** `HUES × columns` counts, hue by hue. */
  counts: Float64Array;
  /** The greatest sum over the hues of a column. */
  peak: number;
  /** Columns in which a span that failed ends. */
  errors: readonly number[];
}

export function density(trace: Trace, hueOfService: readonly number[], columns: number): Density {
  const counts = new Float64Array(HUES * columns);
  const scale = columns / trace.duration;
  const errors = new Set<number>();
  const last = columns - 1;
  for (let row = 0; row < trace.size; row += 1) {
    const from = Math.min(last, Math.max(0, Math.floor(at(trace.start, row) * scale)));
    const end = at(trace.start, row) + at(trace.length, row);
    const to = Math.min(last, Math.max(from, Math.ceil(end * scale) - 1));
    const base = (hueOfService[at(trace.service, row)] ?? 0) * columns;
    counts[base + from] = at(counts, base + from) + 1;
    if (to < last) counts[base + to + 1] = at(counts, base + to + 1) - 1;
    if (hasFlag(trace, row, FLAG.error)) errors.add(to);
  }
  return { columns, counts, peak: accumulate(counts, columns), errors: [...errors] };
}

/** Turns steps up and down into counts; returns the peak of their sum. */
function accumulate(counts: Float64Array, columns: number): number {
  const sums = new Float64Array(columns);
  for (let hue = 0; hue < HUES; hue += 1) {
    let running = 0;
    for (let column = 0; column < columns; column += 1) {
      running += at(counts, hue * columns + column);
      counts[hue * columns + column] = running;
      sums[column] = at(sums, column) + running;
    }
  }
  return sums.reduce((peak, sum) => Math.max(peak, sum), 1);
}
