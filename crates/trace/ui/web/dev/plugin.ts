/** `npm run dev`: the UI with the mock server behind it, or with a real one that PERIPLUS_URL names. */

import type { Plugin } from 'vite';
import { big, bookinfo, broken, lately } from './fixtures.ts';
import { handler } from './server.ts';
import { Store } from './store.ts';

/** Traces to look at. */
export function sampleStore(): Store {
  const store = new Store();
  const now = Date.now() * 1000;
  const fixtures = [...lately(7, now, 60), bookinfo(1, now - 30e6), broken(2, now - 60e6), big(3, now - 90e6, 10_000)];
  for (const fixture of fixtures) store.add(fixture.request);
  return store;
}

export function mockServer(url: string | undefined): Plugin {
  return {
    name: 'periplus-mock',
    apply: 'serve',
    config: () => (url ? { server: { proxy: { '/api': url } } } : {}),
    configureServer(server) {
      if (url) return;
      const answer = handler(sampleStore());
      server.middlewares.use((request, response, next) => {
        if (!answer(request, response)) next();
      });
    },
  };
}
