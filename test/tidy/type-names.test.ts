import { globSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';

const root = new URL('../../', import.meta.url).pathname;

/** Names that two machines share, each with its meanings. The list may shrink, not grow. */
const shared: Readonly<Record<string, string>> = {
  Member: 'a row at work in the coordinator, and what delivery holds for it',
  Partition: 'of a log, and of an assignment',
  Reader: 'of stored batches, and of the records of a member',
  Settings: 'of the broker, and of a session of the database',
  Topic: 'a log, and what the coordinator has to give out',
};

test('no two files of src export types of the same name, which a reader would confuse', () => {
  const places = new Map<string, string[]>();
  for (const path of globSync('src/**/*.ts', { cwd: root })) {
    const text = readFileSync(root + path, 'utf8');
    for (const [, name] of text.matchAll(/^export (?:abstract )?(?:type|interface|class) (\w+)/gm)) {
      places.set(name!, [...(places.get(name!) ?? []), path]);
    }
  }
  expect(places.size).toBeGreaterThan(200);
  const repeated = [...places].filter(([, paths]) => paths.length > 1).map(([name]) => name);
  expect(repeated.sort()).toEqual(Object.keys(shared).sort());
});
