/** The trace in a few lines: what, how long, how big, how trustworthy, and where the time went. */

import { useComputed } from '@preact/signals';
import { copy } from '../../app/announce.ts';
import { now } from '../../app/clock.ts';
import { Icon } from '../../app/icon.tsx';
import { zone } from '../../app/settings.ts';
import { breakdown, percent, type Part } from '../../core/breakdown.ts';
import { countFlag, FLAG, hasFlag, levels, operationOf, serviceOf, type Trace } from '../../core/skeleton.ts';
import { formatAgo, formatClock, formatCount, formatDay, formatDuration, plural, zoneLabel } from '../../core/time.ts';
import { traceUrl } from '../../core/trace-url.ts';
import type { TraceModel } from './model.ts';
import { at } from '../../core/base.ts';

interface Props {
  model: TraceModel;
  receiving: boolean;
}

export function Summary({ model, receiving }: Props) {
  const { trace } = model;
  const { embed, without } = model.view.value;
  return (
    <section class={without.facts ? 'summary bare' : 'summary'} aria-label="Trace summary">
      <div class="summary-title">
        <h1>
          {serviceOf(trace, 0)} <span class="operation">{operationOf(trace, 0)}</span>
        </h1>
        <button type="button" class="plain id" title={`Copy ${trace.id}`} onClick={() => void copy(trace.id, 'trace id')}>
          <span class="visually-hidden">Copy the trace id </span>
          {trace.id.slice(0, 8)}…{trace.id.slice(-4)} <Icon name="copy" />
        </button>
        <Chips model={model} receiving={receiving} />
        {embed && (
          <a class="button" href={at(traceUrl({ ...model.view.value, embed: false }))} target="_blank" rel="noopener">
            Open in a window of its own
          </a>
        )}
      </div>
      {!without.facts && <Facts trace={trace} />}
      {!without.facts && <WhereTheTimeWent model={model} />}
    </section>
  );
}

function Chips({ model, receiving }: Props) {
  const { trace } = model;
  const errors = countFlag(trace, FLAG.error);
  const orphans = trace.missing.length;
  const rootless = hasFlag(trace, 0, FLAG.orphan);
  return (
    <>
      {errors > 0 && (
        <button type="button" class="chip err" title="Go to the next error (e)" onClick={() => model.nextError(1)}>
          ✕ {plural(errors, 'error')}
        </button>
      )}
      {orphans > 0 && (
        <span class="chip warn" title={`Spans name these as their parents, and they have not arrived: ${trace.missing.slice(0, 8).join(', ')}`}>
          ◌ {plural(orphans, 'missing parent')}
        </span>
      )}
      {rootless && <span class="chip warn">◌ the root is missing</span>}
      {receiving && (
        <span class="chip live">
          ● receiving · {formatCount(trace.size)}
          {orphans > 0 ? ` of ≥ ${formatCount(trace.size + orphans)}` : ''} spans
        </span>
      )}
    </>
  );
}

function Facts({ trace }: { trace: Trace }) {
  const skewed = countFlag(trace, FLAG.skewed);
  return (
    <p class="facts">
      <span>
        <b>{formatDuration(trace.duration)}</b>
      </span>
      <span>
        <b>{formatCount(trace.size)}</b> {trace.size === 1 ? 'span' : 'spans'}
      </span>
      <span>
        <b>{trace.services.length}</b> {trace.services.length === 1 ? 'service' : 'services'}
      </span>
      <span>
        depth <b>{levels(trace)}</b>
      </span>
      <span title={formatAgo(trace.t0, now.value)}>
        started{' '}
        <b>
          {formatDay(trace.t0, zone.value)} {formatClock(trace.t0, zone.value)}
        </b>{' '}
        {zoneLabel(zone.value, trace.t0)}
      </span>
      {skewed > 0 && <span class="warn-text">◐ clock skew corrected on {plural(skewed, 'span')}</span>}
    </p>
  );
}

const MOST_PARTS = 5;

function WhereTheTimeWent({ model }: { model: TraceModel }) {
  const parts = useComputed(() => breakdown(model.trace, MOST_PARTS)).value;
  if (parts.length === 0) return null;
  const hue = (part: Part): string => {
    if (part.service === undefined) return part.label === 'no span' ? 'hue-none' : 'hue-other';
    return `hue-${model.identities[model.trace.services.indexOf(part.service)]?.hue ?? 0}`;
  };
  return (
    <>
      <div class="parts" aria-hidden="true">
        {parts.map((part) => (
          <span key={part.label} class={hue(part)} style={{ flexGrow: part.us }} title={`${part.label}: ${formatDuration(part.us)}`} />
        ))}
      </div>
      <ul class="legend" aria-label="Where the time went, along the critical path">
        <li class="legend-title" aria-hidden="true">
          Where the {formatDuration(model.trace.duration)} went
        </li>
        {parts.map((part) => (
          <li key={part.label}>
            <span class={`dot ${hue(part)}`} aria-hidden="true" /> {part.label} <span class="share">{percent(part.share)}</span>
          </li>
        ))}
      </ul>
    </>
  );
}
