/** The keys, as the help shows them and as the pages obey them. */

export interface Shortcut {
  keys: readonly string[];
  does: string;
}

export interface ShortcutGroup {
  title: string;
  shortcuts: readonly Shortcut[];
}

const group = (title: string, ...shortcuts: readonly [string, string][]): ShortcutGroup => ({
  title,
  shortcuts: shortcuts.map(([keys, does]) => ({ keys: keys.split(' '), does })),
});

export const EVERYWHERE = group(
  'Everywhere',
  ['Ctrl+K', 'go to a trace by its id'],
  ['/', 'find, or the first field of the search'],
  ['g s', 'go to the search page'],
  ['u', 'UTC or local time'],
  ['.', 'light, dark or as the system'],
  ['y', 'copy the link to this view'],
  ['?', 'this help'],
  ['Esc', 'close the innermost thing'],
);

export const LISTS = group('Lists', ['j k ↓ ↑', 'next, previous'], ['Enter', 'open'], ['o', 'open in a new tab']);

export const TRACE = group(
  'Trace',
  ['j k ↓ ↑', 'next, previous row'],
  ['→ ←', 'expand, collapse; again: first child, parent'],
  ['Home End', 'first, last row'],
  ['Enter', 'details of the span'],
  ['n N', 'next, previous match of the find box'],
  ['e E', 'next, previous error'],
  ['p', 'next span on the critical path'],
  ['c', 'show the critical path or not'],
  ['m', 'matches only'],
  ['z', 'zoom to the span'],
  ['0 Z', 'show all of the time'],
  ['+ -', 'zoom'],
  ['Shift+← Shift+→', 'pan'],
  ['f', 'fit the time to the visible rows'],
  ['[ ]', 'collapse, expand all'],
  ['d', 'side panel or not'],
);

/** What a pressed key is called above: `Ctrl+K`, `Shift+→`, `e`, `E`. */
export function keyName(event: { key: string; ctrlKey: boolean; metaKey: boolean; shiftKey: boolean; altKey: boolean }): string {
  const arrows: Readonly<Record<string, string>> = {
    ArrowLeft: '←',
    ArrowRight: '→',
    ArrowUp: '↑',
    ArrowDown: '↓',
    Escape: 'Esc',
  };
  const name = arrows[event.key] ?? event.key;
  if (event.altKey) return `Alt+${name}`;
  if (event.ctrlKey || event.metaKey) return `Ctrl+${name.length === 1 ? name.toUpperCase() : name}`;
  return event.shiftKey && name.length === 1 && arrows[event.key] !== undefined ? `Shift+${name}` : name;
}
