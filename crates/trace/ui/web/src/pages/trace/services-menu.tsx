/** Which services show. */

import { useSignal } from '@preact/signals';
import { useRef } from 'preact/hooks';
import { ServiceLetters } from '../../app/chip.tsx';
import { formatCount } from '../../core/time.ts';
import type { TraceModel } from './model.ts';

/** More are not listed; `-service:NAME` in the find box leaves any out. */
const MOST = 200;

export function ServicesMenu({ model }: { model: TraceModel }) {
  const open = useSignal(false);
  const host = useRef<HTMLDivElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  const { services } = model.trace;
  const { hidden } = model.view.value;
  if (services.length < 2) return null;
  const onKeyDown = (event: KeyboardEvent): void => {
    if (event.key !== 'Escape' || !open.value) return;
    event.stopPropagation();
    open.value = false;
    button.current?.focus();
  };
  const onFocusOut = (event: FocusEvent): void => {
    const to = event.relatedTarget;
    if (!(to instanceof Node && host.current?.contains(to))) open.value = false;
  };
  return (
    <div ref={host} class="menu" onKeyDown={onKeyDown} onFocusOut={onFocusOut}>
      <button ref={button} type="button" class={hidden.length > 0 ? 'active' : undefined} aria-expanded={open.value} onClick={() => (open.value = !open.value)}>
        {hidden.length > 0 ? `Services: ${formatCount(services.length - hidden.length)} of ${formatCount(services.length)}` : 'Services'}
      </button>
      {open.value && <Choice model={model} />}
    </div>
  );
}

function Choice({ model }: { model: TraceModel }) {
  const { trace, identities } = model;
  const { hidden } = model.view.value;
  const counts = new Int32Array(trace.services.length);
  for (const service of trace.service) counts[service] = (counts[service] ?? 0) + 1;
  const order = trace.services.map((_, index) => index).sort((a, b) => ((trace.services[a] ?? '') < (trace.services[b] ?? '') ? -1 : 1));
  return (
    <fieldset class="menu-panel" tabIndex={-1}>
      <legend class="visually-hidden">Services that show</legend>
      {order.slice(0, MOST).map((index) => {
        const name = trace.services[index] ?? '';
        return (
          <label key={name} class="check">
            <input type="checkbox" checked={!hidden.includes(name)} onChange={() => model.toggleService(name)} />
            <ServiceLetters identity={identities[index]} /> {name} <span class="muted numbers">{formatCount(counts[index] ?? 0)}</span>
          </label>
        );
      })}
      {order.length > MOST && <p class="muted">and {formatCount(order.length - MOST)} more</p>}
      <button type="button" disabled={hidden.length === 0} onClick={() => model.hideServices([])}>
        Show all
      </button>
    </fieldset>
  );
}
