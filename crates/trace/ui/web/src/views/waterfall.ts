/**
 * The waterfall: names are elements, as many as fit the view; bars are one canvas over them. Rows have one height, so
 * that a position is a multiplication, whatever the size of the trace.
 */

import type { Identity } from '../core/colours.ts';
import { clampRange, panRange, rowWindow, scrollToRow, zoomRange, type Line, type Range } from '../core/geometry.ts';
import type { Trace } from '../core/skeleton.ts';
import { axis } from '../core/time.ts';
import { at, type Tree } from '../core/tree.ts';
import { BarPainter, INSET_PX, lineIn } from './bars.ts';
import { dragOn, onceAFrame, prepare } from './canvas.ts';
import { readPalette, type Palette } from './palette.ts';
import { RowPool } from './row-pool.ts';

export interface WaterfallState {
  trace: Trace;
  tree: Tree;
  /** Grows when the tree's shape changes. */
  treeVersion: number;
  identities: readonly Identity[];
  range: Range;
  selected: number;
  lit: ReadonlySet<number> | undefined;
  critical: boolean;
  nameWidth: number;
  /** Light or dark, so that a change of it repaints. */
  dark: boolean;
}

export interface WaterfallEvents {
  select(row: number): void;
  toggle(row: number): void;
  zoomTo(row: number): void;
  range(range: Range): void;
}

/** Name above the bar instead of beside it, below this width. */
const NARROW_PX = 600;
const ROW_PX = 26;
const NARROW_ROW_PX = 44;
const TICK_PX = 110;

/** The elements that the page makes and the view fills. */
export interface WaterfallElements {
  grid: HTMLElement;
  axis: HTMLElement;
  scroller: HTMLElement;
  space: HTMLElement;
  rows: HTMLElement;
  canvas: HTMLCanvasElement;
}

export class Waterfall {
  private readonly elements: WaterfallElements;
  private readonly events: WaterfallEvents;
  private readonly pool: RowPool;
  private readonly painter = new BarPainter();
  private readonly frame = onceAFrame(() => this.draw());
  private readonly observer: ResizeObserver;
  private state: WaterfallState | undefined;
  private palette: Palette | undefined;
  private refill = true;
  private drawnFrame = '';
  private drawnAxis = '';
  private width = 0;
  private height = 0;
  private brush: { from: number; to: number } | undefined;
  private readonly brushElement: HTMLElement;
  private readonly tickElements: HTMLElement[] = [];

  constructor(elements: WaterfallElements, events: WaterfallEvents) {
    this.elements = elements;
    this.events = events;
    this.pool = new RowPool(elements.rows);
    this.brushElement = document.createElement('div');
    this.brushElement.className = 'axis-brush';
    elements.axis.append(this.brushElement);
    this.observer = new ResizeObserver(() => this.measure());
    this.observer.observe(elements.scroller);
    this.listen();
  }

  update(state: WaterfallState): void {
    const old = this.state;
    this.state = state;
    if (!old || old.dark !== state.dark) this.palette = readPalette();
    const sameRows =
      old?.trace === state.trace &&
      old.tree === state.tree &&
      old.treeVersion === state.treeVersion &&
      old.lit === state.lit &&
      old.critical === state.critical &&
      old.selected === state.selected;
    if (!sameRows) this.refill = true;
    if (this.height === 0) this.measure();
    else this.frame.request();
  }

  /** Scrolls so that the row shows, and moves the focus to it if the focus was in the waterfall or is wanted there. */
  reveal(row: number, focus: boolean): void {
    const index = this.state?.tree.indexOf(row) ?? -1;
    if (index < 0) return;
    const { scroller } = this.elements;
    scroller.scrollTop = scrollToRow(index, scroller.scrollTop, scroller.clientHeight, this.rowHeight());
    if (!focus) return;
    this.draw();
    this.pool.elementOf(row)?.focus({ preventScroll: true });
  }

  /** The first and the last row that show. */
  visibleRows(): readonly [number, number] {
    const { scroller } = this.elements;
    const visible = this.state?.tree.visible ?? new Int32Array(0);
    const first = Math.floor(scroller.scrollTop / this.rowHeight());
    const last = Math.min(visible.length - 1, Math.floor((scroller.scrollTop + scroller.clientHeight - 1) / this.rowHeight()));
    return [first, last];
  }

  destroy(): void {
    this.frame.cancel();
    this.observer.disconnect();
  }

  private narrow(): boolean {
    return this.width < NARROW_PX;
  }

  private rowHeight(): number {
    return this.narrow() ? NARROW_ROW_PX : ROW_PX;
  }

  /** Draws anew if the view has another size; the observer's first call comes after the first drawing and finds none. */
  private measure(): void {
    const { clientWidth, clientHeight } = this.elements.scroller;
    if (clientWidth === this.width && clientHeight === this.height) return;
    this.width = clientWidth;
    this.height = clientHeight;
    this.elements.grid.classList.toggle('narrow', this.narrow());
    this.refill = true;
    this.draw();
  }

  private timeLeft(): number {
    return this.narrow() ? 0 : (this.state?.nameWidth ?? 0);
  }

  private draw(): void {
    const { state, palette, elements } = this;
    if (!state || !palette || this.height === 0) return;
    const rowHeight = this.rowHeight();
    const left = this.timeLeft();
    const timeWidth = Math.max(40, this.width - left);
    const { visible } = state.tree;
    this.drawFrame(left, visible.length, rowHeight);
    const view = rowWindow(elements.scroller.scrollTop, this.height, rowHeight, visible.length);
    const rows = Array.from(visible.subarray(view.first, view.first + view.slots));
    const focused = this.pool.rowOf(document.activeElement);
    this.pool.show(view.first, rows, state, this.refill);
    this.refill = false;
    this.keepFocus(focused, rows);
    elements.rows.style.transform = `translateY(${-view.offset}px)`;
    const line = lineIn(state.range, timeWidth);
    const shown = (state.range.to - state.range.from) * (1 + line.room / line.width);
    const scale = axis(state.range.from, state.range.from + shown, Math.max(2, Math.floor(line.width / TICK_PX)));
    this.drawAxis(line, scale.ticks, scale.label);
    const surface = prepare(elements.canvas, timeWidth, this.height, palette.font);
    if (!surface) return;
    const scene = {
      trace: state.trace,
      hues: state.identities.map((identity) => identity.hue),
      range: state.range,
      ticks: scale.ticks,
      critical: state.critical,
      lit: state.lit,
      rowHeight,
      barTop: this.narrow() ? 26 : 7,
    };
    this.painter.paint(surface, scene, palette, rows, -view.offset);
  }

  /** What scrolling does not change is written only when it differs: each write costs a new layout. */
  private drawFrame(left: number, count: number, rowHeight: number): void {
    const frame = `${left} ${count} ${rowHeight}`;
    if (frame === this.drawnFrame) return;
    this.drawnFrame = frame;
    const { grid, space } = this.elements;
    grid.style.setProperty('--name-width', `${left}px`);
    grid.setAttribute('aria-rowcount', String(count + 1));
    space.style.height = `${count * rowHeight}px`;
  }

  /** The focus waits on the scroller while its row is out of view, and returns with it. */
  private keepFocus(focused: number, rows: readonly number[]): void {
    const { scroller } = this.elements;
    const { selected = -1 } = this.state ?? {};
    const inView = rows.includes(selected);
    if ((scroller.tabIndex < 0) !== inView) scroller.tabIndex = inView ? -1 : 0;
    if (focused >= 0 && !rows.includes(focused)) scroller.focus({ preventScroll: true });
    else if (document.activeElement === scroller && inView) this.pool.elementOf(selected)?.focus({ preventScroll: true });
    else if (focused >= 0 && focused !== selected && inView) this.pool.elementOf(selected)?.focus({ preventScroll: true });
  }

  private drawAxis({ range, width, room }: Line, ticks: readonly number[], label: (us: number) => string): void {
    const drawn = `${range.from} ${range.to} ${width} ${this.brush?.from} ${this.brush?.to}`;
    if (drawn === this.drawnAxis) return;
    this.drawnAxis = drawn;
    const place = (us: number): number => INSET_PX + ((us - range.from) / (range.to - range.from)) * width;
    while (this.tickElements.length < ticks.length) {
      const element = document.createElement('span');
      element.className = 'tick';
      this.elements.axis.append(element);
      this.tickElements.push(element);
    }
    this.tickElements.forEach((element, index) => {
      const tick = ticks[index];
      element.hidden = tick === undefined || place(tick) > width + room - 44;
      if (tick === undefined) return;
      element.textContent = label(tick);
      element.style.transform = `translateX(${place(tick) + 4}px)`;
    });
    const { brush } = this;
    this.brushElement.hidden = !brush;
    if (!brush) return;
    const [from, to] = [Math.min(brush.from, brush.to), Math.max(brush.from, brush.to)];
    this.brushElement.style.transform = `translateX(${from}px)`;
    this.brushElement.style.width = `${to - from}px`;
  }

  /** The instant under a place in the time line. */
  private instant(x: number): number {
    const range = this.state?.range ?? { from: 0, to: 1 };
    const { width } = lineIn(range, this.width - this.timeLeft());
    return range.from + ((x - INSET_PX) / width) * (range.to - range.from);
  }

  private listen(): void {
    const { scroller, axis: axisElement, rows } = this.elements;
    scroller.addEventListener('scroll', () => this.frame.request(), { passive: true });
    scroller.addEventListener('wheel', (event) => this.wheel(event), { passive: false });
    rows.addEventListener('click', (event) => {
      const row = this.pool.rowOf(event.target);
      if (row < 0) return;
      const onTwist = event.target instanceof Element && event.target.closest('.twist') !== null;
      if (onTwist && this.state?.tree.hasChildren(row)) this.events.toggle(row);
      else this.events.select(row);
    });
    rows.addEventListener('dblclick', (event) => {
      const row = this.pool.rowOf(event.target);
      if (row >= 0 && event.target instanceof Element && event.target.closest('.time')) this.events.zoomTo(row);
    });
    dragOn(axisElement, {
      start: (x) => {
        this.brush = { from: x, to: x };
        return true;
      },
      move: (x) => {
        if (this.brush) this.brush.to = x;
        this.frame.request();
      },
      end: (x) => {
        const { brush, state } = this;
        this.brush = undefined;
        this.frame.request();
        if (!brush || !state || Math.abs(x - brush.from) < 4) return;
        const [from, to] = [this.instant(Math.min(brush.from, x)), this.instant(Math.max(brush.from, x))];
        this.events.range(clampRange({ from, to }, state.trace.duration));
      },
      cancel: () => {
        this.brush = undefined;
        this.frame.request();
      },
    });
  }

  private wheel(event: WheelEvent): void {
    const { state } = this;
    if (!state) return;
    const { duration } = state.trace;
    if (event.ctrlKey) {
      const x = event.clientX - this.elements.scroller.getBoundingClientRect().left - this.timeLeft();
      if (x < 0) return;
      event.preventDefault();
      this.events.range(zoomRange(state.range, 1.0015 ** event.deltaY, this.instant(x), duration));
      return;
    }
    const sideways = event.shiftKey && event.deltaX === 0 ? event.deltaY : event.deltaX;
    if (Math.abs(sideways) > Math.abs(event.shiftKey ? 0 : event.deltaY)) {
      event.preventDefault();
      this.events.range(panRange(state.range, sideways / Math.max(1, this.width), duration));
    }
  }
}

/** The time that the rows between two places among the visible ones cover. */
export function extentOf(trace: Trace, tree: Tree, first: number, last: number): Range {
  let from = Number.POSITIVE_INFINITY;
  let to = 0;
  for (let index = first; index <= last; index += 1) {
    const row = at(tree.visible, index);
    from = Math.min(from, at(trace.start, row));
    to = Math.max(to, at(trace.start, row) + at(trace.length, row));
  }
  return clampRange({ from, to: Math.max(to, from + 1) }, trace.duration);
}
