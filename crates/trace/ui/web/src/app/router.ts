/** The address bar as a signal. */

import { computed, signal } from '@preact/signals';
import { at, within } from '../core/base.ts';

/** Without the base path; what lies outside of it stays as it is: the UI is at the root too. */
function here(): URL {
  const url = new URL(window.location.href);
  url.pathname = within(url.pathname) ?? url.pathname;
  return url;
}

export const address = signal(here());

export type Route =
  | { page: 'search' }
  | { page: 'trace'; id: string }
  | { page: 'unknown' };

export const route = computed<Route>(() => matchRoute(address.value.pathname));

export function matchRoute(path: string): Route {
  if (path === '/' || path === '/search') return { page: 'search' };
  const trace = /^\/trace\/([^/]+)\/?$/.exec(path);
  return trace ? { page: 'trace', id: decode(trace[1] ?? '') } : { page: 'unknown' };
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Goes to another view: one step in the history. */
export function navigate(url: string): void {
  history.pushState(null, '', at(url));
  address.value = here();
}

/** Refines the same view: no step in the history. */
export function refine(url: string): void {
  const { pathname, search } = here();
  if (url === pathname + search) return;
  history.replaceState(null, '', at(url));
  address.value = here();
}

/** Lets plain clicks on our own links change the view without loading the page. */
export function followLinks(): void {
  window.addEventListener('popstate', () => {
    address.value = here();
  });
  document.addEventListener('click', (event) => {
    if (event.defaultPrevented || event.button !== 0) return;
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    const link = event.target instanceof Element ? event.target.closest('a') : null;
    if (!link || link.target || link.hasAttribute('download') || link.origin !== window.location.origin) return;
    const path = within(link.pathname) ?? link.pathname;
    if (matchRoute(path).page === 'unknown' || link.hash) return;
    event.preventDefault();
    navigate(path + link.search);
  });
}
