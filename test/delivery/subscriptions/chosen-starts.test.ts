import { beforeEach, expect, test } from 'vitest';
import { ChosenStarts } from '../../../src/delivery/subscriptions/chosen-starts.ts';
import { Fault } from '../../../src/errors/fault.ts';
import { smallAccount } from '../../account/accounts.ts';
import { Scene } from '../scene.ts';

let scene: Scene;
beforeEach(async () => {
  scene = await Scene.open();
  scene.addTopic('orders', 4);
});

const counted = (): number => scene.account.kind('starts').bytes;
const create = (): Promise<unknown> =>
  scene.wait(scene.delivery.subscriptions.create({ group: 'billing', topic: 'orders', start: { type: 'earliest' } }));

/** The answers of the database to a creation fail. */
function failing(kind: 'DATABASE_UNAVAILABLE' | 'OUTCOME_UNKNOWN'): void {
  scene.store.after = (write) => {
    if (write === 'createSubscriptions') throw new Fault(kind, 'gone');
  };
}

test('the start of a subscription stays in memory for good after it was created, or was not', async () => {
  failing('DATABASE_UNAVAILABLE');
  await expect(create()).rejects.toMatchObject({ kind: 'DATABASE_UNAVAILABLE' });
  expect(counted()).toBe(0);
  scene.store.after = () => undefined;
  await create();
  expect(counted()).toBe(0);
});

test('the start of a subscription that may be stored is not counted, or outlives its group', async () => {
  failing('OUTCOME_UNKNOWN');
  await expect(create()).rejects.toMatchObject({ kind: 'OUTCOME_UNKNOWN' });
  expect(counted()).toBe(4 * 8);
  await scene.wait(scene.delivery.deleteGroup('billing'));
  expect(counted()).toBe(0);
});

test('the start of a subscription that may be stored outlives its topic', async () => {
  failing('OUTCOME_UNKNOWN');
  await expect(create()).rejects.toMatchObject({ kind: 'OUTCOME_UNKNOWN' });
  await scene.wait(scene.delivery.deleteTopic(1, async () => undefined));
  expect(counted()).toBe(0);
});

test('subscriptions that are being created hold more starts than the limit', async () => {
  const account = smallAccount({ starts: 100 }).kind('starts');
  const starts = new ChosenStarts(account);
  const gate = Promise.withResolvers<void>();
  const one = starts.create(
    { groupId: 1, topicId: 1, logs: 12 },
    async () => [0],
    () => gate.promise,
  );
  const another = (): Promise<void> =>
    starts.create(
      { groupId: 2, topicId: 1, logs: 1 },
      async () => [0],
      async () => undefined,
    );
  await expect(another()).rejects.toMatchObject({ reason: 'BROKER_BUSY', fields: { kind: 'starts', bytesMax: 100 } });
  gate.resolve();
  await one;
  await another();
  const failed = new Error('no log');
  await expect(
    starts.create(
      { groupId: 3, topicId: 1, logs: 1 },
      () => Promise.reject(failed),
      async () => undefined,
    ),
  ).rejects.toBe(failed);
  expect(account.bytes).toBe(0);
});
