/** Traces as points: when they began, how long they took, how many spans they have; those that failed are crosses. */

import { durationScale, timeScale, type Summary } from '../core/results.ts';
import { axis, clockAxis, formatDuration, type Zone } from '../core/time.ts';
import { onceAFrame, prepare, type Surface } from './canvas.ts';
import { readPalette, type Palette } from './palette.ts';

export interface ScatterState {
  traces: readonly Summary[];
  zone: Zone;
  dark: boolean;
  /** The trace that the list points at. */
  hovered: string;
}

export interface ScatterEvents {
  open(trace: Summary): void;
  /** With the place of the point, for the card beside it. */
  hover(trace: Summary | undefined, x: number, y: number): void;
}

const LEFT = 64;
const RIGHT = 12;
const TOP = 8;
const BOTTOM = 22;
const REACH_PX = 14;
const TICK_PX = 110;

interface Point {
  trace: Summary;
  x: number;
  y: number;
  radius: number;
}

export class Scatter {
  private readonly canvas: HTMLCanvasElement;
  private readonly host: HTMLElement;
  private readonly frame = onceAFrame(() => this.draw());
  private readonly observer: ResizeObserver;
  private state: ScatterState | undefined;
  private palette: Palette | undefined;
  private points: Point[] = [];

  constructor(host: HTMLElement, canvas: HTMLCanvasElement, events: ScatterEvents) {
    this.host = host;
    this.canvas = canvas;
    this.observer = new ResizeObserver(() => this.frame.request());
    this.observer.observe(host);
    host.addEventListener('pointermove', (event) => {
      const point = this.nearest(event);
      host.classList.toggle('over-point', point !== undefined);
      events.hover(point?.trace, point?.x ?? 0, point?.y ?? 0);
    });
    host.addEventListener('pointerleave', () => events.hover(undefined, 0, 0));
    host.addEventListener('click', (event) => {
      const point = this.nearest(event);
      if (point) events.open(point.trace);
    });
  }

  update(state: ScatterState): void {
    if (!this.state || this.state.dark !== state.dark) this.palette = readPalette();
    this.state = state;
    this.frame.request();
  }

  destroy(): void {
    this.frame.cancel();
    this.observer.disconnect();
  }

  private nearest(event: MouseEvent): Point | undefined {
    const box = this.host.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    let best: Point | undefined;
    let bestDistance = REACH_PX;
    for (const point of this.points) {
      const distance = Math.max(0, Math.hypot(point.x - x, point.y - y) - point.radius);
      if (distance < bestDistance) [best, bestDistance] = [point, distance];
    }
    return best;
  }

  private draw(): void {
    const { state, palette } = this;
    const [width, height] = [this.host.clientWidth, this.host.clientHeight];
    if (!state || !palette || width === 0 || state.traces.length === 0) return;
    const surface = prepare(this.canvas, width, height, palette.font);
    if (!surface) return;
    this.points = layout(state.traces, width, height);
    paintAxes(surface, state, palette);
    for (const point of this.points) paintPoint(surface.context, point, palette, point.trace.traceId === state.hovered);
  }
}

function layout(traces: readonly Summary[], width: number, height: number): Point[] {
  const time = timeScale(traces);
  const duration = durationScale(traces);
  const y = durationPlace(duration, height);
  return traces.map((trace) => ({
    trace,
    x: LEFT + ((trace.startUs - time.min) / (time.max - time.min)) * (width - LEFT - RIGHT),
    y: y(trace.durationUs),
    radius: 3 + 1.5 * Math.log10(Math.max(1, trace.spans)),
  }));
}

function durationPlace(scale: { min: number; max: number; log: boolean }, height: number): (us: number) => number {
  const room = height - TOP - BOTTOM;
  const share = scale.log
    ? (us: number): number => Math.log(us / scale.min) / Math.log(scale.max / scale.min)
    : (us: number): number => (us - scale.min) / (scale.max - scale.min);
  return (us) => TOP + room * (1 - Math.min(1, Math.max(0, share(us))));
}

/** Decades of a logarithmic scale, and their threefold when there is room between them. */
function durationTicks(scale: { min: number; max: number; log: boolean }): number[] {
  if (!scale.log) return axis(scale.min, scale.max, 4).ticks;
  const steps = scale.max / scale.min > 3000 ? [1] : [1, 3];
  const ticks: number[] = [];
  for (let decade = 10 ** Math.floor(Math.log10(scale.min)); decade <= scale.max; decade *= 10) {
    ticks.push(...steps.map((step) => decade * step).filter((tick) => tick >= scale.min && tick <= scale.max));
  }
  return ticks;
}

function paintAxes(surface: Surface, state: ScatterState, palette: Palette): void {
  const { context, width, height } = surface;
  const duration = durationScale(state.traces);
  const y = durationPlace(duration, height);
  context.textBaseline = 'middle';
  context.textAlign = 'right';
  for (const tick of durationTicks(duration)) {
    context.fillStyle = palette.line;
    context.fillRect(LEFT, Math.round(y(tick)), width - LEFT - RIGHT, 1);
    context.fillStyle = palette.muted;
    context.fillText(tick === 0 ? '0' : formatDuration(tick), LEFT - 8, y(tick));
  }
  const time = timeScale(state.traces);
  const room = width - LEFT - RIGHT;
  const { ticks, label } = clockAxis(time.min, time.max, Math.max(2, Math.floor(room / TICK_PX)), state.zone);
  context.textAlign = 'center';
  for (const tick of ticks) {
    const x = LEFT + ((tick - time.min) / (time.max - time.min)) * room;
    context.fillStyle = palette.lineStrong;
    context.fillRect(Math.round(x), height - BOTTOM, 1, 4);
    context.fillStyle = palette.muted;
    if (x > LEFT + 20 && x < width - 36) context.fillText(label(tick), x, height - 8);
  }
}

function paintPoint(context: CanvasRenderingContext2D, point: Point, palette: Palette, hovered: boolean): void {
  const { x, y, radius, trace } = point;
  if (hovered) {
    context.beginPath();
    context.arc(x, y, radius + 4, 0, 2 * Math.PI);
    context.strokeStyle = palette.text;
    context.lineWidth = 1.5;
    context.stroke();
  }
  if (trace.errors > 0) {
    const arm = Math.max(4, radius * 0.8);
    context.strokeStyle = palette.error;
    context.lineWidth = 2.25;
    context.beginPath();
    context.moveTo(x - arm, y - arm);
    context.lineTo(x + arm, y + arm);
    context.moveTo(x + arm, y - arm);
    context.lineTo(x - arm, y + arm);
    context.stroke();
    return;
  }
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.globalAlpha = 0.35;
  context.fillStyle = palette.accent;
  context.fill();
  context.globalAlpha = 1;
  context.strokeStyle = palette.accent;
  context.lineWidth = 1;
  context.stroke();
}
