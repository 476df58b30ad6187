/** What the browser talks to: the real `periplus serve` that PERIPLUS_BIN names, or the mock server without one. */

import { spawn } from 'node:child_process';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { handler } from '../../dev/server.ts';
import { serveDist } from '../../dev/static.ts';
import { Store } from '../../dev/store.ts';

export interface Backend {
  kind: 'periplus' | 'mock';
  /** Of the UI and the query APIs. */
  ui: string;
  /** Takes OTLP/JSON. */
  traces: string;
  stop(): Promise<void>;
}

const START_MS = 30_000;
const JAEGER = ['query-grpc', 'jaeger-grpc', 'jaeger-http', 'jaeger-compact', 'jaeger-binary'];
const SAMPLING = ['sampling', 'sampling-grpc'];
const PORTS = ['ui', 'otlp-grpc', 'otlp-http', 'zipkin', ...JAEGER, ...SAMPLING, 'health', 'metrics'];

export async function startBackend(): Promise<Backend> {
  const binary = process.env['PERIPLUS_BIN'];
  if (binary) return startPeriplus(binary);
  console.warn('PERIPLUS_BIN is not set: the browser tests run against the mock server');
  return startMock();
}

function startPeriplus(binary: string): Promise<Backend> {
  const args = ['serve', '--memory', ...PORTS.flatMap((name) => [`--${name}-port`, '0'])];
  const child = spawn(binary, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => fail('did not get ready'), START_MS);
    const fail = (why: string): void => {
      clearTimeout(timer);
      child.kill();
      reject(new Error(`${binary} ${args.join(' ')} ${why}:\n${said}`));
    };
    const listen = (chunk: Buffer): void => {
      said += chunk.toString();
      const ui = /^UI and query APIs\s+(http:\/\/[^\s/]+)/m.exec(said)?.[1];
      const traces = /^OTLP over HTTP\s+(http:\S+)/m.exec(said)?.[1];
      if (!ui || !traces || !/^ready/m.test(said)) return;
      clearTimeout(timer);
      resolve({ kind: 'periplus', ui, traces, stop: () => stopChild() });
    };
    const gone = new Promise<void>((done) => child.once('exit', () => done()));
    const stopChild = async (): Promise<void> => {
      child.kill('SIGTERM');
      await gone;
    };
    child.stdout.on('data', listen);
    child.stderr.on('data', listen);
    child.once('error', (error) => fail(error.message));
    child.once('exit', (code) => fail(`ended with ${code}`));
  });
}

function startMock(): Promise<Backend> {
  const answer = handler(new Store());
  const server = createServer((request, response) => {
    if (!answer(request, response)) serveDist(request, response);
  });
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as AddressInfo;
      const ui = `http://127.0.0.1:${port}`;
      resolve({
        kind: 'mock',
        ui,
        traces: `${ui}/v1/traces`,
        stop: () =>
          new Promise((done) => {
            server.close(() => done());
            server.closeAllConnections();
          }),
      });
    });
  });
}
