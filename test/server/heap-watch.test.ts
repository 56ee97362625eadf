import { expect, test } from 'vitest';
import { HeapWatch } from '../../src/server/heap-watch.ts';

function watch() {
  const said: string[] = [];
  const heap = new HeapWatch({ warn: () => said.push('warn'), info: () => said.push('info') });
  return { heap, said, look: (keptBytes: number) => (heap.look({ keptBytes, maxBytes: 100 }), heap.mayGrow) };
}

test('a heap that fills up is noticed too late, or only by those who are refused', () => {
  const { look, said } = watch();
  expect([look(79), look(80), look(95)]).toEqual([true, false, false]);
  expect(said).toEqual(['warn']);
});

test('a heap at the edge has the log say so at each collection, and callers refused by turns', () => {
  const { look, said } = watch();
  expect([look(81), look(79), look(76), look(80)]).toEqual([false, false, false, false]);
  expect(said).toEqual(['warn']);
  expect([look(74), look(79), look(80)]).toEqual([true, true, false]);
  expect(said).toEqual(['warn', 'info', 'warn']);
});

test('before the first collection nothing is known, and nobody is refused', () => {
  expect(watch().heap.mayGrow).toBe(true);
});
