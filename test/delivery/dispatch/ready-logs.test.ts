import fc from 'fast-check';
import { beforeEach, describe, expect, test } from 'vitest';
import { begunAt, Cursor } from '../../../src/consumption/partitioned/cursor.ts';
import { Credit } from '../../../src/credit/credit.ts';
import { type Feed, Seat } from '../../../src/delivery/dispatch/feed.ts';
import type { Member } from '../../../src/delivery/dispatch/member.ts';
import { nextPiece } from '../../../src/delivery/dispatch/piece.ts';
import { ReadyLogs } from '../../../src/delivery/dispatch/ready-logs.ts';
import type { BlockedOn } from '../../../src/delivery/ports/session.ts';
import { property } from '../../coordinator/property.ts';
import { Scene, type FakeLog, type FakeStream } from '../scene.ts';

let scene: Scene;
let logs: FakeLog[];
beforeEach(async () => {
  scene = await Scene.open();
  logs = scene.addTopic('orders', 4);
});

const partitions = (stream: FakeStream): number[] => stream.batches.map(({ partition }) => partition);

describe('a partition that may have something to deliver is not forgotten', () => {
  test('a partition is not forgotten when records come while older ones are being read', async () => {
    const read = Promise.withResolvers<void>();
    logs[0]!.append(2);
    logs[0]!.cachedFrom = 2;
    logs[0]!.gate = read.promise;
    const stream = await scene.subscribe('billing');
    logs[0]!.append(1);
    await scene.clock.settle();
    expect(stream.offsets).toEqual([]);
    read.resolve();
    await scene.clock.settle();
    expect(stream.offsets).toEqual([0, 1, 2]);
  });

  test('a partition is not forgotten when its read ends while the client is slow', async () => {
    const read = Promise.withResolvers<void>();
    logs[0]!.append(2);
    logs[0]!.cachedFrom = 2;
    logs[0]!.gate = read.promise;
    const stream = await scene.subscribe('billing');
    stream.unsentBytes = 1_000;
    read.resolve();
    await scene.clock.settle();
    stream.unsentBytes = 0;
    stream.onDrain?.();
    await scene.clock.settle();
    expect(stream.offsets).toEqual([0, 1]);
  });

  test('a partition is not forgotten when the read of older records fails', async () => {
    logs[0]!.append(2);
    logs[0]!.cachedFrom = 2;
    const read = Promise.withResolvers<void>();
    logs[0]!.gate = read.promise;
    const stream = await scene.subscribe('billing');
    logs[0]!.gate = Promise.resolve();
    read.reject(new Error('the database is away'));
    await scene.clock.advance(500);
    expect(stream.offsets).toEqual([0, 1]);
  });

  test('a partition is not forgotten when records come during a revocation that ends', async () => {
    logs.forEach((log) => log.append(1));
    const stream = await scene.subscribe('billing');
    await scene.gathered();
    const other = await scene.subscribe('billing');
    const asked = stream.of('revoking')[0]!.partitions.map(({ partition }) => partition);
    expect(asked).toHaveLength(2);
    logs.forEach((log) => log.append(1));
    await scene.clock.settle();
    other.stream!.closed('CONNECTION_LOST');
    await scene.gathered();
    for (const partition of asked) expect(partitions(stream).filter((one) => one === partition)).toHaveLength(2);
  });

  test('a partition is not forgotten when records come while its holder does not read', async () => {
    const first = await scene.subscribe('billing');
    first.stream!.closed('CONNECTION_LOST');
    await scene.clock.settle();
    logs[2]!.append(1);
    await scene.gathered();
    expect(partitions(await scene.subscribe('billing'))).toEqual([2]);
  });

  test('a partition is not forgotten when another partition of the member waits longer for a retry', async () => {
    const stream = await scene.subscribe('billing');
    for (const partition of [0, 1]) {
      logs[partition]!.append(1);
      await scene.clock.settle();
      const delayMs = partition === 0 ? 60_000 : 1_000;
      await scene.ack('billing', stream, { partition, action: 'NACK', upToOffset: 0, delayMs });
    }
    await scene.clock.advance(1_000);
    expect(partitions(stream)).toEqual([0, 1, 1]);
    await scene.clock.advance(59_000);
    expect(partitions(stream)).toEqual([0, 1, 1, 0]);
  });

  test('a partition is not forgotten when the record that it would deliver again is acked', async () => {
    const stream = await scene.subscribe('billing');
    logs[0]!.append(2);
    await scene.clock.settle();
    await scene.ack('billing', stream, { action: 'NACK', upToOffset: 1, delayMs: 60_000 });
    logs[0]!.append(1);
    await scene.ack('billing', stream, { runs: [0, 1] });
    expect(stream.offsets).toEqual([0, 1, 2]);
  });

  test('a partition is not forgotten when the member resumes with a new stream', async () => {
    const stream = await scene.subscribe('billing', { sessionTimeoutMs: 30_000 });
    logs.forEach((log) => log.append(1));
    await scene.clock.settle();
    stream.stream!.closed('CONNECTION_LOST');
    logs[3]!.append(1);
    const { memberId } = stream;
    const resumed = await scene.subscribe('billing', { sessionTimeoutMs: 30_000, memberId });
    expect(partitions(resumed).sort()).toEqual([0, 1, 2, 3, 3]);
  });

  test('a partition is not forgotten when the lease of records expires that a pull of the same member has taken', async () => {
    const stream = await scene.subscribe('billing', { sessionTimeoutMs: 600_000, maxInFlightRecords: 1 });
    stream.unsentBytes = 1_000;
    logs[0]!.append(1);
    await scene.wait(scene.pull('billing', { memberId: stream.memberId }));
    stream.unsentBytes = 0;
    stream.onDrain?.();
    await scene.clock.settle();
    expect(stream.offsets).toEqual([]);
    await scene.clock.advance(120_000);
    expect(stream.offsets).toEqual([0]);
  });
});

describe('partitions take turns', () => {
  test('a partition that always has more records does not keep the others waiting', async () => {
    for (let batch = 0; batch < 3; batch++) logs.forEach((log) => log.append(1));
    expect(partitions(await scene.subscribe('billing'))).toEqual([0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3]);
  });

  test('credit that comes back one record at a time goes to all partitions in turn', async () => {
    for (let batch = 0; batch < 2; batch++) logs.forEach((log) => log.append(1));
    const stream = await scene.subscribe('billing', { maxInFlightRecords: 1 });
    for (let acked = 0; acked < 7; acked++) {
      const { partition, offsets } = stream.batches[acked]!;
      await scene.ack('billing', stream, { partition, upToOffset: offsets[0]! });
    }
    expect(partitions(stream)).toEqual([0, 1, 2, 3, 0, 1, 2, 3]);
  });

  test('the reason of an idle stream is the most urgent one of all its partitions, even of those without news', async () => {
    const stream = await scene.subscribe('billing', { maxInFlightRecords: 1 });
    logs[0]!.append(1);
    logs[1]!.append(1);
    await scene.clock.advance(1_000);
    logs[2]!.append(1);
    await scene.clock.advance(1_000);
    expect(stream.of('idle').at(-1)).toMatchObject({ blockedOn: 'CREDIT' });
    await scene.ack('billing', stream, { partition: 0, upToOffset: 0 });
    await scene.ack('billing', stream, { partition: 1, upToOffset: 0 });
    await scene.clock.advance(10_000);
    expect(stream.of('idle').at(-1)).toMatchObject({ blockedOn: 'CAUGHT_UP' });
  });
});

/** The behaviour of `ReadyLogs` with plain lists. */
class Model {
  ready: number[] = [];
  waiting: { readonly log: number; readonly reason: BlockedOn }[] = [];

  add(log: number): void {
    if (!this.waiting.some((one) => one.log === log)) return;
    this.waiting = this.waiting.filter((one) => one.log !== log);
    this.ready.push(log);
  }

  remove(log: number): void {
    this.ready = this.ready.filter((one) => one !== log);
    this.waiting = this.waiting.filter((one) => one.log !== log);
  }

  addAll(reason: BlockedOn): void {
    for (const one of this.waiting.filter((waiting) => waiting.reason === reason)) this.add(one.log);
  }
}

const reasons = ['CREDIT', 'WINDOW', 'DEAD_LETTER', 'RETRY', 'REVOKING', 'READING', 'CAUGHT_UP'] as const;
const logCount = 5;
const operation = fc.oneof(
  fc.record({ type: fc.constantFrom('toggle', 'add'), log: fc.nat(logCount - 1) }),
  fc.record({ type: fc.constant('wait'), reason: fc.constantFrom(...reasons) }),
  fc.record({ type: fc.constantFrom('served', 'creditReturned', 'timePassed') }),
);

test('after any events in any order, each held log is ready in its turn or waits for one reason', () => {
  fc.assert(
    fc.property(fc.array(operation, { minLength: 20, maxLength: 100 }), (operations) => {
      const real = Array.from({ length: logCount }, (_, at) => new Seat({} as Feed, {} as Member, at));
      const [ready, model, held] = [new ReadyLogs(), new Model(), new Set<number>()];
      for (const one of operations) {
        const next = model.ready[0];
        if (one.type === 'creditReturned' || one.type === 'timePassed') {
          ready[one.type]();
          if (one.type === 'timePassed') model.addAll('RETRY');
          model.addAll('CREDIT');
        } else if (one.type === 'toggle' && held.delete(one.log)) {
          ready.remove(real[one.log]!);
          model.remove(one.log);
        } else if (one.type === 'toggle') {
          held.add(one.log);
          ready.admit(real[one.log]!);
          model.ready.push(one.log);
        } else if (one.type === 'add') {
          if (!held.has(one.log)) continue;
          ready.add(real[one.log]!);
          model.add(one.log);
        } else if (next !== undefined) {
          model.remove(next);
          if (one.type === 'wait') {
            ready.wait(real[next]!, one.reason);
            model.waiting.push({ log: next, reason: one.reason });
          } else {
            ready.served(real[next]!);
            model.ready.push(next);
          }
        }
        expect(ready.next).toBe(real[model.ready[0] ?? -1] ?? null);
        expect(ready.reason).toBe(reasons.find((reason) => model.waiting.some((w) => w.reason === reason)) ?? null);
      }
    }),
    property(500),
  );
});

test('records behind one that a settlement completes are blocked on DEAD_LETTER', () => {
  const cursor = new Cursor(begunAt(0), { inFlightRecordsMax: 10, ackedRunsMax: 10, attemptRunsMax: 10 });
  cursor.deliver(0, 0, { keptBytes: 0, bytesOf: () => 1 }, null);
  cursor.move([0, 0]);
  const seat = { revoking: false, feed: { cursor, log: { endOffset: 2 } } } as unknown as Seat;
  expect(nextPiece(seat, new Credit(10, 10), 0, true)).toEqual({ blockedOn: 'DEAD_LETTER', untilMs: null });
});
