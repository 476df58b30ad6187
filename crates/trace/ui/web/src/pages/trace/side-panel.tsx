/** Beside the waterfall: the selected span, or the services of the trace while none is. */

import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import type { SpanDetails } from '../../api/types.ts';
import { ServiceLetters } from '../../app/chip.tsx';
import { Icon } from '../../app/icon.tsx';
import { sidePanel } from '../../app/settings.ts';
import { percent } from '../../core/breakdown.ts';
import { FLAG, hasFlag, KINDS, operationOf, serviceOf } from '../../core/skeleton.ts';
import { formatCount, formatDuration } from '../../core/time.ts';
import { at } from '../../core/tree.ts';
import type { TraceModel } from './model.ts';
import { SpanBody } from './span-body.tsx';

/** A held key moves on before its spans need to be fetched. */
const SETTLE_MS = 60;

type Loading = { row: number; details: SpanDetails | undefined; error: string };

export function SidePanel({ model }: { model: TraceModel }) {
  const row = model.selected.value;
  return (
    <aside class={row < 0 ? 'side-panel no-span' : 'side-panel'} aria-label={row < 0 ? 'Services of this trace' : 'Span details'} tabIndex={-1}>
      <button type="button" class="plain square close" aria-label="Close the panel" title="Close the panel (d)" onClick={() => (sidePanel.value = 'closed')}>
        <Icon name="close" />
      </button>
      {row < 0 ? <ServiceList model={model} /> : <SpanPanel model={model} row={row} />}
    </aside>
  );
}

function SpanPanel({ model, row }: { model: TraceModel; row: number }) {
  const loading = useSignal<Loading>({ row: -1, details: undefined, error: '' });
  const attempt = useSignal(0);
  useEffect(() => {
    const known = model.details.of(row);
    if (known) {
      loading.value = { row, details: known, error: '' };
      return undefined;
    }
    const stop = new AbortController();
    const timer = window.setTimeout(() => {
      model.details.load(row, stop.signal).then(
        (details) => (loading.value = { row, details, error: details ? '' : 'the server sent no details of this span' }),
        (error: unknown) => {
          if (!stop.signal.aborted) loading.value = { row, details: undefined, error: error instanceof Error ? error.message : String(error) };
        },
      );
    }, SETTLE_MS);
    return () => {
      window.clearTimeout(timer);
      stop.abort();
    };
  }, [model, row, attempt.value]);
  const { details, error } = loading.value.row === row ? loading.value : { details: undefined, error: '' };
  return (
    <>
      <SpanHead model={model} row={row} />
      {error && (
        <p class="error-text" role="alert">
          {error}{' '}
          <button type="button" onClick={() => (attempt.value += 1)}>
            Try again
          </button>
        </p>
      )}
      <div aria-busy={!details && !error}>{details && <SpanBody model={model} span={details} />}</div>
    </>
  );
}

/** What the waterfall knows already; shown at once. */
function SpanHead({ model, row }: { model: TraceModel; row: number }) {
  const { trace } = model;
  const kind = KINDS[at(trace.kind, row)] ?? 'unspecified';
  const parent = at(trace.parent, row);
  const facts = [
    kind === 'unspecified' ? '' : kind,
    formatDuration(at(trace.length, row)),
    `self ${formatDuration(at(trace.self, row))}`,
    `starts at +${formatDuration(at(trace.start, row))}`,
  ];
  return (
    <header>
      <h2>
        <ServiceLetters identity={model.identities[at(trace.service, row)]} /> {serviceOf(trace, row)}
      </h2>
      <p class="span-operation">{operationOf(trace, row)}</p>
      <p class="muted numbers">{facts.filter(Boolean).join(' · ')}</p>
      <p class="chips">
        {hasFlag(trace, row, FLAG.error) && <span class="chip err">✕ error</span>}
        {hasFlag(trace, row, FLAG.orphan) && <span class="chip warn">◌ its parent is missing</span>}
        {hasFlag(trace, row, FLAG.skewed) && <span class="chip warn">◐ clock skew corrected</span>}
        {hasFlag(trace, row, FLAG.shared) && <span class="chip">shares its id with another span</span>}
        {hasFlag(trace, row, FLAG.duplicate) && <span class="chip warn">⚠ duplicate</span>}
        {trace.critical.ofRow.has(row) && <span class="chip">on the critical path</span>}
      </p>
      <p class="actions small">
        <button type="button" title="Zoom to the span (z)" onClick={() => model.zoomToRow(row)}>
          <Icon name="zoom" /> Zoom
        </button>
        {parent >= 0 && (
          <button type="button" title="Go to the parent" onClick={() => model.select(parent)}>
            <Icon name="parent" /> Parent
          </button>
        )}
      </p>
    </header>
  );
}

interface ServiceFacts {
  index: number;
  name: string;
  spans: number;
  errors: number;
  self: number;
}

function serviceFacts(model: TraceModel): ServiceFacts[] {
  const { trace } = model;
  const facts = trace.services.map((name, index) => ({ index, name, spans: 0, errors: 0, self: 0 }));
  for (let row = 0; row < trace.size; row += 1) {
    const service = facts[at(trace.service, row)];
    if (!service) continue;
    service.spans += 1;
    service.self += at(trace.self, row);
    if (hasFlag(trace, row, FLAG.error)) service.errors += 1;
  }
  return facts.sort((a, b) => b.self - a.self);
}

function ServiceList({ model }: { model: TraceModel }) {
  const facts = serviceFacts(model);
  const total = Math.max(1, facts.reduce((sum, service) => sum + service.self, 0));
  return (
    <>
      <h2>Services</h2>
      <p class="muted">Select a span to see what it did. Self time is what no child covers.</p>
      <table class="service-table">
        <thead>
          <tr>
            <th scope="col">Service</th>
            <th scope="col" class="numeric">
              Spans
            </th>
            <th scope="col" class="numeric">
              Self time
            </th>
            <th scope="col" class="numeric">
              Share
            </th>
          </tr>
        </thead>
        <tbody>
          {facts.map((service) => (
            <tr key={service.name}>
              <th scope="row">
                <button type="button" class="link" title={`Find the spans of ${service.name}`} onClick={() => model.setFind(`service:${/\s/.test(service.name) ? `"${service.name}"` : service.name}`)}>
                  <ServiceLetters identity={model.identities[service.index]} /> <span>{service.name}</span>
                </button>
                {service.errors > 0 && <span class="error-text"> ✕ {formatCount(service.errors)}</span>}
              </th>
              <td class="numeric">{formatCount(service.spans)}</td>
              <td class="numeric">{formatDuration(service.self)}</td>
              <td class="numeric">{percent(service.self / total)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </>
  );
}
