/** Now, in µs, renewed now and then so that «3 min ago» stays true. */

import { signal } from '@preact/signals';

export const now = signal(Date.now() * 1000);

window.setInterval(() => {
  if (!document.hidden) now.value = Date.now() * 1000;
}, 10_000);
