/** Everything that a span carries. */

import { useSignal } from '@preact/signals';
import type { ComponentChildren } from 'preact';
import { valueText, type Attribute, type SpanDetails, type SpanEvent, type SpanLink } from '../../api/types.ts';
import { copy } from '../../app/announce.ts';
import { Icon } from '../../app/icon.tsx';
import { zone } from '../../app/settings.ts';
import { meshFacts } from '../../core/mesh-facts.ts';
import { EMPTY_SEARCH, searchUrl } from '../../core/search-url.ts';
import { formatClock, formatDuration } from '../../core/time.ts';
import type { TraceModel } from './model.ts';
import { at } from '../../core/base.ts';

/** From this many attributes on there is a box to filter them. */
const FILTER_FROM = 9;

export function SpanBody({ model, span }: { model: TraceModel; span: SpanDetails }) {
  return (
    <>
      {span.status.message && (
        <p class={span.status.code === 'error' ? 'status-message error-text' : 'status-message'}>{span.status.message}</p>
      )}
      {span.warnings.length > 0 && (
        <ul class="warnings">
          {span.warnings.map((warning) => (
            <li key={warning}>⚠ {warning}</li>
          ))}
        </ul>
      )}
      <MeshBox span={span} />
      <Section title="Attributes" count={span.attributes.length}>
        <Attributes model={model} service={span.service} attributes={span.attributes} />
      </Section>
      {span.events.length > 0 && (
        <Section title="Events" count={span.events.length}>
          <Events model={model} span={span} events={span.events} />
        </Section>
      )}
      {span.links.length > 0 && (
        <Section title="Links" count={span.links.length}>
          <Links links={span.links} />
        </Section>
      )}
      <Section title="Resource" count={span.resource.length}>
        <Attributes model={model} service={span.service} attributes={span.resource} />
      </Section>
      <Section title="Span">
        <Attributes model={model} service="" attributes={identity(span)} />
      </Section>
    </>
  );
}

function identity(span: SpanDetails): Attribute[] {
  const rows: ReadonlyArray<readonly [string, string | null]> = [
    ['span id', span.spanId],
    ['parent id', span.parentSpanId],
    ['started', formatClock(span.startUs, zone.value)],
    ['status', span.status.code === 'unset' ? null : span.status.code],
    ['scope', [span.scope.name, span.scope.version].filter(Boolean).join(' ') || null],
    ['trace state', span.traceState || null],
  ];
  return [
    ...rows.flatMap(([key, value]) => (value === null ? [] : [{ key, type: 'string', value }])),
    ...span.scope.attributes,
  ];
}

function Section({ title, count, children }: { title: string; count?: number; children: ComponentChildren }) {
  return (
    <section>
      <h3>
        {title}
        {count !== undefined && ` · ${count}`}
      </h3>
      {count === 0 ? <p class="muted">none</p> : children}
    </section>
  );
}

/** What the proxy did with the request, in words. */
function MeshBox({ span }: { span: SpanDetails }) {
  const facts = meshFacts(new Map(span.attributes.map((attribute) => [attribute.key, valueText(attribute.value)])));
  if (facts.length === 0) return null;
  return (
    <Section title="What the mesh did">
      <dl class="mesh">
        {facts.map((fact) => (
          <div key={fact.label}>
            <dt>{fact.label}</dt>
            <dd class={fact.tone}>{fact.text}</dd>
          </div>
        ))}
      </dl>
    </Section>
  );
}

function matches(attribute: Attribute, filter: string): boolean {
  return `${attribute.key}=${valueText(attribute.value)}`.toLowerCase().includes(filter.toLowerCase());
}

interface AttributesProps {
  model: TraceModel;
  /** Whose traces a search looks for; empty where a search makes no sense. */
  service: string;
  attributes: readonly Attribute[];
}

function Attributes({ model, service, attributes }: AttributesProps) {
  const filter = useSignal('');
  const sorted = [...attributes].sort((a, b) => (a.key < b.key ? -1 : 1));
  const shown = sorted.filter((attribute) => matches(attribute, filter.value));
  return (
    <>
      {attributes.length >= FILTER_FROM && (
        <input
          class="attribute-filter"
          type="text"
          aria-label="Filter the attributes"
          placeholder="Filter"
          value={filter.value}
          onInput={(event) => (filter.value = event.currentTarget.value)}
        />
      )}
      <dl class="attributes">
        {shown.map((attribute, index) => (
          <AttributeRow key={`${attribute.key} ${index}`} model={model} service={service} attribute={attribute} />
        ))}
      </dl>
      {shown.length === 0 && attributes.length > 0 && <p class="muted">No attribute contains “{filter.value}”.</p>}
    </>
  );
}

function AttributeRow({ model, service, attribute }: { model: TraceModel; service: string; attribute: Attribute }) {
  const text = valueText(attribute.value);
  const term = `${attribute.key}=${/\s/.test(text) ? `"${text}"` : text}`;
  return (
    <div class="attribute">
      <dt>{attribute.key}</dt>
      <dd class={`type-${attribute.type}`}>
        <span class="value">{text === '' ? <i class="muted">empty</i> : text}</span>
        <span class="attribute-tools">
          <button type="button" class="plain tiny" aria-label={`Copy ${attribute.key}`} title="Copy the value" onClick={() => void copy(text, attribute.key)}>
            <Icon name="copy" />
          </button>
          {service && (
            <>
              <button type="button" class="plain tiny" aria-label={`Find ${term} in this trace`} title={`Find ${term} in this trace`} onClick={() => model.setFind(term)}>
                <Icon name="find" />
              </button>
              <a
                class="button plain tiny"
                aria-label={`Search for traces with ${term}`}
                title={`Search for traces with ${term}`}
                href={at(searchUrl({ ...EMPTY_SEARCH, service, tags: { [attribute.key]: text } }))}
              >
                <Icon name="search" />
              </a>
            </>
          )}
        </span>
      </dd>
    </div>
  );
}

function Events({ model, span, events }: { model: TraceModel; span: SpanDetails; events: readonly SpanEvent[] }) {
  return (
    <ol class="events">
      {events.map((event, index) => (
        <li key={index}>
          <p>
            <span class="muted numbers" title={formatClock(event.timeUs, zone.value)}>
              +{formatDuration(event.timeUs - model.trace.t0)}
            </span>{' '}
            <b class={event.name === 'exception' ? 'error-text' : undefined}>{event.name}</b>
          </p>
          {event.attributes.length > 0 && <Attributes model={model} service={span.service} attributes={event.attributes} />}
        </li>
      ))}
    </ol>
  );
}

function Links({ links }: { links: readonly SpanLink[] }) {
  return (
    <ul class="links">
      {links.map((link) => (
        <li key={link.traceId + link.spanId}>
          <a href={at(`/trace/${link.traceId}?span=${link.spanId}`)}>
            trace {link.traceId.slice(0, 8)}… span {link.spanId.slice(0, 8)}…
          </a>
          {link.attributes.map((attribute) => (
            <span key={attribute.key} class="muted">
              {' '}
              {attribute.key}={valueText(attribute.value)}
            </span>
          ))}
        </li>
      ))}
    </ul>
  );
}
