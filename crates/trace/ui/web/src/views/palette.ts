/** The tokens of the style sheet, for canvases. */

import { HUES } from '../core/colours.ts';

export interface Palette {
  background: string;
  surface: string;
  text: string;
  muted: string;
  line: string;
  lineStrong: string;
  accent: string;
  error: string;
  warning: string;
  critical: string;
  halo: string;
  hues: readonly string[];
  /** Of labels and axes. */
  font: string;
}

export function readPalette(): Palette {
  const style = getComputedStyle(document.documentElement);
  const token = (name: string): string => style.getPropertyValue(`--${name}`).trim();
  return {
    background: token('bg'),
    surface: token('bg-2'),
    text: token('fg'),
    muted: token('fg-2'),
    line: token('line'),
    lineStrong: token('line-strong'),
    accent: token('accent'),
    error: token('err'),
    warning: token('warn'),
    critical: token('crit'),
    halo: token('crit-halo'),
    hues: Array.from({ length: HUES }, (_, index) => token(`s${index + 1}`)),
    font: `11px ${token('sans')}`,
  };
}
