/** Chromium, and what every test does with a page. */

import { existsSync } from 'node:fs';
import { chromium, type Browser, type BrowserContextOptions, type Page } from 'playwright-core';
import { inject } from 'vitest';
import type { Seeded } from './setup.ts';

const EXECUTABLE = process.env['CHROMIUM_BIN'] ?? '/usr/bin/chromium';
const ARGUMENTS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-default-apps',
  '--disable-dev-shm-usage',
  '--disable-extensions',
  '--disable-sync',
  '--metrics-recording-only',
  '--no-default-browser-check',
  '--no-first-run',
];

export const seeded: Seeded = inject('seeded');

export async function launch(): Promise<Browser> {
  if (!existsSync(EXECUTABLE)) throw new Error(`there is no Chromium at ${EXECUTABLE}: install it, or name one with CHROMIUM_BIN`);
  return chromium.launch({ executablePath: EXECUTABLE, args: ARGUMENTS });
}

export interface Visit {
  page: Page;
  /** Whatever went wrong in the page: exceptions, errors on the console, violations of the policy. */
  complaints: string[];
}

/** Opens a page that must not complain. */
export async function visit(browser: Browser, url: string, options: BrowserContextOptions = {}): Promise<Visit> {
  const context = await browser.newContext({ viewport: { width: 1440, height: 860 }, timezoneId: 'Europe/Berlin', ...options });
  const page = await context.newPage();
  const complaints: string[] = [];
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('console', (message) => {
    // The browser itself reports answers such as 404; the page shows them.
    if (message.type() === 'error' && !message.text().startsWith('Failed to load resource')) complaints.push(message.text());
  });
  await page.goto(url);
  return { page, complaints };
}

export const search = (query = ''): string => `${seeded.url}/search${query}`;
export const trace = (name: keyof Seeded['traces'], query = ''): string => `${seeded.url}/trace/${seeded.traces[name]}${query}`;

/** The text of the selected row, as a screen reader has it. */
export async function selectedRow(page: Page): Promise<string> {
  return (await page.locator('[role=row][aria-selected=true]').getAttribute('aria-label')) ?? '';
}
