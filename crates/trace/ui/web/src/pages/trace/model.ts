/** What the trace page knows of one trace, and what can be done to it. Views read the signals; keys and buttons call the methods. */

import { computed, signal, type ReadonlySignal, type Signal } from '@preact/signals';
import { identities, type Identity } from '../../core/colours.ts';
import { find, nextMatch, type Found, type RowDetails } from '../../core/find.ts';
import { clampRange, isWhole, panRange, rangeAround, zoomRange, type Range } from '../../core/geometry.ts';
import { FLAG, hasFlag, serviceOf, type Trace } from '../../core/skeleton.ts';
import { hiddenByJaeger } from '../../core/service-filter.ts';
import type { TraceView } from '../../core/trace-url.ts';
import { at, Tree } from '../../core/tree.ts';
import { Details } from './details.ts';

export class TraceModel {
  readonly trace: Trace;
  readonly tree: Tree;
  readonly identities: readonly Identity[];
  readonly details: Details;
  readonly view: Signal<TraceView>;
  /** The selected row, or -1. */
  readonly selected: Signal<number>;
  /** Grows when rows appear or disappear. */
  readonly shape = signal(0);
  /** Grows when the selected row is to be brought into view. */
  readonly attention = signal(0);
  readonly range: ReadonlySignal<Range>;
  readonly found: ReadonlySignal<Found>;
  /** The rows that match the find box; undefined when it is empty. */
  readonly lit: ReadonlySignal<ReadonlySet<number> | undefined>;

  constructor(trace: Trace, view: TraceView) {
    this.trace = trace;
    this.tree = new Tree(trace.parent);
    this.identities = identities(trace);
    this.details = new Details(trace);
    this.view = signal(resolved(trace, view));
    this.selected = signal(trace.ids.indexOf(view.span));
    this.range = computed(() => {
      const { zoom } = this.view.value;
      return zoom ? clampRange({ from: zoom[0], to: zoom[1] }, trace.duration) : { from: 0, to: trace.duration };
    });
    const text = computed(() => this.view.value.find);
    const rowDetails = computed<ReadonlyMap<number, RowDetails>>(() => this.details.texts.value);
    this.found = computed(() => find(trace, text.value, rowDetails.value));
    this.lit = computed(() => (text.value.trim() === '' ? undefined : new Set(this.found.value.rows)));
    this.leaveOut();
  }

  /** The same trace with more spans: what was selected and collapsed stays so. */
  static renewed(trace: Trace, old: TraceModel): TraceModel {
    const model = new TraceModel(trace, old.view.value);
    const rows = new Map(trace.ids.map((id, row) => [id, row]));
    old.trace.ids.forEach((id, row) => {
      const here = rows.get(id);
      if (here !== undefined && old.tree.isCollapsed(row)) model.tree.setCollapsed(here, true);
    });
    model.restrict();
    return model;
  }

  /** Takes over what the address bar says, after a step back or forward. */
  follow(view: TraceView): void {
    this.view.value = resolved(this.trace, view);
    this.selected.value = this.trace.ids.indexOf(view.span);
    this.restrict();
  }

  private refine(change: Partial<TraceView>): void {
    this.view.value = { ...this.view.value, ...change };
  }

  /** Selects a row and brings it into view. */
  select(row: number): void {
    if (row < 0 || row >= this.trace.size) return;
    const { visible } = this.tree;
    this.tree.reveal(row);
    if (this.tree.indexOf(row) < 0) this.setOnly(false);
    if (this.tree.indexOf(row) < 0) this.hideServices(this.view.value.hidden.filter((name) => name !== serviceOf(this.trace, row)));
    if (this.tree.visible !== visible) this.shape.value += 1;
    this.selected.value = row;
    this.refine({ span: this.trace.ids[row] ?? '' });
    this.attention.value += 1;
  }

  unselect(): void {
    this.selected.value = -1;
    this.refine({ span: '' });
  }

  /** Moves the selection among the visible rows. */
  step(by: number): void {
    const { visible } = this.tree;
    if (visible.length === 0) return;
    const index = this.selected.value < 0 ? (by > 0 ? -1 : visible.length) : this.tree.indexOf(this.selected.value);
    this.select(at(visible, Math.min(visible.length - 1, Math.max(0, index + by))));
  }

  first(): void {
    this.select(at(this.tree.visible, 0));
  }

  last(): void {
    this.select(at(this.tree.visible, this.tree.visible.length - 1));
  }

  /** Expands; on an expanded row goes to its first child (APG treegrid). */
  right(): void {
    const row = this.selected.value;
    if (row < 0) this.first();
    else if (this.tree.isCollapsed(row)) this.toggle(row);
    else if (this.tree.hasChildren(row)) this.step(1);
  }

  /** Collapses; on a collapsed row or a leaf goes to the parent. */
  left(): void {
    const row = this.selected.value;
    if (row < 0) return;
    if (this.tree.hasChildren(row) && !this.tree.isCollapsed(row)) this.toggle(row);
    else {
      let above = at(this.trace.parent, row);
      while (above >= 0 && this.tree.indexOf(above) < 0) above = at(this.trace.parent, above);
      this.select(above);
    }
  }

  toggle(row: number): void {
    this.tree.setCollapsed(row, !this.tree.isCollapsed(row));
    this.shape.value += 1;
  }

  collapseAll(collapsed: boolean): void {
    this.tree.setAll(collapsed);
    let row = this.selected.value;
    while (row >= 0 && this.tree.indexOf(row) < 0) row = at(this.trace.parent, row);
    this.shape.value += 1;
    if (row >= 0) this.select(row);
  }

  /** To the next row (or the one before) of which this holds. */
  private seek(holds: (row: number) => boolean, step: 1 | -1): boolean {
    const rows: number[] = [];
    for (let row = 0; row < this.trace.size; row += 1) if (holds(row)) rows.push(row);
    const next = nextMatch(rows, this.selected.value, step);
    if (next !== undefined) this.select(next);
    return next !== undefined;
  }

  nextError(step: 1 | -1): boolean {
    return this.seek((row) => hasFlag(this.trace, row, FLAG.error), step);
  }

  nextCritical(): boolean {
    return this.seek((row) => this.trace.critical.ofRow.has(row), 1);
  }

  nextFound(step: 1 | -1): boolean {
    const next = nextMatch(this.found.value.rows, this.selected.value, step);
    if (next !== undefined) this.select(next);
    return next !== undefined;
  }

  setFind(text: string): void {
    this.refine({ find: text });
    this.restrict();
  }

  setOnly(only: boolean): void {
    this.refine({ only });
    this.restrict();
  }

  /** Brings the visible rows in line with «matches only». */
  restrict(): void {
    const { only } = this.view.value;
    this.tree.restrict(only && this.lit.value ? this.found.value.rows : undefined);
    this.leaveOut();
    this.shape.value += 1;
  }

  /** Shows all services but these. */
  hideServices(hidden: readonly string[]): void {
    this.refine({ hidden });
    this.restrict();
  }

  toggleService(name: string): void {
    const { hidden } = this.view.value;
    this.hideServices(hidden.includes(name) ? hidden.filter((other) => other !== name) : [...hidden, name]);
  }

  private leaveOut(): void {
    const { services, service } = this.trace;
    const hidden = services.map((name) => this.view.value.hidden.includes(name));
    this.tree.leaveOut(hidden.includes(true) ? (row) => hidden[at(service, row)] ?? false : undefined);
  }

  setCritical(critical: boolean): void {
    this.refine({ critical });
  }

  setRange(range: Range): void {
    const clamped = clampRange(range, this.trace.duration);
    this.refine({ zoom: isWhole(clamped, this.trace.duration) ? undefined : [clamped.from, clamped.to] });
  }

  zoomOut(): void {
    this.refine({ zoom: undefined });
  }

  zoomToRow(row: number): void {
    if (row >= 0) this.setRange(rangeAround(at(this.trace.start, row), at(this.trace.length, row), this.trace.duration));
  }

  zoomBy(factor: number): void {
    const { from, to } = this.range.value;
    this.setRange(zoomRange({ from, to }, factor, (from + to) / 2, this.trace.duration));
  }

  pan(share: number): void {
    this.setRange(panRange(this.range.value, share, this.trace.duration));
  }
}

/** The view with Jaeger's filter read, now that the services are known. */
function resolved(trace: Trace, view: TraceView): TraceView {
  if (!view.serviceFilter) return view;
  return { ...view, serviceFilter: '', hidden: [...new Set([...view.hidden, ...hiddenByJaeger(trace.services, view.serviceFilter)])] };
}
