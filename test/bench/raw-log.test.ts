import { describe, expect, it } from 'vitest';
import { RawLog, recordSetOf } from '../../bench/support/bare/raw-log.ts';
import { limits } from '../../src/limits/limits.ts';
import type { AppendedBatch, AppendTransaction, CommitStore } from '../../src/commit/store.ts';
import type { TopicRow } from '../../src/log/store.ts';
import { newTopicFields } from '../support/retention/stored-segments.ts';

const topic: TopicRow = {
  id: 1,
  name: 'raw',
  semantics: 'PUB_SUB',
  idempotencyWindowMs: 1,
  description: '',
  createdAtMs: 0,
  partitions: [0, 1].map((partition) => ({ id: partition + 10, partition })),
  segment: 1,
  ...newTopicFields,
};

/** A store whose appends are finished by the test. */
function heldStore(appendSlots: number) {
  const appends: { slot: number; transaction: AppendTransaction; finish: (error?: Error) => void }[] = [];
  const store: Pick<CommitStore, 'append' | 'appendSlots'> = {
    appendSlots,
    append: (slot, transaction) =>
      new Promise<AppendedBatch[]>((resolve, reject) => {
        const finish = (error?: Error): void => {
          if (error === undefined) resolve([]);
          else reject(error);
        };
        appends.push({ slot, transaction, finish });
      }),
  };
  return { appends, store: store as CommitStore };
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const set = (count: number, bytes: number) => recordSetOf(Array.from({ length: count }, () => Buffer.alloc(bytes)));

describe('raw log', () => {
  it('what comes while an append is in flight goes with the next one, as one', async () => {
    const { appends, store } = heldStore(1);
    const log = new RawLog(store, topic);
    const answered: number[] = [];
    for (let i = 0; i < 2; i++) log.append(set(1, 10), () => answered.push(i));
    await turn();
    for (let i = 2; i < 6; i++) log.append(set(1, 10), () => answered.push(i));
    await turn();
    expect(appends).toHaveLength(1);
    expect(answered).toEqual([]);
    appends[0]!.finish();
    await turn();
    expect(answered).toEqual([0, 1]);
    expect(appends[1]!.transaction.batches.map(({ partition, recordCount }) => [partition, recordCount])).toEqual([
      [0, 2],
      [1, 2],
    ]);
  });

  it('a partition is never with two slots, which would wait for its lock', async () => {
    const { appends, store } = heldStore(4);
    const log = new RawLog(store, topic);
    for (let i = 0; i < 2; i++) log.append(set(100, 1024), () => undefined);
    await turn();
    for (let i = 0; i < 6; i++) log.append(set(1, 10), () => undefined);
    await turn();
    expect(appends.map(({ transaction }) => transaction.batches.map(({ partition }) => partition))).toEqual([[0], [1]]);
  });

  it('small appends are not shared out among slots', async () => {
    const { appends, store } = heldStore(4);
    const log = new RawLog(store, topic);
    for (let i = 0; i < 2; i++) log.append(set(1, 10), () => undefined);
    await turn();
    expect(appends).toHaveLength(1);
  });

  it('no row is larger than a stored batch may be', async () => {
    const { appends, store } = heldStore(1);
    new RawLog(store, topic).append(set(1000, 2048), () => undefined);
    await turn();
    const { batches } = appends[0]!.transaction;
    expect(batches.reduce((sum, { recordCount }) => sum + recordCount, 0)).toBe(1000);
    expect(Math.max(...batches.map(({ byteSize }) => byteSize))).toBeLessThanOrEqual(limits.storedBatchBytesMax);
  });

  it('an append that fails fails what went with it, and the next one goes on', async () => {
    const { appends, store } = heldStore(1);
    const log = new RawLog(store, topic);
    const errors: (string | null)[] = [];
    log.append(set(1, 10), (error) => errors.push(error?.message ?? null));
    await turn();
    appends[0]!.finish(new Error('broken'));
    await turn();
    log.append(set(1, 10), (error) => errors.push(error?.message ?? null));
    await turn();
    appends[1]!.finish();
    await turn();
    expect(errors).toEqual(['broken', null]);
  });
});
