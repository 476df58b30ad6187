import { expect, test } from 'vitest';
import { keyName } from '../../src/core/shortcuts.ts';

const press = (key: string, more: Partial<{ ctrlKey: boolean; metaKey: boolean; shiftKey: boolean; altKey: boolean }> = {}) =>
  keyName({ key, ctrlKey: false, metaKey: false, shiftKey: false, altKey: false, ...more });

test.each([
  [press('j'), 'j'],
  [press('E', { shiftKey: true }), 'E'],
  [press('?', { shiftKey: true }), '?'],
  [press('ArrowDown'), '↓'],
  [press('ArrowRight', { shiftKey: true }), 'Shift+→'],
  [press('k', { ctrlKey: true }), 'Ctrl+K'],
  [press('k', { metaKey: true }), 'Ctrl+K'],
  [press('Escape'), 'Esc'],
  [press('j', { altKey: true }), 'Alt+j'],
])('a key is called %s', (name, expected) => {
  expect(name).toBe(expected);
});
