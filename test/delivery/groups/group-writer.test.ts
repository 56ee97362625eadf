import { expect, test } from 'vitest';
import { GroupWriter } from '../../../src/delivery/groups/group-writer.ts';
import type { GroupStore } from '../../../src/delivery/ports/store.ts';
import { Fault } from '../../../src/errors/fault.ts';
import { systemRandom } from '../../../src/time/system.ts';
import { FakeClock } from '../../support/fake-clock.ts';

test('a stop ends the retries of writes at once, and leaves no timer', async () => {
  const clock = new FakeClock();
  const fault = new Fault('OUTCOME_UNKNOWN', 'the database is away');
  const store = { saveGroups: () => Promise.reject(fault) } as unknown as GroupStore;
  const writer = new GroupWriter({
    store,
    clock,
    random: systemRandom,
    onFenced: () => undefined,
    onSubscriptions: () => undefined,
  });
  const writes = [
    writer.save(1, {} as Parameters<GroupWriter['save']>[1], () => null),
    writer.settle(() => Promise.reject(fault)),
  ].map((write) => expect(write).rejects.toMatchObject({ kind: 'FENCED' }));
  await clock.settle();
  expect(clock.pending).toBe(2);
  writer.stop();
  await Promise.all(writes);
  await clock.settle();
  expect(clock.pending).toBe(0);
});
