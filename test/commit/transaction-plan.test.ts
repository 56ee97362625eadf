import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { PublishedRecords } from '../../src/commit/publish.ts';
import { sliceBytes } from '../../src/log/batch.ts';
import type { AppendTransaction } from '../../src/commit/store.ts';
import type { IdempotencyHit } from '../../src/log/known-keys.ts';
import type { Topic } from '../../src/log/topic.ts';
import { TransactionPlan } from '../../src/commit/transaction-plan.ts';
import { property } from '../coordinator/property.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { pending, places, reasonOf, records, topicAtWork, type PendingPublish } from '../log/scene.ts';

const planLimits = { batchBytesMax: 40, batchRecordsMax: 5 };
/** The idempotency keys that the database has. */
const stored: Record<string, IdempotencyHit> = { old: { partition: 1, offset: 4 } };
const findKey = (_topic: Topic, key: string): IdempotencyHit | null => stored[key] ?? null;

/** Two topics whose partitions have mixed ids. The log of partition p ends at 10 p. */
function topics(): Topic[] {
  const both = [topicAtWork(new FakeClock(), 'a', [7, 2, 5]), topicAtWork(new FakeClock(), 'b', [3, 6])];
  for (const topic of both) {
    topic.partitions.forEach((one, partition) => {
      one.learn({ partition, lane: 0, startOffset: 0, endOffset: 10 * partition });
    });
  }
  return both;
}

const endOf = ({ row }: Topic, partition: number, ends: Map<string, number>): number =>
  ends.get(`${row.name}${partition}`) ?? 10 * partition;

interface PublishRequest {
  readonly topic: number;
  readonly records: readonly { readonly text: string; readonly key: string | null }[];
  readonly keyed: boolean;
  readonly partition: number | null;
  /** The expected offset, counted from the end of the log at that time; null for none. */
  readonly expected: number | null;
}

const publishRequest: fc.Arbitrary<PublishRequest> = fc.record({
  topic: fc.nat(1),
  records: fc.array(
    fc.record({
      text: fc.stringMatching(/^([a-f]:)?[x-z]{0,20}$/),
      key: fc.oneof(fc.constantFrom(null, 'old'), fc.constantFrom('k1', 'k2', 'k3', 'k4', 'k5')),
    }),
    { minLength: 1, maxLength: 12 },
  ),
  keyed: fc.boolean(),
  partition: fc.option(fc.nat(1)),
  expected: fc.option(fc.constantFrom(0, 0, 0, 1, -1)),
});

/**
 * Plans the requests, and applies them to a naive model that appends one record after the other.
 */
function planBoth(requests: readonly PublishRequest[]) {
  const both = topics();
  const plan = new TransactionPlan(planLimits, findKey);
  const ends = new Map<string, number>();
  const firsts = new Map<string, string>();
  const oracle = { refused: [] as number[], answers: [] as string[][], logs: new Map<string, string[]>() };
  const refused: number[] = [];
  const numbers = new Map<object, number>();
  requests.forEach((one, number) => {
    const topic = both[one.topic]!;
    const expectsFrom = one.partition !== null && one.expected !== null;
    const expectedOffset = expectsFrom ? endOf(topic, one.partition, ends) + one.expected : null;
    const idempotencyKeys = one.keyed ? one.records.map(({ key }) => key) : null;
    const set = records(...one.records.map(({ text }) => text));
    const request = pending(topic, set, { partition: one.partition, expectedOffset, idempotencyKeys });
    numbers.set(set, number);
    const refusal = plan.add(request);
    if (refusal !== null) refused.push(number);
    const isKnown = idempotencyKeys?.every((key) => key === 'old' || firsts.has(topic.row.name + key)) ?? false;
    if (expectsFrom && one.expected !== 0 && !isKnown) oracle.refused.push(number);
    else oracle.answers.push(appendEach(request, number));
  });
  return { plan, oracle, refused, numbers };

  function appendEach({ topic, partitions, command }: PendingPublish, number: number): string[] {
    return [...partitions].map((partition, i) => {
      const key = command.idempotencyKeys?.[i] ?? null;
      const first = key === null ? undefined : (firsts.get(topic.row.name + key) ?? (stored[key] && '1/4'));
      if (first !== undefined) return `${first} again`;
      const offset = endOf(topic, partition, ends);
      const name = `${topic.row.name}${partition}`;
      ends.set(name, offset + 1);
      if (key !== null) firsts.set(topic.row.name + key, `${partition}/${offset}`);
      oracle.logs.set(name, [...(oracle.logs.get(name) ?? []), `${number}.${i}`]);
      return `${partition}/${offset}`;
    });
  }
}

/** The places that the database would give to the batches. */
function commit({ batches }: AppendTransaction) {
  const ends = new Map<number, number>();
  return batches.map(({ partitionId, partition, recordCount }) => {
    const baseOffset = ends.get(partitionId) ?? 10 * partition;
    ends.set(partitionId, baseOffset + recordCount);
    return { baseOffset, appendTimeUs: 1 };
  });
}

const requests = fc.array(publishRequest, { minLength: 1, maxLength: 10 });

describe('any combination of requests', () => {
  test('every planned record is in exactly one batch of its log, in the order of publishing', () => {
    fc.assert(
      fc.property(requests, (list) => {
        const { plan, oracle, refused, numbers } = planBoth(list);
        const logs = new Map<string, string[]>();
        for (const { topicId, partitionId, partition, records: selections } of plan.build(0).batches) {
          expect(topicId).toBe(1);
          const name = `${partitionId === 3 || partitionId === 6 ? 'b' : 'a'}${partition}`;
          const seen = selections.flatMap(({ set, indexes }) => [...indexes].map((i) => `${numbers.get(set)}.${i}`));
          logs.set(name, [...(logs.get(name) ?? []), ...seen]);
        }
        expect(refused).toEqual(oracle.refused);
        expect(logs).toEqual(oracle.logs);
      }),
      property(1_000),
    );
  });

  test('each answer has the partition and offset at which the record was appended', () => {
    fc.assert(
      fc.property(requests, (list) => {
        const { plan, oracle } = planBoth(list);
        const { answers } = plan.settle(commit(plan.build(0)));
        expect(answers.map(({ published }) => places(published[0]!))).toEqual(oracle.answers);
      }),
      property(1_000),
    );
  });

  test('no batch is empty or exceeds the limits with several records, and locks are in the order of ids', () => {
    fc.assert(
      fc.property(requests, (list) => {
        const { batches } = planBoth(list).plan.build(0);
        for (const { recordCount, byteSize, records: selections } of batches) {
          let bytes = 0;
          for (const { set, indexes } of selections) for (const i of indexes) bytes += sliceBytes(set, i);
          expect(byteSize).toBe(bytes);
          expect(recordCount).toBe(selections.reduce((sum, { indexes }) => sum + indexes.length, 0));
          expect(recordCount).toBeGreaterThan(0);
          expect(recordCount).toBeLessThanOrEqual(planLimits.batchRecordsMax);
          if (recordCount > 1) expect(byteSize).toBeLessThanOrEqual(planLimits.batchBytesMax);
        }
        const ids = batches.map(({ partitionId }) => partitionId);
        expect(ids).toEqual(ids.toSorted((a, b) => a - b));
      }),
      property(1_000),
    );
  });

  test('a stored idempotency key points at its record, however the batches are cut', () => {
    fc.assert(
      fc.property(requests, (list) => {
        const { plan } = planBoth(list);
        const transaction = plan.build(0);
        const appended = commit(transaction);
        const { keys } = plan.settle(appended);
        const stored = transaction.keys.map(({ key, batch, index }) => {
          expect(index).toBeLessThan(transaction.batches[batch]!.recordCount);
          const { partition } = transaction.batches[batch]!;
          return { key, hit: { partition, offset: appended[batch]!.baseOffset + index } };
        });
        expect(keys.map(({ key, hit }) => ({ key, hit }))).toEqual(stored);
      }),
      property(1_000),
    );
  });
});

describe('one transaction', () => {
  const answersOf = (plan: TransactionPlan): PublishedRecords[] =>
    plan.settle(commit(plan.build(0))).answers.flatMap(({ published }) => published);
  const plans = () => ({ plan: new TransactionPlan(planLimits, findKey), topic: topics()[0]! });

  test('two publishes with one idempotency key append one record, and the second gets the offset of the first', () => {
    const { plan, topic } = plans();
    plan.add(pending(topic, records('first'), { idempotencyKeys: ['k'] }));
    plan.add(pending(topic, records('second', 'third'), { idempotencyKeys: ['k', null], partition: 1 }));
    expect(answersOf(plan).map(places)).toEqual([['0/0'], ['0/0 again', '1/10']]);
    expect(plan.build(0).keys).toHaveLength(1);
  });

  test('two records of a request with one idempotency key append the first, even if its partition is later', () => {
    const { plan, topic } = plans();
    const set = records('a:first', 'second');
    const request = pending(topic, set, { idempotencyKeys: ['k1', 'k1'], partition: null });
    expect(request.partitions[0]).toBeGreaterThan(request.partitions[1]!);
    plan.add(request);
    expect(plan.build(0).batches.map(({ records: [selection] }) => [...selection!.indexes])).toEqual([[0]]);
  });

  test('a publish with only known keys is answered and appends nothing', () => {
    const { plan, topic } = plans();
    expect(plan.add(pending(topic, records('x'), { idempotencyKeys: ['old'] }))).toBeNull();
    expect(plan.build(0)).toEqual({ batches: [], keys: [], acks: null });
    expect(answersOf(plan).map(places)).toEqual([['1/4 again']]);
  });

  test('two publishes that expect the same offset append once, and the loser gets the current offset', () => {
    const { plan, topic } = plans();
    const expecting = (expectedOffset: number) => pending(topic, records('x', 'y'), { partition: 1, expectedOffset });
    expect(plan.add(expecting(10))).toBeNull();
    const refusal = plan.add(expecting(10));
    expect(reasonOf(refusal!)).toBe('EXPECTED_OFFSET_MISMATCH');
    expect(refusal!.metadata).toEqual({ topic: 'a', partition: '1', currentOffset: '12' });
    expect(plan.add(expecting(12))).toBeNull();
    expect(answersOf(plan).map(places)).toEqual([
      ['1/10', '1/11'],
      ['1/12', '1/13'],
    ]);
    expect(plan.units).toHaveLength(2);
  });

  test('a repeated publish is answered as before, although its first append has moved the expected offset', () => {
    const { plan, topic } = plans();
    const cas = (...keys: readonly (string | null)[]) =>
      pending(topic, records(...keys.map(() => 'x')), { partition: 1, expectedOffset: 10, idempotencyKeys: keys });
    expect(plan.add(cas('k', 'l'))).toBeNull();
    expect(plan.add(cas('k', 'l'))).toBeNull();
    // A publish with any new record is not a repetition.
    expect(plan.add(cas('k', 'm'))?.reason).toBe('EXPECTED_OFFSET_MISMATCH');
    expect(plan.add(cas('k', null))?.reason).toBe('EXPECTED_OFFSET_MISMATCH');
    expect(answersOf(plan).map(places)).toEqual([
      ['1/10', '1/11'],
      ['1/10 again', '1/11 again'],
    ]);
  });

  test('a record that is larger than a batch may be is stored in a batch of its own', () => {
    const { plan, topic } = plans();
    plan.add(pending(topic, records('small', 'x'.repeat(100), 'small')));
    expect(plan.build(0).batches.map(({ byteSize }) => byteSize)).toEqual([5, 100, 5]);
  });
});
