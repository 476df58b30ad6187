/** The line above the waterfall: find, and what to draw. */

import { useEffect, useRef } from 'preact/hooks';
import { announce } from '../../app/announce.ts';
import { Icon } from '../../app/icon.tsx';
import { sidePanel } from '../../app/settings.ts';
import { formatCount } from '../../core/time.ts';
import { MOST_INDEXED } from './details.ts';
import type { TraceModel } from './model.ts';
import { at } from '../../core/base.ts';
import { ServicesMenu } from './services-menu.tsx';

export function Tools({ model }: { model: TraceModel }) {
  const view = model.view.value;
  const open = sidePanel.value === 'open';
  return (
    <div class="tools" role="toolbar" aria-label="Waterfall">
      <Find model={model} />
      <span class="tools-rest">
        <ServicesMenu model={model} />
        <button type="button" aria-pressed={view.critical} title="Critical path (c)" onClick={() => model.setCritical(!view.critical)}>
          Critical path
        </button>
        <button type="button" class="wide-only" title="Collapse all ([)" onClick={() => model.collapseAll(true)}>
          Collapse
        </button>
        <button type="button" class="wide-only" title="Expand all (])" onClick={() => model.collapseAll(false)}>
          Expand
        </button>
        <button type="button" disabled={!view.zoom} title="Show all of the time (0)" onClick={() => model.zoomOut()}>
          Whole trace
        </button>
        <a class="button wide-only" href={at(`/api/traces/${model.trace.id}`)} target="_blank" rel="noopener">
          JSON
        </a>
        <button
          type="button"
          class="square"
          aria-pressed={open}
          aria-label="Side panel"
          title="Side panel (d)"
          onClick={() => (sidePanel.value = open ? 'closed' : 'open')}
        >
          <Icon name="panel" />
        </button>
      </span>
    </div>
  );
}

function Find({ model }: { model: TraceModel }) {
  const input = useRef<HTMLInputElement>(null);
  const view = model.view.value;
  const found = model.found.value;
  const active = view.find.trim() !== '';
  useEffect(() => {
    if (active && found.wantsDetails) void model.details.indexAll();
  }, [active, found.wantsDetails]);
  useEffect(() => model.restrict(), [found]);
  const words = active ? sentence(model) : '';
  useEffect(() => {
    if (words) announce(words);
  }, [words]);
  const onKeyDown = (event: KeyboardEvent): void => {
    if (event.key === 'Enter') {
      event.preventDefault();
      model.nextFound(event.shiftKey ? -1 : 1);
    } else if (event.key === 'Escape' && active) {
      event.preventDefault();
      model.setFind('');
    }
  };
  return (
    <div class="find" role="search" aria-label="Find spans in this trace">
      <span class="find-field">
        <Icon name="search" />
        <input
          ref={input}
          data-find
          type="text"
          aria-label="Find spans"
          aria-describedby="find-count"
          placeholder="Find: reviews status:error dur>50ms"
          autocomplete="off"
          spellcheck={false}
          value={view.find}
          onInput={(event) => model.setFind(event.currentTarget.value)}
          onKeyDown={onKeyDown}
        />
      </span>
      <span id="find-count" class={found.problem ? 'count warn-text' : 'count muted'}>
        {words}
      </span>
      {active && (
        <>
          <button type="button" class="square" aria-label="Previous match" title="Previous match (N)" disabled={found.rows.length === 0} onClick={() => model.nextFound(-1)}>
            <Icon name="up" />
          </button>
          <button type="button" class="square" aria-label="Next match" title="Next match (n)" disabled={found.rows.length === 0} onClick={() => model.nextFound(1)}>
            <Icon name="down" />
          </button>
          <button type="button" aria-pressed={view.only} title="Matches only (m)" onClick={() => model.setOnly(!view.only)}>
            Matches only
          </button>
        </>
      )}
    </div>
  );
}

/** «3 of 48», and what was searched when that is not everything. */
function sentence(model: TraceModel): string {
  const found = model.found.value;
  if (found.problem) return found.problem;
  const place = found.rows.indexOf(model.selected.value) + 1;
  const all = formatCount(found.rows.length);
  const count = place > 0 ? `${place} of ${all}` : found.rows.length === 0 ? 'no match' : `${all} of ${formatCount(model.trace.size)}`;
  if (!found.wantsDetails) return count;
  if (model.trace.size > MOST_INDEXED) return `${count} · names only in a trace this big`;
  const { value } = model.details.indexing;
  if (value === 'running') return `${count} · reading attributes…`;
  return value === 'failed' ? `${count} · names only, the attributes could not be read` : count;
}
