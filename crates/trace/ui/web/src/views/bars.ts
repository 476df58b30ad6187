/** Paints the time line of the rows that show: grid, bars, critical path, marks and labels. */

import { barOf, labelPlace, type Bar, type Line, type Range } from '../core/geometry.ts';
import { gapsOf } from '../core/gaps.ts';
import { FLAG, hasFlag, type Trace } from '../core/skeleton.ts';
import { formatDuration } from '../core/time.ts';
import { at } from '../core/tree.ts';
import type { Surface } from './canvas.ts';
import type { Palette } from './palette.ts';

export interface Scene {
  trace: Trace;
  hues: readonly number[];
  range: Range;
  ticks: readonly number[];
  /** Draw the critical path. */
  critical: boolean;
  /** Rows to show at full strength; undefined for all. */
  lit: ReadonlySet<number> | undefined;
  rowHeight: number;
  /** From the top of the row to the top of its bar. */
  barTop: number;
}

/** The clear space before the time line. */
export const INSET_PX = 8;
/** Behind it: a duration fits, so that the longest bars have their label, too. */
export const ROOM_PX = 66;

/** Where the range lies in a time line of this many pixels. */
export function lineIn(range: Range, pixels: number): Line {
  return { range, width: Math.max(1, pixels - INSET_PX - ROOM_PX), room: ROOM_PX };
}

const CLIENT = 3;
const PRODUCER = 4;
const BAR_HEIGHT = 12;
/** Half the diamond of an event. */
const EVENT_PX = 4;

export class BarPainter {
  private readonly widths = new Map<string, number>();
  private hatch: CanvasPattern | null = null;
  private hatchOf = '';

  /** `rows[i]` stands at `top + i × rowHeight`. */
  paint(surface: Surface, scene: Scene, palette: Palette, rows: readonly number[], top: number): void {
    const { context, height } = surface;
    const line = lineIn(scene.range, surface.width);
    context.save();
    context.translate(INSET_PX, 0);
    paintGrid(context, scene, palette, line, height);
    context.textBaseline = 'middle';
    rows.forEach((row, index) => {
      context.globalAlpha = scene.lit && !scene.lit.has(row) ? 0.3 : 1;
      this.paintRow(context, scene, palette, row, top + index * scene.rowHeight + scene.barTop, line);
    });
    context.restore();
  }

  private paintRow(context: CanvasRenderingContext2D, scene: Scene, palette: Palette, row: number, y: number, line: Line): void {
    const { trace } = scene;
    const bar = barOf(at(trace.start, row), at(trace.length, row), line);
    if (bar.off) {
      paintCaret(context, palette, bar.off, y, line.width + line.room);
      return;
    }
    paintBar(context, palette.hues[scene.hues[at(trace.service, row)] ?? 0] ?? palette.text, bar, y, isWaiting(trace, row));
    this.paintGaps(context, scene, palette, row, y, line);
    if (scene.critical) paintCritical(context, scene, palette, row, y, line);
    paintEvents(context, scene, palette, row, y, line);
    if (hasFlag(trace, row, FLAG.error)) {
      context.fillStyle = palette.error;
      context.fillRect(bar.x + bar.width - 1, y - 2, 2, BAR_HEIGHT + 4);
    }
    this.paintLabel(context, scene, palette, row, bar, y, line);
  }

  private paintGaps(context: CanvasRenderingContext2D, scene: Scene, palette: Palette, row: number, y: number, line: Line): void {
    for (const [start, length] of gapsOf(scene.trace, row)) {
      const gap = barOf(start, length, line);
      if (gap.off || gap.width < 6) continue;
      context.fillStyle = palette.background;
      context.fillRect(gap.x, y + 1, gap.width, BAR_HEIGHT - 2);
      context.fillStyle = this.hatching(context, palette) ?? palette.line;
      context.fillRect(gap.x, y + 1, gap.width, BAR_HEIGHT - 2);
    }
  }

  private hatching(context: CanvasRenderingContext2D, palette: Palette): CanvasPattern | null {
    if (this.hatchOf !== palette.lineStrong) {
      this.hatchOf = palette.lineStrong;
      const tile = document.createElement('canvas');
      tile.width = tile.height = 6;
      const ink = tile.getContext('2d');
      if (ink) {
        ink.strokeStyle = palette.lineStrong;
        ink.lineWidth = 1;
        for (const shift of [-6, 0, 6]) {
          ink.moveTo(shift, 6);
          ink.lineTo(shift + 6, 0);
        }
        ink.stroke();
      }
      this.hatch = context.createPattern(tile, 'repeat');
    }
    return this.hatch;
  }

  private paintLabel(context: CanvasRenderingContext2D, scene: Scene, palette: Palette, row: number, bar: Bar, y: number, line: Line): void {
    const { trace } = scene;
    const duration = formatDuration(at(trace.length, row)) + (hasFlag(trace, row, FLAG.links) ? ' ↗' : '');
    const [words, colour] = markOf(trace, row, palette);
    const durationWidth = this.measure(context, duration);
    const edge = line.width + line.room - 4;
    const [mark, markWidth, place] = [words, words.slice(0, 1)]
      .map((text) => {
        const size = text ? this.measure(context, text) + 5 : 0;
        return [text, size, labelPlace(bar, durationWidth + size, edge)] as const;
      })
      .find((option, index) => index === 1 || option[2].align === 'left') ?? ['', 0, labelPlace(bar, durationWidth, edge)];
    const middle = y + BAR_HEIGHT / 2 + 0.5;
    const inside = place.align === 'right' && place.x > bar.x;
    const x = place.align === 'left' ? place.x : place.x - durationWidth - markWidth;
    if (inside) {
      context.fillStyle = palette.background;
      context.beginPath();
      context.roundRect(x - 4, y - 1, durationWidth + markWidth + 8, BAR_HEIGHT + 2, 3);
      context.fill();
    }
    context.globalAlpha = 1;
    context.textAlign = 'left';
    context.fillStyle = palette.muted;
    context.fillText(duration, x, middle);
    if (mark) {
      context.fillStyle = colour;
      context.fillText(mark, x + durationWidth + 5, middle);
    }
  }

  private measure(context: CanvasRenderingContext2D, text: string): number {
    const known = this.widths.get(text);
    if (known !== undefined) return known;
    if (this.widths.size > 5000) this.widths.clear();
    const { width } = context.measureText(text);
    this.widths.set(text, width);
    return width;
  }
}

function paintGrid(context: CanvasRenderingContext2D, scene: Scene, palette: Palette, line: Line, height: number): void {
  const scale = line.width / (scene.range.to - scene.range.from);
  context.fillStyle = palette.line;
  context.globalAlpha = 0.6;
  for (const tick of scene.ticks) context.fillRect(Math.round((tick - scene.range.from) * scale), 0, 1, height);
  context.globalAlpha = 1;
}

/** Whether the span is the caller's view of work that another span does. */
function isWaiting(trace: Trace, row: number): boolean {
  const kind = at(trace.kind, row);
  return kind === CLIENT || kind === PRODUCER;
}

/** Full where work is done, pale where it is waited for. */
function paintBar(context: CanvasRenderingContext2D, colour: string, bar: Bar, y: number, waiting: boolean): void {
  const radius = Math.min(3, bar.width / 2);
  context.fillStyle = colour;
  context.beginPath();
  if (!waiting || bar.width < 5) {
    context.roundRect(bar.x, y, bar.width, BAR_HEIGHT, radius);
    context.fill();
    return;
  }
  const alpha = context.globalAlpha;
  context.roundRect(bar.x + 0.5, y + 0.5, bar.width - 1, BAR_HEIGHT - 1, radius);
  context.globalAlpha = alpha * 0.4;
  context.fill();
  context.globalAlpha = alpha;
  context.strokeStyle = colour;
  context.lineWidth = 1;
  context.stroke();
}

function paintCaret(context: CanvasRenderingContext2D, palette: Palette, side: 'left' | 'right', y: number, width: number): void {
  const [tip, base] = side === 'left' ? [0, 6] : [width, width - 6];
  context.fillStyle = palette.lineStrong;
  context.beginPath();
  context.moveTo(tip, y + BAR_HEIGHT / 2);
  context.lineTo(base, y + 2);
  context.lineTo(base, y + BAR_HEIGHT - 2);
  context.fill();
}

function paintCritical(context: CanvasRenderingContext2D, scene: Scene, palette: Palette, row: number, y: number, line: Line): void {
  const { critical } = scene.trace;
  for (const index of critical.ofRow.get(row) ?? []) {
    const start = at(critical.start, index);
    const segment = barOf(start, at(critical.end, index) - start, line);
    if (segment.off) continue;
    context.fillStyle = palette.halo;
    context.fillRect(segment.x - 1, y + BAR_HEIGHT - 4, segment.width + 2, 5);
    context.fillStyle = palette.critical;
    context.fillRect(segment.x, y + BAR_HEIGHT - 3, segment.width, 3);
  }
}

/** A diamond for each event; those that would cover each other are one. */
function paintEvents(context: CanvasRenderingContext2D, scene: Scene, palette: Palette, row: number, y: number, line: Line): void {
  let last = Number.NEGATIVE_INFINITY;
  for (const time of scene.trace.events.get(row) ?? []) {
    const { x, off } = barOf(time, 0, line);
    if (off || Math.abs(x - last) < EVENT_PX) continue;
    last = x;
    const middle = y + BAR_HEIGHT / 2;
    context.beginPath();
    context.moveTo(x, middle - EVENT_PX);
    context.lineTo(x + EVENT_PX, middle);
    context.lineTo(x, middle + EVENT_PX);
    context.lineTo(x - EVENT_PX, middle);
    context.closePath();
    context.fillStyle = palette.text;
    context.fill();
    context.strokeStyle = palette.background;
    context.lineWidth = 1;
    context.stroke();
  }
}

/** What stands behind the duration, and its colour. */
function markOf(trace: Trace, row: number, palette: Palette): readonly [string, string] {
  if (hasFlag(trace, row, FLAG.error)) return ['✕ error', palette.error];
  if (hasFlag(trace, row, FLAG.orphan)) return ['◌ parent missing', palette.warning];
  if (hasFlag(trace, row, FLAG.skewed)) return ['◐ clock moved', palette.warning];
  if (hasFlag(trace, row, FLAG.duplicate)) return ['⚠ duplicate', palette.warning];
  if (hasFlag(trace, row, FLAG.warning)) return ['⚠', palette.warning];
  return ['', ''];
}
