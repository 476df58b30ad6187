/** Starts two servers before the tests: one with traces, one that never gets any. */

import type { TestProject } from 'vitest/node';
import { big, bookinfo, broken, type Fixture } from '../../dev/fixtures.ts';
import { startBackend } from './backend.ts';

export interface Seeded {
  kind: 'periplus' | 'mock';
  url: string;
  /** Takes OTLP/JSON. */
  receiver: string;
  /** A server without traces. */
  empty: string;
  traces: Record<'good' | 'plain' | 'failing' | 'broken' | 'big', string>;
}

declare module 'vitest' {
  export interface ProvidedContext {
    seeded: Seeded;
  }
}

const ARRIVE_MS = 20_000;

async function send(url: string, fixture: Fixture): Promise<void> {
  const response = await fetch(url, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(fixture.request) });
  if (!response.ok) throw new Error(`the receiver refused the spans: ${response.status} ${await response.text()}`);
}

/** Waits until every span of the trace can be read. */
async function arrived(url: string, fixture: Fixture): Promise<void> {
  const deadline = Date.now() + ARRIVE_MS;
  for (;;) {
    const response = await fetch(`${url}/api/periplus/v1/traces/${fixture.traceId}`);
    if (response.ok) {
      const { rows } = (await response.json()) as { rows: { id: string[] } };
      if (rows.id.length === fixture.spans) return;
    }
    if (Date.now() > deadline) throw new Error(`trace ${fixture.traceId} did not arrive: ${response.status}`);
    await new Promise((done) => setTimeout(done, 50));
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const [backend, empty] = await Promise.all([startBackend(), startBackend()]);
  const now = Date.now() * 1000;
  const fixtures = {
    good: bookinfo(11, now - 60e6, 'v3'),
    plain: bookinfo(12, now - 90e6, 'v1'),
    failing: bookinfo(13, now - 120e6, 'v2', true),
    broken: broken(14, now - 150e6),
    big: big(15, now - 180e6, 10_000),
  };
  for (const fixture of Object.values(fixtures)) await send(backend.traces, fixture);
  for (const fixture of Object.values(fixtures)) await arrived(backend.ui, fixture);
  const { good, plain, failing, broken: bad, big: large } = fixtures;
  project.provide('seeded', {
    kind: backend.kind,
    url: backend.ui,
    receiver: backend.traces,
    empty: empty.ui,
    traces: { good: good.traceId, plain: plain.traceId, failing: failing.traceId, broken: bad.traceId, big: large.traceId },
  });
  return async () => {
    await Promise.all([backend.stop(), empty.stop()]);
  };
}
