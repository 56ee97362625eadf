import { expect, test } from 'vitest';
import { Fault } from '../../../src/errors/fault.ts';
import { MemoryGroupStore } from '../../support/memory-group-store.ts';
import { Scene, type FakeStream } from '../scene.ts';

const halfHourMs = 1_800_000;
const names = ['a', 'b', 'c', 'd', 'e'];
const session = { sessionTimeoutMs: halfHourMs };

/** A broker whose member of each group has acked 3 of 5 records, and which then died. */
async function predecessor(): Promise<{ readonly scene: Scene; readonly members: Map<string, FakeStream> }> {
  const scene = await Scene.open();
  const [log] = scene.addTopic('orders', 1);
  log!.append(5);
  const members = new Map<string, FakeStream>();
  for (const name of names) {
    const stream = await scene.subscribe(name, session);
    await scene.ack(name, stream, { upToOffset: 2 });
    members.set(name, stream);
  }
  scene.store.shared.epoch++;
  return { scene, members };
}

/** The next broker, whose store answers the reads that `isHeld` names when `release` is called. */
class Successor {
  readonly scene: Scene;
  readonly reads: string[] = [];
  isHeld: (read: string) => boolean = () => false;
  #waiting: (() => void)[] = [];

  constructor(before: Scene) {
    const store = new MemoryGroupStore(before.store.shared);
    store.beforeRead = async (read) => {
      this.reads.push(read);
      if (this.isHeld(read)) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    };
    const { clock, topics } = before;
    this.scene = new Scene({ store, clock, topics, seed: 'next', loadedTogetherMax: 1 });
  }

  async settle(): Promise<void> {
    await this.scene.clock.settle();
  }

  async release(): Promise<void> {
    for (const resume of this.#waiting.splice(0)) resume();
    await this.settle();
  }
}

function isSettled(promise: Promise<unknown>): () => boolean {
  let settled = false;
  const mark = (): void => {
    settled = true;
  };
  promise.then(mark, mark);
  return () => settled;
}

test('a call loads its group before all others that still have to be loaded', async () => {
  const { scene: before } = await predecessor();
  const next = new Successor(before);
  next.isHeld = (read) => read === 'loadGroups';
  await next.scene.delivery.open();
  await next.settle();
  const [wanted, all] = [isSettled(next.scene.delivery.loaded('e')), isSettled(next.scene.delivery.allLoaded())];
  await next.release();
  expect(wanted()).toBe(false);
  await next.release();
  expect([wanted(), all()]).toEqual([true, false]);
  expect(next.scene.delivery.views.counts()).toMatchObject({ groups: 5, lag: NaN, members: NaN });
  expect(next.scene.describe('e').partitions).toMatchObject([{ committedOffset: 3, lag: 2 }]);
  expect(() => next.scene.describe('d')).toThrow('group d is used before it is loaded');
  for (let piece = 0; piece < 3; piece++) await next.release();
  expect(all()).toBe(true);
  expect(next.scene.delivery.views.counts()).toMatchObject({ groups: 5, lag: 10, members: 5 });
});

test('cursors that are loaded from the ack log, and do not move, are lost with it', async () => {
  const { scene: before } = await predecessor();
  const next = new Successor(before);
  await next.scene.delivery.open();
  await next.settle();
  expect(next.scene.store.inherited?.flatMap(({ deltas }) => deltas)).toEqual([]);
  await next.scene.clock.advance(20_000);
  expect(before.store.shared.ackLog).toEqual([]);
  before.store.shared.epoch++;
  const third = new Successor(before);
  await third.scene.delivery.open();
  await third.settle();
  for (const name of names) expect(third.scene.describe(name).partitions).toMatchObject([{ committedOffset: 3 }]);
});

test('calls that want the same group at once share one load of it', async () => {
  const { scene: before } = await predecessor();
  const next = new Successor(before);
  next.isHeld = (read) => read === 'readAckLog';
  await next.scene.delivery.open();
  const calls = ['c', 'c', 'c'].map((name) => next.scene.delivery.loaded(name));
  await next.release();
  await Promise.all(calls);
  await next.scene.delivery.allLoaded();
  expect(next.reads.filter((read) => read === 'loadGroups')).toHaveLength(5);
});

test('a takeover after which nobody connects writes every cursor that the ack log names within a minute, and empties the log', async () => {
  const { scene: before } = await predecessor();
  const next = new Successor(before);
  // No group ever comes into memory.
  next.isHeld = (read) => read === 'loadGroups';
  await next.scene.delivery.open();
  const { shared } = next.scene.store;
  expect(shared.ackLog.length).toBeGreaterThan(0);
  await next.scene.clock.advance(60_000);
  expect(shared.ackLog).toEqual([]);
  const committed = Array.from(shared.cursors.values(), ({ cursor }) => cursor.committedOffset);
  expect(committed).toEqual(names.map(() => 3));
});

test('a group whose load began before a fold emptied the ack log has what the log said, once', async () => {
  const { scene: before, members } = await predecessor();
  const next = new Successor(before);
  next.isHeld = (read) => read === 'loadCursors';
  await next.scene.delivery.open();
  await next.settle();
  expect(next.reads).toContain('loadCursors');
  await next.scene.clock.advance(60_000);
  expect(next.scene.store.shared.ackLog).toEqual([]);
  next.isHeld = () => false;
  await next.release();
  await next.scene.delivery.allLoaded();
  const again = await next.scene.subscribe('a', { ...session, memberId: members.get('a')!.memberId });
  expect(again.offsets).toEqual([3, 4]);
});

test('acks of a group that is loaded while a fold of the ack log goes on are in the next load', async () => {
  const { scene: before, members } = await predecessor();
  const next = new Successor(before);
  const { store } = next.scene;
  store.foldedTogetherMax = 1;
  await next.scene.delivery.open();
  await next.scene.delivery.allLoaded();
  const folding = Promise.withResolvers<void>();
  let folds = 0;
  store.before = (write) => (write === 'fold' && ++folds === 2 ? folding.promise : undefined);
  await next.scene.clock.advance(5_000);
  expect(folds).toBe(2);
  const again = await next.scene.subscribe('e', { ...session, memberId: members.get('e')!.memberId });
  await next.scene.ack('e', again, { upToOffset: 3 });
  folding.resolve();
  await next.scene.clock.advance(1_000);
  expect(folds).toBe(5);
  store.shared.epoch++;
  const third = new Successor(before);
  await third.scene.delivery.open();
  await third.scene.delivery.allLoaded();
  const committed = names.map((name) => third.scene.describe(name).partitions[0]!.committedOffset);
  expect(committed).toEqual([3, 3, 3, 3, 4]);
});

test('a reset that comes while a fold of the ack log goes on is not undone by it', async () => {
  const { scene: before } = await predecessor();
  const next = new Successor(before);
  const { store } = next.scene;
  store.foldedTogetherMax = 1;
  await next.scene.delivery.open();
  await next.scene.delivery.allLoaded();
  const folding = Promise.withResolvers<void>();
  store.before = (write) => (write === 'fold' ? folding.promise : undefined);
  await next.scene.clock.advance(5_000);
  const to = { type: 'offset', offset: 1 } as const;
  const resetting = next.scene.delivery.offsets.reset({
    group: 'a',
    topics: [],
    partitions: [],
    to,
    dryRun: false,
    force: true,
  });
  await next.settle();
  folding.resolve();
  await next.scene.wait(resetting);
  await next.scene.clock.advance(60_000);
  expect(store.shared.ackLog).toEqual([]);
  expect((await store.cursor({ subscriptionId: 1, partition: 0, lane: 0 }))?.committedOffset).toBe(1);
});

test('a group that is deleted while others are still to be loaded is gone, and its name makes a new one', async () => {
  const { scene: before, members } = await predecessor();
  const next = new Successor(before);
  await next.scene.delivery.open();
  await next.scene.delivery.loaded('b');
  await next.scene.wait(next.scene.delivery.membership.leave('b', members.get('b')!.memberId));
  await next.scene.wait(next.scene.delivery.deleteGroup('b'));
  await next.scene.delivery.allLoaded();
  await next.scene.clock.advance(60_000);
  expect(next.scene.store.shared.ackLog).toEqual([]);
  const stream = await next.scene.subscribe('b');
  expect(stream.offsets).toEqual([0, 1, 2, 3, 4]);
});

test('a topic that grows while a group is loaded is consumed in all its partitions', async () => {
  const { scene: before, members } = await predecessor();
  const next = new Successor(before);
  next.isHeld = (read) => read === 'loadCursors';
  await next.scene.delivery.open();
  await next.settle();
  next.scene.growTopic('orders', 2);
  await next.scene.delivery.topicGrown(1);
  next.isHeld = () => false;
  await next.release();
  await next.scene.delivery.allLoaded();
  const again = await next.scene.subscribe('a', { ...session, memberId: members.get('a')!.memberId });
  expect(again.assigned).toEqual([0, 1]);
  next.scene.topics.get('orders')![1]!.append(1);
  await next.settle();
  expect(again.batches).toContainEqual({ partition: 1, offsets: [0], attempts: [1] });
});

test('a call gets the fault of the database that keeps its group from being loaded, and the next call the group', async () => {
  const { scene: before } = await predecessor();
  const next = new Successor(before);
  let isDown = true;
  const { store } = next.scene;
  const { beforeRead } = store;
  store.beforeRead = (read) => {
    if (isDown && read !== 'listGroups') throw new Fault('DATABASE_UNAVAILABLE', 'away');
    return beforeRead(read);
  };
  await next.scene.delivery.open();
  const calls = [next.scene.delivery.loaded('a'), next.scene.delivery.allLoaded()].map((call) =>
    call.catch((error: unknown) => error),
  );
  await next.scene.clock.advance(1_000);
  for (const error of await Promise.all(calls)) expect(error).toMatchObject({ kind: 'DATABASE_UNAVAILABLE' });
  isDown = false;
  await next.scene.wait(next.scene.delivery.loaded('a'));
  expect(next.scene.describe('a').group.memberCount).toBe(1);
});

test('a broker that is taken over from while it loads rejects whoever waits, and the successor loads the same', async () => {
  const { scene: before } = await predecessor();
  const next = new Successor(before);
  next.isHeld = (read) => read === 'loadGroups';
  await next.scene.delivery.open();
  const waiting = next.scene.delivery.loaded('e').catch((error: unknown) => error);
  before.store.shared.epoch++;
  const stopped = next.scene.delivery.stop();
  expect(await waiting).toMatchObject({ reason: 'NOT_OWNER' });
  await expect(next.scene.delivery.loaded('d')).rejects.toMatchObject({ reason: 'NOT_OWNER' });
  await next.release();
  await stopped;
  const third = new Successor(before);
  await third.scene.delivery.open();
  await third.scene.delivery.allLoaded();
  expect(third.scene.delivery.views.counts()).toMatchObject({ groups: 5, lag: 10, members: 5 });
});

test('a group that is known and not loaded yet is not a new one to a broker whose memory is full', async () => {
  const { scene: before, members } = await predecessor();
  const next = new Successor(before);
  await next.scene.delivery.open();
  next.scene.mayGrow = false;
  await next.scene.delivery.loaded('c');
  const again = await next.scene.subscribe('c', { ...session, memberId: members.get('c')!.memberId });
  expect(again.offsets).toEqual([3, 4]);
});
