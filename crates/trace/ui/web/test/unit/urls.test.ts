import { describe, expect, test } from 'vitest';
import { describeSearch, EMPTY_SEARCH, parseSearch, searchApiQuery, searchUrl, type Search } from '../../src/core/search-url.ts';
import { formatTags, parseTags } from '../../src/core/tags.ts';
import { parseTraceId, parseTraceView, traceUrl } from '../../src/core/trace-url.ts';

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
    ['traceID=1&traceID=2&view=ddg', { rest: [['traceID', '1'], ['traceID', '2'], ['view', 'ddg']] }],
  ])('%s', (query, expected) => {
    expect(search(query)).toEqual({ ...EMPTY_SEARCH, ...expected });
  });

  test('what is written is read again', () => {
    for (const query of ['service=a&tags={"k":"v w"}&lookback=6h&limit=7&sort=errors', 'start=1&end=2&minDuration=1ms&keep=me']) {
      const first = search(query);
      expect(parseSearch(new URL(searchUrl(first), 'http://x').searchParams)).toEqual(first);
    }
  });

  test('the order of the list is not sent to the server', () => {
    expect(searchApiQuery(search('service=a&sort=longest&x=y'))).toBe('service=a&lookback=1h&limit=20');
  });

  test('a search can be said in words', () => {
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
    const full = view('span=00ff&find=a%20b&only=1&cp=0&z=100-2500');
    expect(full.zoom).toEqual([100, 2500]);
    expect(parseTraceView('ab', new URL(traceUrl(full), 'http://x').searchParams)).toEqual(full);
  });

  test.each(['z=5-5', 'z=9-1', 'z=a-b', 'z=-1-5'])('a zoom that makes no sense is ignored: %s', (query) => {
    expect(view(query).zoom).toBeUndefined();
  });
});
