import { describe, expect, test } from 'vitest';
import { breakdown, percent } from '../../src/core/breakdown.ts';
import { assignHues, HUES, identities, identitiesOf, monograms } from '../../src/core/colours.ts';
import { density } from '../../src/core/density.ts';
import { gapsOf } from '../../src/core/gaps.ts';
import { clusterName, meshFacts, spellFlags } from '../../src/core/mesh-facts.ts';
import { durationScale, servicesOf, sortResults, summaryOf, type Summary } from '../../src/core/results.ts';
import { BadSkeleton, FLAG, levels, parseSkeleton } from '../../src/core/skeleton.ts';
import { skeletonOf, traceOf } from './traces.ts';

describe('the skeleton', () => {
  test('is read into columns', () => {
    const trace = traceOf([{ service: 'a' }, { service: 'b', parent: 0, start: 10, duration: 50 }], { critical: [[0, 0, 10], [1, 10, 60]] });
    expect(trace.size).toBe(2);
    expect(levels(trace)).toBe(2);
    expect(trace.critical.ofRow.get(1)).toEqual([1]);
  });

  test('events belong to rows', () => {
    expect([...traceOf([{}, { parent: 0 }], { events: [[1, 5], [0, 7], [1, 9]] }).events]).toEqual([[1, [5, 9]], [0, [7]]]);
  });

  test('the duration covers every span, whatever the server said', () => {
    expect(traceOf([{ duration: 500 }], { durationUs: 0 }).duration).toBe(500);
    expect(traceOf([{ duration: 0 }], { durationUs: 0 }).duration).toBe(1);
  });

  const good = skeletonOf([{}, { parent: 0 }]);
  const rows = good['rows'] as Record<string, unknown>;
  test.each<[string, unknown]>([
    ['no object', null],
    ['no rows', { ...good, rows: undefined }],
    ['no spans', skeletonOf([])],
    ['columns of different lengths', { ...good, rows: { ...rows, start: [0] } }],
    ['a parent behind its child', { ...good, rows: { ...rows, parent: [1, -1] } }],
    ['an event of no row', { ...good, events: [[7, 0]] }],
    ['a critical segment of no row', { ...good, critical: [[7, 0, 1]] }],
  ])('with %s is refused', (_, value) => {
    expect(() => parseSkeleton(value)).toThrow(BadSkeleton);
  });
});

describe('colours', () => {
  test('callers and the called differ, while there are hues left', () => {
    const names = Array.from({ length: HUES }, (_, i) => `service-${i}`);
    const all = new Map(names.map((_, i) => [i, new Set(names.map((__, j) => j).filter((j) => j !== i))]));
    expect(new Set(assignHues(names, all)).size).toBe(HUES);
  });

  test('a service keeps its hue where nothing is in the way', () => {
    const [alone] = assignHues(['reviews.default'], new Map());
    expect(identitiesOf(['reviews.default']).get('reviews.default')?.hue).toBe(alone);
    expect(identities(traceOf([{ service: 'reviews.default' }]))[0]?.hue).toBe(alone);
  });

  test('a service looks the same in the list and in the trace', () => {
    const services = ['istio-ingressgateway.istio-system', 'productpage.default', 'details.default', 'reviews.default', 'ratings.default'];
    const inTrace = identities(traceOf(services.map((service, row) => ({ service, parent: row - 1 }))));
    const inList = identitiesOf([...services].reverse());
    services.forEach((service, index) => expect(inList.get(service)).toEqual(inTrace[index]));
    expect(new Set(inTrace.map((identity) => identity.hue)).size).toBe(5);
  });

  test('neighbours in a trace differ even with twenty services', () => {
    const trace = traceOf(Array.from({ length: 40 }, (_, i) => ({ service: `s${(i * 7) % 20}`, parent: i - 1 })));
    const hues = identities(trace).map((identity) => identity.hue);
    for (let row = 1; row < trace.size; row += 1) {
      expect(hues[trace.service[row] ?? 0]).not.toBe(hues[trace.service[row - 1] ?? 0]);
    }
  });

  test('services of one hue have rails of their own, three of them', () => {
    const names = Array.from({ length: 3 * HUES }, (_, i) => `service-${i}`);
    const known = [...identitiesOf(names).values()];
    expect(new Set(known.map(({ hue, lap }) => `${hue} ${lap}`)).size).toBe(3 * HUES);
    expect(known.filter(({ lap }) => lap === 0)).toHaveLength(HUES);
    const many = [...identitiesOf([...names, 'service-24']).values()];
    expect(many.every(({ lap }) => lap >= 0 && lap < 3)).toBe(true);
  });

  test('letters are unique and come from the name', () => {
    expect(monograms(['productpage.default', 'reviews.default', 'ratings.default', 'istio-ingressgateway.istio-system'])).toEqual(['pr', 're', 'ra', 'ii']);
    expect(monograms(['cart', 'catalog', 'carts', 'ca'])).toEqual(['cr', 'cl', 'ct', 'ca']);
    const many = monograms(Array.from({ length: 30 }, (_, i) => `service${i}`));
    expect(new Set(many).size).toBe(30);
    expect(monograms(['', '…'])).toHaveLength(2);
  });
});

describe('density', () => {
  test('counts what runs at once', () => {
    const trace = traceOf([
      { service: 'a', duration: 100_000 },
      { service: 'b', parent: 0, start: 50_000, duration: 50_000, flags: FLAG.error },
    ]);
    const result = density(trace, [0, 1], 10);
    expect([...result.counts.subarray(0, 10)]).toEqual(new Array(10).fill(1));
    expect([...result.counts.subarray(10, 20)]).toEqual([0, 0, 0, 0, 0, 1, 1, 1, 1, 1]);
    expect(result.peak).toBe(2);
    expect(result.errors).toEqual([9]);
  });

  test('an instant still takes a column', () => {
    const result = density(traceOf([{ duration: 100_000 }, { parent: 0, start: 100_000, duration: 0 }]), [0], 4);
    expect(result.counts[3]).toBe(2);
  });
});

test('the breakdown sums the critical path by service', () => {
  const trace = traceOf([{ service: 'a' }, { service: 'b', parent: 0 }, { service: 'c', parent: 0 }, { service: 'd', parent: 0 }], {
    critical: [[0, 0, 10_000], [1, 10_000, 60_000], [0, 60_000, 70_000], [2, 70_000, 75_000], [3, 75_000, 80_000]],
  });
  expect(breakdown(trace, 2).map((part) => [part.label, part.us])).toEqual([['b', 50_000], ['a', 20_000], ['2 others', 10_000], ['no span', 20_000]]);
  expect(breakdown(trace, 3).map((part) => part.label)).toEqual(['b', 'a', 'c', 'd', 'no span']);
  expect(breakdown(traceOf([{}]), 3)).toEqual([]);
  expect([percent(0), percent(0.004), percent(0.356)]).toEqual(['0 %', '<1 %', '36 %']);
});

describe('gaps', () => {
  const children = [
    { parent: 0, start: 20_000, duration: 20_000 },
    { parent: 0, start: 30_000, duration: 30_000 },
  ];
  test('are what no child covers', () => {
    const trace = traceOf([{ self: 60_000 }, ...children]);
    expect(gapsOf(trace, 0)).toEqual([[0, 20_000], [60_000, 40_000]]);
  });
  test.each([
    ['waiting spans', { self: 60_000, kind: 3 }, children],
    ['spans without children', { self: 100_000 }, []],
    ['short ones', { self: 5000 }, children],
  ])('are not marked on %s', (_, root, rest) => {
    expect(gapsOf(traceOf([root, ...rest]), 0)).toEqual([]);
  });
});

describe('results', () => {
  const summary = (id: string, more: Partial<Summary>): Summary => ({
    traceId: id, root: { service: 'a', operation: 'b', missing: false }, startUs: 0, durationUs: 1000, spans: 1, errors: 0, depth: 1, services: [], ...more,
  });
  const list = [
    summary('x', { startUs: 1, durationUs: 500, services: [{ name: 'b', spans: 1, errors: 0 }] }),
    summary('y', { startUs: 2, durationUs: 900, errors: 1, services: [{ name: 'b', spans: 1, errors: 0 }, { name: 'c', spans: 5, errors: 0 }] }),
    summary('z', { startUs: 3, durationUs: 100, spans: 9 }),
  ];
  test.each([
    ['newest', 'zyx'],
    ['oldest', 'xyz'],
    ['longest', 'yxz'],
    ['shortest', 'zxy'],
    ['spans', 'zyx'],
    ['errors', 'yzx'],
  ] as const)('%s first', (sort, expected) => {
    expect(sortResults(list, sort).map((trace) => trace.traceId).join('')).toBe(expected);
  });
  test('services with most spans come first', () => {
    expect(servicesOf(list)).toEqual(['c', 'b']);
  });
  test('durations of different magnitudes get a logarithmic scale', () => {
    expect(durationScale(list).log).toBe(false);
    expect(durationScale([...list, summary('w', { durationUs: 1e6 })]).log).toBe(true);
    expect(durationScale([summary('w', { durationUs: 0 })])).toMatchObject({ min: 0, log: false });
  });
});

test('a trace can be listed as a search would', () => {
  const trace = traceOf([{ service: 'a', operation: 'x' }, { service: 'b', parent: 0, flags: FLAG.error }, { service: 'b', parent: 1 }]);
  expect(summaryOf(trace)).toEqual({
    traceId: '1'.repeat(32),
    root: { service: 'a', operation: 'x', missing: false },
    startUs: 1_760_000_000_000_000,
    durationUs: 100_000,
    spans: 3,
    errors: 1,
    depth: 3,
    services: [{ name: 'a', spans: 1, errors: 0 }, { name: 'b', spans: 2, errors: 1 }],
  });
});

describe('what the mesh did', () => {
  test('is told of proxies only', () => {
    expect(meshFacts(new Map([['http.method', 'GET']]))).toEqual([]);
  });
  test('in words', () => {
    const facts = meshFacts(
      new Map([
        ['component', 'proxy'],
        ['http.method', 'GET'],
        ['http.url', 'http://x/'],
        ['http.status_code', '503'],
        ['response_flags', 'URX,UF'],
        ['upstream_cluster', 'outbound|9080|v1|reviews.default.svc.cluster.local'],
        ['retry.count', '2'],
      ]),
    );
    expect(Object.fromEntries(facts.map((fact) => [fact.label, fact.text]))).toEqual({
      request: 'GET http://x/',
      answer: '503',
      flags: 'URX: all attempts were used up; UF: the connection to the upstream failed',
      'sent to': 'reviews.default:9080, subset v1',
      retry: 'attempt 3',
    });
  });
  test('unknown names stay as they are', () => {
    expect(spellFlags('UO,XYZ')).toBe('UO: the circuit breaker was full; XYZ');
    expect(clusterName('zipkin')).toBe('zipkin');
    expect(clusterName('inbound|9080||')).toBe('this workload, port 9080');
  });
});
