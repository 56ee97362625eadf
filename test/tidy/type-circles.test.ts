import { globSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';

const root = new URL('../../', import.meta.url).pathname;

/** What a file imports or exports from other files, also by `import type`. */
function importsOf(path: string, text: string): string[] {
  const named = text.matchAll(/^(?:import|export)\b[^;]*?\bfrom '(\.[^']+)'/gm);
  return Array.from(named, ([, to]) => join(dirname(path), to!));
}

/** Files that reach each other, by Tarjan's algorithm: one list for each circle, in order. */
function circlesOf(imports: ReadonlyMap<string, readonly string[]>): string[][] {
  const entered = new Map<string, number>();
  const lowest = new Map<string, number>();
  const open: string[] = [];
  const circles: string[][] = [];
  const visit = (path: string): number => {
    const order = entered.size;
    entered.set(path, order);
    lowest.set(path, order);
    open.push(path);
    for (const to of imports.get(path) ?? []) {
      if (!entered.has(to)) lowest.set(path, Math.min(lowest.get(path)!, visit(to)));
      else if (open.includes(to)) lowest.set(path, Math.min(lowest.get(path)!, entered.get(to)!));
    }
    if (lowest.get(path) === order) {
      const circle = open.splice(open.indexOf(path));
      if (circle.length > 1 || imports.get(path)?.includes(path)) circles.push(circle.sort());
    }
    return lowest.get(path)!;
  };
  for (const path of imports.keys()) if (!entered.has(path)) visit(path);
  return circles.sort(([a], [b]) => (a! < b! ? -1 : 1));
}

test('no two files of src import each other, not even for types and not over others', () => {
  const paths = globSync('src/**/*.ts', { cwd: root });
  expect(paths.length).toBeGreaterThan(200);
  const imports = new Map(paths.map((path) => [path, importsOf(path, readFileSync(root + path, 'utf8'))]));
  expect(circlesOf(imports)).toEqual([]);
});

test('a circle over three files is found, and a chain is none', () => {
  const chain: [string, string[]][] = [
    ['a', ['b']],
    ['b', ['c']],
    ['c', []],
  ];
  expect(circlesOf(new Map(chain))).toEqual([]);
  expect(circlesOf(new Map([...chain, ['c', ['a']]]))).toEqual([['a', 'b', 'c']]);
});
