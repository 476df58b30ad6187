import { describe, expect, test } from 'vitest';
import { barOf, clampRange, isWhole, labelPlace, panRange, rangeAround, rowWindow, scrollToRow, zoomRange } from '../../src/core/geometry.ts';

const line = { range: { from: 100, to: 200 }, width: 1000, room: 60 };

describe('bars', () => {
  test('lie in proportion', () => {
    expect(barOf(120, 30, line)).toEqual({ x: 200, width: 300, off: undefined });
  });
  test('are never too thin to see', () => {
    expect(barOf(120, 0, line).width).toBe(2);
  });
  test('are cut a little outside of the line', () => {
    expect(barOf(0, 1000, line)).toEqual({ x: -4, width: 1068, off: undefined });
  });
  test('tell on which side they are out of sight', () => {
    expect(barOf(0, 50, line).off).toBe('left');
    expect(barOf(300, 50, line).off).toBe('right');
    expect(barOf(203, 50, line).off).toBeUndefined();
  });
});

test.each([
  [{ x: 100, width: 50, off: undefined }, { x: 156, align: 'left' }],
  [{ x: 900, width: 90, off: undefined }, { x: 894, align: 'right' }],
  [{ x: 10, width: 985, off: undefined }, { x: 989, align: 'right' }],
] as const)('the label of %o', (bar, place) => {
  expect(labelPlace(bar, 60, 1000)).toEqual(place);
});

describe('the visible range', () => {
  test('stays inside the trace', () => {
    expect(clampRange({ from: -50, to: 50 }, 1000)).toEqual({ from: 0, to: 100 });
    expect(clampRange({ from: 950, to: 1050 }, 1000)).toEqual({ from: 900, to: 1000 });
    expect(clampRange({ from: -1, to: 5000 }, 1000)).toEqual({ from: 0, to: 1000 });
    expect(clampRange({ from: 5, to: 5 }, 1000)).toEqual({ from: 5, to: 6 });
  });
  test('zooms around an instant that does not move', () => {
    expect(zoomRange({ from: 0, to: 1000 }, 0.5, 250, 1000)).toEqual({ from: 125, to: 625 });
    expect(isWhole(zoomRange({ from: 125, to: 625 }, 4, 250, 1000), 1000)).toBe(true);
  });
  test('pans by a share of itself', () => {
    expect(panRange({ from: 100, to: 200 }, 0.25, 1000)).toEqual({ from: 125, to: 225 });
    expect(panRange({ from: 0, to: 100 }, -1, 1000)).toEqual({ from: 0, to: 100 });
  });
  test('around a span leaves room on both sides', () => {
    expect(rangeAround(500, 100, 1000)).toEqual({ from: 492, to: 608 });
  });
});

describe('rows', () => {
  test('a window of rows covers the view', () => {
    expect(rowWindow(0, 100, 26, 1000)).toEqual({ first: 0, offset: 0, slots: 6 });
    expect(rowWindow(60, 100, 26, 1000)).toEqual({ first: 2, offset: 8, slots: 6 });
    expect(rowWindow(0, 100, 26, 2)).toEqual({ first: 0, offset: 0, slots: 2 });
  });
  test('the last row ends at the bottom', () => {
    const { first, slots } = rowWindow(26 * 1000 - 100, 100, 26, 1000);
    expect(first + slots).toBe(1000);
  });
  test('scrolling moves as little as needed', () => {
    expect(scrollToRow(3, 0, 260, 26)).toBe(0);
    expect(scrollToRow(20, 0, 260, 26)).toBe(20 * 26 + 52 - 260);
    expect(scrollToRow(2, 260, 260, 26)).toBe(26);
  });
});
