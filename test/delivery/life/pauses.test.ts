import { beforeEach, describe, expect, test } from 'vitest';
import { MemoryGroupStore } from '../../support/memory-group-store.ts';
import { offsetsOf, Scene, type FakeLog } from '../scene.ts';

let scene: Scene;
let log: FakeLog;

beforeEach(async () => {
  scene = await Scene.open();
  [log] = scene.addTopic('orders', 2) as [FakeLog];
  log.append(3);
});

const pause = () => scene.wait(scene.delivery.subscriptions.pause('billing', 'orders'));
const resume = () => scene.wait(scene.delivery.subscriptions.resume('billing', 'orders'));

describe('a paused subscription', () => {
  test('nothing new goes out while it is paused, and everything when it is resumed', async () => {
    const stream = await scene.subscribe('billing');
    await pause();
    log.append(2);
    await scene.clock.advance(60_000);
    expect(stream.offsets).toEqual([0, 1, 2]);
    expect(stream.of('idle').at(-1)).toMatchObject({ blockedOn: 'PAUSED', lag: 5 });
    expect(scene.describe('billing').partitions[0]).toMatchObject({ blockedOn: 'PAUSED' });
    await resume();
    await scene.clock.settle();
    expect(stream.offsets).toEqual([0, 1, 2, 3, 4]);
  });

  test('a member that has read everything says that it is paused, and then that it has read everything', async () => {
    const stream = await scene.subscribe('billing');
    await scene.clock.advance(2_000);
    expect(stream.of('idle').at(-1)).toMatchObject({ blockedOn: 'CAUGHT_UP' });
    await pause();
    await scene.clock.advance(2_000);
    expect(stream.of('idle').at(-1)).toMatchObject({ blockedOn: 'PAUSED' });
    expect(scene.describe('billing').partitions.map(({ blockedOn }) => blockedOn)).toEqual(['PAUSED', 'PAUSED']);
    await resume();
    await scene.clock.advance(2_000);
    expect(stream.of('idle').at(-1)).toMatchObject({ blockedOn: 'CAUGHT_UP' });
  });

  test('members keep their partitions, and what they have in flight may be acked', async () => {
    const stream = await scene.subscribe('billing');
    const { generation } = scene.describe('billing');
    await pause();
    expect(stream.of('revoking')).toEqual([]);
    expect(scene.describe('billing')).toMatchObject({ generation });
    expect(await scene.ack('billing', stream, { upToOffset: 2 })).toMatchObject({ status: 'OK', committedOffset: 3 });
    expect(stream.ended).toBeNull();
  });

  test('a record that comes back waits for the end of the pause', async () => {
    const stream = await scene.subscribe('billing');
    await pause();
    await scene.ack('billing', stream, { action: 'NACK', runs: [0, 0] });
    await scene.clock.advance(60_000);
    expect(stream.offsets).toEqual([0, 1, 2]);
    await resume();
    await scene.clock.settle();
    expect(stream.batches.at(-1)!.attempts[0]).toBe(2);
  });

  test('a member that joins a paused group gets its partitions, and no record before the end of the pause', async () => {
    (await scene.subscribe('billing')).stream!.closed('CANCELLED');
    await scene.clock.settle();
    await pause();
    const stream = await scene.subscribe('billing');
    expect([stream.assigned, stream.offsets]).toEqual([[0, 1], []]);
    await resume();
    await scene.clock.settle();
    expect(stream.offsets).toEqual([0, 1, 2]);
  });

  test('a pull says that it is paused, and a waiting one goes on when it is resumed', async () => {
    const first = await scene.wait(scene.pull('billing', { maxRecords: 1 }));
    await pause();
    const { memberId } = first;
    const none = await scene.wait(scene.pull('billing', { memberId }));
    expect([offsetsOf(none), none.blockedOn]).toEqual([[], 'PAUSED']);
    const waiting = scene.pull('billing', { memberId, waitMs: 20_000 });
    await scene.clock.advance(100);
    await resume();
    expect(offsetsOf(await scene.wait(waiting))).toEqual([1, 2]);
  });

  test('other subscriptions of the same member go on', async () => {
    const [more] = scene.addTopic('returns', 1) as [FakeLog];
    const stream = await scene.subscribe('billing', { topics: ['orders', 'returns'] });
    await pause();
    log.append(1);
    more.append(2);
    await scene.clock.advance(2_000);
    expect(stream.offsets).toEqual([0, 1, 2, 0, 1]);
  });

  test('a pause and a resume that are repeated change nothing', async () => {
    await scene.subscribe('billing');
    await pause();
    const paused = scene.store.shared.subscriptions.all();
    await scene.clock.advance(1_000);
    await pause();
    expect(scene.store.shared.subscriptions.all()).toEqual(paused);
    await resume();
    const resumed = scene.store.shared.subscriptions.all();
    await resume();
    expect(scene.store.shared.subscriptions.all()).toEqual(resumed);
  });

  test('a paused subscription counts as a living one of its topic, and a cancelled one does not', async () => {
    await scene.subscribe('billing');
    await pause();
    expect(scene.live.get(1)).toBe(1);
    await scene.wait(scene.delivery.subscriptions.cancel('billing', 'orders'));
    expect(scene.live.get(1)).toBe(0);
  });

  test('a pause lasts through a takeover', async () => {
    await scene.subscribe('billing');
    await pause();
    scene.store.shared.epoch++;
    const store = new MemoryGroupStore(scene.store.shared);
    const next = await Scene.open({ store, clock: scene.clock, topics: scene.topics, seed: 'next' });
    const stream = await next.subscribe('billing');
    await next.clock.advance(2_000);
    expect(stream.offsets).toEqual([]);
    expect(stream.of('idle').at(-1)).toMatchObject({ blockedOn: 'PAUSED' });
  });

  test('a list shows the states, and selects by them', async () => {
    await scene.subscribe('billing');
    await scene.subscribe('shipping');
    await pause();
    const listed = (states: ('ACTIVE' | 'PAUSED' | 'DEAD')[]) =>
      scene.delivery.subscriptions.list({ group: null, topic: null, states }).map(({ row }) => row.state);
    expect(listed([])).toEqual(['PAUSED', 'ACTIVE']);
    expect(listed(['PAUSED'])).toEqual(['PAUSED']);
    expect(listed(['DEAD'])).toEqual([]);
  });

  test('a deletion of the group at once with a pause ends in one of the two orders', async () => {
    (await scene.subscribe('billing')).stream!.closed('CANCELLED');
    await scene.clock.settle();
    const pausing = scene
      .wait(scene.delivery.subscriptions.pause('billing', 'orders'))
      .catch((error: unknown) => error);
    const removing = scene.wait(scene.delivery.deleteGroup('billing')).catch((error: unknown) => error);
    const [paused, removed] = await Promise.all([pausing, removing]);
    expect([paused, removed]).toMatchObject([{ state: 'PAUSED' }, { reason: 'GROUP_NOT_EMPTY' }]);
  });
});
