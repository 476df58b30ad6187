/** The polite live region: short sentences for screen readers, the latest one wins. */

import { signal } from '@preact/signals';

export const announcement = signal('');

export function announce(text: string): void {
  announcement.value = text;
}

/** A note that everybody sees for a moment, such as «link copied». */
export const toast = signal('');

let timer = 0;

export function notify(text: string): void {
  toast.value = text;
  announce(text);
  window.clearTimeout(timer);
  timer = window.setTimeout(() => {
    toast.value = '';
  }, 2500);
}

export async function copy(text: string, what: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
    notify(`${what} copied`);
  } catch {
    notify(`this browser does not let the page copy; ${what}: ${text}`);
  }
}
