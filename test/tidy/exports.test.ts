import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { declarationsIn, programOf, type Declarations } from './exports.ts';

const root = new URL('../..', import.meta.url).pathname;

/** Exports that no file of src imports, and why they are exported. */
const exported = new Set<string>([
  // The hash of keys is documented with test vectors, so that clients can compute partitions.
  'log/partitioner.ts: murmurHash3',
  // The times of docs/configuration.md and of the SPEC, which tests compare with what happens.
  'ownership/lease.ts: leaseMs',
  'ownership/lease.ts: renewMs',
  'ownership/lease.ts: pollMs',
  'ownership/lease.ts: confirmMs',
  'ownership/lease.ts: relockMs',
  // Types of what src passes on without naming them.
  'server/stop-signals.ts: StopSignal',
  'server/stop-signals.ts: StopWish',
  'coordinator/assignors/pluggable.ts: PluggableInput',
  'coordinator/assignors/pluggable.ts: PluggableSlot',
  'coordinator/group.ts: GroupOptions',
  'consumption/partitioned/cursor.ts: Moving',
  'rpc/validation/validation.ts: Validate',
  'rpc/servers.ts: RpcOptions',
  'wire/encode-committed-offsets.ts: CommittedOffset',
  'wire/scan-commit-offsets.ts: ScannedCommits',
  'storage/groups/groups.ts: GroupStorageDeps',
  'embedded/embedded.ts: EmbeddedPostgres',
]);
/** Tables that statements name in their text. Their schema is compared with the migrations. */
const schema = /^storage\/schema\/(group|log)-schema\.ts: /;
/** Methods that no file of src calls, and why they are there. */
const called = new Set<string>([
  // `pg` calls them.
  'storage/pg/driver.ts: DriverClient.getStartupConf',
  'storage/pg/one-round-trip.ts: ImplicitTransaction.submit',
  'storage/pg/one-round-trip.ts: ImplicitTransaction.handleDataRow',
  'storage/pg/one-round-trip.ts: ImplicitTransaction.handleCommandComplete',
  'storage/pg/one-round-trip.ts: ImplicitTransaction.handleError',
  'storage/pg/one-round-trip.ts: ImplicitTransaction.handleReadyForQuery',
]);

let declared: Declarations;

beforeAll(() => {
  declared = declarationsIn(programOf(root), `${root}src`);
}, 120_000);

/** What no file of src uses. */
const unused = (declarations: readonly { readonly name: string; readonly users: ReadonlySet<string> }[]): string[] =>
  declarations.filter(({ users }) => users.size === 0).map(({ name }) => name);

test('no export of src is there for tests only, because nobody sees that it is dead', () => {
  expect(declared.exports.length).toBeGreaterThan(500);
  expect(unused(declared.exports).filter((name) => !exported.has(name) && !schema.test(name))).toEqual([]);
});

test('no method of src is there for tests only', () => {
  expect(declared.methods.length).toBeGreaterThan(300);
  expect(unused(declared.methods).filter((name) => !called.has(name))).toEqual([]);
});

test('no exception stands for something that is gone or in use, or it would excuse what comes later', () => {
  const found = new Set([...unused(declared.exports), ...unused(declared.methods)]);
  expect([...exported, ...called].filter((name) => !found.has(name))).toEqual([]);
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
