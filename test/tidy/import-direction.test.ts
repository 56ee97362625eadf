import { readdirSync, readFileSync } from 'node:fs';
import { relative } from 'node:path';
import { Linter } from 'eslint';
import { expect, test } from 'vitest';
import { importDirection, mayImport, roomsOf } from './import-direction.ts';

const root = new URL('../../', import.meta.url).pathname;
const linter = new Linter({ cwd: root });

/** What the rule says about one import in one file. */
function verdict(file: string, statement: string): string[] {
  const config = {
    plugins: { millrace: { rules: { direction: importDirection } } },
    rules: { 'millrace/direction': 2 },
  };
  return linter
    .verify(statement, [{ files: ['**/*.ts'], ...config } as Linter.Config], `${root}${file}`)
    .map(({ message }) => message);
}

test.each([
  ['src/coordinator/group.ts', "import '../delivery/store.ts'", 'src/coordinator may not import delivery'],
  ['src/coordinator/assignors/sticky.ts', "export * from '../../log/batch.ts'", 'src/coordinator may not import log'],
  ['src/delivery/ports/store.ts', "import('../../rpc/edge/errors.ts')", 'src/delivery may not import rpc'],
  ['src/broker/topics.ts', "import '../../gen/millrace/v1/broker_pb.js'", 'src/broker may not import gen'],
  ['src/log/batch.ts', "import '../../test/support/database.ts'", 'src may not import ../../test'],
  ['src/broker/topics.ts', "import 'pg'", 'pg has no place in src/broker'],
  ['src/delivery/ports/store.ts', "import 'drizzle-orm/pg-core'", 'drizzle-orm/pg-core has no place in src/delivery'],
  ['src/broker/topics.ts', "import '@grpc/grpc-js'", '@grpc/grpc-js has no place in src/broker'],
  ['src/consumption/partitioned/cursor.ts', "import 'node:fs'", 'node:fs has no place in src/consumption'],
  [
    'src/delivery/dispatch/member.ts',
    "import '../groups/groups.ts'",
    'src/delivery/dispatch may not import src/delivery/groups',
  ],
  ['src/rpc/edge/call.ts', "import '../servers.ts'", 'src/rpc/edge may not import src/rpc'],
])('%s may not say %s', (file, statement, message) => {
  expect(verdict(file, statement)).toEqual([expect.stringContaining(message)]);
});

test.each([
  ['src/rpc/handlers/publish.ts', "import '../validation/rule.ts'; import '../../../gen/millrace/v1/broker_pb.js'"],
  [
    'src/storage/log/topics.ts',
    "import 'pg'; import '../../log/store.ts'; import '../pg/faults.ts'; import '../../delivery/ports/store.ts'",
  ],
  ['src/main.ts', "import '@grpc/grpc-js'; import './storage/open.ts'; import './config/settings.ts'"],
  [
    'src/consumption/partitioned/cursor.ts',
    "import 'node:assert/strict'; import '../../limits/limits.ts'; import '../offsets/runs.ts'",
  ],
])('%s may say %s', (file, statement) => {
  expect(verdict(file, statement)).toEqual([]);
});

test('no two folders of src may import each other, not even through others', () => {
  const reach = (folder: string, path: readonly string[]): void => {
    expect(path, 'a circle of imports').not.toContain(folder);
    for (const next of mayImport[folder] ?? []) reach(next, [...path, folder]);
  };
  for (const folder of Object.keys(mayImport)) reach(folder, []);
});

test.each(Object.entries(roomsOf))(
  'no two rooms of src/%s may import each other, not even through others',
  (_, rooms) => {
    const reach = (room: string, path: readonly string[]): void => {
      expect(path, 'a circle of imports').not.toContain(room);
      for (const next of rooms[room] ?? []) reach(next, [...path, room]);
    };
    for (const room of Object.keys(rooms)) reach(room, []);
  },
);

test('every folder inside a folder of src is a room with its directions', () => {
  const found = readdirSync(`${root}src`, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => relative(`${root}src`, entry.parentPath))
    .filter((folder) => folder.includes('/'));
  const named = Object.entries(roomsOf).flatMap(([folder, rooms]) =>
    Object.keys(rooms).map((room) => `${folder}/${room}`),
  );
  expect([...new Set(found)].sort()).toEqual(named.sort());
});

test('every folder of src has its directions, and its row in docs/architecture.md', () => {
  const folders = readdirSync(`${root}src`, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => entry.name)
    .sort();
  expect(Object.keys(mayImport).sort()).toEqual(folders);
  const architecture = readFileSync(`${root}docs/architecture.md`, 'utf8');
  const rows = architecture.split('\n').filter((line) => line.startsWith('| `src/'));
  const documented = rows
    .flatMap((row) => [...(row.split('|')[1] ?? '').matchAll(/`src\/([a-z]+)`/g)])
    .map((found) => found[1]);
  expect(documented.sort()).toEqual(folders);
});
