import { describe, expect, test } from 'vitest';
import { axis, clockAxis, formatAgo, formatClock, formatCount, formatDuration, formatInput, formatMoment, parseDuration, parseInput, spokenDuration } from '../../src/core/time.ts';

test.each([
  [0, '0 µs'],
  [1, '1 µs'],
  [850, '850 µs'],
  [999, '999 µs'],
  [999.7, '1 ms'],
  [1200, '1.2 ms'],
  [41_300, '41.3 ms'],
  [312_000, '312 ms'],
  [300_000, '300 ms'],
  [999_600, '1 s'],
  [1_240_000, '1.24 s'],
  [100_000_000, '100 s'],
  [200_000_000, '3 min 20 s'],
  [7_500_000_000, '2 h 5 min'],
  [-5000, '−5 ms'],
])('%d µs reads %s', (us, text) => {
  expect(formatDuration(us)).toBe(text);
});

test('a screen reader hears units in words', () => {
  expect(spokenDuration(312_000)).toBe('312 milliseconds');
  expect(spokenDuration(200_000_000)).toBe('3 minutes 20 seconds');
});

test.each([
  ['100ms', 100_000],
  ['1.2s', 1_200_000],
  ['500us', 500],
  ['500µs', 500],
  ['1h30m', 5_400_000_000],
  ['2d', 172_800_000_000],
  ['', undefined],
  ['fast', undefined],
  ['10', undefined],
  ['10ms!', undefined],
  ['ms', undefined],
])('parses the duration %j', (text, us) => {
  expect(parseDuration(text)).toBe(us);
});

test('times have a zone and say the day when it is not today', () => {
  const at = Date.UTC(2026, 7, 1, 14, 3, 21, 884) * 1000;
  expect(formatClock(at, 'utc')).toBe('14:03:21.884');
  expect(formatMoment(at, 'utc', at + 60e6)).toBe('14:03:21.884');
  expect(formatMoment(at, 'utc', at + 86_400e6)).toBe('2026-08-01 14:03:21.884');
  expect(formatInput(at, 'utc')).toBe('2026-08-01T14:03:21');
  expect(parseInput('2026-08-01T14:03:21', 'utc')).toBe(at - 884_000);
  expect(parseInput('yesterday', 'utc')).toBeUndefined();
});

test.each([
  [0, 'just now'],
  [12e6, '12 s ago'],
  [180e6, '3 min ago'],
  [7200e6, '2 h ago'],
  [432_000e6, '5 d ago'],
])('%d µs before now is %s', (us, text) => {
  expect(formatAgo(1e15 - us, 1e15)).toBe(text);
});

test('thousands are set apart', () => {
  expect(formatCount(999)).toBe('999');
  expect(formatCount(1_234_567)).toBe('1\u202f234\u202f567');
});

test.each([
  [0, 10, ['11:00:00', '11:00:02', '11:00:04', '11:00:06', '11:00:08', '11:00:10']],
  [0.05, 0.35, ['11:00:00.100', '11:00:00.200', '11:00:00.300']],
  [30, 900, ['11:05', '11:10', '11:15']],
  [0, 7200, ['11:00', '11:30', '12:00', '12:30', '13:00']],
  [0, 3 * 86_400, ['2026-08-02', '2026-08-03', '2026-08-04']],
])('the clock from %d s to %d s', (from, to, labels) => {
  const zero = Date.UTC(2026, 7, 1, 11) * 1000;
  const { ticks, label } = clockAxis(zero + from * 1e6, zero + to * 1e6, 5, 'utc');
  expect(ticks.map(label)).toEqual(labels);
});

describe('the axis', () => {
  test.each([
    [0, 41_700, 5, ['0 ms', '10 ms', '20 ms', '30 ms', '40 ms']],
    [0, 3_000_000, 4, ['0 s', '1 s', '2 s', '3 s']],
    [100, 180, 5, ['100 µs', '120 µs', '140 µs', '160 µs', '180 µs']],
    [1_000_000, 1_002_000, 4, ['1.0000 s', '1.0005 s', '1.0010 s', '1.0015 s', '1.0020 s']],
  ])('from %d to %d', (from, to, most, labels) => {
    const { ticks, label } = axis(from, to, most);
    expect(ticks.map(label)).toEqual(labels);
  });

  test('never has more ticks than there is room for', () => {
    for (let to = 1; to < 1e9; to *= 3.7) expect(axis(to / 7, to, 6).ticks.length).toBeLessThanOrEqual(7);
  });
});
