/** The tree of spans, held as columns in depth-first order. */

/** For each row the row behind the last of its descendants, so that a collapsed subtree is skipped in one step. */
export function subtreeEnds(parent: Int32Array): Int32Array {
  const end = new Int32Array(parent.length);
  for (let row = parent.length - 1; row >= 0; row -= 1) {
    if (at(end, row) < row + 1) end[row] = row + 1;
    const above = at(parent, row);
    if (above >= 0 && at(end, above) < at(end, row)) end[above] = at(end, row);
  }
  return end;
}

/** The element, for an index that is known to be inside. */
export function at(array: ArrayLike<number>, index: number): number {
  return array[index] ?? 0;
}

export interface Siblings {
  /** How many siblings a row has, itself included. */
  size: Int32Array;
  /** Its place among them, from 1. */
  place: Int32Array;
}

/** For `aria-setsize` and `aria-posinset`. */
export function siblings(parent: Int32Array): Siblings {
  const n = parent.length;
  const count = new Int32Array(n + 1);
  const place = new Int32Array(n);
  for (let row = 0; row < n; row += 1) {
    const slot = at(parent, row) + 1;
    count[slot] = at(count, slot) + 1;
    place[row] = at(count, slot);
  }
  const size = new Int32Array(n);
  for (let row = 0; row < n; row += 1) size[row] = at(count, at(parent, row) + 1);
  return { size, place };
}

export class Tree {
  readonly parent: Int32Array;
  readonly end: Int32Array;
  private readonly collapsed: Uint8Array;
  private keep: Uint8Array | undefined;
  private left: Uint8Array | undefined;
  /** The rows that show, in order. */
  visible: Int32Array = new Int32Array(0);
  /** For each row its index in `visible`, or -1. */
  private place: Int32Array = new Int32Array(0);

  constructor(parent: Int32Array) {
    this.parent = parent;
    this.end = subtreeEnds(parent);
    this.collapsed = new Uint8Array(parent.length);
    this.rebuild();
  }

  hasChildren(row: number): boolean {
    return at(this.end, row) > row + 1;
  }

  isCollapsed(row: number): boolean {
    return at(this.collapsed, row) === 1;
  }

  /** The index of the row among the visible ones, or -1. */
  indexOf(row: number): number {
    return this.place[row] ?? -1;
  }

  setCollapsed(row: number, collapsed: boolean): void {
    if (!this.hasChildren(row) || this.isCollapsed(row) === collapsed) return;
    this.collapsed[row] = collapsed ? 1 : 0;
    this.rebuild();
  }

  /** Collapses everything below the roots' children, or expands everything. */
  setAll(collapsed: boolean): void {
    for (let row = 0; row < this.parent.length; row += 1) {
      this.collapsed[row] = collapsed && at(this.parent, row) >= 0 && this.hasChildren(row) ? 1 : 0;
    }
    this.rebuild();
  }

  /** Expands every ancestor, so that the row shows. */
  reveal(row: number): void {
    let changed = false;
    for (let above = at(this.parent, row); above >= 0; above = at(this.parent, above)) {
      if (this.isCollapsed(above)) {
        this.collapsed[above] = 0;
        changed = true;
      }
    }
    if (changed) this.rebuild();
  }

  /** Shows only these rows and their ancestors; undefined shows all. */
  restrict(rows: ArrayLike<number> | undefined): void {
    if (rows === undefined && this.keep === undefined) return;
    this.keep = rows === undefined ? undefined : this.withAncestors(rows);
    this.rebuild();
  }

  /** Leaves out the rows of which this holds, but not what is below them; undefined leaves out none. */
  leaveOut(holds: ((row: number) => boolean) | undefined): void {
    if (holds === undefined && this.left === undefined) return;
    this.left = holds === undefined ? undefined : Uint8Array.from(this.parent, (_, row) => (holds(row) ? 1 : 0));
    this.rebuild();
  }

  private withAncestors(rows: ArrayLike<number>): Uint8Array {
    const keep = new Uint8Array(this.parent.length);
    for (let i = 0; i < rows.length; i += 1) {
      for (let row = at(rows, i); row >= 0 && keep[row] === 0; row = at(this.parent, row)) keep[row] = 1;
    }
    return keep;
  }

  private rebuild(): void {
    const n = this.parent.length;
    const visible = new Int32Array(n);
    const place = new Int32Array(n).fill(-1);
    let count = 0;
    for (let row = 0; row < n; ) {
      if (this.keep && this.keep[row] === 0) {
        row = at(this.end, row);
        continue;
      }
      if (this.left && this.left[row] === 1) {
        row += 1;
        continue;
      }
      place[row] = count;
      visible[count] = row;
      count += 1;
      row = this.isCollapsed(row) ? at(this.end, row) : row + 1;
    }
    this.visible = visible.subarray(0, count);
    this.place = place;
  }
}
