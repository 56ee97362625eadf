import { beforeEach, describe, expect, test } from 'vitest';
import type {
  CommittedOffset,
  OffsetCommit,
  ResetOffset,
  ResetOffsetsCommand,
} from '../../../src/delivery/ports/offsets.ts';
import { Fault } from '../../../src/errors/fault.ts';
import { MemoryGroupStore } from '../../support/memory-group-store.ts';
import { Scene, type FakeLog, type FakeStream } from '../scene.ts';

let scene: Scene;
let logs: FakeLog[];

beforeEach(async () => {
  scene = await Scene.open();
  logs = scene.addTopic('orders', 2);
  logs[0]!.append(6);
  logs[1]!.append(3);
});

type Who = Pick<FakeStream, 'memberId' | 'generation'> | null;

async function commitAll(who: Who, entries: readonly Partial<OffsetCommit>[], at = scene): Promise<CommittedOffset[]> {
  const command = {
    group: 'billing',
    member: who === null ? null : { memberId: who.memberId, generation: who.generation },
    offsets: entries.map((entry) => {
      return { topic: 'orders', partition: 0, lane: 0, offset: 0, metadata: '', ...entry };
    }),
  };
  const committed = await at.wait(at.delivery.offsets.commit(command));
  await at.clock.settle();
  return committed;
}

/** @returns the status and the committed offset of one entry. */
async function commit(who: Who, offset: number, more: Partial<OffsetCommit> = {}, at = scene) {
  const [committed] = await commitAll(who, [{ offset, ...more }], at);
  return [committed!.status, committed!.committedOffset];
}

function reset(to: ResetOffsetsCommand['to'], more: Partial<ResetOffsetsCommand> = {}, at = scene) {
  const command = { group: 'billing', topics: [], partitions: [], dryRun: false, force: false, ...more, to };
  return at.wait(at.delivery.offsets.reset(command));
}

const moves = (results: readonly ResetOffset[]) =>
  results.map(({ partition, previousOffset, offset, lag }) => [partition, previousOffset, offset, lag]);

async function fetched(at = scene) {
  const all = await at.wait(at.fetchOffsets('billing', []));
  return all.map(({ committed }) => [committed?.offset, committed?.metadata, committed?.lag]);
}

async function successor(before: Scene): Promise<Scene> {
  before.store.shared.epoch++;
  const store = new MemoryGroupStore(before.store.shared);
  return Scene.open({ store, clock: before.clock, topics: before.topics, seed: 'next' });
}

/** A group with its subscription and no members. */
async function emptyGroup(): Promise<void> {
  const start = { type: 'earliest' } as const;
  await scene.wait(scene.delivery.subscriptions.create({ group: 'billing', topic: 'orders', start }));
}

async function leave(stream: FakeStream): Promise<void> {
  await scene.wait(scene.delivery.membership.leave('billing', stream.memberId));
}

/** Counts the writes of a kind from now on. */
function counted(write: string): { count: number } {
  const counter = { count: 0 };
  scene.store.before = (what) => {
    if (what === write) counter.count++;
  };
  return counter;
}

/** Holds rounds back until the test lets so many of them go. */
function heldRounds(): { release(count: number): void } {
  const held: (() => void)[] = [];
  let released = 0;
  scene.store.before = (write) => {
    if (write !== 'appendAcks' || released-- > 0) return;
    released = 0;
    return new Promise((resolve) => held.push(resolve));
  };
  return {
    release: (count) => {
      released = Math.max(0, count - held.length);
      for (const go of held.splice(0, count)) go();
    },
  };
}

describe('a commit of a member', () => {
  test('a commit acks everything below it, gives the credit back, and survives the broker with its note', async () => {
    const stream = await scene.subscribe('billing', { maxInFlightRecords: 3, sessionTimeoutMs: 30_000 });
    await scene.clock.advance(100);
    expect(stream.offsets).toHaveLength(3);
    expect(await commit(stream, 2, { metadata: 'two' })).toEqual(['OK', 2]);
    await scene.clock.advance(100);
    expect(stream.offsets).toHaveLength(5);
    const next = await successor(scene);
    expect((await fetched(next))[0]).toEqual([2, 'two', 4]);
  });

  test('a commit of a lower offset changes nothing and is answered with the committed one', async () => {
    const stream = await scene.subscribe('billing');
    expect(await commit(stream, 4, { metadata: 'four' })).toEqual(['OK', 4]);
    expect(await commit(stream, 3, { metadata: 'three' })).toEqual(['NOT_ADVANCED', 4]);
    expect((await fetched())[0]).toEqual([4, 'four', 2]);
  });

  test('a commit of the same offset replaces the note', async () => {
    const stream = await scene.subscribe('billing');
    await commit(stream, 4, { metadata: 'four' });
    expect(await commit(stream, 4, { metadata: 'still four' })).toEqual(['OK', 4]);
    expect((await fetched())[0]).toEqual([4, 'still four', 2]);
    await scene.ack('billing', stream, { upToOffset: 4 });
    expect((await fetched())[0]).toEqual([5, 'still four', 1]);
    expect(await commit(stream, 5)).toEqual(['OK', 5]);
    expect((await fetched(await successor(scene)))[0]).toEqual([5, '', 1]);
  });

  test('a commit beyond what was delivered, or beyond the end of the log, is rejected', async () => {
    const stream = await scene.subscribe('billing', { maxInFlightRecords: 2 });
    expect(await commit(stream, 5)).toEqual(['UNKNOWN_OFFSET', 0]);
    expect(await commit(stream, 700)).toEqual(['UNKNOWN_OFFSET', 0]);
    expect(await commit(stream, 0, { partition: 9 })).toEqual(['UNKNOWN_PARTITION', null]);
    expect(await commit(stream, 0, { topic: 'nowhere' })).toEqual(['UNKNOWN_PARTITION', null]);
  });

  test('a commit for a partition of another member or of a wrong generation changes nothing', async () => {
    const first = await scene.subscribe('billing');
    const before = { memberId: first.memberId, generation: first.generation };
    const second = await scene.subscribe('billing');
    await commitAll(first, [
      { partition: 0, offset: 6 },
      { partition: 1, offset: 3 },
    ]);
    await scene.clock.advance(1);
    const [kept, moved] = [first.assigned[0]!, second.assigned[0]!];
    logs[moved]!.append(1);
    logs[kept]!.append(1);
    await scene.clock.advance(1);
    const ends = [logs[0]!.endOffset, logs[1]!.endOffset];
    expect(await commit(first, ends[moved]!, { partition: moved })).toEqual(['NOT_OWNER', ends[moved]! - 1]);
    expect(await commit(before, ends[moved]!, { partition: moved })).toEqual(['STALE_GENERATION', ends[moved]! - 1]);
    const early = { memberId: second.memberId, generation: before.generation };
    expect(await commit(early, ends[moved]!, { partition: moved })).toEqual(['STALE_GENERATION', ends[moved]! - 1]);
    const future = { memberId: second.memberId, generation: second.generation + 1 };
    expect(await commit(future, ends[moved]!, { partition: moved })).toEqual(['STALE_GENERATION', ends[moved]! - 1]);
    // The partition that the member has kept since then still takes its commit.
    expect(await commit(before, ends[kept]!, { partition: kept })).toEqual(['OK', ends[kept]!]);
    expect(await commit(second, ends[moved]!, { partition: moved })).toEqual(['OK', ends[moved]!]);
  });

  test('a commit is a sign of life, and a commit of a removed member fails as a whole', async () => {
    const stream = await scene.subscribe('billing', { sessionTimeoutMs: 6_000 });
    for (let beats = 0; beats < 4; beats++) {
      await scene.clock.advance(4_000);
      await commit(stream, 0);
    }
    expect(scene.describe('billing').members).toHaveLength(1);
    await leave(stream);
    await expect(commit(stream, 1)).rejects.toMatchObject({ reason: 'MEMBER_FENCED' });
  });

  test('a commit is answered when it is durable, not before', async () => {
    const stream = await scene.subscribe('billing');
    const gate = Promise.withResolvers<void>();
    scene.store.before = (write) => (write === 'appendAcks' ? gate.promise : undefined);
    let answered = false;
    const answer = commit(stream, 3).then((result) => {
      answered = true;
      return result;
    });
    await scene.clock.advance(1_000);
    expect(answered).toBe(false);
    gate.resolve();
    expect(await answer).toEqual(['OK', 3]);
  });

  test('a commit is not answered with an offset that only a later ack, which is not durable yet, has reached', async () => {
    const stream = await scene.subscribe('billing');
    const rounds = heldRounds();
    const first = [commit(stream, 2), scene.ack('billing', stream, { partition: 1, upToOffset: 0 })] as const;
    await scene.clock.settle();
    const second = [commit(stream, 5), scene.ack('billing', stream, { partition: 1, upToOffset: 2 })] as const;
    await scene.clock.settle();
    rounds.release(1);
    expect(await first[0]).toEqual(['OK', 2]);
    expect(await first[1]).toMatchObject({ status: 'OK', committedOffset: 1 });
    const shown = scene.subscription('billing', 'orders').partitions;
    expect(shown.map(({ committedOffset }) => committedOffset)).toEqual([2, 1]);
    rounds.release(1);
    expect(await second[0]).toEqual(['OK', 5]);
    expect(await second[1]).toMatchObject({ status: 'OK', committedOffset: 3 });
  });

  test('a commit of thousands of partitions is one write', async () => {
    const wide = scene.addTopic('wide', 3_000);
    for (const log of wide) log.append(1);
    const stream = await scene.subscribe('billing', { topics: ['wide'], maxInFlightRecords: 10_000 });
    const acks = counted('appendAcks');
    const committed = await commitAll(
      stream,
      wide.map((_, partition) => ({ topic: 'wide', partition, offset: 1, metadata: `p${partition}` })),
    );
    expect(new Set(committed.map(({ status, committedOffset }) => `${status} ${committedOffset}`))).toEqual(
      new Set(['OK 1']),
    );
    expect(acks.count).toBe(1);
  });

  test('a commit of thousands of partitions does not delay one of others, and only a repeated one waits for a later round', async () => {
    for (const name of ['wide', 'broad']) for (const log of scene.addTopic(name, 2_000)) log.append(9);
    const topics = ['wide', 'broad'];
    const stream = await scene.subscribe('billing', { topics, maxInFlightRecords: 100_000, maxInFlightBytes: 1e9 });
    await scene.clock.advance(100);
    const acks = counted('appendAcks');
    const tookMs = async (topic: string, offset: number): Promise<number> => {
      const fromMs = scene.clock.nowMs();
      const entries = Array.from({ length: 2_000 }, (_, partition) => ({ topic, partition, offset }));
      await commitAll(stream, entries);
      return scene.clock.nowMs() - fromMs;
    };
    expect(await tookMs('wide', 1)).toBeLessThan(2);
    expect(await tookMs('broad', 1)).toBeLessThan(7);
    expect(await tookMs('wide', 2)).toBeLessThan(7);
    // All cursors of the round before had moved shortly before, which stretches the interval.
    expect(await tookMs('wide', 3)).toBeGreaterThan(40);
    expect(acks.count).toBe(4);
  });

  test('a broker that was taken over does not reject a commit, because it does not know the cursors of its successor', async () => {
    const stream = await scene.subscribe('billing', { sessionTimeoutMs: 30_000 });
    await successor(scene);
    await expect(commit(stream, 700)).rejects.toMatchObject({ kind: 'FENCED' });
  });
});

describe('a commit without a member', () => {
  test('a commit without a member goes ahead to the end of the log, and never back', async () => {
    await emptyGroup();
    expect(await commit(null, 4, { metadata: 'by hand' })).toEqual(['OK', 4]);
    expect(await commit(null, 3)).toEqual(['NOT_ADVANCED', 4]);
    expect(await commit(null, 7)).toEqual(['UNKNOWN_OFFSET', 4]);
    expect(await commit(null, 6)).toEqual(['OK', 6]);
    const stream = await scene.subscribe('billing');
    expect(stream.batches.every(({ partition }) => partition === 1)).toBe(true);
  });

  test('a commit without a member is rejected while the group has members, and if the group does not exist', async () => {
    await expect(commit(null, 1)).rejects.toMatchObject({ reason: 'GROUP_NOT_FOUND' });
    const stream = await scene.subscribe('billing');
    await expect(commit(null, 1)).rejects.toMatchObject({ reason: 'GROUP_NOT_EMPTY' });
    await leave(stream);
    expect(await commit(null, 1)).toEqual(['OK', 1]);
  });
});

describe('a fetch', () => {
  test('a fetch answers for each named partition, in their order, and names those that the group does not have', async () => {
    await emptyGroup();
    await commit(null, 2, { metadata: 'two' });
    const partitions = [
      { topic: 'orders', partition: 1, lane: null },
      { topic: 'orders', partition: 7, lane: null },
      { topic: 'orders', partition: 0, lane: null },
      { topic: 'nowhere', partition: 0, lane: null },
    ];
    expect((await scene.wait(scene.fetchOffsets('billing', partitions))).map((one) => one.committed)).toEqual([
      { offset: 0, metadata: '', highWatermark: 3, lag: 3 },
      null,
      { offset: 2, metadata: 'two', highWatermark: 6, lag: 4 },
      null,
    ]);
  });

  test('a fetch shows no offset that is not durable yet', async () => {
    const stream = await scene.subscribe('billing');
    const gate = Promise.withResolvers<void>();
    scene.store.before = (write) => (write === 'appendAcks' ? gate.promise : undefined);
    void commit(stream, 3);
    await scene.clock.advance(100);
    let shown = false;
    const fetching = fetched().then(() => (shown = true));
    await scene.clock.advance(1_000);
    expect(shown).toBe(false);
    gate.resolve();
    await fetching;
  });
});

describe('a reset', () => {
  test('a dry run of a reset returns the new offsets and changes nothing', async () => {
    await emptyGroup();
    await commit(null, 4);
    const writes = scene.store.writes;
    expect(moves(await reset({ type: 'shift', by: -1 }, { dryRun: true }))).toEqual([
      [0, 4, 3, 3],
      [1, 0, 0, 3],
    ]);
    expect(scene.store.writes).toBe(writes);
    expect(await fetched()).toEqual([
      [4, '', 2],
      [0, '', 3],
    ]);
  });

  test('a reset into the past delivers again from attempt 1, and no late round or fold undoes it', async () => {
    const stream = await scene.subscribe('billing');
    await scene.ack('billing', stream, { runs: [1, 1], action: 'NACK', delayMs: 0 });
    await commit(stream, 1, { metadata: 'one' });
    await scene.ack('billing', stream, { partition: 1, upToOffset: 2 });
    await leave(stream);
    const late = structuredClone(scene.store.shared.ackLog);
    expect(late.length).toBeGreaterThan(0);
    expect(moves(await reset({ type: 'earliest' }))).toEqual([
      [0, 1, 0, 6],
      [1, 3, 0, 3],
    ]);
    // Late rounds and a late fold of the incarnation before the reset.
    scene.store.shared.ackLog.push(...late);
    const next = await successor(scene);
    expect(await fetched(next)).toEqual([
      [0, '', 6],
      [0, '', 3],
    ]);
    const again = await next.subscribe('billing');
    expect(again.offsets.toSorted()).toEqual([0, 0, 1, 1, 2, 2, 3, 4, 5]);
    expect(again.batches.flatMap(({ attempts }) => attempts)).toEqual(again.offsets.map(() => 1));
  });

  test('a reset alone lets the cleaner know that a topic has less to keep, and a dry run does not', async () => {
    await emptyGroup();
    scene.written.length = 0;
    await reset({ type: 'latest' }, { dryRun: true });
    expect(scene.written).toEqual([]);
    await reset({ type: 'latest' });
    expect(scene.written).toEqual([logs[0]!.address.topicId]);
  });

  test('a reset goes to the place that it names, within the stored log', async () => {
    await emptyGroup();
    logs[0]!.startOffset = 2;
    const partitions = [{ topic: 'orders', partition: 0, lane: null }];
    const to = async (target: ResetOffsetsCommand['to']) => (await reset(target, { partitions }))[0]!.offset;
    expect(await to({ type: 'latest' })).toBe(6);
    expect(await to({ type: 'earliest' })).toBe(2);
    expect(await to({ type: 'offset', offset: 5 })).toBe(5);
    expect(await to({ type: 'shift', by: 100 })).toBe(6);
    expect(await to({ type: 'shift', by: -3 })).toBe(3);
    expect(await to({ type: 'shift', by: -3 })).toBe(2);
    expect(await to({ type: 'offset', offset: 0 })).toBe(2);
    expect(await to({ type: 'time', timeUs: 1 })).toBe(0);
    await expect(to({ type: 'offset', offset: 7 })).rejects.toMatchObject({ reason: 'OFFSET_OUT_OF_RANGE' });
    expect((await fetched())[1]).toEqual([0, '', 3]);
  });

  test('a reset of a missing partition, or to an offset that is missing in one log, resets no other cursor', async () => {
    await emptyGroup();
    const partitions = [
      { topic: 'orders', partition: 0, lane: null },
      { topic: 'orders', partition: 9, lane: null },
    ];
    await expect(reset({ type: 'latest' }, { partitions })).rejects.toMatchObject({ reason: 'PARTITION_OUT_OF_RANGE' });
    const topics = ['orders', 'nowhere'];
    await expect(reset({ type: 'latest' }, { topics })).rejects.toMatchObject({ reason: 'SUBSCRIPTION_NOT_FOUND' });
    // Partition 1 ends at 3.
    await expect(reset({ type: 'offset', offset: 4 })).rejects.toMatchObject({ reason: 'OFFSET_OUT_OF_RANGE' });
    expect(await fetched()).toEqual([
      [0, '', 6],
      [0, '', 3],
    ]);
  });

  test('a reset is rejected while the group has members, whether it is a dry run or not', async () => {
    await scene.subscribe('billing');
    await expect(reset({ type: 'earliest' })).rejects.toMatchObject({ reason: 'GROUP_NOT_EMPTY' });
    await expect(reset({ type: 'earliest' }, { dryRun: true })).rejects.toMatchObject({ reason: 'GROUP_NOT_EMPTY' });
  });

  test('a reset whose answer is lost is repeated until its outcome is known, and a member that joins meanwhile reads from the new offset', async () => {
    await emptyGroup();
    await commit(null, 6);
    let lost = 2;
    scene.store.after = (write) => {
      if (write === 'resetCursors' && lost-- > 0) throw new Fault('OUTCOME_UNKNOWN', 'the answer is lost');
    };
    const resetting = reset(
      { type: 'offset', offset: 1 },
      { partitions: [{ topic: 'orders', partition: 0, lane: null }] },
    );
    await scene.clock.advance(10);
    const joining = scene.subscribe('billing');
    expect(moves(await resetting)).toEqual([[0, 6, 1, 5]]);
    expect((await joining).offsets.toSorted()).toEqual([0, 1, 1, 2, 2, 3, 4, 5]);
    expect((await scene.store.cursor({ subscriptionId: 1, partition: 0, lane: 0 }))?.resets).toBe(1);
  });

  test('a reset that the database rejects fails, and changes no cursor', async () => {
    await emptyGroup();
    await commit(null, 6);
    scene.store.before = (write) => {
      if (write === 'resetCursors') throw new Fault('DATABASE_UNAVAILABLE', 'not now');
    };
    await expect(reset({ type: 'earliest' })).rejects.toMatchObject({ kind: 'DATABASE_UNAVAILABLE' });
    expect((await fetched())[0]).toEqual([6, '', 0]);
    scene.store.before = () => undefined;
    await reset({ type: 'earliest' });
    expect((await fetched())[0]).toEqual([0, '', 6]);
  });

  test('two resets of a group at once run one after the other', async () => {
    await emptyGroup();
    const both = [reset({ type: 'latest' }), reset({ type: 'shift', by: -2 })];
    const [first, second] = await Promise.all(both);
    expect([first![0]!.offset, second![0]!.previousOffset, second![0]!.offset]).toEqual([6, 6, 4]);
    expect((await scene.store.cursor({ subscriptionId: 1, partition: 0, lane: 0 }))?.committedOffset).toBe(4);
  });

  test('a forced reset revokes the partitions first, and the members go on from the new offsets', async () => {
    const stream = await scene.subscribe('billing', { rebalanceTimeoutMs: 5_000 });
    await scene.ack('billing', stream, { partition: 0, upToOffset: 5 });
    expect(stream.offsets).toHaveLength(9);
    const resetting = reset({ type: 'earliest' }, { force: true, topics: ['orders'] });
    await scene.gathered();
    // The member has records of partition 1 in flight, so the reset waits for the revocation.
    expect(
      stream
        .of('revoking')
        .at(-1)
        ?.partitions.map(({ partition }) => partition),
    ).toContain(1);
    const generation = stream.generation;
    expect(moves(await resetting)).toEqual([
      [0, 6, 0, 6],
      [1, 0, 0, 3],
    ]);
    await scene.gathered();
    expect(stream.assigned).toEqual([0, 1]);
    expect(stream.generation).toBeGreaterThan(generation);
    expect(stream.batches.slice(-2).map(({ partition, offsets }) => [partition, offsets.length])).toEqual([
      [0, 6],
      [1, 3],
    ]);
    const late = { memberId: stream.memberId, generation };
    expect((await scene.ack('billing', late, { partition: 0, upToOffset: 5 })).status).toBe('STALE_GENERATION');
  });

  test('a forced reset of one topic does not disturb the other topics', async () => {
    const [other] = scene.addTopic('invoices', 1);
    const stream = await scene.subscribe('billing', { topics: ['orders', 'invoices'], rebalanceTimeoutMs: 5_000 });
    const resetting = reset({ type: 'earliest' }, { force: true, topics: ['orders'] });
    await scene.gathered();
    other!.append(2);
    await scene.clock.settle();
    expect(stream.batches.at(-1)).toMatchObject({ partition: 0, offsets: [0, 1] });
    await resetting;
  });

  test('a forced reset that fails assigns the partitions again', async () => {
    const stream = await scene.subscribe('billing', { rebalanceTimeoutMs: 1_000 });
    const beyond = reset({ type: 'offset', offset: 99 }, { force: true });
    await expect(beyond).rejects.toMatchObject({ reason: 'OFFSET_OUT_OF_RANGE' });
    await scene.gathered();
    expect(stream.assigned).toEqual([0, 1]);
  });
});
