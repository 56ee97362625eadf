import { globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { declarationsIn, programOf, type Declarations } from './exports.ts';

const root = new URL('../..', import.meta.url).pathname;

/**
 * The tables of the database, whether a statement takes them from Drizzle or names them in its
 * text. test/storage/migrations/schema.test.ts holds them to the migrations, so they are complete.
 */
const schema = /^storage\/schema\/(group|log)-schema\.ts: /;
/** `pg` calls the methods of a client, and of a query, by the names that it gives them. */
const calledByPg = /^storage\/pg\/[\w-]+\.ts: \w+\.(\w+)$/;
const sourcesOfPg = globSync('node_modules/pg/lib/*.js', { cwd: root }).map((path) =>
  readFileSync(join(root, path), 'utf8'),
);

const isCalledByPg = (name: string): boolean => {
  const method = calledByPg.exec(name)?.[1];
  return method !== undefined && sourcesOfPg.some((source) => source.includes(`.${method}(`));
};

let declared: Declarations;

beforeAll(() => {
  declared = declarationsIn(programOf(root), `${root}src`);
}, 120_000);

/** What no file of src uses. */
const unused = (declarations: readonly { readonly name: string; readonly users: ReadonlySet<string> }[]): string[] =>
  declarations.filter(({ users }) => users.size === 0).map(({ name }) => name);

test('no export of src is there for tests only, because nobody sees that it is dead', () => {
  expect(declared.exports.length).toBeGreaterThan(500);
  expect(unused(declared.exports).filter((name) => !schema.test(name))).toEqual([]);
});

test('no method of src is there for tests only', () => {
  expect(declared.methods.length).toBeGreaterThan(300);
  expect(unused(declared.methods).filter((name) => !isCalledByPg(name))).toEqual([]);
});

test('no exception stands for nothing, or it would excuse what comes later', () => {
  expect(unused(declared.exports).some((name) => schema.test(name))).toBe(true);
  expect(unused(declared.methods).some(isCalledByPg)).toBe(true);
});

describe('sources with something that only a test would use', () => {
  let folder: string;

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'millrace-exports-'));
    mkdirSync(join(folder, 'src'));
    writeFileSync(join(folder, 'tsconfig.json'), '{ "compilerOptions": { "allowImportingTsExtensions": true } }');
    writeFileSync(
      join(folder, 'src/a.ts'),
      'export const used = 1; export const dead = 2; export class Machine { step() {} forTests() {} }',
    );
    writeFileSync(join(folder, 'src/b.ts'), "import { used, Machine } from './a.ts'; new Machine().step(); used;");
  });

  afterAll(() => {
    rmSync(folder, { recursive: true });
  });

  test('are found, or the two tests above could not fail', () => {
    const { exports, methods } = declarationsIn(programOf(folder), join(folder, 'src'));
    expect(unused(exports)).toEqual(['a.ts: dead']);
    expect(unused(methods)).toEqual(['a.ts: Machine.forTests']);
  });
});
