import { beforeEach, describe, expect, test } from 'vitest';
import type { SettleCommand, SettleOutcome } from '../../../src/delivery/ports/settle.ts';
import { limits } from '../../../src/limits/limits.ts';
import { type FakeStream, Scene, offsetsOf, recordSize, type FakeLog } from '../scene.ts';

let scene: Scene;
let log: FakeLog;

beforeEach(async () => {
  scene = await Scene.open();
  [log] = scene.addTopic('orders', 1) as [FakeLog];
  log.append(5);
});

/** Begins to settle records of the member. The commit has no outcome yet. */
async function settle(
  stream: Pick<FakeStream, 'memberId' | 'generation'>,
  runs: readonly number[],
  changes: Partial<SettleCommand> = {},
): Promise<{ outcome: SettleOutcome | Error | 'pending' }> {
  const { memberId, generation } = stream;
  const entries = [{ topic: 'orders', partition: 0, lane: 0, runs }];
  const one: { outcome: SettleOutcome | Error | 'pending' } = { outcome: 'pending' };
  const command = { group: 'billing', memberId, generation, entries, publishes: [], ...changes };
  scene.delivery.settle(command).then(
    (outcome) => (one.outcome = outcome),
    (error: unknown) => (one.outcome = error as Error),
  );
  await scene.clock.settle();
  return one;
}

/** The view of the partition. */
const status = () => scene.describe('billing').partitions[0]!;

const idle = async (stream: FakeStream) => {
  await scene.clock.advance(10_000);
  return stream.of('idle').at(-1)!;
};

describe('records that a settlement completes', () => {
  test('records that a settlement completes do not go out again, cannot be acked, and block those behind them, until the outcome is known', async () => {
    const stream = await scene.subscribe('billing', { maxInFlightRecords: 5 });
    const one = await settle(stream, [1, 1]);
    expect((await scene.ack('billing', stream, { runs: [1, 1] })).status).toBe('UNKNOWN_OFFSET');
    expect((await scene.ack('billing', stream, { upToOffset: 2 })).status).toBe('UNKNOWN_OFFSET');
    await scene.ack('billing', stream, { runs: [2, 4] });
    log.append(2);
    await scene.clock.settle();
    expect(stream.offsets).toEqual([0, 1, 2, 3, 4]);
    scene.commits.committed();
    await scene.clock.settle();
    expect(one.outcome).toEqual({ statuses: ['OK'], published: [] });
    expect(stream.offsets).toEqual([0, 1, 2, 3, 4, 5, 6]);
  });

  test('records of a failed settlement come back to their member, with those in flight behind them', async () => {
    const stream = await scene.subscribe('billing');
    const one = await settle(stream, [1, 1]);
    scene.commits.failed('DATABASE_UNAVAILABLE');
    await scene.clock.settle();
    expect(one.outcome).toMatchObject({ kind: 'DATABASE_UNAVAILABLE' });
    expect(stream.offsets).toEqual([0, 1, 2, 3, 4, 1, 2, 3, 4]);
    expect(await idle(stream)).toMatchObject({ inFlightRecords: 5, inFlightBytes: 5 * recordSize });
  });

  test('records of a settlement with an unknown outcome stay MOVING, and the next owner reads the outcome', async () => {
    const stream = await scene.subscribe('billing');
    await settle(stream, [0, 0]);
    scene.commits.failed('OUTCOME_UNKNOWN');
    await scene.clock.settle();
    expect(stream.offsets).toEqual([0, 1, 2, 3, 4]);
    expect(status()).toMatchObject({ committedOffset: 0, lag: 5 });
  });

  test('a settlement with one record that is not in flight at the member moves none and commits nothing', async () => {
    log.append(10);
    const stream = await scene.subscribe('billing', { maxInFlightRecords: 5 });
    await scene.ack('billing', stream, { runs: [2, 2] });
    const statuses = [];
    for (const runs of [[0, 20], [2, 2], [0, 2], []]) {
      const one = await settle(stream, runs);
      await scene.clock.advance(100);
      statuses.push(one.outcome);
    }
    const refused = (status: string) => ({ statuses: [status], published: null });
    expect(statuses).toEqual([
      refused('UNKNOWN_OFFSET'),
      refused('ALREADY_ACKED'),
      refused('LEASE_EXPIRED'),
      refused('ALREADY_ACKED'),
    ]);
    expect(scene.commits.wanted).toEqual([]);
    const other = await settle({ memberId: stream.memberId, generation: stream.generation + 1 }, [0, 0]);
    await scene.clock.advance(100);
    expect(other.outcome).toEqual(refused('STALE_GENERATION'));
  });

  test('records of a settlement show in the committed offset, together with records acked before them', async () => {
    const stream = await scene.subscribe('billing');
    await scene.ack('billing', stream, { runs: [1, 2] });
    await settle(stream, [0, 0]);
    expect(status().committedOffset).toBe(0);
    scene.commits.committed();
    await scene.clock.advance(100);
    expect(status()).toMatchObject({ committedOffset: 3, lag: 2 });
  });
});

describe('the credit of records that a settlement completes', () => {
  test('the credit of a settlement returns to its member once, even if the member resumes meanwhile', async () => {
    const session = { sessionTimeoutMs: 60_000 };
    const first = await scene.subscribe('billing', session);
    await settle(first, [0, 1]);
    const second = await scene.subscribe('billing', { ...session, memberId: first.memberId });
    scene.commits.committed();
    await scene.clock.settle();
    expect(second.offsets).toEqual([2, 3, 4]);
    expect(await idle(second)).toMatchObject({ inFlightRecords: 3, inFlightBytes: 3 * recordSize });
  });

  test('the credit of a settlement returns to the member that had the records, not to the new holder', async () => {
    const session = { sessionTimeoutMs: 60_000, rebalanceTimeoutMs: 1_000 };
    const old = await scene.subscribe('billing', session);
    await settle(old, [4, 4]);
    await scene.wait(scene.delivery.membership.leave('billing', old.memberId));
    const next = await scene.subscribe('billing', session);
    expect(next.offsets).toEqual([0, 1, 2, 3]);
    scene.commits.committed();
    await scene.clock.settle();
    expect(await idle(next)).toMatchObject({ inFlightRecords: 4, inFlightBytes: 4 * recordSize, lag: 4 });
    log.append(1);
    await scene.clock.settle();
    expect(next.offsets).toEqual([0, 1, 2, 3, 5]);
  });

  test('records that a settlement completes do not make their member look stalled', async () => {
    const stream = await scene.subscribe('billing', { maxPollIntervalMs: 20_000, sessionTimeoutMs: 3_600_000 });
    await scene.ack('billing', stream, { runs: [0, 3] });
    const one = await settle(stream, [4, 4]);
    await scene.clock.advance(60_000);
    expect(stream.assigned).toEqual([0]);
    scene.commits.committed();
    await scene.clock.settle();
    expect(one.outcome).toMatchObject({ statuses: ['OK'] });
  });

  test('a partition that is revoked does not move while a settlement of it is under way', async () => {
    const old = await scene.subscribe('billing', { rebalanceTimeoutMs: 60_000 });
    await scene.ack('billing', old, { runs: [0, 3] });
    await settle(old, [4, 4]);
    const forced = scene.delivery.offsets.reset({
      group: 'billing',
      topics: ['orders'],
      partitions: [],
      to: { type: 'earliest' },
      dryRun: false,
      force: true,
    });
    await scene.gathered();
    expect(old.of('revoking')).toHaveLength(1);
    await scene.clock.advance(5_000);
    expect(old.assigned).toEqual([0]);
    scene.commits.committed();
    expect(await scene.wait(forced)).toMatchObject([{ offset: 0, previousOffset: 5 }]);
    await scene.gathered();
    expect(old.offsets).toEqual([0, 1, 2, 3, 4, 0, 1, 2, 3, 4]);
  });
});

describe('a cursor is neither ended nor reset while a settlement of it is under way:', () => {
  let stream: FakeStream;
  /** Whether the call that waits has ended. */
  let ended: boolean;

  async function isHeldBack(work: Promise<unknown>): Promise<void> {
    ended = false;
    void work.then(() => (ended = true));
    await scene.clock.advance(60_000);
    expect(ended).toBe(false);
    scene.commits.committed();
    await scene.wait(work);
  }

  beforeEach(async () => {
    stream = await scene.subscribe('billing');
    await settle(stream, [0, 0]);
  });

  test('a reset waits for the settlement', async () => {
    stream.stream!.closed('CANCELLED');
    await scene.clock.settle();
    const to = { type: 'earliest' } as const;
    const command = { group: 'billing', topics: ['orders'], partitions: [], to, dryRun: false, force: false };
    await isHeldBack(scene.delivery.offsets.reset(command));
    expect(status()).toMatchObject({ committedOffset: 0, lag: 5 });
  });

  test('the deletion of the group waits for the settlement', async () => {
    stream.stream!.closed('CANCELLED');
    await scene.clock.settle();
    await isHeldBack(scene.delivery.deleteGroup('billing'));
    expect(scene.store.shared.cursors.size).toBe(0);
  });

  test('the cancellation of the subscription waits for the settlement, and no other record begins to move', async () => {
    const cancelled = scene.delivery.subscriptions.cancel('billing', 'orders');
    const late = await settle(stream, [1, 1]);
    await isHeldBack(cancelled);
    expect(late.outcome).toEqual({ statuses: ['NOT_OWNER'], published: null });
    expect(scene.commits.wanted).toHaveLength(1);
  });

  test('the deletion of the topic waits for the settlement', async () => {
    let deleted = false;
    const deletion = scene.delivery.deleteTopic(1, () => {
      deleted = true;
      return Promise.resolve();
    });
    await scene.clock.settle();
    expect(deleted).toBe(false);
    await isHeldBack(deletion);
    expect(deleted).toBe(true);
  });

  test('a reset or deletion that waits for a settlement is rejected when the broker loses the database', async () => {
    const deletion = scene.delivery.subscriptions.cancel('billing', 'orders');
    const refused = expect(deletion).rejects.toMatchObject({ kind: 'FENCED' });
    await scene.clock.settle();
    await scene.wait(scene.delivery.stop());
    await refused;
    scene.commits.failed('FENCED');
    await scene.clock.settle();
    expect(scene.store.shared.ackLog).toEqual([]);
  });
});

test('the lease of a record that a settlement completes does not expire, and a record that comes back gets a new one', async () => {
  const pull = { maxRecords: 1, sessionTimeoutMs: 3_600_000, lanes: true };
  const pulled = await scene.wait(scene.pull('billing', pull));
  await settle(pulled, [0, 0]);
  await scene.clock.advance(2 * limits.pullLeaseMs);
  expect(status()).toMatchObject({ inFlightRecords: 1, memberId: pulled.memberId });
  scene.commits.failed('DATABASE_UNAVAILABLE');
  await scene.clock.settle();
  const again = await scene.wait(scene.pull('billing', { ...pull, memberId: pulled.memberId }));
  expect([offsetsOf(pulled), offsetsOf(again)]).toEqual([[0], [0]]);
  await scene.clock.advance(2 * limits.pullLeaseMs);
  expect(status()).toMatchObject({ inFlightRecords: 0 });
});
