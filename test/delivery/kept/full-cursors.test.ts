import { describe, expect, test } from 'vitest';
import { weights } from '../../../src/account/weights.ts';
import type { AckEntry } from '../../../src/delivery/ports/acks.ts';
import { smallAccount } from '../../account/accounts.ts';
import { offsetsOf, Scene, type Delivered, type FakeStream } from '../scene.ts';

const full = { reason: 'BROKER_FULL' };

/** A topic of two partitions with 20 records each, in a broker with room for so many runs. */
async function open(runsMax: { readonly holes?: number; readonly attempts?: number }, partitions = 2): Promise<Scene> {
  const { holes = 10_000, attempts = 10_000 } = runsMax;
  const account = smallAccount({ holes: holes * weights.hole, attempts: attempts * weights.attemptRun });
  const scene = await Scene.open({ account });
  for (const log of scene.addTopic('orders', partitions)) log.append(20);
  return scene;
}

/** Acks several entries in one call. */
function ackAll(scene: Scene, { memberId, generation }: FakeStream, entries: Partial<AckEntry>[]): Promise<unknown> {
  const entry = { topic: 'orders', partition: 0, lane: 0, action: 'ACK', upToOffset: null, runs: null } as const;
  const all = entries.map((one) => ({ ...entry, delayMs: null, error: '', ...one }));
  return scene.wait(scene.delivery.ack({ group: 'billing', memberId, generation, entries: all }));
}

const runsOf = (scene: Scene) => ({
  holes: scene.account.kind('holes').bytes / weights.hole,
  attempts: scene.account.kind('attempts').bytes / weights.attemptRun,
});

const committed = (scene: Scene) => scene.describe('billing').partitions.map(({ committedOffset }) => committedOffset);

/** The attempt numbers of the last batch of the first partition. */
const lastAttempts = ({ batches }: { readonly batches: readonly Delivered[] }) =>
  new Set(batches.filter(({ partition }) => partition === 0).at(-1)!.attempts);

describe('acks ahead of the committed offset', () => {
  test('an Ack that makes more holes than there is room for is applied in part', async () => {
    const scene = await open({ holes: 3 });
    const stream = await scene.subscribe('billing');
    await scene.ack('billing', stream, { runs: [2, 2, 4, 4] });
    const twoMore = [{ upToOffset: 1, partition: 1 }, { runs: [6, 6, 8, 8] }];
    await expect(ackAll(scene, stream, twoMore)).rejects.toMatchObject(full);
    expect([committed(scene), runsOf(scene).holes]).toEqual([[0, 0], 2]);
    expect((await scene.ack('billing', stream, { runs: [6, 6] })).status).toBe('OK');
    expect((await scene.ack('billing', stream, { runs: [6, 6] })).status).toBe('ALREADY_ACKED');
  });

  test('a full broker rejects acks that close holes, or that are cumulative', async () => {
    const scene = await open({ holes: 2 });
    const stream = await scene.subscribe('billing');
    await scene.ack('billing', stream, { runs: [2, 2, 4, 4] });
    await expect(scene.ack('billing', stream, { runs: [8, 8] })).rejects.toMatchObject(full);
    // It joins two holes, and makes one.
    expect((await scene.ack('billing', stream, { runs: [3, 3, 8, 8] })).status).toBe('OK');
    expect((await scene.ack('billing', stream, { runs: [5, 5, 7, 7] })).status).toBe('OK');
    expect((await scene.ack('billing', stream, { runs: [0, 1] })).status).toBe('OK');
    expect((await scene.ack('billing', stream, { partition: 1, upToOffset: 9 })).status).toBe('OK');
    expect([committed(scene), runsOf(scene).holes]).toEqual([[6, 10], 1]);
  });

  test('an Ack of a wrong generation learns that the broker is full instead of that', async () => {
    const scene = await open({ holes: 0 });
    const stream = await scene.subscribe('billing');
    const later = { memberId: stream.memberId, generation: stream.generation + 1 };
    expect((await scene.ack('billing', later, { runs: [3, 3] })).status).toBe('STALE_GENERATION');
  });

  test('a pull with auto-ack makes a hole that has no room, or does not go on when there is room', async () => {
    const scene = await open({ holes: 2 }, 1);
    const { memberId } = await scene.wait(scene.pull('billing', { maxRecords: 1 }));
    const pull = (autoAck: boolean) => scene.wait(scene.pull('billing', { memberId, maxRecords: 1, autoAck }));
    const pulls = [true, false, true, false];
    for (const [at, autoAck] of pulls.entries()) expect(offsetsOf(await pull(autoAck))).toEqual([at + 1]);
    expect(runsOf(scene).holes).toBe(2);
    expect(await pull(true)).toMatchObject({ fields: [], blockedOn: 'WINDOW' });
    expect([committed(scene), runsOf(scene).holes]).toEqual([[0], 2]);
    const { generation } = scene.describe('billing');
    expect((await scene.ack('billing', { memberId, generation }, { runs: [0, 0] })).status).toBe('OK');
    expect(offsetsOf(await pull(true))).toEqual([5]);
    expect([committed(scene), runsOf(scene).holes]).toEqual([[2], 2]);
  });

  test('a stream with auto-ack makes a hole that has no room, or stands still when it has room again', async () => {
    const scene = await open({ holes: 0 }, 1);
    const stream = await scene.subscribe('billing', { autoAck: true });
    const { memberId, generation } = stream;
    stream.stall();
    scene.topics.get('orders')![0]!.append(5);
    expect(offsetsOf(await scene.wait(scene.pull('billing', { memberId, maxRecords: 1 })))).toEqual([20]);
    stream.readOn();
    await scene.clock.advance(2_000);
    expect([committed(scene), runsOf(scene).holes]).toEqual([[20], 0]);
    expect(stream.of('idle').at(-1)).toMatchObject({ blockedOn: 'WINDOW', inFlightRecords: 1 });
    expect((await scene.ack('billing', { memberId, generation }, { runs: [20, 20] })).status).toBe('OK');
    await scene.clock.advance(100);
    expect([committed(scene), stream.offsets.length]).toEqual([[25], 24]);
  });

  test('a settlement makes holes that an Ack could not make', async () => {
    const scene = await open({ holes: 1 });
    const { memberId, generation } = await scene.subscribe('billing');
    const settle = (runs: number[]): Promise<unknown> => {
      const entries = [{ topic: 'orders', partition: 0, lane: 0, runs }];
      return scene.delivery.settle({ group: 'billing', memberId, generation, entries, publishes: [] });
    };
    await expect(settle([2, 2, 4, 4])).rejects.toMatchObject(full);
    const first = settle([2, 2]);
    // The first one is not durable yet, and its hole is counted.
    await expect(settle([6, 6])).rejects.toMatchObject(full);
    scene.commits.committed();
    await first;
    expect([scene.commits.wanted.length, runsOf(scene).holes]).toEqual([1, 1]);
  });
});

describe('counts of attempts', () => {
  test('a NACK without room for its count is applied, or one that needs no more runs is rejected', async () => {
    const scene = await open({ attempts: 1 });
    const stream = await scene.subscribe('billing');
    await scene.ack('billing', stream, { action: 'NACK', runs: [0, 4], delayMs: 0 });
    await expect(scene.ack('billing', stream, { action: 'NACK', runs: [8, 8] })).rejects.toMatchObject(full);
    expect(runsOf(scene).attempts).toBe(1);
    expect((await scene.ack('billing', stream, { action: 'NACK', upToOffset: 4, delayMs: 0 })).status).toBe('OK');
    expect((await scene.ack('billing', stream, { action: 'RELEASE', runs: [8, 8] })).status).toBe('OK');
    expect((await scene.ack('billing', stream, { runs: [0, 4] })).status).toBe('OK');
    expect((await scene.ack('billing', stream, { action: 'NACK', runs: [8, 8] })).status).toBe('OK');
    expect(runsOf(scene).attempts).toBe(1);
  });

  test('an Ack splits a run of attempts although there is no room for another', async () => {
    const scene = await open({ attempts: 1 });
    const stream = await scene.subscribe('billing');
    await scene.ack('billing', stream, { action: 'NACK', runs: [0, 4], delayMs: 0 });
    await expect(scene.ack('billing', stream, { runs: [2, 2] })).rejects.toMatchObject(full);
    expect((await scene.ack('billing', stream, { runs: [3, 4] })).status).toBe('OK');
    expect(runsOf(scene)).toEqual({ holes: 1, attempts: 1 });
  });

  test('records of a lost connection stay with it when there is no room to count their attempt', async () => {
    const scene = await open({ attempts: 1 });
    for (let lost = 0; lost < 3; lost++) {
      const stream = await scene.subscribe('billing');
      expect(lastAttempts(stream)).toEqual(new Set([1]));
      if (lost === 0) await scene.ack('billing', stream, { partition: 1, upToOffset: 19 });
      if (lost === 0) await scene.ack('billing', stream, { partition: 0, runs: [2, 2] });
      stream.stream!.closed('CONNECTION_LOST');
      await scene.clock.advance(1_000);
    }
    expect(scene.delivery.views.counts().uncountedAttempts).toBe(3);
    expect(runsOf(scene)).toEqual({ holes: 1, attempts: 0 });
    expect(scene.warned).toEqual([expect.objectContaining({ uncounted: 1 })]);
    await scene.clock.advance(60_000);
    (await scene.subscribe('billing')).stream!.closed('CONNECTION_LOST');
    await scene.clock.settle();
    expect(scene.warned.at(-1)).toMatchObject({ uncounted: 4 });
  });

  test('an expired lease keeps its records when there is no room to count their attempt', async () => {
    const scene = await open({ attempts: 0 });
    const pulled = await scene.wait(scene.pull('billing', { sessionTimeoutMs: 5_000 }));
    expect(offsetsOf(pulled)).toHaveLength(40);
    await scene.clock.advance(5_100);
    const again = await scene.wait(scene.pull('billing'));
    const batches = again.fields.map((field) => JSON.parse(field.toString()) as Delivered);
    expect(lastAttempts({ batches })).toEqual(new Set([1]));
    expect(scene.delivery.views.counts().uncountedAttempts).toBeGreaterThan(0);
  });
});
