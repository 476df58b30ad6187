/** The rows of the waterfall that show: a handful of elements that are refilled as the view moves. */

import { splitNamespace, type Identity } from '../core/colours.ts';
import { FLAG, hasFlag, KINDS, operationOf, serviceOf, type Trace } from '../core/skeleton.ts';
import { formatDuration, spokenDuration } from '../core/time.ts';
import { at, type Tree } from '../core/tree.ts';

export interface RowState {
  trace: Trace;
  tree: Tree;
  identities: readonly Identity[];
  selected: number;
  /** Rows that match the find box; undefined without one. */
  lit: ReadonlySet<number> | undefined;
  critical: boolean;
}

/** Deeper levels are not indented further. */
const MOST_INDENTS = 16;
const INDENT_PX = 14;

interface Slot {
  element: HTMLElement;
  name: HTMLElement;
  twist: HTMLElement;
  chip: HTMLElement;
  chipText: Text;
  service: Text;
  namespace: Text;
  kind: HTMLElement;
  operation: HTMLElement;
  operationText: Text;
  badge: Text;
  time: HTMLElement;
  /** The row of the trace that it shows, or -1. */
  row: number;
  indent: number;
}

function child(parent: HTMLElement, className: string, tag = 'span'): HTMLElement {
  const element = document.createElement(tag);
  element.className = className;
  parent.append(element);
  return element;
}

function textIn(parent: HTMLElement): Text {
  const text = document.createTextNode('');
  parent.append(text);
  return text;
}

function makeSlot(): Slot {
  const element = document.createElement('div');
  element.className = 'row';
  element.setAttribute('role', 'row');
  element.tabIndex = -1;
  const name = child(element, 'name', 'div');
  name.setAttribute('role', 'gridcell');
  const twist = child(name, 'twist');
  const chip = child(name, 'chip-letters');
  twist.setAttribute('aria-hidden', 'true');
  chip.setAttribute('aria-hidden', 'true');
  const service = textIn(child(name, 'service'));
  const namespace = textIn(child(name, 'namespace'));
  const kind = child(name, 'kind');
  kind.setAttribute('aria-hidden', 'true');
  const operation = child(name, 'operation');
  const badge = textIn(child(name, 'badge'));
  const time = child(element, 'time', 'div');
  time.setAttribute('role', 'gridcell');
  return {
    element,
    name,
    twist,
    chip,
    chipText: textIn(chip),
    service,
    namespace,
    kind,
    operation,
    operationText: textIn(operation),
    badge,
    time,
    row: -1,
    indent: -1,
  };
}

export class RowPool {
  private readonly host: HTMLElement;
  /** In the order of the document, which is that of the view. */
  private slots: Slot[] = [];
  private first = 0;

  constructor(host: HTMLElement) {
    this.host = host;
  }

  /** The row that an element of the pool shows, or -1. */
  rowOf(element: EventTarget | null): number {
    const row = element instanceof Element ? element.closest('.row') : null;
    return this.slots.find((slot) => slot.element === row)?.row ?? -1;
  }

  elementOf(row: number): HTMLElement | undefined {
    return this.slots.find((slot) => slot.row === row)?.element;
  }

  /**
   * Shows these rows, the first of which is at `first` among the visible ones. As the view moves, elements keep their
   * row, and so the focus: those that leave at one end come back at the other.
   */
  show(first: number, rows: readonly number[], state: RowState, refill: boolean): void {
    this.resize(rows.length);
    this.rotate(first - this.first);
    this.first = first;
    rows.forEach((row, index) => {
      const slot = this.slots[index];
      if (slot && (refill || slot.row !== row)) fill(slot, row, state);
    });
  }

  private resize(count: number): void {
    while (this.slots.length > count) this.slots.pop()?.element.remove();
    while (this.slots.length < count) {
      const slot = makeSlot();
      this.slots.push(slot);
      this.host.append(slot.element);
    }
  }

  private rotate(by: number): void {
    if (by === 0 || Math.abs(by) >= this.slots.length) return;
    if (by > 0) {
      const gone = this.slots.splice(0, by);
      this.slots.push(...gone);
      this.host.append(...gone.map((slot) => slot.element));
    } else {
      const gone = this.slots.splice(this.slots.length + by);
      this.slots.unshift(...gone);
      this.host.prepend(...gone.map((slot) => slot.element));
    }
  }
}

/** A class that is written again is computed again. */
function setClass(element: HTMLElement, className: string): void {
  if (element.className !== className) element.className = className;
}

function fill(slot: Slot, row: number, state: RowState): void {
  const { trace, tree } = state;
  const { element } = slot;
  const depth = at(trace.depth, row);
  const identity = state.identities[at(trace.service, row)];
  const service = serviceOf(trace, row);
  const operation = operationOf(trace, row);
  const orphan = hasFlag(trace, row, FLAG.orphan);
  slot.row = row;
  const indent = Math.min(depth, MOST_INDENTS) * INDENT_PX;
  if (slot.indent !== indent) {
    slot.indent = indent;
    slot.name.style.setProperty('--indent', `${indent}px`);
  }
  setClass(slot.chip, `chip-letters hue-${identity?.hue ?? 0} lap-${identity?.lap ?? 0}`);
  slot.chipText.data = identity?.monogram ?? '';
  [slot.service.data, slot.namespace.data] = splitNamespace(service);
  const kind = KINDS[at(trace.kind, row)] ?? 'unspecified';
  setClass(slot.kind, `kind kind-${kind}`);
  slot.operationText.data = orphan ? `◌ ${operation}` : operation;
  slot.operation.title = `${service}\n${operation}`;
  const open = tree.hasChildren(row) ? !tree.isCollapsed(row) : undefined;
  setClass(slot.twist, open === undefined ? 'twist' : open ? 'twist open' : 'twist closed');
  slot.badge.data = open === false ? `+${at(tree.end, row) - row - 1}` : '';
  slot.time.ariaLabel = `${formatDuration(at(trace.length, row))} from +${formatDuration(at(trace.start, row))}`;
  const selected = state.selected === row;
  if ((element.tabIndex === 0) !== selected) element.tabIndex = selected ? 0 : -1;
  const found = state.lit === undefined ? '' : state.lit.has(row) ? ' lit' : ' dim';
  setClass(element, `row${selected ? ' selected' : ''}${found}`);
  const index = tree.indexOf(row);
  element.ariaLevel = String(depth + 1);
  element.ariaRowIndex = String(index + 2);
  element.ariaSetSize = String(at(trace.siblings.size, row));
  element.ariaPosInSet = String(at(trace.siblings.place, row));
  element.ariaExpanded = open === undefined ? null : String(open);
  element.ariaSelected = String(selected);
  element.ariaLabel = describe(state, row, service, operation, kind, index);
}

/** «payment, Charge, client, 312 milliseconds, error, on the critical path, level 4, row 9 of 48». */
function describe(state: RowState, row: number, service: string, operation: string, kind: string, index: number): string {
  const { trace } = state;
  return [
    service,
    operation,
    kind === 'unspecified' ? '' : kind,
    spokenDuration(at(trace.length, row)),
    hasFlag(trace, row, FLAG.error) ? 'error' : '',
    hasFlag(trace, row, FLAG.orphan) ? 'its parent is missing' : '',
    hasFlag(trace, row, FLAG.skewed) ? 'clock skew adjusted' : '',
    state.critical && trace.critical.ofRow.has(row) ? 'on the critical path' : '',
    `level ${at(trace.depth, row) + 1}`,
    `row ${index + 1} of ${state.tree.visible.length}`,
  ]
    .filter(Boolean)
    .join(', ');
}
