/** What belongs to this browser and not to a link: kept in local storage. */

import { effect, signal, type Signal } from '@preact/signals';
import type { Zone } from '../core/time.ts';
import { embeddedTheme } from '../core/trace-url.ts';
import { address } from './router.ts';

export type Theme = 'system' | 'light' | 'dark';

function read(key: string): string | null {
  try {
    return localStorage.getItem(`periplus.${key}`);
  } catch {
    return null;
  }
}

function write(key: string, value: string): void {
  try {
    localStorage.setItem(`periplus.${key}`, value);
  } catch {
    // Storage may be switched off; the setting then lasts as long as the page.
  }
}

function choice<T extends string>(key: string, values: readonly T[], fallback: T): Signal<T> {
  const stored = signal(values.find((value) => value === read(key)) ?? fallback);
  effect(() => write(key, stored.value));
  return stored;
}

function size(key: string, fallback: number): Signal<number> {
  const text = read(key);
  const stored = signal(text !== null && Number.isFinite(Number(text)) ? Number(text) : fallback);
  effect(() => write(key, String(stored.value)));
  return stored;
}

export const theme = choice<Theme>('theme', ['system', 'light', 'dark'], 'system');
export const zone = choice<Zone>('zone', ['local', 'utc'], 'local');
/** Whether single keys are commands (WCAG 2.2, 2.1.4). */
export const singleKeys = choice<'on' | 'off'>('keys', ['on', 'off'], 'on');
export const sidePanel = choice<'open' | 'closed'>('panel', ['open', 'closed'], 'open');
export const nameWidth = size('nameWidth', 400);
export const panelWidth = size('panelWidth', 372);

const systemDark = window.matchMedia('(prefers-color-scheme: dark)');
const systemIsDark = signal(systemDark.matches);
systemDark.addEventListener('change', (event) => {
  systemIsDark.value = event.matches;
});

/** Whether the page is dark now, whoever decided it. */
export function isDark(): boolean {
  const wanted = embeddedTheme(address.value.searchParams) ?? theme.value;
  return wanted === 'system' ? systemIsDark.value : wanted === 'dark';
}

export function followTheme(): void {
  effect(() => {
    document.documentElement.dataset['theme'] = isDark() ? 'dark' : 'light';
  });
}

const NEXT_THEME: Readonly<Record<Theme, Theme>> = { system: 'dark', dark: 'light', light: 'system' };

export function cycleTheme(): void {
  theme.value = NEXT_THEME[theme.value];
}

export function toggleZone(): void {
  zone.value = zone.value === 'utc' ? 'local' : 'utc';
}
