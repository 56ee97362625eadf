import { globSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { containerBytes } from '../../src/account/budget.ts';
import { kinds } from '../../src/account/kinds.ts';
import { memoryDocument } from '../../src/account/memory-document.ts';
import { limits } from '../../src/limits/limits.ts';

const root = new URL('../../', import.meta.url);
const read = (path: string): string => readFileSync(new URL(path, root), 'utf8');
const mib = 1_048_576;

test('docs/memory.md has other limits than the account (npm run generate writes it)', () => {
  expect(read('docs/memory.md')).toBe(memoryDocument());
});

test('the container of deploy/compose.yaml is smaller than the process may become, or much larger', () => {
  const { services } = parse(read('deploy/compose.yaml'), { merge: true }) as {
    readonly services: Record<string, { readonly mem_limit?: string; readonly environment: Record<string, string> }>;
  };
  for (const broker of [services['broker']!, services['standby']!]) {
    const heapBytes = Number(broker.environment['HEAP_MIB']) * mib;
    expect(broker.mem_limit).toBe(`${containerBytes(heapBytes, limits) / mib}m`);
  }
});

test('a kind has a limit, and nothing in the sources counts against it', () => {
  const sources = globSync('src/**/*.ts', { cwd: root.pathname })
    .filter((path) => !path.startsWith('src/account/'))
    .map(read)
    .join('\n');
  const isCounted = (name: string): boolean =>
    new RegExp(`\\.kind\\('${name}'\\)|new CacheRoom\\(.*'${name}'`).test(sources);
  expect(Object.keys(kinds).filter((name) => !isCounted(name))).toEqual([]);
});
