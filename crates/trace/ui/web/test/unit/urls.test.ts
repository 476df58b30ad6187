import { describe, expect, test } from 'vitest';
import { menuLink, within } from '../../src/core/base.ts';
import { describeSearch, EMPTY_SEARCH, parseSearch, resultUrl, searchApiQuery, searchUrl, wantsGraph, type Search } from '../../src/core/search-url.ts';
import { formatTags, parseTags } from '../../src/core/tags.ts';
import { hiddenByJaeger } from '../../src/core/service-filter.ts';
import { embeddedTheme, parseTraceId, parseTraceView, traceUrl } from '../../src/core/trace-url.ts';

const search = (query: string): Search => parseSearch(new URLSearchParams(query));

describe("Jaeger's search links", () => {
  test('all parameters', () => {
    const link =
      'end=1760000003600000&limit=50&lookback=1h&maxDuration=1.2s&minDuration=100ms&operation=GET%20%2Fx&service=productpage.default&start=1760000000000000&tags=%7B%22http.status_code%22%3A%22503%22%7D';
    expect(search(link)).toEqual({
      service: 'productpage.default',
      operation: 'GET /x',
      tags: { 'http.status_code': '503' },
      lookback: 'custom',
      start: 1760000000000000,
      end: 1760000003600000,
      minDuration: '100ms',
      maxDuration: '1.2s',
      limit: 50,
      sort: 'newest',
      traceIds: [],
      rest: [],
    });
  });

  test.each<[string, Partial<Search>]>([
    ['', {}],
    ['operation=all', { operation: '' }],
    ['lookback=2d', { lookback: '2d' }],
    ['lookback=soon', { lookback: '1h' }],
    ['lookback=custom', { lookback: '1h' }],
    ['start=5', { start: undefined, end: undefined }],
    ['start=x&end=y', { start: undefined, end: undefined }],
    ['limit=0', { limit: 20 }],
    ['limit=-3', { limit: 20 }],
    ['limit=1e9', { limit: 1500 }],
    ['tags=not%20json', { tags: { not: 'true', json: 'true' } }],
    ['tags=error%3Dtrue', { tags: { error: 'true' } }],
    ['tag=a:b:c&tag=d:e', { tags: { a: 'b:c', d: 'e' } }],
    ['sort=longest', { sort: 'longest' }],
    ['sort=loudest', { sort: 'newest' }],
    ['traceID=1&traceID=2&view=ddg', { traceIds: ['1', '2'], rest: [['view', 'ddg']] }],
  ])('%s', (query, expected) => {
    expect(search(query)).toEqual({ ...EMPTY_SEARCH, ...expected });
  });

  test('what is written is read again', () => {
    for (const query of ['service=a&tags={"k":"v w"}&lookback=6h&limit=7&sort=errors', 'traceID=1&traceID=ab&span=2@1', 'start=1&end=2&minDuration=1ms&keep=me']) {
      const first = search(query);
      expect(parseSearch(new URL(searchUrl(first), 'http://x').searchParams)).toEqual(first);
    }
  });

  test('the order of the list is not sent to the server', () => {
    expect(searchApiQuery(search('service=a&sort=longest&x=y'))).toBe('service=a&lookback=1h&limit=20');
  });

  test('spans that a link names are selected and lit in their trace', () => {
    const named = search('traceID=00ab&traceID=cd&span=1%202@AB&span=3@cd&span=x@cd');
    expect(resultUrl(named, '00ab')).toBe('/trace/00ab?span=0000000000000001&find=id%3A0000000000000001%2C0000000000000002');
    expect(resultUrl(named, 'cd')).toBe('/trace/cd?span=0000000000000003');
    expect(resultUrl(named, 'ef')).toBe('/trace/ef');
  });

  test('the graph of a search is known to be asked for', () => {
    expect([wantsGraph(search('view=ddg')), wantsGraph(search('view=list')), wantsGraph(search(''))]).toEqual([true, false, false]);
  });

  test('a search can be said in words', () => {
    expect(describeSearch(search('traceID=1&traceID=2'))).toBe('the traces 1, 2');
    expect(describeSearch(search('service=a&tags={"error":"true"}&minDuration=1s&lookback=6h'))).toBe(
      'traces through a, with a span that has error=true, with a span of at least 1s, in the last 6h',
    );
  });
});

describe('tags', () => {
  test.each([
    ['a=1 b=2', { a: '1', b: '2' }],
    ['a="x y" b', { a: 'x y', b: 'true' }],
    [String.raw`a="say \"hi\""`, { a: 'say "hi"' }],
    ['{"a":1,"b":true}', { a: '1', b: 'true' }],
    ['{"a":', {}],
    ['[1]', { '[1]': 'true' }],
    ['  ', {}],
    ['url=http://x/?q=1', { url: 'http://x/?q=1' }],
  ])('%s', (text, tags) => {
    expect(parseTags(text)).toEqual(tags);
  });

  test('survive being written', () => {
    for (const tags of [{ a: 'x y' }, { a: 'q"q', b: '' }, { 'http.url': 'http://x/?a=b' }]) {
      expect(parseTags(formatTags(tags))).toEqual(tags);
    }
  });
});

describe('trace ids', () => {
  test.each([
    ['463AC35C9F6413AD48485A3953BB6124', '463ac35c9f6413ad48485a3953bb6124'],
    ['463ac35c9f6413ad', '463ac35c9f6413ad'],
    [' 1 ', '1'],
    ['RjrDXJ9kE61ISFo5U7thJA==', '463ac35c9f6413ad48485a3953bb6124'],
    ['', undefined],
    ['xyz', undefined],
    ['1'.repeat(33), undefined],
  ])('%s', (text, id) => {
    expect(parseTraceId(text)).toBe(id);
  });
});

describe('the trace page', () => {
  const view = (query: string) => parseTraceView('ab', new URLSearchParams(query));

  test("Jaeger's names are read and ours are written", () => {
    expect(traceUrl(view('uiFind=reviews&uiEmbed=v0&x=1'))).toBe('/trace/ab?find=reviews&embed=1&x=1');
  });

  test('what is at its default is left out', () => {
    expect(traceUrl(view(''))).toBe('/trace/ab');
  });

  test('what is written is read again', () => {
    const full = view('span=00ff&find=a%20b&only=1&cp=0&z=100-2500&hide=a.b&hide=c&uiEmbed=v0&uiTimelineHideMinimap=1');
    expect(full.zoom).toEqual([100, 2500]);
    expect(parseTraceView('ab', new URL(traceUrl(full), 'http://x').searchParams)).toEqual(full);
  });

  test.each(['z=5-5', 'z=9-1', 'z=a-b', 'z=-1-5'])('a zoom that makes no sense is ignored: %s', (query) => {
    expect(view(query).zoom).toBeUndefined();
  });

  test.each<[string, { facts: boolean; minimap: boolean }]>([
    ['uiEmbed=v0', { facts: false, minimap: false }],
    ['uiEmbed=v0&uiTimelineHideMinimap=1', { facts: false, minimap: true }],
    ['uiEmbed=v0&uiTimelineHideSummary=1', { facts: true, minimap: false }],
    ['uiEmbed=v0&uiTimelineCollapseTitle=1', { facts: true, minimap: true }],
    ['embed=1&uiTimelineCollapseTitle=1', { facts: true, minimap: true }],
    ['uiEmbed=v0&uiTimelineCollapseTitle=0', { facts: false, minimap: false }],
    ['uiTimelineCollapseTitle=1&uiTimelineHideMinimap=1', { facts: false, minimap: false }],
  ])('what an embedding page does without: %s', (query, without) => {
    expect(view(query).without).toEqual(without);
    expect(parseTraceView('ab', new URL(traceUrl(view(query)), 'http://x').searchParams).without).toEqual(without);
  });

  test.each([
    ['uiEmbed=v0&uiTheme=dark', 'dark'],
    ['uiEmbed=v0&uiTheme=light', 'light'],
    ['uiEmbed=v0&uiTheme=blue', undefined],
    ['uiTheme=dark', undefined],
  ])('an embedding page chooses the theme: %s', (query, theme) => {
    expect(embeddedTheme(new URLSearchParams(query))).toBe(theme);
  });
});

describe("Jaeger's service filter", () => {
  // The checksums are worked out by hand: 0x811c, for each code unit xor, times 0x0101, 16 bits kept.
  test.each<[readonly string[], string, readonly string[]]>([
    [['a', 'b'], '9a1f.2', ['a']],
    [['b', 'a'], '9a1f.1', ['b']],
    [['a', 'b'], '9A1F.3', []],
    [['a', 'b'], '9a1f.0', []],
    [['a', 'b'], '9a1f.4', []],
    [['a', 'b'], '9a1e.2', []],
    [['a', 'c'], '9a1f.2', []],
    [['a', 'b'], '9a1f', []],
    [['a', 'b'], '9a1f.', []],
    [['a', 'b'], '.2', []],
    [['a', 'b'], '9a1f.x', []],
    [['a'], 'fe7d.1', []],
    [[], 'fe7d.1', []],
  ])('%j with %s', (services, filter, hidden) => {
    expect(hiddenByJaeger(services, filter)).toEqual(hidden);
  });
});

test.each<[string, string, string | null]>([
  ['/search', '', '/search'],
  ['/jaeger/trace/1', '/jaeger', '/trace/1'],
  ['/jaeger', '/jaeger', '/'],
  ['/jaeger/', '/jaeger', '/'],
  ['/jaegers', '/jaeger', null],
  ['/search', '/jaeger', null],
])('%s below "%s" is %s', (path, base, ours) => {
  expect(within(path, base)).toBe(ours);
});

test('a link of the menu is an address and a label', () => {
  expect(menuLink('https://docs.example/ The docs')).toEqual({ url: 'https://docs.example/', label: 'The docs' });
  expect(menuLink('/api Docs')).toEqual({ url: '/api', label: 'Docs' });
  for (const content of ['', 'x', '/only', 'javascript:alert(1) x']) expect(menuLink(content)).toBeUndefined();
});
