import { expect, test } from 'vitest';
import { find, nextMatch, type RowDetails } from '../../src/core/find.ts';
import { FLAG } from '../../src/core/skeleton.ts';
import { traceOf } from './traces.ts';

const trace = traceOf(
  [
    { service: 'gateway', operation: 'GET /productpage', duration: 41_000, self: 500 },
    { service: 'productpage.default', operation: 'reviews:9080/*', parent: 0, kind: 3, duration: 17_000, self: 2000 },
    { service: 'reviews.default', operation: 'reviews:9080/*', parent: 1, duration: 15_000, self: 10_000, flags: FLAG.error },
    { service: 'ratings.default', operation: 'Get "stars"', parent: 2, duration: 400, self: 400, flags: FLAG.orphan | FLAG.skewed },
  ],
  { critical: [[2, 0, 5]] },
);
const details = new Map<number, RowDetails>([
  [1, ['http.status_code=200', 'http.url=http://reviews:9080/reviews/0']],
  [2, ['http.status_code=503', 'cache miss']],
]);
const rows = (text: string, known = details): number[] => [...find(trace, text, known).rows];

test.each([
  ['reviews', [1, 2]],
  ['REVIEWS', [1, 2]],
  ['service:reviews', [2]],
  ['op:reviews', [1, 2]],
  ['reviews -service:reviews', [1]],
  ['status:error', [2]],
  ['status:ok', [0, 1, 3]],
  ['kind:client', [1]],
  ['dur>16ms', [0, 1]],
  ['dur<1ms', [3]],
  ['dur>=15ms dur<=17ms', [1, 2]],
  ['self>5ms', [2]],
  ['is:critical', [2]],
  ['is:missing', [3]],
  ['is:skewed', [3]],
  ['is:root', [0]],
  ['op:"get \\"', []],
  ['"GET /product"', [0]],
  ['http.status_code=503', [2]],
  ['http.status_code:503', [2]],
  ['-http.status_code=503 reviews', [1]],
  ['miss', [2]],
  ['id:0000000000000003', [3]],
  ['id:0000000000000003,0000000000000001', [1, 3]],
  ['nowhere', []],
  ['', []],
  ['   ', []],
])('%s', (text, expected) => {
  expect(rows(text)).toEqual(expected);
});

test.each([
  ['dur>quick', 'dur wants a duration such as 50ms, not quick'],
  ['status:bad', 'status is error or ok'],
  ['kind:x', 'kind is one of unspecified, internal, server, client, producer, consumer'],
  ['http.status_code>500', 'only dur and self can be compared, not http.status_code'],
  ['is:nice', 'is: knows critical, missing, skewed and root'],
])('%s is answered with what was expected', (text, problem) => {
  expect(find(trace, text, details)).toMatchObject({ problem, wantsDetails: false });
});

test('attributes are asked for only when they could matter', () => {
  expect(find(trace, 'service:a dur>1ms', new Map()).wantsDetails).toBe(false);
  expect(find(trace, 'reviews', new Map()).wantsDetails).toBe(true);
  expect(rows('http.status_code=503', new Map())).toEqual([]);
});

test('the next match goes around', () => {
  expect(nextMatch([2, 5, 9], 5, 1)).toBe(9);
  expect(nextMatch([2, 5, 9], 9, 1)).toBe(2);
  expect(nextMatch([2, 5, 9], 5, -1)).toBe(2);
  expect(nextMatch([2, 5, 9], 2, -1)).toBe(9);
  expect(nextMatch([2, 5, 9], -1, 1)).toBe(2);
  expect(nextMatch([], 3, 1)).toBeUndefined();
});
