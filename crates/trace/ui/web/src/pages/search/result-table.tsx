/** The traces found, one a row. */

import { useSignal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import { ServiceLetters } from '../../app/chip.tsx';
import { now } from '../../app/clock.ts';
import { onKeys } from '../../app/keys.ts';
import { navigate } from '../../app/router.ts';
import { zone } from '../../app/settings.ts';
import type { Identity } from '../../core/colours.ts';
import type { Summary } from '../../core/results.ts';
import type { Sort } from '../../core/search-url.ts';
import { formatAgo, formatCount, formatDay, formatDuration, formatMoment, plural } from '../../core/time.ts';
import { at } from '../../core/base.ts';

interface Props {
  traces: readonly Summary[];
  urlOf: (traceId: string) => string;
  identities: ReadonlyMap<string, Identity>;
  sort: Sort;
  hovered: string;
  onHover: (traceId: string) => void;
  onSort: (sort: Sort) => void;
}

/** More rows than this come on demand. */
const PAGE = 100;
const MOST_CHIPS = 7;

export function ResultTable({ traces, urlOf, identities, sort, hovered, onHover, onSort }: Props) {
  const table = useRef<HTMLTableElement>(null);
  const pages = useSignal(1);
  useEffect(() => onKeys((key, event) => listKey(key, event, table.current)), []);
  const longest = traces.reduce((most, trace) => Math.max(most, trace.durationUs), 1);
  const shown = traces.slice(0, pages.value * PAGE);
  return (
    <>
      <table ref={table} class="results">
        <caption class="visually-hidden">Traces found</caption>
        <thead>
          <tr>
            <SortHeader name="Started" now={sort} down="newest" up="oldest" onSort={onSort} />
            <th scope="col">Trace</th>
            <SortHeader name="Duration" now={sort} down="longest" up="shortest" onSort={onSort} />
            <SortHeader name="Spans" now={sort} down="spans" onSort={onSort} numeric />
            <SortHeader name="Status" now={sort} down="errors" onSort={onSort} numeric />
          </tr>
        </thead>
        <tbody onPointerLeave={() => onHover('')}>
          {shown.map((trace) => (
            <Row key={trace.traceId} trace={trace} url={urlOf(trace.traceId)} identities={identities} longest={longest} hovered={trace.traceId === hovered} onHover={onHover} />
          ))}
        </tbody>
      </table>
      {shown.length < traces.length && (
        <p class="more">
          <button type="button" onClick={() => (pages.value += 1)}>
            Show {Math.min(PAGE, traces.length - shown.length)} more
          </button>
        </p>
      )}
    </>
  );
}

interface SortHeaderProps {
  name: string;
  now: Sort;
  /** The order of the first click. */
  down: Sort;
  /** The order of the second one. */
  up?: Sort;
  numeric?: boolean;
  onSort: (sort: Sort) => void;
}

function SortHeader({ name, now: current, down, up, numeric, onSort }: SortHeaderProps) {
  const state = current === down ? 'descending' : current === up ? 'ascending' : undefined;
  return (
    <th scope="col" aria-sort={state} class={numeric ? 'numeric' : undefined}>
      <button type="button" class="sort" onClick={() => onSort(current === down && up ? up : down)}>
        {name}
        <span aria-hidden="true">{state === 'descending' ? ' ▾' : state === 'ascending' ? ' ▴' : ''}</span>
      </button>
    </th>
  );
}

interface RowProps {
  trace: Summary;
  url: string;
  identities: ReadonlyMap<string, Identity>;
  longest: number;
  hovered: boolean;
  onHover: (traceId: string) => void;
}

function Row({ trace, url, identities, longest, hovered, onHover }: RowProps) {
  const open = (event: MouseEvent): void => {
    if (event.target instanceof Element && event.target.closest('a')) return;
    if (event.ctrlKey || event.metaKey) window.open(at(url), '_blank', 'noopener');
    else if (!window.getSelection()?.toString()) navigate(url);
  };
  return (
    <tr class={hovered ? 'hovered' : undefined} onClick={open} onPointerEnter={() => onHover(trace.traceId)}>
      <td class="when">
        <time dateTime={new Date(trace.startUs / 1000).toISOString()} title={formatDay(trace.startUs, zone.value)}>
          {formatMoment(trace.startUs, zone.value, now.value)}
        </time>
        <span class="muted">{formatAgo(trace.startUs, now.value)}</span>
      </td>
      <td class="what">
        <a href={at(url)} onFocus={() => onHover(trace.traceId)}>
          <b>{trace.root.service}</b> <span class="operation">{trace.root.operation}</span>
        </a>
        {trace.root.missing && <span class="chip warn">◌ root missing</span>}
        <Services trace={trace} identities={identities} />
      </td>
      <td class="how-long">
        <span class="amount">{formatDuration(trace.durationUs)}</span>
        <span class="meter" aria-hidden="true">
          <span class={trace.errors > 0 ? 'failed' : undefined} style={{ width: `${Math.max(0.5, (trace.durationUs / longest) * 100)}%` }} />
        </span>
      </td>
      <td class="numeric">{formatCount(trace.spans)}</td>
      <td class="numeric">{outcomeOf(trace)}</td>
    </tr>
  );
}

function outcomeOf(trace: Summary) {
  if (trace.errors > 0) {
    return (
      <span class="error-text">
        ✕ {formatCount(trace.errors)}
        {trace.statusCode && <span class="status"> · {trace.statusCode}</span>}
      </span>
    );
  }
  return <span class="muted">{trace.statusCode ?? '–'}</span>;
}

function Services({ trace, identities }: { trace: Summary; identities: ReadonlyMap<string, Identity> }) {
  const shown = trace.services.length === MOST_CHIPS + 1 ? MOST_CHIPS + 1 : MOST_CHIPS;
  const rest = trace.services.length - shown;
  return (
    <ul class="services" aria-label="Services">
      {trace.services.slice(0, shown).map((service) => (
        <li key={service.name} title={`${service.name}: ${plural(service.spans, 'span')}${service.errors > 0 ? `, ${plural(service.errors, 'error')}` : ''}`}>
          <ServiceLetters identity={identities.get(service.name)} />
          <span class="service-name">{service.name}</span> <span class="count">{formatCount(service.spans)}</span>
          {service.errors > 0 && <span class="error-text">✕</span>}
        </li>
      ))}
      {rest > 0 && <li class="muted">and {rest} more</li>}
    </ul>
  );
}

/** The keys of lists: move the focus from link to link. */
function listKey(key: string, event: KeyboardEvent, table: HTMLTableElement | null): boolean {
  const links = [...(table?.querySelectorAll<HTMLAnchorElement>('td.what > a') ?? [])];
  const current = links.findIndex((link) => link === document.activeElement);
  switch (key) {
    case 'j':
    case '↓':
      return move(links[Math.min(links.length - 1, current + 1)]);
    case 'k':
    case '↑':
      return current > 0 ? move(links[current - 1]) : false;
    case 'o': {
      const link = links[current];
      if (link) window.open(link.href, '_blank', 'noopener');
      return link !== undefined && !event.repeat;
    }
    default:
      return false;
  }
}

function move(link: HTMLAnchorElement | undefined): boolean {
  link?.focus();
  link?.closest('tr')?.scrollIntoView({ block: 'nearest' });
  return link !== undefined;
}
