/** The frame around every page. */

import type { ComponentChildren } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import { at, menu } from '../core/base.ts';
import { parseTraceId } from '../core/trace-url.ts';
import { announcement, copy, notify, toast } from './announce.ts';
import { HelpDialog, helpOpen } from './help.tsx';
import { Icon } from './icon.tsx';
import { onKeys } from './keys.ts';
import { address, navigate, route } from './router.ts';
import { cycleTheme, theme, toggleZone, zone } from './settings.ts';

const MENU = menu();

const THEME_NAMES = { system: 'as the system', light: 'light', dark: 'dark' } as const;
const THEME_ICONS = { system: 'system', light: 'sun', dark: 'moon' } as const;

export function Shell({ bare, children }: { bare: boolean; children: ComponentChildren }) {
  useEffect(() => onKeys(globalKeys), []);
  return (
    <>
      <a class="skip" href="#main">
        Skip to the content
      </a>
      {!bare && <TopBar />}
      <main id="main" tabIndex={-1}>
        {children}
      </main>
      <HelpDialog />
      <div class="visually-hidden" role="status" aria-live="polite">
        {announcement.value}
      </div>
      {toast.value && (
        <div class="toast" aria-hidden="true">
          {toast.value}
        </div>
      )}
    </>
  );
}

function TopBar() {
  const onSearch = route.value.page === 'search';
  return (
    <header class="top">
      <a class="brand" href={at('/search')}>
        <Mark /> Periplus
      </a>
      <nav aria-label="Main">
        <a href={at('/search')} aria-current={onSearch ? 'page' : undefined}>
          Search
        </a>
        {route.value.page === 'trace' && (
          <a href={at(address.value.pathname + address.value.search)} aria-current="page">
            Trace
          </a>
        )}
        {MENU.map(({ url, label }) => (
          <a key={url + label} href={url} target="_blank" rel="noopener">
            {label}
          </a>
        ))}
      </nav>
      <GoTo />
      <button type="button" class="plain" onClick={toggleZone} title="Time zone (u)" aria-label={`Time zone: ${zone.value === 'utc' ? 'UTC' : 'local'}`}>
        {zone.value === 'utc' ? 'UTC' : 'Local'}
      </button>
      <button type="button" class="plain square" onClick={cycleTheme} title="Theme (.)" aria-label={`Theme: ${THEME_NAMES[theme.value]}`}>
        <Icon name={THEME_ICONS[theme.value]} />
      </button>
      <button type="button" class="plain square" onClick={() => (helpOpen.value = true)} title="Keys (?)" aria-label="Keys and help">
        <Icon name="help" />
      </button>
    </header>
  );
}

/** Three ports of call on one line under way. */
function Mark() {
  return (
    <svg class="mark" viewBox="0 0 18 18" width="18" height="18" aria-hidden="true" focusable="false">
      <path d="M1 3.5h10M5 9h11M3 14.5h8" stroke="currentColor" stroke-width="3" stroke-linecap="round" />
    </svg>
  );
}

function GoTo() {
  const input = useRef<HTMLInputElement>(null);
  const submit = (event: Event): void => {
    event.preventDefault();
    const text = input.current?.value ?? '';
    const id = parseTraceId(text);
    if (id) {
      if (input.current) input.current.value = '';
      navigate(`/trace/${id}`);
    } else if (text.trim()) {
      notify('a trace id is 1 to 32 hexadecimal digits');
    }
  };
  return (
    <form class="goto" role="search" aria-label="Go to a trace" onSubmit={submit}>
      <input ref={input} id="goto" type="text" aria-label="Trace id" placeholder="Go to trace id…" autocomplete="off" spellcheck={false} />
      <kbd aria-hidden="true">Ctrl K</kbd>
    </form>
  );
}

function focus(selector: string): boolean {
  const element = document.querySelector(selector);
  if (!(element instanceof HTMLElement)) return false;
  element.focus();
  if (element instanceof HTMLInputElement) element.select();
  return true;
}

function globalKeys(key: string): boolean {
  switch (key) {
    case 'Ctrl+K':
      return focus('#goto');
    case '/':
      return focus('[data-find]');
    case 'g s':
      navigate('/search');
      return true;
    case 'u':
      toggleZone();
      notify(zone.value === 'utc' ? 'times in UTC' : 'times in local time');
      return true;
    case '.':
      cycleTheme();
      notify(`theme: ${THEME_NAMES[theme.value]}`);
      return true;
    case 'y':
      void copy(window.location.href, 'link');
      return true;
    case '?':
      helpOpen.value = true;
      return true;
    case 'Esc':
      return leaveField();
    default:
      return false;
  }
}

/** Esc in a field gives the keys back to the page. */
function leaveField(): boolean {
  const { activeElement } = document;
  if (!(activeElement instanceof HTMLElement) || !activeElement.matches('input, select')) return false;
  activeElement.blur();
  return true;
}
