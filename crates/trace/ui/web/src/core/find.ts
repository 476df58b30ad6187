/**
 * The find box of the trace page: words and `key:value`, `key=value`, `dur>50ms` terms, all of which must hold;
 * `-term` must not. Attributes are known only for the rows whose details were fetched.
 */

import { parseDuration } from './time.ts';
import { FLAG, hasFlag, KINDS, type Trace } from './skeleton.ts';
import { at } from './tree.ts';

/** Lower-case `key=value` texts of a row's attributes, resource, events and status. */
export type RowDetails = readonly string[];

export interface Found {
  rows: Int32Array;
  /** Whether attributes could change the result. */
  wantsDetails: boolean;
  /** What could not be understood, and what was expected; empty when all was. */
  problem: string;
}

type Test = (row: number) => boolean;

interface Term {
  negated: boolean;
  key: string;
  operator: string;
  value: string;
}

const TERM = /(-?)(?:([^\s:=<>"]+)(>=|<=|[:=<>]))?(?:"([^"]*)"|(\S+))/g;

export function parseTerms(text: string): Term[] {
  return [...text.matchAll(TERM)].map(([, minus, key, operator, quoted, bare]) => ({
    negated: minus === '-',
    key: key ?? '',
    operator: operator ?? '',
    value: quoted ?? bare ?? '',
  }));
}

class Problem extends Error {}

export function find(trace: Trace, text: string, details: ReadonlyMap<number, RowDetails>): Found {
  const terms = parseTerms(text);
  const tests: Test[] = [];
  let wantsDetails = false;
  try {
    for (const term of terms) {
      const [test, deep] = compile(trace, term, details);
      wantsDetails ||= deep;
      tests.push(term.negated ? (row) => !test(row) : test);
    }
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    return { rows: new Int32Array(0), wantsDetails: false, problem: error.message };
  }
  if (tests.length === 0) return { rows: new Int32Array(0), wantsDetails: false, problem: '' };
  const rows: number[] = [];
  for (let row = 0; row < trace.size; row += 1) if (tests.every((test) => test(row))) rows.push(row);
  return { rows: Int32Array.from(rows), wantsDetails, problem: '' };
}

/** The test, and whether it looks at attributes. */
function compile(trace: Trace, term: Term, details: ReadonlyMap<number, RowDetails>): [Test, boolean] {
  const value = term.value.toLowerCase();
  switch (term.key.toLowerCase()) {
    case '':
      return [word(trace, value, details), true];
    case 'service':
    case 'svc':
      return [inList(trace.services, trace.service, value), false];
    case 'operation':
    case 'op':
    case 'name':
      return [inList(trace.operations, trace.operation, value), false];
    case 'kind':
      return [kind(trace, value), false];
    case 'status':
      return [status(trace, value), false];
    case 'is':
      return [state(trace, value), false];
    case 'id':
    case 'span': {
      const wanted = value.split(',').filter(Boolean);
      return [(row) => wanted.some((start) => (trace.ids[row] ?? '').startsWith(start)), false];
    }
    case 'dur':
    case 'duration':
      return [compare(trace.length, term), false];
    case 'self':
      return [compare(trace.self, term), false];
    default:
      if (/[<>]/.test(term.operator)) throw new Problem(`only dur and self can be compared, not ${term.key}`);
      return [attribute(`${term.key.toLowerCase()}=${value}`, details), true];
  }
}

function inList(names: readonly string[], column: Int32Array, value: string): Test {
  const matches = names.map((name) => name.toLowerCase().includes(value));
  return (row) => matches[at(column, row)] ?? false;
}

function word(trace: Trace, value: string, details: ReadonlyMap<number, RowDetails>): Test {
  const service = inList(trace.services, trace.service, value);
  const operation = inList(trace.operations, trace.operation, value);
  return (row) =>
    service(row) ||
    operation(row) ||
    trace.ids[row] === value ||
    (details.get(row)?.some((text) => text.includes(value)) ?? false);
}

function attribute(text: string, details: ReadonlyMap<number, RowDetails>): Test {
  return (row) => details.get(row)?.some((known) => known.startsWith(text)) ?? false;
}

function kind(trace: Trace, value: string): Test {
  const wanted = KINDS.findIndex((name) => name === value);
  if (wanted < 0) throw new Problem(`kind is one of ${KINDS.join(', ')}`);
  return (row) => at(trace.kind, row) === wanted;
}

function status(trace: Trace, value: string): Test {
  if (value !== 'error' && value !== 'ok') throw new Problem('status is error or ok');
  return (row) => hasFlag(trace, row, FLAG.error) === (value === 'error');
}

function state(trace: Trace, value: string): Test {
  switch (value) {
    case 'critical':
      return (row) => trace.critical.ofRow.has(row);
    case 'missing':
      return (row) => hasFlag(trace, row, FLAG.orphan);
    case 'skewed':
      return (row) => hasFlag(trace, row, FLAG.skewed);
    case 'root':
      return (row) => at(trace.parent, row) < 0;
    default:
      throw new Problem('is: knows critical, missing, skewed and root');
  }
}

function compare(column: Float64Array, term: Term): Test {
  const limit = parseDuration(term.value);
  if (limit === undefined) throw new Problem(`${term.key} wants a duration such as 50ms, not ${term.value}`);
  switch (term.operator) {
    case '>':
      return (row) => at(column, row) > limit;
    case '<':
      return (row) => at(column, row) < limit;
    case '<=':
      return (row) => at(column, row) <= limit;
    default:
      return (row) => at(column, row) >= limit;
  }
}

/** The match that follows `row` (or precedes it), around the end if need be; undefined when there is none. */
export function nextMatch(rows: ArrayLike<number>, row: number, step: 1 | -1): number | undefined {
  if (rows.length === 0) return undefined;
  if (step === 1) {
    for (let i = 0; i < rows.length; i += 1) if (at(rows, i) > row) return rows[i];
    return rows[0];
  }
  for (let i = rows.length - 1; i >= 0; i -= 1) if (at(rows, i) < row) return rows[i];
  return rows[rows.length - 1];
}
