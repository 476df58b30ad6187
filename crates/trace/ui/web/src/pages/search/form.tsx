/** The search form. Its names are Jaeger's; what it says becomes the URL. */

import { useSignal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import { zone } from '../../app/settings.ts';
import { LOOKBACKS, MAX_LIMIT, searchUrl, type Search } from '../../core/search-url.ts';
import { formatTags, parseTags } from '../../core/tags.ts';
import { formatInput, parseDuration, parseInput, zoneLabel } from '../../core/time.ts';
import { loadOperations, operations, services } from './store.ts';

const LOOKBACK_NAMES: Readonly<Record<string, string>> = {
  '5m': 'Last 5 min',
  '15m': 'Last 15 min',
  '1h': 'Last hour',
  '6h': 'Last 6 hours',
  '12h': 'Last 12 hours',
  '1d': 'Last day',
  '2d': 'Last 2 days',
  '7d': 'Last 7 days',
};

function field(data: FormData, name: string): string {
  const value = data.get(name);
  return typeof value === 'string' ? value.trim() : '';
}

/** What the form says, on top of what the URL said. */
function read(form: HTMLFormElement, before: Search): Search {
  const data = new FormData(form);
  const lookback = field(data, 'lookback');
  const custom = lookback === 'custom';
  const start = custom ? parseInput(field(data, 'from'), zone.value) : undefined;
  const end = custom ? parseInput(field(data, 'to'), zone.value) : undefined;
  const ranged = start !== undefined && end !== undefined;
  return {
    ...before,
    service: field(data, 'service'),
    operation: field(data, 'operation'),
    tags: parseTags(field(data, 'tags')),
    lookback: ranged ? 'custom' : custom ? '1h' : lookback,
    start: ranged ? start : undefined,
    end: ranged ? end : undefined,
    minDuration: field(data, 'minDuration').replace(/\s/g, ''),
    maxDuration: field(data, 'maxDuration').replace(/\s/g, ''),
    limit: Math.min(MAX_LIMIT, Math.max(1, Number(field(data, 'limit')) || before.limit)),
  };
}

/** Writes what the URL says into the fields; between two URLs they are the user's. */
function fill(form: HTMLFormElement, search: Search): void {
  const values: Readonly<Record<string, string>> = {
    tags: formatTags(search.tags),
    minDuration: search.minDuration,
    maxDuration: search.maxDuration,
    limit: String(search.limit),
  };
  for (const [name, value] of Object.entries(values)) {
    const input = form.elements.namedItem(name);
    if (input instanceof HTMLInputElement) input.value = value;
  }
}

function checkDuration(event: Event): void {
  const input = event.currentTarget;
  if (!(input instanceof HTMLInputElement)) return;
  const text = input.value.replace(/\s/g, '');
  const wrong = text !== '' && parseDuration(text) === undefined;
  input.setCustomValidity(wrong ? 'A duration such as 1.2s, 100ms or 500us' : '');
}

export function SearchForm({ search, onSubmit }: { search: Search; onSubmit: (search: Search) => void }) {
  const form = useRef<HTMLFormElement>(null);
  const service = useSignal(search.service);
  const lookback = useSignal(search.lookback);
  const operation = useSignal(search.operation);
  useEffect(() => {
    service.value = search.service;
    operation.value = search.operation;
    lookback.value = search.lookback;
    if (form.current) fill(form.current, search);
  }, [searchUrl(search)]);
  useEffect(() => void loadOperations(service.value), [service.value]);
  const submit = (event: Event): void => {
    event.preventDefault();
    if (form.current) onSubmit(read(form.current, search));
  };
  const known = services.value.includes(service.value) || !service.value ? services.value : [service.value, ...services.value];
  const names = operations.value.service === service.value ? operations.value.names : [];
  const chooseService = (name: string): void => {
    service.value = name;
    operation.value = '';
  };
  const lookbacks = LOOKBACKS.some((name) => name === lookback.value) || lookback.value === 'custom' ? LOOKBACKS : [lookback.value, ...LOOKBACKS];
  return (
    <form ref={form} class="search-form" role="search" aria-label="Search for traces" onSubmit={submit}>
      <label class="wide">
        Service
        <select name="service" data-find value={service.value} onChange={(event) => chooseService(event.currentTarget.value)}>
          <option value="">All services</option>
          {known.map((name) => (
            <option key={name} value={name}>
              {name}
            </option>
          ))}
        </select>
      </label>
      <label class="wide">
        Operation
        <select name="operation" value={operation.value} disabled={!service.value} onChange={(event) => (operation.value = event.currentTarget.value)}>
          <option value="">{service.value ? 'All operations' : 'Of the chosen service'}</option>
          {(names.includes(operation.value) || !operation.value ? names : [operation.value, ...names]).map((name) => (
            <option key={name} value={name}>
              {name}
            </option>
          ))}
        </select>
      </label>
      <label class="wider">
        Tags
        <input name="tags" type="text" placeholder="http.status_code=503 error=true" autocomplete="off" spellcheck={false} />
      </label>
      <label>
        Time
        <select name="lookback" value={lookback.value} onChange={(event) => (lookback.value = event.currentTarget.value)}>
          {lookbacks.map((name) => (
            <option key={name} value={name}>
              {LOOKBACK_NAMES[name] ?? `Last ${name}`}
            </option>
          ))}
          <option value="custom">Custom range</option>
        </select>
      </label>
      <label class="narrow">
        Min duration
        <input name="minDuration" type="text" placeholder="100ms" autocomplete="off" onInput={checkDuration} />
      </label>
      <label class="narrow">
        Max duration
        <input name="maxDuration" type="text" placeholder="1.2s" autocomplete="off" onInput={checkDuration} />
      </label>
      <label class="narrow">
        Limit
        <input name="limit" type="number" min={1} max={MAX_LIMIT} />
      </label>
      <button type="submit" class="primary">
        Search
      </button>
      {lookback.value === 'custom' && <CustomRange key={`${zone.value} ${search.start} ${search.end}`} search={search} />}
    </form>
  );
}

function CustomRange({ search }: { search: Search }) {
  const end = search.end ?? Date.now() * 1000;
  const start = search.start ?? end - 3600e6;
  return (
    <fieldset class="range">
      <legend class="visually-hidden">Custom range</legend>
      <label>
        From
        <input name="from" type="datetime-local" step="1" required defaultValue={formatInput(start, zone.value)} />
      </label>
      <label>
        To
        <input name="to" type="datetime-local" step="1" required defaultValue={formatInput(end, zone.value)} />
      </label>
      <span class="muted">{zoneLabel(zone.value, start)}</span>
    </fieldset>
  );
}
