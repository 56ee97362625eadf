import { expect, test } from 'vitest';
import { begunAt, Cursor } from '../../../src/consumption/partitioned/cursor.ts';
import { Credit } from '../../../src/credit/credit.ts';
import { FeedMemory } from '../../../src/delivery/dispatch/feed-memory.ts';
import { Feed, type Seat } from '../../../src/delivery/dispatch/feed.ts';
import { Member } from '../../../src/delivery/dispatch/member.ts';
import { handOut, nextPiece } from '../../../src/delivery/dispatch/piece.ts';
import type { MemberId } from '../../../src/coordinator/group.ts';
import type { EncodedBatch } from '../../../src/log/batch.ts';
import type { PartitionLog } from '../../../src/log/partition-log.ts';
import { roomyKept, smallAccount } from '../../account/accounts.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { noJumps, ownSubscription, Scene } from '../scene.ts';

/** The bytes that a batch of one record takes in the memory of feeds. */
const batchBytes = 100 + Uint32Array.BYTES_PER_ELEMENT;
const bytesMax = 50 * batchBytes;

const cursorBounds = { inFlightRecordsMax: 10_000, ackedRunsMax: 1_000, attemptRunsMax: 1_000 };

/** A log with records of 100 bytes that are only in the database, one in each batch. */
function storedLog(partition: number): PartitionLog & { fetches: number } {
  const batchAt = (baseOffset: number): EncodedBatch => {
    return { baseOffset, count: 1, bytes: Buffer.alloc(100), recordsStart: 0, recordEnds: Uint32Array.of(100) };
  };
  return {
    address: { topicId: 1, topicName: 'orders', partition, lane: 0 },
    startOffset: 0,
    endOffset: 3,
    watermark: 0,
    fetches: 0,
    cached: () => null,
    fetch(offset) {
      this.fetches++;
      return Promise.resolve(batchAt(offset));
    },
    offsetAtTime: () => Promise.resolve(0),
    addListener: () => undefined,
    removeListener: () => undefined,
  };
}

/** A member that holds so many logs, all of which have records to deliver. */
function behind(count: number): { member: Member; seats: readonly Seat[]; memory: FeedMemory; clock: FakeClock } {
  const clock = new FakeClock();
  const memory = new FeedMemory(smallAccount({ feeds: bytesMax }));
  const member = new Member('a' as MemberId);
  const kept = roomyKept();
  for (let partition = 0; partition < count; partition++) {
    const key = { subscriptionId: 1, partition, lane: 0 };
    member.hold(
      new Feed(
        key,
        new Cursor(begunAt(0), cursorBounds),
        storedLog(partition),
        {
          clock,
          memory,
          kept,
          jumps: noJumps,
        },
        ownSubscription,
      ),
    );
  }
  return { member, seats: member.seats, memory, clock };
}

const credit = (): Credit => new Credit(1_000_000, 1_000_000_000);

test('10,000 cursors with a little lag do not keep more batches in memory than the limit', async () => {
  const { seats, memory, clock } = behind(10_000);
  for (const seat of seats) nextPiece(seat, credit(), 0, false);
  await clock.settle();
  expect(memory.bytes).toBe(bytesMax);
  const kept = seats.filter((seat) => 'batch' in nextPiece(seat, credit(), 0, false));
  expect(kept.length * batchBytes).toBe(bytesMax);
});

test('a batch that was dropped for others is read again, and its records go out', async () => {
  const { seats, clock } = behind(51);
  for (const seat of seats) nextPiece(seat, credit(), 0, false);
  await clock.settle();
  expect(nextPiece(seats[0]!, credit(), 0, false)).toMatchObject({ blockedOn: 'READING' });
  await clock.settle();
  expect(nextPiece(seats[0]!, credit(), 0, false)).toMatchObject({ first: 0, last: 0 });
});

test('the least recently used batch goes first, and a used one stays', async () => {
  const { seats, clock } = behind(51);
  for (const seat of seats.slice(0, 50)) nextPiece(seat, credit(), 0, false);
  await clock.settle();
  nextPiece(seats[0]!, credit(), 0, false);
  nextPiece(seats[50]!, credit(), 0, false);
  await clock.settle();
  const isKept = (seat: Seat): boolean => 'batch' in nextPiece(seat, credit(), 0, false);
  expect([0, 1, 2, 50].map((at) => isKept(seats[at]!))).toEqual([true, false, true, true]);
});

test('a batch is dropped when its last record has gone out, not when its cursor is delivered the next time', async () => {
  const { seats, memory, clock } = behind(1);
  const [seat] = seats;
  nextPiece(seat!, credit(), 0, false);
  await clock.settle();
  const piece = nextPiece(seat!, credit(), 0, false);
  if (!('batch' in piece)) throw new Error('nothing was read');
  expect(memory.bytes).toBe(batchBytes);
  const unused = () => Buffer.alloc(0);
  const codec = { encode: unused as never, join: unused as never, cut: unused };
  handOut(piece, credit(), { codec, delivered: { records: 0, bytes: 0 } }, null);
  expect(memory.bytes).toBe(0);
});

test('no batch is read for a member without credit', async () => {
  const scene = await Scene.open();
  const [log] = scene.addTopic('orders', 1);
  log!.append(1);
  log!.append(1);
  log!.cachedFrom = 2;
  const member = await scene.subscribe('billing', { maxInFlightRecords: 1 });
  expect([member.offsets, log!.fetches, scene.delivery.views.counts().feedBytes]).toEqual([[0], 1, 0]);
  await scene.ack('billing', member, { upToOffset: 0 });
  expect([member.offsets, log!.fetches]).toEqual([[0, 1], 2]);
});

test('a log that its member has given back keeps no batch in memory', async () => {
  const scene = await Scene.open();
  const [log] = scene.addTopic('orders', 1);
  log!.append(3);
  log!.cachedFrom = 3;
  const member = await scene.subscribe('billing', { maxInFlightRecords: 2 });
  expect(scene.delivery.views.counts().feedBytes).toBeGreaterThan(0);
  member.stream!.closed('CONNECTION_LOST');
  await scene.clock.settle();
  expect(scene.delivery.views.counts().feedBytes).toBe(0);
});

test('a log that is closed while a failed read of it waits to be tried again leaves no timer', async () => {
  const clock = new FakeClock();
  const log = storedLog(0);
  log.fetch = () => Promise.reject(new Error('the database is away'));
  const cursor = new Cursor(begunAt(0), cursorBounds);
  const parts = { clock, memory: new FeedMemory(smallAccount({ feeds: bytesMax })), kept: roomyKept(), jumps: noJumps };
  const feed = new Feed({ subscriptionId: 1, partition: 0, lane: 0 }, cursor, log, parts, ownSubscription);
  feed.batchAt(0);
  await clock.settle();
  expect(clock.pending).toBe(1);
  feed.close();
  expect(clock.pending).toBe(0);
});

test('a heartbeat names more partitions to give back than its answer has room for, or loses the others', () => {
  const { member, seats } = behind(5);
  for (const seat of [...seats]) member.askBack(seat, 0);
  const first = member.revoking(3);
  expect([first.revoking.length, first.moreRevoking]).toEqual([3, true]);
  const [one, two, three] = member.askedBack;
  for (const seat of [one!, two!, three!]) member.letGo(seat);
  const rest = member.revoking(3);
  expect([rest.revoking.length, rest.moreRevoking]).toEqual([2, false]);
  const named = [...first.revoking, ...rest.revoking].map(({ partition }) => partition);
  expect(named.toSorted()).toEqual([0, 1, 2, 3, 4]);
});
