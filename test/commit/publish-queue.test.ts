import fc from 'fast-check';
import { expect, test } from 'vitest';
import { readSettings } from '../../src/config/settings.ts';
import type { PublishCommand } from '../../src/commit/publish.ts';
import { PublishQueue, type QueueLimits } from '../../src/commit/publish-queue.ts';
import { QueueRoom } from '../../src/commit/queue-room.ts';
import { queuedSize, type RoutedPublish } from '../../src/commit/route.ts';
import { limits } from '../../src/limits/limits.ts';
import type { Topic } from '../../src/log/topic.ts';
import { systemRandom } from '../../src/time/system.ts';
import { property } from '../coordinator/property.ts';
import { budgetOf } from '../../src/account/budget.ts';
import { smallAccount } from '../account/accounts.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { newStream, pending, records, topicAtWork, type PendingPublish } from '../log/scene.ts';

const roomy: QueueLimits = {
  transactionBytesMax: 1_000,
  transactionRecordsMax: 1_000,
  sharedBytesMin: 10,
  passedMax: 100,
};

interface Room {
  readonly bytesMax: number;
  readonly heapBytesMax: number;
}

function scene({ bytesMax = 1_000, heapBytesMax = 1_000, ...changes }: Partial<QueueLimits & Room> = {}) {
  const topic = topicAtWork(new FakeClock(), 'orders', [1, 2, 3]);
  const small = smallAccount({ publishes: bytesMax, queued: heapBytesMax });
  const queue = new PublishQueue({ ...roomy, ...changes }, new QueueRoom(small));
  const [account, heap] = [small.kind('publishes'), small.kind('queued')];
  const push = (partition: number, one: Partial<PublishCommand> = {}, values = ['x']): PendingPublish => {
    const request = pending(topic, records(...values), { partition, ...one });
    queue.push(request);
    return request;
  };
  return { queue, push, topic, account, heap };
}

test('the queue rejects a publish to the byte if it does not fit beside waiting and committing ones', () => {
  const { queue, push, topic, account } = scene({ bytesMax: 10 });
  const pushOne = (value: string): boolean => queue.push(pending(topic, records(value), { partition: 1 }));
  // The buffer of a request, which has one byte more than its values, counts as a whole.
  const waiting = [push(0, {}, ['xx', 'x']), push(0, {}, ['xxx'])];
  expect({ bytes: queue.bytes, records: queue.records }).toEqual({ bytes: 8, records: 3 });
  expect([pushOne('xx'), queue.bytes, account.bytes]).toEqual([false, 8, 8]);
  queue.take();
  expect({ bytes: queue.bytes, records: queue.records, isEmpty: queue.isEmpty }).toEqual({
    bytes: 0,
    records: 0,
    isEmpty: true,
  });
  // A request in flight is still in memory.
  expect([pushOne('xx'), pushOne('x'), pushOne('')]).toEqual([false, true, false]);
  queue.release(waiting);
  expect(account.bytes).toBe(2);
  queue.remove(() => true);
  expect(account.bytes).toBe(0);
});

test('publishes that wait fill the heap, because only the bytes of their requests have a limit', () => {
  const { queue, push, topic, account, heap } = scene({ heapBytesMax: 2 });
  const pushOne = (): boolean => queue.push(pending(topic, records('x'), { partition: 1 }));
  const first = push(0);
  expect([pushOne(), pushOne(), account.bytes, heap.bytes]).toEqual([true, false, 4, 2]);
  queue.take(1);
  queue.release([first]);
  expect([pushOne(), pushOne(), account.bytes, heap.bytes]).toEqual([true, false, 4, 2]);
});

test('a publish whose bytes do not fit keeps the room of its objects', () => {
  const { push, heap } = scene({ bytesMax: 3 });
  push(0);
  push(1);
  expect(heap.bytes).toBe(1);
});

test('a request does not overtake a waiting request of its partition', () => {
  const { queue, push } = scene();
  const inFlight = push(0);
  expect(queue.take()).toEqual([inFlight]);
  const first = push(0);
  const free = push(1);
  const second = push(0);
  expect(queue.take()).toEqual([free]);
  queue.release([inFlight]);
  expect(queue.take()).toEqual([first, second]);
});

test('no request overtakes one of two partitions that waits only for its other partition', () => {
  const { queue, push, topic } = scene();
  const inFlight = push(0);
  queue.take();
  const both = pending(topic, records('a:x', 'second'), { partition: null, idempotencyKeys: [null, 'k1'] });
  expect(both.shares.map(({ partition }) => partition.id)).toEqual([2, 3]);
  const blocker = push(1);
  expect(queue.take()).toEqual([blocker]);
  queue.push(both);
  push(2);
  expect(queue.take()).toEqual([]);
  queue.release([inFlight, blocker]);
  expect(queue.take()).toHaveLength(2);
});

test('requests of one stream are never in two transactions at once, whatever their partitions', () => {
  const { queue, push } = scene();
  const stream = newStream();
  const first = push(0, { stream });
  queue.take();
  const second = push(1, { stream });
  const other = push(1, { stream: newStream() });
  expect(queue.take()).toEqual([]);
  queue.release([first]);
  expect(queue.take()).toEqual([second, other]);
});

test('two publishes with idempotency keys never race in two transactions, and do not delay keyless ones', () => {
  const { queue, push } = scene();
  const first = push(0, { idempotencyKeys: ['k'] });
  queue.take();
  const second = push(1, { idempotencyKeys: ['k'] });
  const keyless = push(2);
  expect(queue.take()).toEqual([keyless]);
  queue.release([first]);
  expect(queue.take()).toEqual([second]);
});

test('a transaction is limited in bytes and records, but always takes one request', () => {
  const { queue, push } = scene({ transactionBytesMax: 9, transactionRecordsMax: 3 });
  const large = push(0, {}, ['x'.repeat(50)]);
  const small = [push(0, {}, ['xxxx']), push(0, {}, ['xxx'])];
  const many = [push(0, {}, ['', '', '']), push(0, {}, [''])];
  for (const expected of [[large], small, [many[0]], [many[1]]]) {
    const taken = queue.take() as PendingPublish[];
    expect(taken).toEqual(expected);
    queue.release(taken);
  }
});

test('a search stops after some requests that must wait, so that a full queue is not searched each time', () => {
  const { queue, push } = scene({ passedMax: 3 });
  const inFlight = push(0);
  queue.take();
  for (let i = 0; i < 3; i += 1) push(0);
  push(1);
  expect(queue.take()).toEqual([]);
  queue.release([inFlight]);
  expect(queue.take()).toHaveLength(4);
});

test('removed requests no longer count, and the others keep their order', () => {
  const { queue, push } = scene();
  const requests = [push(0), push(1, {}, ['xxxxx']), push(0), push(1)];
  expect(queue.remove((one) => one.publishes[0]!.shares[0]!.partition.id === 2)).toEqual([requests[1], requests[3]]);
  expect({ bytes: queue.bytes, records: queue.records }).toEqual({ bytes: 4, records: 2 });
  expect(queue.remove(() => false)).toEqual([]);
  expect(queue.take()).toEqual([requests[0], requests[2]]);
});

const step = fc.oneof(
  fc.record({
    type: fc.constant('push' as const),
    partition: fc.option(fc.nat(2)),
    stream: fc.option(fc.nat(1)),
    keyed: fc.boolean(),
    values: fc.array(fc.stringMatching(/^([a-f]:)?x{0,6}$/), { minLength: 1, maxLength: 4 }),
  }),
  fc.record({ type: fc.constant('take' as const) }),
  fc.record({ type: fc.constant('release' as const), which: fc.nat(10) }),
);

test('every request is taken once, never conflicts with one in flight, and overtakes none that it conflicts with', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const { queue, topic, account, heap } = scene({ bytesMax: 100_000, transactionBytesMax: 20, passedMax: 5 });
      const streams = [newStream(), newStream()];
      const pushed: PendingPublish[] = [];
      const takenAll: PendingPublish[] = [];
      const inFlight: PendingPublish[][] = [];
      const take = (): PendingPublish[] => {
        const taken = queue.take() as PendingPublish[];
        for (const one of taken) {
          for (const other of inFlight.flat()) expect(conflict(one, other)).toBe(false);
          takenAll.push(one);
          const earlier = pushed.slice(0, pushed.indexOf(one)).filter((other) => !takenAll.includes(other));
          for (const other of earlier) expect(conflict(one, other)).toBe(false);
        }
        if (taken.length > 0) inFlight.push(taken);
        return taken;
      };
      const release = (which: number): void => {
        for (const taken of inFlight.splice(which % Math.max(1, inFlight.length), 1)) queue.release(taken);
      };
      for (const one of steps) {
        if (one.type === 'push') pushed.push(pushStep(queue, topic, one, streams));
        else if (one.type === 'take') take();
        else release(one.which);
        const waiting = pushed.filter((request) => !takenAll.includes(request));
        expect(queue.bytes).toBe(waiting.reduce((sum, { bytes }) => sum + bytes, 0));
        const held = [...waiting, ...inFlight.flat()];
        expect(account.bytes).toBe(held.reduce((sum, { queued }) => sum + queued.bytes, 0));
        expect(heap.bytes).toBe(held.length);
        expect(queue.records).toBe(waiting.reduce((sum, { command }) => sum + command.records.count, 0));
      }
      while (inFlight.length > 0) release(0);
      while (!queue.isEmpty) {
        expect(take().length).toBeGreaterThan(0);
        release(0);
      }
      expect(new Set(takenAll).size).toBe(pushed.length);
      expect(takenAll).toHaveLength(pushed.length);
      expect([account.bytes, heap.bytes]).toEqual([0, 0]);
    }),
    property(500),
  );
});

function pushStep(
  queue: PublishQueue,
  topic: Topic,
  one: { partition: number | null; stream: number | null; keyed: boolean; values: readonly string[] },
  streams: readonly ReturnType<typeof newStream>[],
): PendingPublish {
  const request = pending(topic, records(...one.values), {
    partition: one.partition,
    stream: one.stream === null ? null : streams[one.stream]!,
    idempotencyKeys: one.keyed ? one.values.map((_, i) => `k${i}`) : null,
  });
  queue.push(request);
  return request;
}

/** The rule of the queue's documentation, in its simplest form. */
function conflict(one: PendingPublish, other: PendingPublish): boolean {
  if (one.command.stream !== null && one.command.stream === other.command.stream) return true;
  if (one.command.idempotencyKeys !== null && other.command.idempotencyKeys !== null) return true;
  return one.shares.some(({ partition }) => other.shares.some((share) => share.partition === partition));
}

test('waiting requests are shared among the free connections, so that one does not do all the work', () => {
  const { queue, push } = scene({ sharedBytesMin: 4 });
  const requests = [0, 1, 2, 0, 1, 2].map((partition) => push(partition, {}, ['x']));
  // A request has two bytes, so a third of twelve bytes is two requests.
  expect(queue.take(3)).toEqual(requests.slice(0, 2));
  expect(queue.take(2)).toEqual([requests[2]!, requests[5]!]);
  queue.release(requests.slice(0, 2));
  expect(queue.take(3)).toEqual([requests[3]!, requests[4]!]);
});

test('small requests share one transaction, because a transaction costs more than they do', () => {
  const { queue, push } = scene({ sharedBytesMin: 100 });
  const requests = [0, 1, 2].map((partition) => push(partition, {}, ['x']));
  expect(queue.take(3)).toEqual(requests);
});

test('the largest request does not fit the smallest queue, so that it is refused for ever', () => {
  const count = limits.publishRecordsMax;
  const key = 'k'.repeat(limits.idempotencyKeyBytesMax);
  const command = { records: { count }, idempotencyKeys: Array<string>(count).fill(key) };
  const { bytes, heapBytes } = queuedSize({ bytes: limits.publishBytesMax, command } as unknown as RoutedPublish);
  expect(bytes).toBeLessThanOrEqual(4 * limits.publishBytesMax);
  expect(() => readSettings(['--publish-queue-bytes-max', `${bytes - 1}`], {}, systemRandom)).toThrow('16777216');
  expect(heapBytes).toBeLessThanOrEqual(budgetOf(32 * 1_048_576, limits).kinds.queued);
});
