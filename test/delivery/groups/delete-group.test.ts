import { beforeEach, describe, expect, test } from 'vitest';
import { Fault } from '../../../src/errors/fault.ts';
import { MemoryGroupStore } from '../../support/memory-group-store.ts';
import { Scene } from '../scene.ts';

const hourMs = 3_600_000;
const earliest = { type: 'earliest' } as const;

let scene: Scene;

beforeEach(async () => {
  scene = await Scene.open();
  scene.addTopic('orders', 2)[0]!.append(3);
  scene.attendance.start();
});

async function successor(before: Scene): Promise<Scene> {
  before.store.shared.epoch++;
  const store = new MemoryGroupStore(before.store.shared);
  const next = await Scene.open({ store, clock: before.clock, topics: before.topics, seed: 'next' });
  next.attendance.start();
  return next;
}

const subscription = (group = 'billing', at = scene) =>
  at.wait(at.delivery.subscriptions.create({ group, topic: 'orders', start: earliest }));
/** A group that has had a member. */
const attended = async (group = 'billing', at = scene): Promise<void> => {
  const stream = await at.subscribe(group);
  stream.stream!.closed('CANCELLED');
};
const remove = (group = 'billing') => scene.wait(scene.delivery.deleteGroup(group));
const groups = (at = scene) => at.delivery.views.names({ states: [], topic: null });

describe('a group that is deleted', () => {
  test('a deleted group is gone with its offsets, here and at the next owner, and a group of the same name starts fresh', async () => {
    const stream = await scene.subscribe('billing');
    await scene.ack('billing', stream, { upToOffset: 2 });
    await expect(remove()).rejects.toMatchObject({ reason: 'GROUP_NOT_EMPTY' });
    await scene.wait(scene.delivery.membership.leave('billing', stream.memberId));
    await remove();
    expect(() => scene.describe('billing')).toThrow(/no group "billing"/);
    await expect(remove()).rejects.toMatchObject({ reason: 'GROUP_NOT_FOUND' });
    expect(groups(await successor(scene))).toEqual([]);
  });

  test('a deleted group leaves no listener of its logs behind', async () => {
    await subscription();
    const log = scene.topics.get('orders')![0]!;
    expect(log.listeners).toBe(1);
    await remove();
    expect(log.listeners).toBe(0);
    const again = await scene.subscribe('billing');
    expect(again.offsets).toEqual([0, 1, 2]);
  });

  test('a deletion that comes after a join has begun is rejected', async () => {
    await subscription();
    const gate = Promise.withResolvers<void>();
    scene.store.before = (write) => (write === 'saveGroups' ? gate.promise : undefined);
    const joining = scene.subscribe('billing');
    await scene.clock.settle();
    await expect(remove()).rejects.toMatchObject({ reason: 'GROUP_NOT_EMPTY' });
    gate.resolve();
    expect((await joining).assigned).toEqual([0, 1]);
  });

  test('a deletion is rejected while a call creates the group or its subscription', async () => {
    const gate = Promise.withResolvers<void>();
    scene.store.before = (write) => (write === 'createSubscriptions' ? gate.promise : undefined);
    const making = subscription();
    await scene.clock.settle();
    await expect(remove()).rejects.toMatchObject({ reason: 'GROUP_NOT_EMPTY' });
    gate.resolve();
    await making;
    await remove();
  });

  test('a subscription that is cancelled beside a deletion of its group hears of no other owner', async () => {
    await subscription();
    const gate = Promise.withResolvers<void>();
    scene.store.before = (write) => (write === 'endGroup' ? gate.promise : undefined);
    const removing = remove();
    const cancelling = scene.delivery.subscriptions.cancel('billing', 'orders');
    const refused = expect(scene.wait(cancelling)).rejects.toMatchObject({ reason: 'GROUP_NOT_FOUND' });
    await scene.clock.settle();
    gate.resolve();
    await removing;
    await refused;
  });

  test('a deletion is rejected while a subscription of the group is cancelled', async () => {
    await subscription();
    const gate = Promise.withResolvers<void>();
    scene.store.before = (write) => (write === 'cancelSubscription' ? gate.promise : undefined);
    const cancelling = scene.delivery.subscriptions.cancel('billing', 'orders');
    await scene.clock.settle();
    await expect(remove()).rejects.toMatchObject({ reason: 'GROUP_NOT_EMPTY' });
    gate.resolve();
    await scene.wait(cancelling);
    await remove();
  });

  test('a member that joins after a deletion joins a new group', async () => {
    await subscription();
    await scene.wait(
      scene.delivery.offsets.commit({
        group: 'billing',
        member: null,
        offsets: [{ topic: 'orders', partition: 0, lane: 0, offset: 3, metadata: '' }],
      }),
    );
    const gate = Promise.withResolvers<void>();
    scene.store.before = (write) => (write === 'endGroup' ? gate.promise : undefined);
    const removing = remove();
    const twice = expect(remove()).rejects.toMatchObject({ reason: 'GROUP_NOT_FOUND' });
    await scene.clock.settle();
    const joining = scene.subscribe('billing');
    await scene.clock.advance(100);
    gate.resolve();
    await removing;
    const stream = await joining;
    await twice;
    expect(stream.offsets).toEqual([0, 1, 2]);
    expect(scene.store.shared.groups.map(({ id, name }) => [id, name])).toEqual([[2, 'billing']]);
  });

  test('a group stays if the database rejects its deletion, and is gone if only the answer was lost', async () => {
    await subscription();
    scene.store.before = (write) => {
      if (write === 'endGroup') throw new Fault('DATABASE_UNAVAILABLE', 'not now');
    };
    await expect(remove()).rejects.toMatchObject({ kind: 'DATABASE_UNAVAILABLE' });
    expect(groups()).toEqual(['billing']);
    scene.store.before = () => undefined;
    let lost = 1;
    scene.store.after = (write) => {
      if (write === 'endGroup' && lost-- > 0) throw new Fault('OUTCOME_UNKNOWN', 'the answer is lost');
    };
    await remove();
    expect(groups()).toEqual([]);
  });
});

describe('a group without members', () => {
  test('a group without members is deleted when its retention is over, with one line in the log, and not before', async () => {
    const stream = await scene.subscribe('billing');
    await scene.clock.advance(2 * hourMs);
    expect(groups()).toEqual(['billing']);
    stream.stream!.closed('CONNECTION_LOST');
    await scene.clock.advance(hourMs - 1);
    expect(groups()).toEqual(['billing']);
    await scene.clock.advance(120_000);
    expect(groups()).toEqual([]);
    expect(scene.store.shared.groups).toEqual([]);
    const lines = scene.logged.filter((line) => !line.startsWith('rebalanced'));
    expect(lines).toEqual([
      expect.stringContaining('"state":"DEAD"'),
      expect.stringContaining('a group was deleted with its offsets'),
    ]);
  });

  test('the retention of a group starts again after each member, however short its stay', async () => {
    await subscription();
    await scene.clock.advance(hourMs - 90_000);
    const stream = await scene.subscribe('billing');
    stream.stream!.closed('CONNECTION_LOST');
    await scene.clock.advance(hourMs - 1);
    expect(groups()).toEqual(['billing']);
    await scene.clock.advance(120_000);
    expect(groups()).toEqual([]);
  });

  test('the retention of a group starts again after a commit and a reset', async () => {
    await attended();
    const offsets = [{ topic: 'orders', partition: 0, lane: 0, offset: 1, metadata: '' }];
    const selection = { topics: [], partitions: [], to: earliest, dryRun: false, force: false };
    for (const use of [
      () => scene.delivery.offsets.commit({ group: 'billing', member: null, offsets }),
      () => scene.delivery.offsets.reset({ group: 'billing', ...selection }),
    ]) {
      await scene.clock.advance(hourMs - 120_000);
      await scene.wait<unknown>(use());
    }
    await scene.clock.advance(hourMs - 120_000);
    expect(groups()).toEqual(['billing']);
    // The next owner counts from the same time.
    const next = await successor(scene);
    await next.clock.advance(60_000);
    expect(groups(next)).toEqual(['billing']);
    await next.clock.advance(180_000);
    expect(groups(next)).toEqual([]);
  });

  test('the retention of a group goes on at the next owner, and starts there if the members died with the old owner', async () => {
    await attended('early');
    await scene.clock.advance(hourMs - 120_000);
    await scene.subscribe('late');
    const next = await successor(scene);
    await next.clock.advance(180_000);
    expect(groups(next)).toEqual(['late']);
    await next.clock.advance(hourMs);
    expect(groups(next)).toEqual([]);
  });

  test('a group with a subscription that is owed something is kept, however long it is empty', async () => {
    await attended();
    await subscription('never');
    await scene.wait(scene.delivery.subscriptions.update('billing', 'orders', null));
    await scene.clock.advance(10 * hourMs);
    expect(groups()).toEqual(['billing', 'never']);
    expect(await scene.wait(scene.store.endGroup(1, 'OFFSET_RETENTION', []))).toBe(false);
  });

  test('a group that waits for the end of its retention costs no write', async () => {
    await attended();
    await scene.clock.advance(360_000);
    const { writes } = scene.store;
    await scene.clock.advance(hourMs / 2);
    expect(scene.store.writes).toBe(writes);
  });

  test('a group stays for ever if the retention is 0', async () => {
    scene = await Scene.open({ offsetRetentionMs: 0 });
    scene.addTopic('orders', 1);
    scene.attendance.start();
    await attended();
    await scene.clock.advance(10 * hourMs);
    expect(groups()).toEqual(['billing']);
  });
});
