/** Where the time went: the critical path, summed by service. */

import { serviceOf, type Trace } from './skeleton.ts';
import { at } from './tree.ts';

export interface Part {
  /** The service, or undefined for the rest of the list and for time that no span explains. */
  service: string | undefined;
  label: string;
  us: number;
  /** Of the trace's duration, 0 to 1. */
  share: number;
}

/** The biggest `most` services, then what is left of them, then the time in which no span ran. */
export function breakdown(trace: Trace, most: number): Part[] {
  const sums = new Map<string, number>();
  const { row, start, end } = trace.critical;
  for (let i = 0; i < row.length; i += 1) {
    const name = serviceOf(trace, at(row, i));
    sums.set(name, (sums.get(name) ?? 0) + at(end, i) - at(start, i));
  }
  const ranked = [...sums].filter(([, us]) => us > 0).sort((a, b) => b[1] - a[1]);
  const part = (service: string | undefined, label: string, us: number): Part => ({
    service,
    label,
    us,
    share: us / trace.duration,
  });
  const shown = ranked.length === most + 1 ? most + 1 : most;
  const parts = ranked.slice(0, shown).map(([name, us]) => part(name, name, us));
  const others = ranked.slice(shown);
  if (others.length > 0) {
    parts.push(part(undefined, `${others.length} others`, others.reduce((sum, [, us]) => sum + us, 0)));
  }
  const idle = trace.duration - ranked.reduce((sum, [, us]) => sum + us, 0);
  if (ranked.length > 0 && idle > trace.duration * 0.005) parts.push(part(undefined, 'no span', idle));
  return parts;
}

/** `36 %`, `<1 %`. */
export function percent(share: number): string {
  return share > 0 && share < 0.01 ? '<1 %' : `${Math.round(share * 100)} %`;
}
