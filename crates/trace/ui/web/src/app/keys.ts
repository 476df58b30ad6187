/** Keys as commands. The page that shows installs its own; the innermost one that knows a key has it. */

import { keyName } from '../core/shortcuts.ts';
import { singleKeys } from './settings.ts';

/** Returns whether the key was meant for it. */
export type KeyHandler = (key: string, event: KeyboardEvent) => boolean;

const handlers: KeyHandler[] = [];

/** Puts a handler in front of the others; the result takes it away again. */
export function onKeys(handler: KeyHandler): () => void {
  handlers.unshift(handler);
  return () => {
    const index = handlers.indexOf(handler);
    if (index >= 0) handlers.splice(index, 1);
  };
}

function isTyping(target: EventTarget | null): boolean {
  return (
    target instanceof HTMLElement &&
    (target.isContentEditable || target.matches('input:not([type=checkbox]), textarea, select'))
  );
}

/** Keys that are commands even where single keys are switched off, as they are no characters. */
const ALWAYS = /^(Ctrl\+K|Esc)$/;

/** Two keys in a row, such as `g s`, arrive as one name. */
const PREFIX_LASTS_MS = 1500;

export function listenToKeys(): void {
  let prefix = '';
  let prefixAt = 0;
  window.addEventListener('keydown', (event) => {
    if (event.defaultPrevented || event.isComposing) return;
    const always = ALWAYS.test(keyName(event));
    if (isTyping(event.target) && !always) return;
    if (event.key.length === 1 && singleKeys.value === 'off' && !always) return;
    const inTime = event.timeStamp - prefixAt < PREFIX_LASTS_MS;
    const key = prefix && inTime ? `${prefix} ${keyName(event)}` : keyName(event);
    prefix = '';
    if (handlers.some((handler) => handler(key, event))) {
      event.preventDefault();
    } else if (key === 'g') {
      prefix = key;
      prefixAt = event.timeStamp;
    }
  });
}
