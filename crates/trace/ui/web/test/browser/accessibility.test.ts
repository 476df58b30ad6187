/** axe-core over every page and state, in both themes and on a phone: no violations. */

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { AxeResults } from 'axe-core';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { launch, search, seeded, trace, visit } from './browser.ts';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const RULES = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];

let browser: Browser;
beforeAll(async () => {
  browser = await launch();
});
afterAll(() => browser?.close());

async function violations(page: Page): Promise<string[]> {
  await page.evaluate(AXE);
  const result = await page.evaluate(
    (rules) => (window as unknown as { axe: { run(options: object): Promise<AxeResults> } }).axe.run({ runOnly: rules }),
    RULES,
  );
  return result.violations.flatMap((violation) => violation.nodes.map((node) => `${violation.id}: ${node.html.slice(0, 160)} ${node.failureSummary ?? ''}`));
}

interface State {
  name: string;
  url: string;
  ready: string;
  keys?: string;
  click?: string;
  then?: string;
}

const states: State[] = [
  { name: 'search', url: search(), ready: 'table.results' },
  { name: 'search with a custom range', url: search(`?start=1&end=${Date.now() * 1000}&service=productpage.default`), ready: 'table.results' },
  { name: 'search that finds nothing', url: search('?minDuration=1h'), ready: '.notice' },
  { name: 'search before the first span', url: `${seeded.empty}/search`, ready: '.ways' },
  { name: 'trace', url: trace('good'), ready: '.row' },
  { name: 'trace with its services to choose from', url: trace('good'), ready: '.row', click: '.menu > button', then: '.menu-panel' },
  { name: 'trace with a selected span', url: trace('failing'), ready: '.row', keys: 'e', then: '.attributes' },
  { name: 'trace with problems, found and filtered', url: trace('broken', '?find=Charge%20status:error'), ready: '.row', keys: 'n', then: '.events' },
  { name: 'trace that is embedded', url: trace('good', '?uiEmbed=v0&uiTimelineCollapseTitle=1'), ready: '.row' },
  { name: 'trace of 10,000 spans', url: trace('big'), ready: '.row' },
  { name: 'trace that is not there', url: `${seeded.url}/trace/1`, ready: '.notice' },
  { name: 'help', url: trace('good'), ready: '.row', keys: '?', then: 'dialog[open]' },
];

describe.each(['light', 'dark'] as const)('%s', (colorScheme) => {
  test.each(states)('$name', async ({ url, ready, keys, click, then }) => {
    const { page } = await visit(browser, url, { colorScheme });
    await page.waitForSelector(ready);
    if (keys) await page.keyboard.press(keys);
    if (click) await page.click(click);
    if (then) await page.waitForSelector(then);
    await expect.poll(() => page.locator('html').getAttribute('data-theme')).toBe(colorScheme);
    expect(await violations(page)).toEqual([]);
    await page.context().close();
  });
});

test.each(states.slice(0, 9))('phone: $name', async ({ url, ready, keys, click, then }) => {
  const { page } = await visit(browser, url, { viewport: { width: 390, height: 844 } });
  await page.waitForSelector(ready);
  if (keys) await page.keyboard.press(keys);
  if (click) await page.click(click);
  if (then) await page.waitForSelector(then);
  expect(await violations(page)).toEqual([]);
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  expect(overflow, 'the page scrolls sideways').toBeLessThanOrEqual(0);
  await page.context().close();
});

test('from the search to the details with the keyboard alone', async () => {
  const { page } = await visit(browser, search('?service=ratings.default&tags={"error":"true"}'));
  await page.waitForSelector('table.results');
  await page.keyboard.press('j');
  await page.keyboard.press('Enter');
  await page.waitForSelector('.row');
  await page.keyboard.press('e');
  await page.keyboard.press('Enter');
  await page.waitForSelector('.attributes');
  await page.keyboard.press('Tab');
  await expect.poll(() => page.evaluate(() => document.activeElement?.closest('.side-panel') !== null)).toBe(true);
  await page.keyboard.press('Escape');
  await page.keyboard.press('Tab');
  await expect.poll(() => page.evaluate(() => document.activeElement?.closest('.rows'))).toBeNull();
});
