import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { launch, search, seeded, visit } from './browser.ts';

let browser: Browser;
beforeAll(async () => {
  browser = await launch();
});
afterAll(() => browser?.close());

const rows = 'table.results tbody tr';

test('finds every trace of the last hour without a question, newest first', async () => {
  const { page, complaints } = await visit(browser, `${seeded.url}/`);
  await page.waitForSelector(rows);
  expect(new URL(page.url()).pathname).toBe('/search');
  await expect.poll(() => page.locator(rows).count()).toBeGreaterThanOrEqual(5);
  const links = await page.locator(`${rows} td.what a`).evaluateAll((list) => list.map((link) => link.getAttribute('href')));
  const { good, plain, failing, broken, big } = seeded.traces;
  const expected = [good, plain, failing, broken, big].map((id) => `/trace/${id}`);
  // Another test's trace may have arrived meanwhile.
  expect(links.filter((link) => expected.includes(link ?? ''))).toEqual(expected);
  const first = page.locator(rows, { has: page.locator(`[href="/trace/${good}"]`) });
  await expect.poll(() => first.textContent()).toContain('istio-ingressgateway.istio-system');
  await expect.poll(() => first.locator('.services li').count()).toBe(5);
  await expect.poll(() => page.getByRole('figure').getAttribute('aria-label')).toMatch(/^Durations of \d+ traces/);
  expect(complaints).toEqual([]);
});

test("obeys Jaeger's links", async () => {
  const end = Date.now() * 1000;
  const tags = encodeURIComponent(JSON.stringify({ 'http.status_code': '503' }));
  const { page } = await visit(browser, search(`?service=ratings.default&tags=${tags}&lookback=1h&limit=20&start=${end - 3600e6}&end=${end}&maxDuration=&minDuration=`));
  await page.waitForSelector(rows);
  await expect.poll(() => page.locator(rows).count()).toBe(1);
  await expect.poll(() => page.locator(`${rows} td.what a`).getAttribute('href')).toBe(`/trace/${seeded.traces.failing}`);
  await expect.poll(() => page.locator('[name=service]').inputValue()).toBe('ratings.default');
  await expect.poll(() => page.locator('[name=tags]').inputValue()).toBe('http.status_code=503');
  await expect.poll(() => page.locator('[name=lookback]').inputValue()).toBe('custom');
});

test("a link of Jaeger's to one trace opens it, one to several lists them", async () => {
  const { good, plain } = seeded.traces;
  const one = await visit(browser, search(`?traceID=${good.toUpperCase()}`));
  await one.page.waitForSelector('.row');
  expect(new URL(one.page.url()).pathname).toBe(`/trace/${good}`);
  expect(one.complaints).toEqual([]);

  const absent = 'f'.repeat(32);
  const { page } = await visit(browser, search(`?traceID=${good}&traceID=${plain}&traceID=${absent}&span=1%202@${good}&view=ddg&service=nobody`));
  await page.waitForSelector(rows);
  const links = await page.locator(`${rows} td.what a`).evaluateAll((list) => list.map((link) => link.getAttribute('href')));
  expect(links).toEqual([`/trace/${good}?span=${'1'.padStart(16, '0')}&find=id%3A${'1'.padStart(16, '0')}%2C${'2'.padStart(16, '0')}`, `/trace/${plain}`]);
  await expect.poll(() => page.locator('.search-facts').textContent()).toContain('1 not here');
  await expect.poll(() => page.locator('.search-result').textContent()).toContain('asks for a graph');
  // The form is a question of its own.
  await page.selectOption('[name=service]', 'ratings.default');
  await page.click('button.primary');
  await page.waitForFunction(() => !new URLSearchParams(location.search).has('traceID'));
});

test('the form becomes the URL, and the way back works', async () => {
  const { page, complaints } = await visit(browser, search());
  await page.waitForSelector(rows);
  await page.selectOption('[name=service]', 'productpage.default');
  await page.waitForFunction(() => document.querySelectorAll('[name=operation] option').length > 1);
  await page.fill('[name=tags]', 'http.status_code=200');
  await page.fill('[name=minDuration]', '1 ms');
  await page.press('[name=minDuration]', 'Enter');
  await page.waitForFunction((selector) => document.querySelectorAll(selector).length >= 3, rows);
  const query = new URL(page.url()).searchParams;
  expect(Object.fromEntries(query)).toEqual({ service: 'productpage.default', tags: '{"http.status_code":"200"}', minDuration: '1ms', lookback: '1h', limit: '20' });
  await page.goBack();
  // Until the page shows the question before, the list and the form are still those of this one.
  await page.waitForFunction(() => document.querySelector<HTMLInputElement>('[name=tags]')?.value === '');
  await page.waitForFunction((selector) => document.querySelectorAll(selector).length >= 5, rows);
  expect(complaints).toEqual([]);
});

test('a duration that is none is refused before it is sent', async () => {
  const { page } = await visit(browser, search());
  await page.waitForSelector(rows);
  await page.fill('[name=minDuration]', 'fast');
  await page.click('button.primary');
  await expect.poll(() => page.locator('[name=minDuration]').evaluate((input) => (input as HTMLInputElement).validationMessage)).toContain('1.2s');
  expect(new URL(page.url()).searchParams.has('minDuration')).toBe(false);
});

test('sorts, and keeps the order in the link', async () => {
  const { page } = await visit(browser, search());
  await page.waitForSelector(rows);
  await page.getByRole('button', { name: 'Duration' }).click();
  expect(new URL(page.url()).searchParams.get('sort')).toBe('longest');
  await expect.poll(() => page.locator('th[aria-sort]').textContent()).toContain('Duration');
  await expect.poll(() => page.locator(`${rows} td.what a`).first().getAttribute('href')).toBe(`/trace/${seeded.traces.big}`);
});

test('a point of the picture names its trace and opens it', async () => {
  const { page } = await visit(browser, search('?service=frontend.shop'));
  await page.waitForSelector(rows);
  const box = await page.locator('.scatter-host').boundingBox();
  if (!box) throw new Error('there is no picture');
  // One trace alone stands in the middle of the time axis; its height depends on the scale.
  const middle = box.x + 64 + (box.width - 76) / 2;
  for (let y = box.y + 4; y < box.y + box.height; y += 6) {
    await page.mouse.move(middle, y);
    if (await page.locator('.scatter-host.over-point').count()) break;
  }
  await expect.poll(() => page.locator('.card').textContent()).toContain('POST /checkout');
  await page.mouse.down();
  await page.mouse.up();
  await page.waitForURL(`**/trace/${seeded.traces.broken}*`);
});

test('nothing found: says what was asked and offers a way on', async () => {
  const { page } = await visit(browser, search('?service=productpage.default&minDuration=10s&lookback=15m'));
  await page.getByRole('heading', { name: 'Nothing matches' }).waitFor();
  await expect.poll(() => page.locator('.notice').textContent()).toContain('productpage.default, with a span of at least 10s, in the last 15m');
  await page.getByRole('button', { name: 'Any duration' }).click();
  await page.waitForSelector(rows);
});

test('a server without spans says how to send some', async () => {
  const { page, complaints } = await visit(browser, `${seeded.empty}/search`);
  await page.getByRole('heading', { name: 'Waiting for the first span' }).waitFor();
  const text = await page.locator('.notice').textContent();
  for (const way of ['OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318', ':9411/api/v2/spans', 'periplus demo']) expect(text).toContain(way);
  expect(complaints).toEqual([]);
});

test('a server that fails is said to, and trying again works', async () => {
  const { page } = await visit(browser, 'about:blank');
  await page.route('**/api/periplus/v1/search*', (route) => route.fulfill({ status: 503, json: { error: 'the store is busy' } }));
  await page.goto(search());
  await page.getByRole('heading', { name: 'The search failed' }).waitFor();
  await expect.poll(() => page.locator('.failure').textContent()).toContain('the store is busy (HTTP 503)');
  await page.unroute('**/api/periplus/v1/search*');
  await page.getByRole('button', { name: 'Try again' }).click();
  await page.waitForSelector(rows);
});

test('the list is walked with keys', async () => {
  const { page } = await visit(browser, search('?service=productpage.default&sort=oldest'));
  await page.waitForSelector(rows);
  await page.keyboard.press('j');
  await page.keyboard.press('j');
  await page.keyboard.press('k');
  await page.keyboard.press('Enter');
  await page.waitForURL(`**/trace/${seeded.traces.failing}*`);
  await page.keyboard.press('g');
  await page.keyboard.press('s');
  await page.waitForSelector(rows);
  await page.keyboard.press('/');
  await expect.poll(() => page.evaluate(() => document.activeElement?.getAttribute('name'))).toBe('service');
});
