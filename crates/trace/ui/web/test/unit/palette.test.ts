/** The colours of the style sheet keep what the design promises: contrast by WCAG 2.2, distance in OKLab. */

import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';

type Rgb = readonly [number, number, number];
type Theme = ReadonlyMap<string, string>;

const css = readFileSync(new URL('../../src/styles/tokens.css', import.meta.url), 'utf8');

function theme(selector: string): Theme {
  const begin = css.indexOf(`${selector} {`);
  const block = css.slice(begin, css.indexOf('}', begin));
  return new Map([...block.matchAll(/--([\w-]+): (#[0-9a-f]{6});/g)].map(([, name = '', value = '']) => [name, value]));
}

const light = theme(':root');
const dark = theme(':root[data-theme="dark"]');

/** The channels as light, 0 to 1. */
function linear(colours: Theme, name: string): Rgb {
  const hex = colours.get(name);
  if (hex === undefined) throw new Error(`--${name} is no colour of the theme`);
  const channel = (at: number): number => {
    const value = Number.parseInt(hex.slice(at, at + 2), 16) / 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  };
  return [channel(1), channel(3), channel(5)];
}

function contrast(colours: Theme, name: string, on: string): number {
  const luminance = ([r, g, b]: Rgb): number => 0.2126 * r + 0.7152 * g + 0.0722 * b;
  const [a, b] = [luminance(linear(colours, name)), luminance(linear(colours, on))];
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}

function oklab([r, g, b]: Rgb): Rgb {
  const l = Math.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b);
  const m = Math.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b);
  const s = Math.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b);
  return [0.2104542553 * l + 0.793617785 * m - 0.0040720468 * s, 1.9779984951 * l - 2.428592205 * m + 0.4505937099 * s, 0.0259040371 * l + 0.7827717662 * m - 0.808675766 * s];
}

const HUES = ['s1', 's2', 's3', 's4', 's5', 's6', 's7', 's8'];

/** The least distance between two hues, times 100. */
function leastDistance(colours: Theme): number {
  const points = HUES.map((name) => oklab(linear(colours, name)));
  const distances = points.flatMap((a, i) => points.slice(i + 1).map((b) => 100 * Math.hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2])));
  return Math.min(...distances);
}

describe.each([
  ['light', light, { fg: 17.6, 'fg-2': 6.1, 'line-strong': 3.1, accent: 6.8, err: 5.6, warn: 4.9, ok: 5.1 }, 3.27, 15.2],
  ['dark', dark, { fg: 15.4, 'fg-2': 7.3, 'line-strong': 4.0, accent: 7.8, err: 6.8, warn: 9.7, ok: 8.4 }, 5.64, 14.7],
] as const)('%s', (_, colours, least, hues, distance) => {
  test.each(Object.entries(least))('--%s stands out by %d to 1', (name, ratio) => {
    expect(contrast(colours, name, 'bg')).toBeGreaterThan(ratio - 0.1);
  });

  test('text can be read on every surface', () => {
    for (const surface of ['bg', 'bg-2', 'bg-3', 'accent-bg']) {
      for (const text of ['fg', 'fg-2']) expect(contrast(colours, text, surface), `${text} on ${surface}`).toBeGreaterThanOrEqual(4.5);
    }
    for (const [text, surface] of [['err', 'err-bg'], ['warn', 'warn-bg'], ['accent', 'accent-bg'], ['on-accent', 'accent']] as const) {
      expect(contrast(colours, text, surface), `${text} on ${surface}`).toBeGreaterThanOrEqual(4.5);
    }
  });

  test('every hue can be seen, and told from the others', () => {
    const contrasts = HUES.map((name) => contrast(colours, name, 'bg'));
    expect(Math.min(...contrasts)).toBeGreaterThan(hues - 0.005);
    expect(leastDistance(colours)).toBeGreaterThan(distance - 0.05);
  });
});
