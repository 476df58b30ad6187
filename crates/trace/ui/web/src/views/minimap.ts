/** The whole trace in 46 pixels: how many spans run at once, by service; dragging chooses the part that the waterfall shows. */

import type { Density } from '../core/density.ts';
import { density } from '../core/density.ts';
import { clampRange, isWhole, type Range } from '../core/geometry.ts';
import { HUES, type Identity } from '../core/colours.ts';
import type { Trace } from '../core/skeleton.ts';
import { at } from '../core/tree.ts';
import { dragOn, onceAFrame, prepare, type Surface } from './canvas.ts';
import { readPalette, type Palette } from './palette.ts';

export interface MinimapState {
  trace: Trace;
  identities: readonly Identity[];
  range: Range;
  dark: boolean;
}

const COLUMN_PX = 3;
/** From here on the marks of errors are short, or they would hide what they mark. */
const MANY_ERRORS = 12;

export class Minimap {
  private readonly host: HTMLElement;
  private readonly canvas: HTMLCanvasElement;
  private readonly onRange: (range: Range) => void;
  private readonly frame = onceAFrame(() => this.draw());
  private readonly observer: ResizeObserver;
  private state: MinimapState | undefined;
  private palette: Palette | undefined;
  private known: Density | undefined;
  private brush: { from: number; to: number } | undefined;
  /** The size that was drawn last. */
  private width = 0;
  private height = 0;

  constructor(host: HTMLElement, canvas: HTMLCanvasElement, onRange: (range: Range) => void) {
    this.host = host;
    this.canvas = canvas;
    this.onRange = onRange;
    this.observer = new ResizeObserver(() => {
      if (host.clientWidth !== this.width || host.clientHeight !== this.height) this.frame.request();
    });
    this.observer.observe(host);
    dragOn(host, {
      start: (x) => {
        this.brush = { from: x, to: x };
        return true;
      },
      move: (x) => {
        if (this.brush) this.brush.to = x;
        this.frame.request();
      },
      end: (x) => this.release(x),
      cancel: () => {
        this.brush = undefined;
        this.frame.request();
      },
    });
    host.addEventListener('dblclick', () => {
      if (this.state) this.onRange({ from: 0, to: this.state.trace.duration });
    });
  }

  update(state: MinimapState): void {
    if (!this.state || this.state.dark !== state.dark) this.palette = readPalette();
    if (this.state?.trace !== state.trace) this.known = undefined;
    this.state = state;
    this.frame.request();
  }

  destroy(): void {
    this.frame.cancel();
    this.observer.disconnect();
  }

  private release(x: number): void {
    const { brush, state } = this;
    this.brush = undefined;
    this.frame.request();
    if (!brush || !state || Math.abs(x - brush.from) < 4) return;
    const scale = state.trace.duration / this.host.clientWidth;
    const [from, to] = [Math.min(brush.from, x) * scale, Math.max(brush.from, x) * scale];
    this.onRange(clampRange({ from, to }, state.trace.duration));
  }

  private draw(): void {
    const { state, palette } = this;
    const [width, height] = [this.host.clientWidth, this.host.clientHeight];
    if (!state || !palette || width === 0) return;
    [this.width, this.height] = [width, height];
    const surface = prepare(this.canvas, width, height, palette.font);
    if (!surface) return;
    const columns = Math.max(1, Math.floor(width / COLUMN_PX));
    if (this.known?.columns !== columns) {
      const hues = state.identities.map((identity) => identity.hue);
      this.known = density(state.trace, hues, columns);
    }
    paintDensity(surface, this.known, palette);
    paintRange(surface, this.shown(state, width), state.trace.duration, palette);
  }

  private shown(state: MinimapState, width: number): Range {
    const { brush } = this;
    if (!brush || Math.abs(brush.from - brush.to) < 4) return state.range;
    const scale = state.trace.duration / width;
    return { from: Math.min(brush.from, brush.to) * scale, to: Math.max(brush.from, brush.to) * scale };
  }
}

function paintDensity(surface: Surface, known: Density, palette: Palette): void {
  const { context, width, height } = surface;
  const [step, room] = [width / known.columns, height - 6];
  const unit = Math.min(room / known.peak, 8);
  context.globalAlpha = 0.85;
  let bottoms = new Float64Array(known.columns).fill(height);
  for (let hue = 0; hue < HUES; hue += 1) {
    const tops = bottoms.map((bottom, column) => bottom - at(known.counts, hue * known.columns + column) * unit);
    context.fillStyle = palette.hues[hue] ?? palette.text;
    fillBetween(context, tops, bottoms, step);
    bottoms = tops;
  }
  context.globalAlpha = 1;
  context.fillStyle = palette.error;
  const tall = known.errors.length > MANY_ERRORS ? 8 : height;
  for (const column of known.errors) context.fillRect(column * step, 0, 2, tall);
}

/** One layer of the stack as one shape: columns drawn apart would show their seams. */
function fillBetween(context: CanvasRenderingContext2D, tops: Float64Array, bottoms: Float64Array, step: number): void {
  const last = tops.length - 1;
  context.beginPath();
  for (let column = 0; column <= last; column += 1) {
    context.lineTo(column * step, at(tops, column));
    context.lineTo((column + 1) * step, at(tops, column));
  }
  for (let column = last; column >= 0; column -= 1) {
    context.lineTo((column + 1) * step, at(bottoms, column));
    context.lineTo(column * step, at(bottoms, column));
  }
  context.fill();
}

function paintRange(surface: Surface, range: Range, duration: number, palette: Palette): void {
  const { context, width, height } = surface;
  if (isWhole(range, duration)) return;
  const [left, right] = [(range.from / duration) * width, (range.to / duration) * width];
  context.fillStyle = palette.surface;
  context.globalAlpha = 0.75;
  context.fillRect(0, 0, left, height);
  context.fillRect(right, 0, width - right, height);
  context.globalAlpha = 1;
  context.strokeStyle = palette.accent;
  context.lineWidth = 2;
  context.strokeRect(left + 1, 1, Math.max(2, right - left - 2), height - 2);
}
