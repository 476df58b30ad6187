import { describe, expect, test } from 'vitest';
import { random } from '../../dev/fixtures.ts';
import { siblings, subtreeEnds, Tree } from '../../src/core/tree.ts';

//  0
//  ├ 1
//  │ ├ 2
//  │ └ 3
//  │   └ 4
//  └ 5
//  6
const PARENT = Int32Array.from([-1, 0, 1, 1, 3, 0, -1]);
const visible = (tree: Tree): number[] => [...tree.visible];

test('a subtree ends behind its last descendant', () => {
  expect([...subtreeEnds(PARENT)]).toEqual([6, 5, 3, 5, 5, 6, 7]);
});

test('siblings are counted per parent, roots among themselves', () => {
  const { size, place } = siblings(PARENT);
  expect([...size]).toEqual([2, 2, 2, 2, 1, 2, 2]);
  expect([...place]).toEqual([1, 1, 1, 2, 1, 2, 2]);
});

describe('collapsing', () => {
  test('hides descendants and keeps what is collapsed inside', () => {
    const tree = new Tree(PARENT);
    tree.setCollapsed(3, true);
    expect(visible(tree)).toEqual([0, 1, 2, 3, 5, 6]);
    tree.setCollapsed(1, true);
    expect(visible(tree)).toEqual([0, 1, 5, 6]);
    tree.setCollapsed(1, false);
    expect(visible(tree)).toEqual([0, 1, 2, 3, 5, 6]);
    expect(tree.indexOf(5)).toBe(4);
    expect(tree.indexOf(4)).toBe(-1);
  });

  test('a leaf does not collapse', () => {
    const tree = new Tree(PARENT);
    tree.setCollapsed(5, true);
    expect(tree.isCollapsed(5)).toBe(false);
  });

  test('all: the roots stay open', () => {
    const tree = new Tree(PARENT);
    tree.setAll(true);
    expect(visible(tree)).toEqual([0, 1, 5, 6]);
    tree.setAll(false);
    expect(visible(tree)).toHaveLength(7);
  });

  test('revealing a row opens its ancestors only', () => {
    const tree = new Tree(PARENT);
    tree.setAll(true);
    tree.reveal(4);
    expect(visible(tree)).toEqual([0, 1, 2, 3, 4, 5, 6]);
  });
});

test('restricted to matches, ancestors stay', () => {
  const tree = new Tree(PARENT);
  tree.restrict([4]);
  expect(visible(tree)).toEqual([0, 1, 3, 4]);
  tree.setCollapsed(1, true);
  expect(visible(tree)).toEqual([0, 1]);
  tree.restrict(undefined);
  expect(visible(tree)).toEqual([0, 1, 5, 6]);
});

test('what is left out leaves what is below it', () => {
  const tree = new Tree(PARENT);
  tree.leaveOut((row) => row === 1 || row === 4);
  expect(visible(tree)).toEqual([0, 2, 3, 5, 6]);
  expect(tree.indexOf(3)).toBe(2);
  tree.setCollapsed(1, true);
  expect(visible(tree)).toEqual([0, 2, 3, 5, 6]);
  tree.setCollapsed(0, true);
  expect(visible(tree)).toEqual([0, 6]);
  tree.leaveOut(undefined);
  tree.setCollapsed(0, false);
  expect(visible(tree)).toEqual([0, 1, 5, 6]);
});

test('any tree: what shows is exactly what has no collapsed ancestor', () => {
  const next = random(1);
  for (let round = 0; round < 50; round += 1) {
    const size = 1 + Math.floor(next() * 200);
    const parent = new Int32Array(size).fill(-1);
    const path: number[] = [];
    for (let row = 0; row < size; row += 1) {
      path.length = Math.floor(next() * (path.length + 1));
      parent[row] = path.at(-1) ?? -1;
      path.push(row);
    }
    const tree = new Tree(parent);
    for (let i = 0; i < size / 5; i += 1) tree.setCollapsed(Math.floor(next() * size), true);
    const expected: number[] = [];
    for (let row = 0; row < size; row += 1) {
      let hidden = false;
      for (let above = parent[row] ?? -1; above >= 0; above = parent[above] ?? -1) hidden ||= tree.isCollapsed(above);
      if (!hidden) expected.push(row);
    }
    expect(visible(tree)).toEqual(expected);
    expected.forEach((row, index) => expect(tree.indexOf(row)).toBe(index));
  }
});
