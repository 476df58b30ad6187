/**
 * Eight hues tell eight services apart; for more, the two letters of the chip and the pattern of its rail do. A service prefers the hue of its
 * name, so that it looks the same on every page, and gives way to a service that has it already: first of all to its
 * callers and those it calls.
 */

import { at } from './tree.ts';
import type { Trace } from './skeleton.ts';

export const HUES = 8;
const LAPS = 3;

export interface Identity {
  /** 0 to 7: `--s1` to `--s8`. */
  hue: number;
  /** How the rail is drawn, 0 to 2: solid, dashed, dotted. The services of one hue take them in turn. */
  lap: number;
  /** Two letters, unique within the set. */
  monogram: string;
}

/** FNV-1a: stable from page to page, and the same for the same name. */
function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let i = 0; i < text.length; i += 1) {
    value = Math.imul(value ^ text.charCodeAt(i), 0x01000193);
  }
  return value >>> 0;
}

/** Indices in the order of the names: what comes first must not depend on the page. */
function alphabetical(names: readonly string[]): number[] {
  return names.map((_, index) => index).sort((a, b) => ((names[a] ?? '') < (names[b] ?? '') ? -1 : 1));
}

/** Hues for services, given which of them are neighbours. */
export function assignHues(names: readonly string[], neighbours: ReadonlyMap<number, ReadonlySet<number>>): number[] {
  const hues: number[] = [];
  const uses = new Array<number>(HUES).fill(0);
  for (const index of alphabetical(names)) {
    const name = names[index] ?? '';
    const taken = new Set([...(neighbours.get(index) ?? [])].map((other) => hues[other]));
    const wish = hash(name) % HUES;
    let best = wish;
    let bestCost = Number.POSITIVE_INFINITY;
    for (let step = 0; step < HUES; step += 1) {
      const hue = (wish + step) % HUES;
      const cost = (taken.has(hue) ? 1000 : 0) + (uses[hue] ?? 0) * 10 + step;
      if (cost < bestCost) [best, bestCost] = [hue, cost];
    }
    hues[index] = best;
    uses[best] = (uses[best] ?? 0) + 1;
  }
  return hues;
}

/** For each service which one of its hue it is. */
export function assignLaps(names: readonly string[], hues: readonly number[]): number[] {
  const laps: number[] = [];
  const uses = new Array<number>(HUES).fill(0);
  for (const index of alphabetical(names)) {
    const hue = hues[index] ?? 0;
    laps[index] = (uses[hue] ?? 0) % LAPS;
    uses[hue] = (uses[hue] ?? 0) + 1;
  }
  return laps;
}

/** Which services call each other, by index. */
export function neighbours(trace: Trace): Map<number, Set<number>> {
  const map = new Map<number, Set<number>>();
  const link = (a: number, b: number): void => {
    const known = map.get(a);
    if (known) known.add(b);
    else map.set(a, new Set([b]));
  };
  const seen = new Set<number>();
  for (let row = 0; row < trace.size; row += 1) {
    const above = at(trace.parent, row);
    if (above < 0) continue;
    const a = at(trace.service, row);
    const b = at(trace.service, above);
    const pair = a * trace.services.length + b;
    if (a === b || seen.has(pair)) continue;
    seen.add(pair);
    link(a, b);
    link(b, a);
  }
  return map;
}

/** `productpage.default` is a name and its namespace, as Istio writes it: `['productpage', '.default']`. */
export function splitNamespace(name: string): readonly [string, string] {
  const dot = name.indexOf('.');
  return dot > 0 ? [name.slice(0, dot), name.slice(dot)] : [name, ''];
}

/** Two letters per name: the initials of its words or its first two letters, then others, until they are unique. */
export function monograms(names: readonly string[]): string[] {
  const used = new Set<string>();
  const chosen: string[] = [];
  for (const index of alphabetical(names)) {
    const name = names[index] ?? '';
    const [base = ''] = splitNamespace(name.toLowerCase());
    const letters = base.replace(/[^a-z0-9]/g, '') || '?';
    const words = base.split(/[^a-z0-9]+/).filter(Boolean);
    const first = letters.charAt(0);
    const candidates = [
      ...words.slice(1, 2).map((word) => first + word.charAt(0)),
      letters.slice(0, 2),
      ...words.slice(2).map((word) => first + word.charAt(0)),
      ...[...letters.slice(2)].map((letter) => first + letter),
      ...[...'23456789'].map((digit) => first + digit),
      ...[...'abcdefghijklmnopqrstuvwxyz0123456789'].map((letter) => first + letter),
    ];
    const monogram = candidates.find((candidate) => !used.has(candidate)) ?? letters.slice(0, 2);
    used.add(monogram);
    chosen[index] = monogram;
  }
  return chosen;
}

function identify(names: readonly string[], calls: ReadonlyMap<number, ReadonlySet<number>>): Identity[] {
  const hues = assignHues(names, calls);
  const laps = assignLaps(names, hues);
  const letters = monograms(names);
  return names.map((_, index) => ({ hue: hues[index] ?? 0, lap: laps[index] ?? 0, monogram: letters[index] ?? '' }));
}

export function identities(trace: Trace): Identity[] {
  return identify(trace.services, neighbours(trace));
}

/** For a set of names without calls between them, such as the services of a list of traces. */
export function identitiesOf(names: readonly string[]): Map<string, Identity> {
  const known = identify(names, new Map());
  return new Map(names.flatMap((name, index) => (known[index] ? [[name, known[index]] as const] : [])));
}
