import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, onTestFinished, test } from 'vitest';
import type { Assignment, Assignor, AssignorInput } from '../../src/coordinator/assignors/assignor.ts';
import { plugged } from '../../src/coordinator/assignors/pluggable.ts';
import { loadAssignorModules } from '../../src/server/assignor-modules.ts';
import { inputs, isComplete, owners, sizes } from '../coordinator/assignors/cases.ts';
import { property } from '../coordinator/property.ts';
import { codeBlocks } from '../support/markdown.ts';

const [module] = await loadAssignorModules(['examples/assignors/zone-aware.mjs']);
const zoneAware: Assignor = plugged(module!, (topicId) => `topic-${topicId}`);

/** Members by client id, all of one topic with so many partitions. */
function group(clientIds: readonly string[], partitions: number, previous: readonly number[] = []): AssignorInput {
  return {
    members: clientIds.map((clientId, joinSeq) => {
      return { memberId: `${clientId}-${joinSeq}`, clientId, host: '127.0.0.1', topicIds: [1], joinSeq };
    }),
    topics: [{ topicId: 1, partitions }],
    previous: new Map([[1, Int32Array.from(previous)]]),
  };
}

const held = (assignment: Assignment): number[] => owners(assignment)[0]!;

test('zones get equal shares, whatever the number of their members', () => {
  const given = group(['a.1', 'b.1', 'b.2', 'b.3'], 12);
  expect(sizes(given, zoneAware(given))).toEqual([6, 2, 2, 2]);
});

test('when a member leaves, the other zones keep what they have, and its own zone gets the rest', () => {
  const before = held(zoneAware(group(['a.1', 'b.1', 'a.2', 'b.2'], 10)));
  const left = before.map((holder) => (holder === 3 ? -1 : holder));
  const after = held(zoneAware(group(['a.1', 'b.1', 'a.2'], 10, left)));
  expect(after).toEqual(before.map((holder) => (holder === 3 ? 1 : holder)));
});

test('when the last member of a zone leaves, what was its is shared by the others, who keep theirs', () => {
  const before = held(zoneAware(group(['a.1', 'b.1', 'c.1'], 9)));
  const left = before.map((holder) => (holder === 2 ? -1 : holder));
  const given = group(['a.1', 'b.1'], 9, left);
  const assignment = zoneAware(given);
  expect(sizes(given, assignment).sort()).toEqual([4, 5]);
  expect(held(assignment).filter((holder, partition) => holder === before[partition]).length).toBe(6);
});

test('it gives each partition to one of its readers, and a second look changes nothing', () => {
  const zones = fc.array(fc.constantFrom('a', 'b', 'c'), { minLength: 7, maxLength: 7 });
  fc.assert(
    fc.property(inputs({ members: 7, topics: 3, partitions: 40 }, false), zones, (any, zone) => {
      const members = any.members.map((member, index) => ({ ...member, clientId: `${zone[index]}.${index}` }));
      const given = { ...any, members };
      const assignment = zoneAware(given);
      expect(isComplete(given, assignment)).toBe(true);
      expect(owners(zoneAware({ ...given, previous: assignment }))).toEqual(owners(assignment));
    }),
    property(200),
  );
});

test('the assignor of docs/assignors.md is one', async () => {
  const document = readFileSync(new URL('../../docs/assignors.md', import.meta.url), 'utf8');
  const [block] = codeBlocks(document).filter(({ language }) => language === 'js');
  const directory = mkdtempSync(join(tmpdir(), 'millrace-assignors-'));
  onTestFinished(() => {
    rmSync(directory, { recursive: true });
  });
  writeFileSync(join(directory, 'shown.mjs'), block!.text);
  const [shown] = await loadAssignorModules([join(directory, 'shown.mjs')]);
  const given = group(['eldest', 'younger'], 3, [1, 1, 1]);
  expect(held(plugged(shown!, () => 'orders')(given))).toEqual([0, 0, 0]);
});
