/** Where things are on the time line. */

/** The part of the trace that shows, in µs from its start. */
export interface Range {
  from: number;
  to: number;
}

/** No zoom shows less than this. */
const SHORTEST_US = 1;

/** Moves and shrinks the range so that it lies inside the trace. */
export function clampRange(range: Range, duration: number): Range {
  const span = Math.min(Math.max(range.to - range.from, Math.min(SHORTEST_US, duration)), duration);
  const from = Math.min(Math.max(range.from, 0), duration - span);
  return { from, to: from + span };
}

/** Zooms by `factor` (below 1: closer) and leaves the instant `around` where it is. */
export function zoomRange(range: Range, factor: number, around: number, duration: number): Range {
  const span = range.to - range.from;
  const grown = Math.min(Math.max(span * factor, Math.min(SHORTEST_US, duration)), duration);
  const share = span > 0 ? (around - range.from) / span : 0.5;
  const from = around - share * grown;
  return clampRange({ from, to: from + grown }, duration);
}

/** Moves by a share of what shows. */
export function panRange(range: Range, share: number, duration: number): Range {
  const by = (range.to - range.from) * share;
  return clampRange({ from: range.from + by, to: range.to + by }, duration);
}

/** A span with a little room on both sides. */
export function rangeAround(start: number, length: number, duration: number): Range {
  const room = Math.max(length * 0.08, SHORTEST_US);
  return clampRange({ from: start - room, to: start + length + room }, duration);
}

export function isWhole(range: Range, duration: number): boolean {
  return range.from <= 0 && range.to >= duration;
}

export interface Bar {
  x: number;
  width: number;
  /** Whether the span lies wholly before or behind what shows. */
  off: 'left' | 'right' | undefined;
}

const THINNEST_PX = 2;

/** A time line: the range takes `width` pixels, and `room` more behind it are for labels and for what follows. */
export interface Line {
  range: Range;
  width: number;
  room: number;
}

/** The bar of a span; cut off a little outside of the line. */
export function barOf(start: number, length: number, line: Line): Bar {
  const scale = line.width / (line.range.to - line.range.from);
  const edge = line.width + line.room;
  const left = (start - line.range.from) * scale;
  const right = left + length * scale;
  const off = right < 0 ? 'left' : left > edge ? 'right' : undefined;
  const x = Math.max(left, -4);
  return { x, width: Math.max(Math.min(right, edge + 4) - x, THINNEST_PX), off };
}

export interface LabelPlace {
  x: number;
  align: 'left' | 'right';
}

/** Behind the bar if there is room, else in front of it, else inside at its end. */
export function labelPlace(bar: Bar, labelWidth: number, width: number): LabelPlace {
  const gap = 6;
  const end = bar.x + bar.width;
  if (end + gap + labelWidth <= width) return { x: Math.max(end, 0) + gap, align: 'left' };
  if (bar.x - gap - labelWidth >= 0) return { x: bar.x - gap, align: 'right' };
  return { x: Math.min(end, width) - gap, align: 'right' };
}

/** The rows that a scroller of this height shows. */
export function rowWindow(
  scrollTop: number,
  height: number,
  rowHeight: number,
  count: number,
): { first: number; offset: number; slots: number } {
  const slots = Math.min(count, Math.ceil(height / rowHeight) + 2);
  const first = Math.max(0, Math.min(Math.floor(scrollTop / rowHeight), count - slots));
  return { first, offset: scrollTop - first * rowHeight, slots };
}

/** The scroll position that brings the row into view, moving as little as possible. */
export function scrollToRow(index: number, scrollTop: number, height: number, rowHeight: number): number {
  const top = index * rowHeight;
  if (top < scrollTop) return Math.max(0, top - rowHeight);
  if (top + rowHeight > scrollTop + height) return top + 2 * rowHeight - height;
  return scrollTop;
}
