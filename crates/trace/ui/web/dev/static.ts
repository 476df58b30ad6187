/** Serves the built `dist/` as the Rust side does: same paths, same policy. */

import { readFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const DIST = fileURLToPath(new URL('../../dist', import.meta.url));
const TYPES: Readonly<Record<string, string>> = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml' };
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'; require-trusted-types-for 'script'";

function fileOf(path: string): string | undefined {
  if (path === '/' || path === '/search' || /^\/trace\/[^/]+$/.test(path)) return 'index.html';
  if (path === '/favicon.svg') return 'favicon.svg';
  const asset = /^\/assets\/[0-9a-f]+\/(app\.(?:js|css))$/.exec(path);
  return asset ? `assets/${asset[1]}` : undefined;
}

export function serveDist(request: IncomingMessage, response: ServerResponse): void {
  const file = fileOf(new URL(request.url ?? '/', 'http://mock').pathname);
  if (!file) {
    response.writeHead(404);
    response.end();
    return;
  }
  response.writeHead(200, { 'content-type': TYPES[extname(file)] ?? 'application/octet-stream', 'content-security-policy': POLICY });
  response.end(readFileSync(join(DIST, file)));
}
