/** Traces for tests and for work on the UI. The same seed gives the same trace. */

import { attributes, exportOf, nanos, type ExportRequest, type OtlpSpan } from './otlp.ts';

export interface Fixture {
  traceId: string;
  spans: number;
  request: ExportRequest;
}

/** Mulberry32: small, and good enough for test data. */
export function random(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

function hex(next: () => number, digits: number): string {
  let text = '';
  while (text.length < digits) text += Math.floor(next() * 0x100000000).toString(16).padStart(8, '0');
  return text.slice(0, digits);
}

const SERVER = 2;
const CLIENT = 3;

class Builder {
  readonly next: () => number;
  readonly traceId: string;
  readonly t0: number;
  readonly spans: Array<[string, OtlpSpan]> = [];

  constructor(seed: number, t0: number) {
    this.next = random(seed);
    this.t0 = t0;
    this.traceId = hex(this.next, 32);
  }

  /** Adds a span and returns its id. Times are µs from the start of the trace. */
  span(service: string, name: string, kind: number, parent: string | undefined, start: number, duration: number, more: Partial<OtlpSpan> = {}): string {
    const spanId = hex(this.next, 16);
    this.spans.push([
      service,
      {
        traceId: this.traceId,
        spanId,
        ...(parent ? { parentSpanId: parent } : {}),
        name,
        kind,
        startTimeUnixNano: nanos(this.t0 + start),
        endTimeUnixNano: nanos(this.t0 + start + duration),
        ...more,
      },
    ]);
    return spanId;
  }

  fixture(): Fixture {
    return { traceId: this.traceId, spans: this.spans.length, request: exportOf(this.spans, 'periplus-proxy') };
  }
}

/** A call between two sidecars: what Envoy would put on its spans. */
function call(builder: Builder, from: string, to: string, path: string, parent: string, start: number, duration: number, status: number, more: Readonly<Record<string, string>> = {}): string {
  const short = to.split('.')[0] ?? to;
  const host = `${to}.svc.cluster.local:9080`;
  const failed = status >= 500;
  const common = {
    component: 'proxy',
    'http.method': 'GET',
    'http.url': `http://${short}:9080${path}`,
    'http.status_code': String(status),
    'http.protocol': 'HTTP/1.1',
    'guid:x-request-id': `${builder.traceId.slice(0, 8)}-c075-9a0d-9a54-${builder.traceId.slice(8, 20)}`,
    request_size: '0',
    response_size: failed ? '81' : '375',
    'istio.mesh_id': 'cluster.local',
  };
  const state = failed ? { status: { code: 2 } } : {};
  const client = builder.span(from, `${host}/*`, CLIENT, parent, start, duration, {
    attributes: attributes({
      ...common,
      node_id: `sidecar~10.0.0.1~${from}~default.svc.cluster.local`,
      upstream_cluster: `outbound|9080||${to}.svc.cluster.local`,
      upstream_address: `10.0.${(short.length * 7) % 250}.${(short.length * 13) % 250}:9080`,
      response_flags: '-',
      ...(failed ? { error: 'true' } : {}),
      ...more,
    }),
    ...state,
  });
  const inside = Math.max(400, duration * 0.06);
  return builder.span(to, `${host}/*`, SERVER, client, start + inside, duration - 2 * inside, {
    attributes: attributes({ ...common, upstream_cluster: 'inbound|9080||', 'peer.address': '10.0.0.1', response_flags: '-', ...(failed ? { error: 'true' } : {}) }),
    ...state,
  });
}

export type Version = 'v1' | 'v2' | 'v3';

/** GET /productpage through the gateway, as the demo shows it; v1 of reviews has no stars and so calls no ratings. */
export function bookinfo(seed: number, t0: number, version: Version = 'v3', failing = false): Fixture {
  const builder = new Builder(seed, t0);
  const jitter = (): number => 0.75 + builder.next() * 0.6;
  const detailsTime = 6200 * jitter();
  const ratingsTime = (failing ? 11_800 : 5400) * jitter();
  const reviewsTime = version === 'v1' ? 7400 * jitter() : ratingsTime + 8200 * jitter();
  const page = detailsTime + reviewsTime + 14_300;
  const name = 'productpage.default.svc.cluster.local:9080/productpage';
  const shared = {
    component: 'proxy',
    'http.method': 'GET',
    'http.url': 'http://bookinfo.example.com/productpage',
    'http.status_code': '200',
    'http.protocol': 'HTTP/1.1',
    'guid:x-request-id': `${builder.traceId.slice(0, 8)}-c075-9a0d-9a54-${builder.traceId.slice(8, 20)}`,
    user_agent: 'curl/8.14.1',
    response_flags: '-',
    request_size: '0',
    response_size: '5183',
  };
  const gateway = builder.span('istio-ingressgateway.istio-system', name, SERVER, undefined, 0, page + 2600, {
    attributes: attributes({ ...shared, node_id: 'router~10.0.0.1~istio-ingressgateway.istio-system~istio-system.svc.cluster.local', upstream_cluster: 'outbound|9080||productpage.default.svc.cluster.local' }),
  });
  const gatewayOut = builder.span('istio-ingressgateway.istio-system', name, CLIENT, gateway, 480, page + 1700, {
    attributes: attributes({ ...shared, upstream_cluster: 'outbound|9080||productpage.default.svc.cluster.local', upstream_address: '10.0.1.7:9080' }),
  });
  const productpage = builder.span('productpage.default', name, SERVER, gatewayOut, 1200, page, {
    attributes: attributes({ ...shared, upstream_cluster: 'inbound|9080||', 'peer.address': '10.0.0.9' }),
  });
  call(builder, 'productpage.default', 'details.default', '/details/0', productpage, 4300, detailsTime, 200);
  const reviewsAt = 4300 + detailsTime + 2400;
  const reviews = call(builder, 'productpage.default', 'reviews.default', '/reviews/0', productpage, reviewsAt, reviewsTime, 200, {
    upstream_cluster: `outbound|9080|${version}|reviews.default.svc.cluster.local`,
  });
  if (version !== 'v1') {
    const half = ratingsTime / 2;
    if (failing) {
      const refused = { response_flags: 'UO', 'error.reason': 'overflow' };
      call(builder, 'reviews.default', 'ratings.default', '/ratings/0', reviews, reviewsAt + 3100, half, 503, refused);
      call(builder, 'reviews.default', 'ratings.default', '/ratings/0', reviews, reviewsAt + 3600 + half, half, 503, { ...refused, 'retry.count': '1', response_flags: 'URX,UO' });
    } else {
      call(builder, 'reviews.default', 'ratings.default', '/ratings/0', reviews, reviewsAt + 3100, ratingsTime, 200);
    }
  }
  return builder.fixture();
}

/** What goes wrong in real traces: a missing parent, a clock that is ahead, an event, a link, hostile text. */
export function broken(seed: number, t0: number): Fixture {
  const builder = new Builder(seed, t0);
  const root = builder.span('frontend.shop', 'POST /checkout', SERVER, undefined, 0, 240_000, { attributes: attributes({ 'http.request.method': 'POST', 'http.response.status_code': 500 }), status: { code: 2, message: 'payment failed' } });
  const checkout = builder.span('checkout.shop', 'PlaceOrder', SERVER, root, 8000, 215_000);
  builder.span('payment.shop', 'Charge', SERVER, checkout, 60_000, 95_000, {
    attributes: attributes({ 'card.network': 'amex', 'payment.amount': 12.5, 'payment.retryable': false, 'note': '<img src=x onerror=alert(1)> \u202eright to left', 'long': 'x'.repeat(5000) }),
    events: [
      { timeUnixNano: nanos(t0 + 61_000), name: 'charging card', attributes: attributes({ card: '****0005' }) },
      { timeUnixNano: nanos(t0 + 150_000), name: 'exception', attributes: attributes({ 'exception.type': 'Overflow', 'exception.message': 'upstream overflow' }) },
    ],
    links: [{ traceId: 'f'.repeat(31) + '1', spanId: 'e'.repeat(15) + '1', attributes: attributes({ why: 'an earlier attempt' }) }],
    status: { code: 2, message: 'upstream overflow' },
  });
  // The clock of this host is 400 ms ahead.
  builder.span('inventory.shop', 'Reserve', SERVER, checkout, 440_000, 30_000);
  builder.span('cart.shop', 'GetCart', SERVER, 'dead00000000beef', 20_000, 40_000);
  builder.span('<b>bold</b>.shop', '<script>alert("op")</script>', CLIENT, checkout, 170_000, 20_000);
  return builder.fixture();
}

const SERVICES = ['gateway', 'frontend', 'cart', 'checkout', 'payment', 'shipping', 'currency', 'catalog', 'recommendation', 'ads', 'email', 'inventory', 'fraud', 'ledger', 'postgres', 'redis', 'kafka', 'search', 'users', 'auth'];
const OPERATIONS = ['GET /', 'GET /api/products/{id}', 'POST /api/cart', 'POST /checkout', 'Charge', 'GetQuote', 'Convert', 'ListProducts', 'ListRecommendations', 'GetAds', 'Send', 'Reserve', 'Score', 'Append', 'SELECT', 'GET', 'produce orders', 'Query', 'GetUser', 'Verify'];

/** A tree of `size` spans over 20 services, up to 15 deep, one in a hundred failing. */
export function big(seed: number, t0: number, size: number): Fixture {
  const builder = new Builder(seed, t0);
  const { next } = builder;
  interface Open {
    id: string;
    start: number;
    duration: number;
    cursor: number;
  }
  const total = size * 300;
  const rootId = builder.span('gateway', 'GET /', SERVER, undefined, 0, total);
  let open: Open[] = [{ id: rootId, start: 0, duration: total, cursor: 0 }];
  while (builder.spans.length < size) {
    const depth = Math.min(open.length - 1, Math.floor(next() * open.length * 1.15));
    const parent = open[depth];
    if (!parent) throw new Error('the stack of open spans is empty');
    const remaining = parent.duration - parent.cursor;
    if (remaining < 20 || depth > 14) {
      open = open.slice(0, Math.max(1, depth));
      const only = open[0];
      if (open.length === 1 && only && only.duration - only.cursor < 20) only.cursor = 0;
      continue;
    }
    const duration = Math.max(5, Math.floor(Math.min(remaining * 0.9, parent.duration * (0.02 + next() * 0.4) * (depth === 0 ? 0.05 : 1))));
    const start = parent.start + parent.cursor + Math.floor(next() * Math.min(50, remaining * 0.05));
    parent.cursor += next() < 0.3 ? Math.floor(duration * 0.2) : duration;
    const service = depth === 0 ? 1 + Math.floor(next() * 3) : Math.floor(next() * SERVICES.length);
    const failed = next() < 0.01;
    const id = builder.span(SERVICES[service] ?? '', OPERATIONS[service] ?? '', builder.spans.length % 2 ? SERVER : CLIENT, parent.id, start, duration, {
      attributes: attributes({ 'http.request.method': 'GET', 'http.response.status_code': failed ? 503 : 200, 'url.path': `/api/v1/items/${Math.floor(next() * 99999)}`, 'server.port': 8080 }),
      ...(failed ? { status: { code: 2 } } : {}),
    });
    open = [...open.slice(0, depth + 1), { id, start, duration, cursor: 0 }];
  }
  return builder.fixture();
}

/** A list for the search page: a quarter of an hour of Bookinfo, with slow and failing requests among them. */
export function lately(seed: number, nowUs: number, count: number): Fixture[] {
  const next = random(seed);
  const versions: readonly Version[] = ['v1', 'v2', 'v3'];
  return Array.from({ length: count }, (_, index) => {
    const t0 = nowUs - Math.floor(((count - index) / count) * 900e6 * (0.9 + 0.1 * next()));
    return bookinfo(seed * 1000 + index, t0, versions[Math.floor(next() * 3)] ?? 'v1', next() < 0.12);
  });
}
