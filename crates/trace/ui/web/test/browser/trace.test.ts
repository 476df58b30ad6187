import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { bookinfo } from '../../dev/fixtures.ts';
import type { ResourceSpans } from '../../dev/otlp.ts';
import { launch, seeded, selectedRow, trace, visit, type Visit } from './browser.ts';

let browser: Browser;
beforeAll(async () => {
  browser = await launch();
});
afterAll(() => browser?.close());

async function open(url: string): Promise<Visit> {
  const opened = await visit(browser, url);
  await opened.page.waitForSelector('.row');
  return opened;
}

const press = async (page: Page, keys: string): Promise<void> => {
  for (const key of keys.split(' ')) await page.keyboard.press(key);
};

const labels = (page: Page): Promise<Array<string | null>> => page.locator('.row').evaluateAll((rows) => rows.map((row) => row.getAttribute('aria-label')));

test('shows the call chain of Bookinfo', async () => {
  const { page, complaints } = await open(trace('good'));
  await expect.poll(() => page.locator('h1').textContent()).toContain('istio-ingressgateway.istio-system');
  expect((await page.locator('.facts').textContent())?.replace(/\s+/g, ' ')).toMatch(/9 spans5 servicesdepth 7/);
  const names = await page.locator('.row').evaluateAll((rows) => rows.map((row) => row.querySelector('.service')?.textContent));
  expect(names).toEqual(['istio-ingressgateway', 'istio-ingressgateway', 'productpage', 'productpage', 'details', 'productpage', 'reviews', 'reviews', 'ratings']);
  await expect.poll(() => page.title()).toMatch(/^istio-ingressgateway\.istio-system .* · Trace /);
  expect(complaints).toEqual([]);
});

test('is a treegrid with every role and number', async () => {
  const { page } = await open(trace('good'));
  const grid = page.getByRole('treegrid', { name: 'Spans' });
  await expect.poll(() => grid.getAttribute('aria-rowcount')).toBe('10');
  const row = page.locator('.row').nth(3);
  await expect.poll(() => row.getAttribute('role')).toBe('row');
  const attributes = await row.evaluate((element) => Object.fromEntries([...element.attributes].map((attribute) => [attribute.name, attribute.value])));
  expect(attributes).toMatchObject({ 'aria-level': '4', 'aria-rowindex': '5', 'aria-setsize': '2', 'aria-posinset': '1', 'aria-expanded': 'true', 'aria-selected': 'false' });
  expect(attributes['aria-label']).toMatch(/^productpage\.default, details.*, client, .* milliseconds, on the critical path, level 4, row 4 of 9$/);
  await expect.poll(() => row.locator('[role=gridcell]').count()).toBe(2);
  await expect.poll(() => page.locator('.row').nth(4).getAttribute('aria-expanded')).toBeNull();
  await expect.poll(() => page.locator('[role=columnheader]').count()).toBe(2);
});

describe('keys', () => {
  test('walk, collapse and expand', async () => {
    const { page, complaints } = await open(trace('good'));
    await press(page, 'j j ArrowDown ArrowDown k');
    await expect.poll(() => selectedRow(page)).toContain('row 3 of 9');
    await expect.poll(() => page.evaluate(() => document.activeElement?.getAttribute('aria-selected'))).toBe('true');
    await press(page, 'ArrowLeft');
    await expect.poll(() => selectedRow(page)).toContain('row 3 of 3');
    await expect.poll(() => page.locator('.row.selected').getAttribute('aria-expanded')).toBe('false');
    await expect.poll(() => page.locator('.row.selected .badge').textContent()).toBe('+6');
    await press(page, 'ArrowLeft');
    await expect.poll(() => selectedRow(page)).toContain('level 2');
    await press(page, 'ArrowRight ArrowRight');
    await expect.poll(() => page.locator('.row').count()).toBe(9);
    await press(page, 'End');
    await expect.poll(() => selectedRow(page)).toContain('row 9 of 9');
    await press(page, 'Home [');
    await expect.poll(() => page.locator('.row').count()).toBe(2);
    await press(page, ']');
    await expect.poll(() => page.locator('.row').count()).toBe(9);
    expect(complaints).toEqual([]);
  });

  test('jump from error to error, and around', async () => {
    const { page } = await open(trace('failing'));
    await press(page, 'e');
    await expect.poll(() => selectedRow(page)).toContain('error');
    const first = await selectedRow(page);
    await press(page, 'e e e e');
    await expect.poll(() => selectedRow(page)).toBe(first);
    await press(page, 'E E');
    await expect.poll(() => selectedRow(page)).toContain('error');
  });

  test('zoom, pan and reset the time', async () => {
    const { page } = await open(trace('good'));
    await press(page, 'Home j j j j z');
    await page.waitForFunction(() => new URLSearchParams(location.search).has('z'));
    const start = page.getByRole('slider', { name: 'Start of the visible time' });
    const before = Number(await start.getAttribute('aria-valuenow'));
    expect(before).toBeGreaterThan(0);
    await press(page, 'Shift+ArrowLeft');
    await expect.poll(async () => Number(await start.getAttribute('aria-valuenow'))).toBeLessThan(before);
    await press(page, '0');
    await page.waitForFunction(() => !new URLSearchParams(location.search).has('z'));
    await start.focus();
    await press(page, 'ArrowRight ArrowRight');
    await expect.poll(async () => Number(await start.getAttribute('aria-valuenow'))).toBeGreaterThan(0);
  });

  test('are listed by ?, and single ones can be switched off', async () => {
    const { page } = await open(trace('good'));
    await press(page, '?');
    await page.getByRole('dialog').waitFor();
    await expect.poll(() => page.getByRole('dialog').textContent()).toContain('next span on the critical path');
    await page.getByLabel('Single letters are commands').uncheck();
    await press(page, 'Escape');
    await press(page, 'j');
    await expect.poll(() => page.locator('.row.selected').count()).toBe(0);
    await press(page, 'ArrowDown');
    await expect.poll(() => selectedRow(page)).toContain('row 1 of 9');
  });

  test('are letters while typing', async () => {
    const { page } = await open(trace('good'));
    await press(page, '/');
    await page.keyboard.type('je[');
    await expect.poll(() => page.locator('[aria-label="Find spans"]').inputValue()).toBe('je[');
    await expect.poll(() => page.locator('.row.selected').count()).toBe(0);
  });
});

describe('details', () => {
  test('come when a span is selected, and have a link of their own', async () => {
    const { page, complaints } = await open(trace('failing'));
    await expect.poll(() => page.locator('.side-panel').textContent()).toContain('Select a span');
    await press(page, 'e Enter');
    await page.waitForSelector('.attributes');
    const panel = page.getByRole('complementary', { name: 'Span details' });
    const text = await panel.textContent();
    expect(text).toContain('ratings.default');
    expect(text).toContain('UO: the circuit breaker was full');
    expect(text).toContain('http.status_code503');
    await expect.poll(() => panel.evaluate((element) => element === document.activeElement)).toBe(true);
    await press(page, 'Escape');
    await expect.poll(() => page.evaluate(() => document.activeElement?.classList.contains('row'))).toBe(true);
    await page.waitForFunction(() => new URLSearchParams(location.search).has('span'));
    const selected = await selectedRow(page);
    const again = await open(page.url());
    await expect.poll(() => selectedRow(again.page)).toBe(selected);
    expect(complaints).toEqual([]);
  });

  test('have the keys that come before the next frame', async () => {
    const { page } = await open(trace('failing'));
    const atOnce = (...keys: string[]): Promise<void> =>
      page.evaluate((all) => {
        for (const key of all) (document.activeElement ?? document.body).dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
      }, keys);
    const focused = (): Promise<string | undefined> => page.evaluate(() => document.activeElement?.className);
    await atOnce('e', 'Enter');
    await expect.poll(focused).toBe('side-panel');
    await atOnce('Escape', 'j', 'Enter');
    await expect.poll(focused).toBe('side-panel');
    await expect.poll(() => page.locator('.row.selected').count()).toBe(1);
    await atOnce('Escape', 'Escape');
    await expect.poll(() => page.locator('.row.selected').count()).toBe(0);
  });

  test('filter, copy and search by an attribute', async () => {
    const { page } = await open(trace('good'));
    await page.context().grantPermissions(['clipboard-read', 'clipboard-write']);
    await press(page, 'j');
    await page.waitForSelector('.attribute-filter');
    await page.fill('.attribute-filter', 'user_agent');
    const shown = page.locator('.attributes').first().locator('.attribute');
    await expect.poll(() => shown.count()).toBe(1);
    await shown.hover();
    await page.getByRole('button', { name: 'Copy user_agent' }).click();
    await expect.poll(() => page.evaluate(() => navigator.clipboard.readText())).toBe('curl/8.14.1');
    await page.getByRole('link', { name: 'Search for traces with user_agent=curl/8.14.1' }).click();
    await page.waitForSelector('table.results tbody tr');
    await expect.poll(() => page.locator('table.results tbody tr').count()).toBeGreaterThanOrEqual(3);
  });

  test('show events, links, warnings and typed values', async () => {
    const { page } = await open(trace('broken', '?find=Charge'));
    await press(page, 'n');
    await page.waitForSelector('.events');
    const text = await page.locator('.side-panel').textContent();
    for (const part of ['upstream overflow', 'charging card', '****0005', 'payment.amount12.5', 'payment.retryablefalse']) expect(text).toContain(part);
    await expect.poll(() => page.locator('.links a').getAttribute('href')).toBe(`/trace/${'f'.repeat(31)}1?span=${'e'.repeat(15)}1`);
  });
});

test('text from a trace stays text', async () => {
  const { page, complaints } = await open(trace('broken', '?find=Charge'));
  await expect.poll(() => page.locator('.row .service').allTextContents()).toContain('<b>bold</b>');
  await expect.poll(() => page.locator('.row script, .row b, .row img').count()).toBe(0);
  await press(page, 'n');
  await page.waitForSelector('.attributes');
  await expect.poll(() => page.locator('.side-panel img').count()).toBe(0);
  expect(complaints).toEqual([]);
});

test('tells what is wrong with a trace', async () => {
  const { page } = await open(trace('broken'));
  const summary = await page.locator('.summary').textContent();
  expect(summary).toContain('2 errors');
  expect(summary).toContain('1 missing parent');
  expect(summary).toContain('clock skew corrected on 1 span');
  const all = await labels(page);
  expect(all.filter((label) => label?.includes('its parent is missing'))).toHaveLength(1);
  expect(all.filter((label) => label?.includes('clock skew adjusted'))).toHaveLength(1);
});

describe('the find box', () => {
  test("obeys Jaeger's uiFind and walks the matches", async () => {
    const { page } = await open(trace('good', '?uiFind=ratings'));
    await page.waitForFunction(() => document.querySelector('#find-count')?.textContent?.startsWith('2 of 9'));
    expect(page.url()).toContain('find=ratings');
    await press(page, 'n');
    await expect.poll(() => page.locator('#find-count').textContent()).toContain('1 of 2');
    await press(page, 'n n');
    await expect.poll(() => page.locator('#find-count').textContent()).toContain('1 of 2');
    await press(page, 'm');
    await expect.poll(() => page.locator('.row').count()).toBe(7);
    await expect.poll(() => page.locator('.row.dim').count()).toBe(5);
  });

  test('finds attributes that were never shown', async () => {
    const { page } = await open(trace('failing'));
    await page.fill('[aria-label="Find spans"]', 'response_flags=UO');
    await page.waitForFunction(() => document.querySelector('#find-count')?.textContent === '1 of 11');
  });

  test('says what it does not understand', async () => {
    const { page } = await open(trace('good'));
    await page.fill('[aria-label="Find spans"]', 'dur>fast');
    await expect.poll(() => page.locator('#find-count').textContent()).toContain('dur wants a duration');
  });
});

test('critical path, panel, theme and zone can be switched', async () => {
  const { page } = await open(trace('good'));
  const critical = page.getByRole('button', { name: 'Critical path' });
  await expect.poll(() => critical.getAttribute('aria-pressed')).toBe('true');
  await press(page, 'c');
  await expect.poll(() => critical.getAttribute('aria-pressed')).toBe('false');
  await press(page, 'd');
  await expect.poll(() => page.locator('.side-panel').count()).toBe(0);
  const started = await page.locator('.facts').textContent();
  await press(page, 'u');
  await expect.poll(() => page.locator('.facts').textContent()).not.toBe(started);
  await press(page, '.');
  await expect.poll(() => page.locator('html').getAttribute('data-theme')).toBe('dark');
  await page.waitForFunction(() => location.search.includes('cp=0'));
  await page.reload();
  await page.waitForSelector('.row');
  await expect.poll(() => page.locator('html').getAttribute('data-theme')).toBe('dark');
  await expect.poll(() => critical.getAttribute('aria-pressed')).toBe('false');
});

test('dragging on the minimap zooms', async () => {
  const { page } = await open(trace('good'));
  const box = await page.locator('.minimap-host').boundingBox();
  if (!box) throw new Error('there is no minimap');
  await page.mouse.move(box.x + box.width * 0.25, box.y + 20);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width * 0.5, box.y + 20, { steps: 4 });
  await page.mouse.up();
  await page.waitForFunction(() => new URLSearchParams(location.search).has('z'));
  await expect.poll(() => page.getByRole('button', { name: 'Whole trace' }).isEnabled()).toBe(true);
});

test('the id may be written in any way that links use', async () => {
  const id = seeded.traces.good;
  const base64 = Buffer.from(id, 'hex').toString('base64');
  for (const written of [id.toUpperCase(), encodeURIComponent(base64)]) {
    const { page } = await open(`${seeded.url}/trace/${written}`);
    expect(new URL(page.url()).pathname).toBe(`/trace/${id}`);
  }
});

test('a trace that is not there: why, and a watch for it', async () => {
  const { page, complaints } = await visit(browser, `${seeded.url}/trace/${'a'.repeat(32)}`);
  await page.getByRole('heading', { name: 'Not here (yet)' }).waitFor();
  for (const hint of ['x-b3-sampled', 'does not forward the tracing headers', 'traces of this server', 'has let no trace go']) {
    await expect.poll(() => page.locator('.notice').textContent()).toContain(hint);
  }
  await page.getByRole('button', { name: 'Watch for it' }).click();
  await expect.poll(() => page.getByRole('button', { name: /Watching/ }).getAttribute('aria-pressed')).toBe('true');
  expect(complaints).toEqual([]);
});

describe('spans that come late', () => {
  const send = async (resourceSpans: ResourceSpans[]): Promise<void> => {
    const response = await fetch(seeded.receiver, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ resourceSpans }) });
    expect(response.status).toBe(200);
  };
  /** Opens a trace of which only the gateway's two spans have arrived; the result brings the rest. */
  const openPart = async (seed: number, agoUs: number): Promise<{ opened: Visit; rest: () => Promise<void> }> => {
    const fixture = bookinfo(seed, Date.now() * 1000 - agoUs, 'v3');
    const [first, ...others] = fixture.request.resourceSpans;
    if (!first) throw new Error('the fixture has no spans');
    await send([first]);
    const opened = await visit(browser, `${seeded.url}/trace/${fixture.traceId}`);
    await opened.page.waitForSelector('.row, .notice');
    if (await opened.page.locator('.notice').count()) await opened.page.getByRole('button', { name: 'Watch for it' }).click();
    await opened.page.waitForSelector('.row');
    return { opened, rest: () => send(others) };
  };

  test('appear in place while the trace is fresh', async () => {
    const { opened, rest } = await openPart(2001, 1e6);
    const { page, complaints } = opened;
    await expect.poll(() => page.locator('.chip.live').textContent()).toContain('receiving');
    await press(page, 'j');
    await expect.poll(() => selectedRow(page)).toContain('row 1 of 2');
    await rest();
    await expect.poll(() => selectedRow(page), { timeout: 15_000 }).toContain('row 1 of 9');
    expect(complaints).toEqual([]);
  });

  test('are noticed when details of a row are wanted that may have moved', async () => {
    const { opened, rest } = await openPart(2002, 60e6);
    const { page, complaints } = opened;
    await expect.poll(() => page.locator('.chip.live').count()).toBe(0);
    await rest();
    await expect.poll(async () => (await (await fetch(`${page.url().replace('/trace/', '/api/periplus/v1/traces/')}`)).text()).length).toBeGreaterThan(1000);
    await press(page, 'j');
    await expect.poll(() => selectedRow(page)).toContain('row 1 of 9');
    await page.waitForSelector('.attributes');
    expect(complaints).toEqual([]);
  });
});

describe('services', () => {
  test('are chosen, which the link keeps', async () => {
    const { page, complaints } = await open(trace('good'));
    await page.getByRole('button', { name: 'Services' }).click();
    await page.locator('.menu-panel').getByLabel(/details\.default/).uncheck();
    await expect.poll(() => page.locator('.row').count()).toBe(8);
    await expect.poll(() => page.locator('.row .service').allTextContents()).not.toContain('details');
    await page.keyboard.press('Escape');
    await expect.poll(() => page.locator('.menu-panel').count()).toBe(0);
    await page.waitForFunction(() => new URLSearchParams(location.search).get('hide') === 'details.default');
    await page.reload();
    await page.waitForSelector('.row');
    await expect.poll(() => page.locator('.row').count()).toBe(8);
    await page.getByRole('button', { name: 'Services: 4 of 5' }).click();
    await page.getByRole('button', { name: 'Show all' }).click();
    await expect.poll(() => page.locator('.row').count()).toBe(9);
    expect(complaints).toEqual([]);
  });

  test('that do not show do when they are gone to', async () => {
    const { page } = await open(trace('failing', '?hide=ratings.default'));
    await expect.poll(() => page.locator('.row .service').allTextContents()).not.toContain('ratings');
    await page.fill('[aria-label="Find spans"]', 'service:ratings');
    await page.press('[aria-label="Find spans"]', 'Enter');
    await expect.poll(() => selectedRow(page)).toContain('ratings.default');
  });

  test("are those of Jaeger's svcFilter", async () => {
    const { page } = await open(trace('good', '?svcFilter=463f.1e'));
    await expect.poll(() => page.locator('.row').count()).toBe(8);
    expect(new URL(page.url()).search).toBe('?hide=details.default');
    const stale = await open(trace('good', '?svcFilter=1.1e'));
    await expect.poll(() => stale.page.locator('.row').count()).toBe(9);
  });
});

test.each([
  ['uiTimelineHideMinimap=1', 0, 1],
  ['uiTimelineHideSummary=1', 1, 0],
  ['uiTimelineCollapseTitle=1', 0, 0],
  ['uiTimelineCollapseTitle=0', 1, 1],
])('embedded, the page leaves out what it is told to: %s', async (parameter, minimaps, facts) => {
  const { page, complaints } = await open(trace('good', `?uiEmbed=v0&uiTheme=dark&${parameter}`));
  await expect.poll(() => page.locator('.minimap').count()).toBe(minimaps);
  await expect.poll(() => page.locator('.facts').count()).toBe(facts);
  await expect.poll(() => page.locator('h1').textContent()).toContain('istio-ingressgateway.istio-system');
  await expect.poll(() => page.locator('html').getAttribute('data-theme')).toBe('dark');
  await expect.poll(() => page.evaluate(() => localStorage.getItem('periplus.theme'))).not.toBe('dark');
  const whole = page.getByRole('link', { name: 'Open in a window of its own' });
  await expect.poll(() => whole.getAttribute('href')).not.toContain('embed=1');
  expect(complaints).toEqual([]);
});

test('embedded, there is nothing around the trace', async () => {
  const { page } = await open(trace('good', '?uiEmbed=v0'));
  await expect.poll(() => page.locator('header.top, footer').count()).toBe(0);
});
