/** Times and durations as people read them. Everything in is microseconds. */

export type Zone = 'local' | 'utc';

const NARROW = '\u202f';

/** Three significant digits, without trailing zeros after the point: `41.3`, `312`, `1.2`. */
export function significant(value: number): string {
  const digits = value >= 100 ? 0 : value >= 10 ? 1 : 2;
  const text = value.toFixed(digits);
  return digits === 0 ? text : text.replace(/\.?0+$/, '');
}

/** `850 µs`, `41.3 ms`, `1.24 s`, `3 min 20 s`, `2 h 5 min`. */
export function formatDuration(us: number): string {
  if (!Number.isFinite(us)) return '–';
  if (us < 0) return `−${formatDuration(-us)}`;
  if (us < 999.5) return `${significant(us)} µs`;
  if (us < 999_500) return `${significant(us / 1e3)} ms`;
  if (us < 119.95e6) return `${significant(us / 1e6)} s`;
  const seconds = Math.round(us / 1e6);
  const [big, small, names] =
    seconds < 7200
      ? [Math.floor(seconds / 60), seconds % 60, ['min', 's']]
      : [Math.floor(seconds / 3600), Math.floor((seconds % 3600) / 60), ['h', 'min']];
  return small === 0 ? `${big} ${names[0]}` : `${big} ${names[0]} ${small} ${names[1]}`;
}

/** The same, in words for a screen reader. */
export function spokenDuration(us: number): string {
  return formatDuration(us)
    .replace(' µs', ' microseconds')
    .replace(' ms', ' milliseconds')
    .replace(/ s$/, ' seconds')
    .replace(' min', ' minutes')
    .replace(' h', ' hours');
}

interface Parts {
  year: number;
  month: number;
  day: number;
  hour: number;
  minute: number;
  second: number;
  milli: number;
}

function parts(us: number, zone: Zone): Parts {
  const date = new Date(Math.floor(us / 1000));
  return zone === 'utc'
    ? {
        year: date.getUTCFullYear(),
        month: date.getUTCMonth() + 1,
        day: date.getUTCDate(),
        hour: date.getUTCHours(),
        minute: date.getUTCMinutes(),
        second: date.getUTCSeconds(),
        milli: date.getUTCMilliseconds(),
      }
    : {
        year: date.getFullYear(),
        month: date.getMonth() + 1,
        day: date.getDate(),
        hour: date.getHours(),
        minute: date.getMinutes(),
        second: date.getSeconds(),
        milli: date.getMilliseconds(),
      };
}

const two = (n: number): string => String(n).padStart(2, '0');

/** `14:03:21.884`. */
export function formatClock(us: number, zone: Zone): string {
  const p = parts(us, zone);
  return `${two(p.hour)}:${two(p.minute)}:${two(p.second)}.${String(p.milli).padStart(3, '0')}`;
}

/** `2026-08-01`. */
export function formatDay(us: number, zone: Zone): string {
  const p = parts(us, zone);
  return `${p.year}-${two(p.month)}-${two(p.day)}`;
}

/** The clock alone for today, the day in front of it otherwise. */
export function formatMoment(us: number, zone: Zone, nowUs: number): string {
  const day = formatDay(us, zone);
  const clock = formatClock(us, zone);
  return day === formatDay(nowUs, zone) ? clock : `${day} ${clock}`;
}

/** What `<input type=datetime-local>` holds, to the second. */
export function formatInput(us: number, zone: Zone): string {
  return `${formatDay(us, zone)}T${formatClock(us, zone).slice(0, 8)}`;
}

/** The reverse of {@link formatInput}; undefined when the text is no time. */
export function parseInput(text: string, zone: Zone): number | undefined {
  const ms = Date.parse(zone === 'utc' ? `${text}Z` : text);
  return Number.isNaN(ms) ? undefined : ms * 1000;
}

/** `UTC`, or the local offset such as `UTC+02:00`. */
export function zoneLabel(zone: Zone, atUs: number): string {
  if (zone === 'utc') return 'UTC';
  const minutes = -new Date(Math.floor(atUs / 1000)).getTimezoneOffset();
  if (minutes === 0) return 'UTC';
  const sign = minutes < 0 ? '−' : '+';
  const size = Math.abs(minutes);
  return `UTC${sign}${two(Math.floor(size / 60))}:${two(size % 60)}`;
}

/** `just now`, `12 s ago`, `3 min ago`, `2 h ago`, `5 d ago`. */
export function formatAgo(us: number, nowUs: number): string {
  const seconds = Math.round((nowUs - us) / 1e6);
  if (seconds < 2) return 'just now';
  if (seconds < 90) return `${seconds} s ago`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 129_600) return `${Math.round(seconds / 3600)} h ago`;
  return `${Math.round(seconds / 86_400)} d ago`;
}

/** `10 000`: thousands apart by a narrow no-break space. */
export function formatCount(n: number): string {
  return String(Math.round(n)).replace(/\B(?=(\d{3})+(?!\d))/g, NARROW);
}

/** `1 span`, `2 spans`. */
export function plural(n: number, noun: string): string {
  return `${formatCount(n)} ${noun}${n === 1 ? '' : 's'}`;
}

/** `61 kB`. */
export function formatBytes(bytes: number): string {
  if (bytes < 1000) return `${bytes} B`;
  if (bytes < 1e6) return `${significant(bytes / 1e3)} kB`;
  return `${significant(bytes / 1e6)} MB`;
}

const UNITS: Readonly<Record<string, number>> = {
  ns: 1e-3,
  us: 1,
  'µs': 1,
  ms: 1e3,
  s: 1e6,
  m: 60e6,
  h: 3600e6,
  d: 86_400e6,
  w: 604_800e6,
};

/** Go's duration syntax with days and weeks: `1.2s`, `100ms`, `1h30m`; undefined when it is none. */
export function parseDuration(text: string): number | undefined {
  const trimmed = text.trim();
  const pattern = /(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h|d|w)/gy;
  let total = 0;
  while (pattern.lastIndex < trimmed.length) {
    const match = pattern.exec(trimmed);
    if (!match) return undefined;
    total += Number(match[1]) * (UNITS[match[2] ?? ''] ?? Number.NaN);
  }
  return trimmed === '' || Number.isNaN(total) ? undefined : total;
}

const SECOND = 1e6;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const CLOCK_STEPS = [
  ...[1e3, 1e4, 1e5, SECOND].flatMap((unit) => [unit, 2 * unit, 5 * unit]),
  ...[10, 15, 30].map((seconds) => seconds * SECOND),
  ...[1, 2, 5, 10, 15, 30].map((minutes) => minutes * MINUTE),
  ...[1, 2, 3, 6, 12].map((hours) => hours * HOUR),
  ...[1, 2, 7, 30].map((days) => days * DAY),
];

/** Round times of day between two instants, at most `most` of them, no finer than they need to be told apart. */
export function clockAxis(from: number, to: number, most: number, zone: Zone): Axis {
  const step = CLOCK_STEPS.find((size) => (to - from) / size <= most) ?? 30 * DAY;
  const offset = zone === 'utc' ? 0 : -new Date(from / 1000).getTimezoneOffset() * MINUTE;
  const ticks: number[] = [];
  for (let local = Math.ceil((from + offset) / step) * step; local - offset <= to; local += step) ticks.push(local - offset);
  const label = (us: number): string => {
    if (step >= DAY) return formatDay(us, zone);
    const clock = formatClock(us, zone);
    return step >= MINUTE ? clock.slice(0, 5) : step >= SECOND ? clock.slice(0, 8) : clock;
  };
  return { ticks, label };
}

export interface Axis {
  /** Positions of the ticks. */
  ticks: number[];
  /** The text of a tick, in the unit that suits the step. */
  label: (us: number) => string;
}

/** Round positions between `from` and `to`, at most `most` of them, all labelled in one unit. */
export function axis(from: number, to: number, most: number): Axis {
  const span = Math.max(to - from, 1e-3);
  const rough = span / Math.max(most, 1);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5].find((m) => m * power >= rough) ?? 10);
  const ticks: number[] = [];
  for (let at = Math.ceil(from / step); at * step <= to; at += 1) ticks.push(at * step);
  const [unit, size] = to < 1e3 ? ['µs', 1] : to < 1e6 ? ['ms', 1e3] : ['s', 1e6];
  const digits = Math.max(0, Math.ceil(-Math.log10(step / size) - 1e-9));
  return { ticks, label: (us) => `${(us / size).toFixed(digits)} ${unit}` };
}
