/** The minimap and the waterfall: elements with their roles, filled by the views. */

import { useSignal, useSignalEffect } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import { isDark, nameWidth } from '../../app/settings.ts';
import { formatDuration } from '../../core/time.ts';
import { Minimap } from '../../views/minimap.ts';
import { extentOf, Waterfall } from '../../views/waterfall.ts';
import { FIT_EVENT } from './keys.ts';
import type { TraceModel } from './model.ts';
import { Splitter } from './splitter.tsx';

export function WaterfallPane({ model }: { model: TraceModel }) {
  const wide = useSignal(1200);
  const { minimap } = model.view.value.without;
  return (
    <section class={minimap ? 'waterfall no-minimap' : 'waterfall'} aria-label="Waterfall">
      {!minimap && <MinimapPane model={model} />}
      <Grid model={model} />
      <div class="name-splitter" style={{ transform: `translateX(${nameWidth.value}px)` }}>
        <Splitter label="Width of the names" size={nameWidth} least={160} most={Math.max(400, wide.value)} side="left" />
      </div>
    </section>
  );
}

function Grid({ model }: { model: TraceModel }) {
  const grid = useRef<HTMLDivElement>(null);
  const axis = useRef<HTMLDivElement>(null);
  const scroller = useRef<HTMLDivElement>(null);
  const space = useRef<HTMLDivElement>(null);
  const rows = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const view = useSignal<Waterfall | undefined>(undefined);
  const current = useRef(model);
  current.current = model;
  useEffect(() => {
    if (!grid.current || !axis.current || !scroller.current || !space.current || !rows.current || !canvas.current) return undefined;
    const waterfall = new Waterfall(
      { grid: grid.current, axis: axis.current, scroller: scroller.current, space: space.current, rows: rows.current, canvas: canvas.current },
      {
        select: (row) => current.current.select(row),
        toggle: (row) => current.current.toggle(row),
        zoomTo: (row) => current.current.zoomToRow(row),
        range: (range) => current.current.setRange(range),
      },
    );
    view.value = waterfall;
    const fit = (): void => {
      const [first, last] = waterfall.visibleRows();
      current.current.setRange(extentOf(current.current.trace, current.current.tree, first, last));
    };
    window.addEventListener(FIT_EVENT, fit);
    return () => {
      window.removeEventListener(FIT_EVENT, fit);
      waterfall.destroy();
    };
  }, []);
  const shown = useSignal(model);
  shown.value = model;
  useSignalEffect(() => {
    const now = shown.value;
    view.value?.update({
      trace: now.trace,
      tree: now.tree,
      treeVersion: now.shape.value,
      identities: now.identities,
      range: now.range.value,
      selected: now.selected.value,
      lit: now.lit.value,
      critical: now.view.value.critical,
      nameWidth: nameWidth.value,
      dark: isDark(),
    });
  });
  useSignalEffect(() => {
    const now = shown.value;
    void now.attention.value;
    const inGrid = document.activeElement === document.body || (grid.current?.contains(document.activeElement) ?? false);
    if (now.selected.peek() >= 0) view.value?.reveal(now.selected.peek(), inGrid);
  });
  return (
    <div ref={grid} class="grid" role="treegrid" aria-label="Spans" aria-readonly="true" aria-multiselectable="false">
      <div class="axis-row" role="row" aria-rowindex={1}>
        <div class="axis-name" role="columnheader">
          Service <span class="muted">· operation</span>
        </div>
        <div ref={axis} class="axis" role="columnheader" title="Drag to zoom">
          <span class="visually-hidden">Time</span>
        </div>
      </div>
      <div ref={scroller} class="scroller" role="rowgroup" tabIndex={0}>
        <div ref={space} class="space" role="presentation">
          <div class="sticky" role="presentation">
            <div ref={rows} class="rows" role="presentation" />
            <canvas ref={canvas} class="bars" aria-hidden="true" />
          </div>
        </div>
      </div>
    </div>
  );
}

function MinimapPane({ model }: { model: TraceModel }) {
  const host = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const view = useSignal<Minimap | undefined>(undefined);
  const current = useRef(model);
  current.current = model;
  useEffect(() => {
    if (!host.current || !canvas.current) return undefined;
    const minimap = new Minimap(host.current, canvas.current, (range) => current.current.setRange(range));
    view.value = minimap;
    return () => minimap.destroy();
  }, []);
  const shown = useSignal(model);
  shown.value = model;
  useSignalEffect(() => {
    const { trace, identities, range } = shown.value;
    view.value?.update({ trace, identities, range: range.value, dark: isDark() });
  });
  return (
    <div class="minimap" role="group" aria-label="The part of the trace that shows">
      <div ref={host} class="minimap-host" title="Drag to zoom, double-click for all">
        <canvas ref={canvas} aria-hidden="true" />
      </div>
      <Edge model={model} which="from" />
      <Edge model={model} which="to" />
    </div>
  );
}

const EDGE_STEP = 0.01;
const EDGE_PAGE = 0.1;

/** One end of the brush, for the keyboard and for fine dragging. */
function Edge({ model, which }: { model: TraceModel; which: 'from' | 'to' }) {
  const range = model.range.value;
  const { duration } = model.trace;
  const move = (to: number): void => {
    const least = duration * 0.001;
    const next = which === 'from' ? { ...range, from: Math.min(to, range.to - least) } : { ...range, to: Math.max(to, range.from + least) };
    model.setRange({ from: Math.max(0, next.from), to: Math.min(duration, next.to) });
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    const steps: Readonly<Record<string, number>> = {
      ArrowLeft: -EDGE_STEP,
      ArrowDown: -EDGE_STEP,
      ArrowRight: EDGE_STEP,
      ArrowUp: EDGE_STEP,
      PageDown: -EDGE_PAGE,
      PageUp: EDGE_PAGE,
      Home: -1,
      End: 1,
    };
    const step = steps[event.key];
    if (step === undefined) return;
    event.preventDefault();
    move(range[which] + step * duration);
  };
  const onPointerDown = (event: PointerEvent): void => {
    const handle = event.currentTarget;
    if (!(handle instanceof HTMLElement) || !handle.parentElement) return;
    const box = handle.parentElement.getBoundingClientRect();
    event.preventDefault();
    handle.focus();
    handle.setPointerCapture(event.pointerId);
    const drag = (next: PointerEvent): void => move(((next.clientX - box.left) / box.width) * duration);
    handle.addEventListener('pointermove', drag);
    handle.addEventListener('pointerup', () => handle.removeEventListener('pointermove', drag), { once: true });
  };
  return (
    <div
      class={`edge ${which}`}
      role="slider"
      tabIndex={0}
      aria-label={which === 'from' ? 'Start of the visible time' : 'End of the visible time'}
      aria-valuemin={0}
      aria-valuemax={Math.round(duration)}
      aria-valuenow={Math.round(range[which])}
      aria-valuetext={formatDuration(range[which])}
      style={{ left: `${(range[which] / duration) * 100}%` }}
      onKeyDown={onKeyDown}
      onPointerDown={onPointerDown}
    />
  );
}
