import { expect, test } from 'vitest';
import { withAges } from '../../../src/broker/record-ages.ts';
import type { PartitionStatus } from '../../../src/delivery/ports/session.ts';
import { Fault } from '../../../src/errors/fault.ts';
import type { RecordPlace, TopicRow } from '../../../src/log/store.ts';
import { FakeClock } from '../../support/fake-clock.ts';

const topicIds: Readonly<Record<string, number>> = { orders: 1, invoices: 2 };

function status(topic: string, partition: number, committedOffset: number, highWatermark: number): PartitionStatus {
  const lag = highWatermark - committedOffset;
  return {
    topic,
    partition,
    lane: 0,
    committedOffset,
    highWatermark,
    lag,
    blockedOn: null,
    memberId: null,
    inFlightRecords: 0,
    oldestUnackedAgeMs: null,
  };
}

/** A log whose records are as many seconds old as their offset says, and what it was asked. */
function logThat(answer: (topicId: number) => Promise<void>) {
  const asked: [number, string[]][] = [];
  return {
    asked,
    topic: (name: string) => (name in topicIds ? ({ id: topicIds[name] } as TopicRow) : undefined),
    async appendAges(topicId: number, places: readonly RecordPlace[]): Promise<(number | null)[]> {
      asked.push([topicId, places.map(({ partition, lane, offset }) => `${partition}/${lane}@${offset}`)]);
      await answer(topicId);
      return places.map(({ offset }) => offset * 1_000);
    },
  };
}

const statuses = [
  status('orders', 0, 5, 9),
  status('orders', 1, 7, 7),
  status('orders', 2, 6, 8),
  status('invoices', 0, 1, 2),
  status('gone', 0, 0, 1),
];
const agesOf = (found: readonly PartitionStatus[]): (number | null)[] =>
  found.map(({ oldestUnackedAgeMs }) => oldestUnackedAgeMs);

test('one query for each topic reads the ages, and only of partitions with un-acked records', async () => {
  const clock = new FakeClock();
  const log = logThat(() => Promise.resolve());
  expect(agesOf(await withAges(statuses, log, clock))).toEqual([5_000, null, 6_000, 1_000, null]);
  expect(log.asked).toEqual([
    [1, ['0/0@5', '2/0@6']],
    [2, ['0/0@1']],
  ]);
  expect(clock.pending).toBe(0);
});

test('a group that has acked every record sends no query to the database', async () => {
  const log = logThat(() => Promise.reject(new Error('it was asked')));
  const found = await withAges([status('orders', 0, 4, 4)], log, new FakeClock());
  expect(found).toEqual([status('orders', 0, 4, 4)]);
});

test('a database that is unavailable leaves ages out, and fails no answer', async () => {
  const clock = new FakeClock();
  const log = logThat(async (topicId) => {
    if (topicId === 2) throw new Fault('DATABASE_UNAVAILABLE', 'it is away');
  });
  expect(agesOf(await withAges(statuses, log, clock))).toEqual([5_000, null, 6_000, null, null]);
  expect(clock.pending).toBe(0);
});

test('a database that does not answer delays the ages by one second at most', async () => {
  const clock = new FakeClock();
  const late = Promise.withResolvers<void>();
  const log = logThat((topicId) => (topicId === 1 ? Promise.resolve() : late.promise));
  const asking = withAges(statuses, log, clock);
  let answered = false;
  void asking.then(() => (answered = true));
  await clock.advance(999);
  expect(answered).toBe(false);
  await clock.advance(1);
  expect(agesOf(await asking)).toEqual([5_000, null, 6_000, null, null]);
  late.reject(new Fault('DATABASE_UNAVAILABLE', 'it is away'));
  await clock.settle();
});

test('no further topic is queried after the time limit', async () => {
  const clock = new FakeClock();
  const late = Promise.withResolvers<void>();
  const log = logThat(() => late.promise);
  const asking = withAges(statuses, log, clock);
  await clock.advance(1_000);
  expect(agesOf(await asking)).toEqual([null, null, null, null, null]);
  late.resolve();
  await clock.settle();
  expect(log.asked.map(([topicId]) => topicId)).toEqual([1]);
});

test('a bug is not treated as an unavailable database', async () => {
  const log = logThat(() => Promise.reject(new TypeError('boom')));
  await expect(withAges(statuses, log, new FakeClock())).rejects.toThrow('boom');
});
