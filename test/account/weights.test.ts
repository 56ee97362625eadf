import { create, toBinary, type MessageInitShape } from '@bufbuild/protobuf';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { AckRequestSchema, PublishRequestSchema, SubscribeRequestSchema } from '../../gen/millrace/v1/broker_pb.js';
import { textBytes, weights } from '../../src/account/weights.ts';
import { Attempts } from '../../src/consumption/offsets/attempts.ts';
import { begunAt, Cursor } from '../../src/consumption/partitioned/cursor.ts';
import { builtInAssignors } from '../../src/coordinator/assignors/built-in.ts';
import type { AssignmentRow, MemberId, MemberRow } from '../../src/coordinator/group.ts';
import { FeedMemory } from '../../src/delivery/dispatch/feed-memory.ts';
import { ConsumerGroup } from '../../src/delivery/groups/consumer-group.ts';
import type { GroupContext } from '../../src/delivery/groups/context.ts';
import { SubscriptionLives } from '../../src/delivery/groups/subscription-life.ts';
import { groupBytes, memberBytes, subscriptionBytes } from '../../src/delivery/kept/sizes.ts';
import type { SubscriptionRow } from '../../src/delivery/ports/store.ts';
import { KeyMemory } from '../../src/log/known-keys.ts';
import { BatchSizes, type StoredBatch } from '../../src/log/batch.ts';
import { Reader } from '../../src/log/reader.ts';
import { TailCache } from '../../src/log/tail-cache.ts';
import { Topic } from '../../src/log/topic.ts';
import type { PublishCommand } from '../../src/commit/publish.ts';
import type { HandlerContext } from '../../src/rpc/edge/call.ts';
import { PublishStream } from '../../src/rpc/handlers/publish-stream.ts';
import { decodeBinary } from '../../src/rpc/translation/decode.ts';
import { DeltaSums } from '../../src/storage/commit/delta-sums.ts';
import { createBatchCodec } from '../../src/wire/batch-codec.ts';
import { Scene as LogScene, topicAtWork } from '../log/scene.ts';
import { cursorOf } from '../../src/delivery/subscriptions/subscription.ts';
import { MemoryLogStore } from '../support/memory-log-store.ts';
import { roomyAccount, roomyKept } from './accounts.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { newTopicFields } from '../support/retention/stored-segments.ts';

/**
 * Compares each weight with the real objects on the heap. A weight below the truth lets clients
 * fill the heap within the limits, and one far above it refuses them for nothing.
 */

const many = 20_000;
const aboveMax = 1.6;
const clock = new FakeClock();
const account = roomyAccount();
const bounds = { inFlightRecordsMax: 10_000, ackedRunsMax: 1_000, attemptRunsMax: 1_000 };
/** What a test has built. It stays until the end of the test, or a collection would take it. */
const built: unknown[] = [];
afterEach(() => {
  built.length = 0;
});

type Memory = ReturnType<typeof process.memoryUsage>;
const withBuffers = ({ heapUsed, external }: Memory): number => heapUsed + external;
const heapAlone = ({ heapUsed }: Memory): number => heapUsed;

/** Buffers, which are in `external`, go some time after the collection that found them. */
async function usedBytes(of: (memory: Memory) => number): Promise<number> {
  let used = Infinity;
  for (let steady = 0; steady < 3;) {
    await new Promise<void>((resolve) => setImmediate(resolve));
    globalThis.gc!();
    const now = of(process.memoryUsage());
    steady = now >= used - 10_000 ? steady + 1 : 0;
    used = now;
  }
  return used;
}

/** How much the heap grows by what `build` returns, for each of `count` objects. */
async function measured(count: number, build: () => unknown, of = withBuffers): Promise<number> {
  built.length = 0;
  const before = await usedBytes(of);
  built.push(await build());
  return ((await usedBytes(of)) - before) / count;
}

function expectFits(weight: number, bytes: number): void {
  expect(bytes, 'bytes on the heap').toBeLessThanOrEqual(weight);
  expect(weight, 'the weight').toBeLessThanOrEqual(aboveMax * bytes);
}

const unused = (): never => {
  throw new Error('nothing is encoded');
};
const times = <T>(count: number, make: (index: number) => T): T[] => Array.from({ length: count }, (_, i) => make(i));

/** Of so many characters, as texts of requests are: made of bytes. */
const text = (start: number | string, chars: number): string => Buffer.from(`${start}`.padEnd(chars, '.')).toString();

test.each([36, 256])('an idempotency key of %d characters weighs more than is counted, or much less', async (chars) => {
  const bytes = await measured(many, () => {
    const keys = new KeyMemory(roomyAccount().kind('keys')).ofTopic(0);
    for (let n = 0; n < many; n++) keys.add(text(n, chars), { partition: n % 8, offset: n }, 1_000 + n);
    return keys;
  });
  expectFits(weights.key + textBytes(text('a', chars)), bytes);
});

test('a message of a request weighs more than is counted once it is decoded, or much less', async () => {
  const request = toBinary(AckRequestSchema, create(AckRequestSchema, { acks: times(many, () => ({})) }));
  const bytes = await measured(many, () => decodeBinary(AckRequestSchema, Buffer.from(request)));
  expectFits(weights.decodedMessage, bytes);
});

test('a text in a list of a request weighs more than is counted once it is decoded, or much less', async () => {
  const topics = times(many, (n) => `${n}`.padEnd(40, '.'));
  const request = toBinary(SubscribeRequestSchema, create(SubscribeRequestSchema, { topics }));
  const bytes = await measured(many, () => decodeBinary(SubscribeRequestSchema, Buffer.from(request)));
  expectFits(weights.decodedScalar + 2 * 41, bytes + 41);
});

function wideTopic(partitions: number): Topic {
  const ids = times(partitions, (n) => n + 1);
  const topic = topicAtWork(clock, 'wide', ids);
  for (const partition of topic.partitions) partition.learn({ ...partition.address, startOffset: 0, endOffset: 0 });
  return topic;
}

test('a partition weighs more than is counted, or much less', async () => {
  expectFits(weights.partitionLog, await measured(many, () => wideTopic(many)));
});

test('a topic without its partitions weighs more than is counted, or much less', async () => {
  const codec = { encode: () => unused(), join: () => unused(), cut: () => unused() };
  const store = new MemoryLogStore(clock);
  const tails = new TailCache({ codec, account, joinBytesMax: 0 });
  const reader = new Reader({ store, codec, fetchBytesMax: 0, chunkBytes: 0, account });
  const keys = new KeyMemory(account.kind('keys'));
  const bytes = await measured(2_000, () =>
    times(2_000, (id) => {
      const row = {
        id,
        name: text(id, 10),
        semantics: 'PUB_SUB',
        partitions: [],
        segment: 1,
        idempotencyWindowMs: 120_000,
        description: '',
        createdAtMs: 1.5,
        ...newTopicFields,
      } as const;
      const missing = { failed: () => undefined };
      const times = { nowMs: 0, keysCompleteSinceMs: -Infinity, untilOpened: null };
      return new Topic(row, { store, codec, tails, reader, keys, missing }, times);
    }),
  );
  expectFits(weights.topic, bytes);
});

test.each([40, 4_096])('a note of %d characters weighs more than is counted, or much less', async (chars) => {
  const cursors = times(many, () => new Cursor(begunAt(0), bounds));
  const bytes = await measured(many, () => {
    for (const [n, cursor] of cursors.entries()) cursor.annotate(text(n, chars));
    return cursors;
  });
  expectFits(weights.note + textBytes(text('a', chars)), bytes);
});

/** An offset that does not fit into 32 bits. */
const far = 1e10;

/** Delivers records of a cursor that begins at `far`, lets `answer` ack them, and makes a round. */
function worked(cursor: Cursor, records: number, answer: (cursor: Cursor) => void): Cursor {
  cursor.deliver(far, far + records - 1, { keptBytes: 0, bytesOf: (first, last) => last - first + 1 }, null);
  answer(cursor);
  const delta = cursor.takeDelta();
  if (delta !== null) cursor.written(delta);
  cursor.giveBackAll(false);
  return cursor;
}

/** What each run takes beside the cursor, with so many runs a cursor. */
async function runBytes(perCursor: number, answer: (cursor: Cursor) => void): Promise<number> {
  const count = Math.ceil(many / perCursor);
  const cursors = times(count, () => new Cursor(begunAt(far), bounds));
  // The first work of a cursor is part of its weight.
  for (const cursor of cursors) worked(cursor, 1, (one) => one.release({ runs: [far, far] }, 0));
  const bytes = await measured(1, () => cursors.map((cursor) => worked(cursor, 2 * perCursor + 1, answer)));
  return bytes / (count * perCursor);
}

const everySecond = (runs: number): number[] => times(runs, (n) => far + 2 * n + 1);

test.each([10, 100, 1_000])('a run of acked offsets, of %d a cursor, weighs more than is counted', async (runs) => {
  const bytes = await runBytes(runs, (cursor) => {
    for (const offset of everySecond(runs)) cursor.ackRuns([offset, offset]);
  });
  expect(bytes).toBeLessThanOrEqual(weights.hole);
  expect(weights.hole).toBeLessThanOrEqual(2.5 * bytes);
});

test('a run of delivery attempts weighs more than is counted, or much less', async () => {
  const bytes = await measured(many, () => {
    const attempts = new Attempts([], many);
    for (let n = 0; n < many; n++) attempts.count([far + 3 * n, far + 3 * n]);
    attempts.takeNew();
    return attempts;
  });
  expectFits(weights.attemptRun, bytes);
});

test.each([1, 1_000])(
  'the sum of a cursor in the ack log, with %d holes, weighs more than the cursor',
  async (holes) => {
    const count = many / holes;
    const bytes = await measured(count, () => {
      const sums = new DeltaSums(new Map([[1, 1]]));
      const acked = times(holes, (n) => [far + 3 * n, far + 3 * n]).flat();
      for (let partition = 0; partition < count; partition++) {
        for (const runs of [acked.slice(0, holes), acked.slice(holes - (holes % 2))])
          sums.add(
            { subscriptionId: 1, partition, lane: 0 },
            { resets: 0, committedOffset: far - 1, acked: runs.length > 1 ? runs : [], attempts: [], metadata: null },
          );
      }
      return sums;
    });
    expect(bytes).toBeLessThanOrEqual(weights.cursor + holes * weights.hole);
  },
);

/** A publish of one small record. */
function tinyBatch(baseOffset: number): StoredBatch {
  const set = { count: 1, buffer: Buffer.from('key: a value'), bounds: Int32Array.from([0, 3, 0, 0, 5, 12, 0, 0]) };
  return { baseOffset, appendTimeUs: 1_000_000, records: [{ set, indexes: Int32Array.of(0) }] };
}

test('a small batch in the cache weighs more than is counted, or much less', async () => {
  const cached = roomyAccount();
  const bytes = await measured(many, () => {
    const tails = new TailCache({ codec: createBatchCodec(), account: cached, joinBytesMax: 0 });
    const tail = tails.tailOf({ topicId: 1, topicName: 'orders', partition: 0, lane: 0 });
    for (let n = 0; n < many; n++) {
      tails.add(tail, tinyBatch(n), 1, 12);
      tails.encodeAll();
    }
    return tails;
  });
  expectFits(weights.batch + cached.kind('tail').bytes / many, bytes);
});

test.each([1, 2, 10])(
  'records that went out in runs of %d weigh more than is counted while they are in flight, or much less',
  async (together) => {
    const address = { topicId: 1, topicName: 'orders', partition: 0, lane: 0 };
    const codec = createBatchCodec();
    const cursors = times(many / 2_000, () => new Cursor(begunAt(1e10), bounds));
    const bytes = await measured(2 * many, () => {
      for (const cursor of cursors) {
        for (let n = 0; n < 4_000 / together; n++) {
          const first = 1e10 + n * together;
          const batch = codec.encode(
            address,
            times(together, (at) => tinyBatch(first + at)),
          );
          cursor.deliver(first, first + together - 1, new BatchSizes(batch), null);
        }
      }
      return cursors;
    });
    const { pieces, sizeBytes } = cursors[0]!.inFlight;
    expectFits((pieces * weights.deliveredRun + sizeBytes) / 4_000, bytes);
  },
);

interface Waiting {
  readonly publishes: number;
  readonly queued: number;
}

/** What is counted for publishes that wait, and what they take of the memory that is asked for. */
async function waiting(
  count: number,
  publish: MessageInitShape<typeof PublishRequestSchema>,
  of: (memory: Memory) => number,
): Promise<{ readonly counted: Waiting; readonly bytes: number }> {
  const scene = await LogScene.open({ queueBytesMax: 64 * 1_048_576 });
  scene.hold('append');
  const [publishes, queued] = [scene.account.kind('publishes'), scene.account.kind('queued')];
  const broker = { publish: (command: PublishCommand) => scene.publisher.publish(command) };
  const context = { services: () => ({ broker }), recordBytesMax: 1_000 } as unknown as HandlerContext;
  const output = { respond: unused, end: unused, pause: () => undefined, resume: () => undefined };
  const request = toBinary(PublishRequestSchema, create(PublishRequestSchema, publish));
  const onStreams = (): unknown =>
    times(Math.ceil(count / 500), () => {
      const stream = new PublishStream(context, output);
      for (let n = 0; n < Math.min(count, 500); n++) {
        stream.receive(Buffer.allocUnsafeSlow(request.length).fill(request));
      }
      return stream;
    });
  const bytes = await measured(count, onStreams, of);
  return { counted: { publishes: publishes.bytes / count, queued: queued.bytes / count }, bytes };
}

test('a publish of one small record weighs more than is counted while it waits, or much less', async () => {
  const one = { topic: 'orders', records: [{ value: Buffer.from('a value') }] };
  const { counted, bytes } = await waiting(10_000, one, withBuffers);
  expectFits(counted.publishes + counted.queued, bytes);
});

test('the idempotency keys of a publish that waits take more of the heap than is counted there', async () => {
  // One character above U+00FF makes every character of a text two bytes wide.
  const records = times(1_000, (n) => ({ idempotencyKey: `\u0101${n}`.padEnd(255, 'k') }));
  const { counted, bytes } = await waiting(50, { topic: 'orders', records }, heapAlone);
  expectFits(counted.queued, bytes);
});

test('a refused record weighs more than is counted, or much less', async () => {
  const cursors = times(10, () => new Cursor(begunAt(1e10), bounds));
  for (const cursor of cursors) {
    const end = 1e10 + 4_000;
    cursor.deliver(1e10, end - 1, { keptBytes: 0, bytesOf: (first, last) => last - first + 1 }, null);
  }
  const others = times(2_000, (n) => [1e10 + 2 * n, 1e10 + 2 * n]).flat();
  const bytes = await measured(10 * 2_000, () => {
    for (const cursor of cursors) cursor.release({ runs: others }, 0);
    return cursors;
  });
  expect(cursors[0]!.refusedRuns).toBe(2_000);
  expectFits(weights.refusedRun, bytes);
});

const emptyLives = () => new SubscriptionLives({ clock, log: { info: () => undefined }, live: () => undefined });
let lives = emptyLives();
beforeEach(() => {
  lives = emptyLives();
});

/** What groups need to be loaded. Nothing of it lets them work. */
const context = {
  get lives() {
    return lives;
  },
  clock,
  memory: new FeedMemory(account),
  assignors: builtInAssignors,
  kept: roomyKept(),
  random: { uuid: () => 'id', fraction: () => 0.5 },
  writer: { save: () => Promise.resolve() },
  counts: {},
  movesAtOnce: 10_000,
  log: { info: () => undefined, warn: () => undefined },
} as unknown as GroupContext;

function memberOf(n: number, joinSeq: number): MemberRow {
  return {
    memberId: text(`member-${n}`, 43) as MemberId,
    instanceId: null,
    host: '127.0.0.1:50000',
    clientId: text(`client-${n}`, 20),
    kind: 'STREAM',
    sessionTimeoutMs: 30_000,
    rebalanceTimeoutMs: 60_000,
    maxPollIntervalMs: 300_000,
    assignor: 'sticky',
    clientAssignors: [],
    metadata: new Uint8Array(),
    topicIds: [1],
    joinSeq,
  };
}

function groupOf(
  id: number,
  members: readonly MemberRow[] = [],
  assignments: readonly AssignmentRow[] = [],
): ConsumerGroup {
  return ConsumerGroup.load(
    { id, name: text(`group-${id}`, 20), snapshot: { generation: 1, members, assignments } },
    context,
  );
}

test('a group without members weighs more than is counted, or much less', async () => {
  expectFits(groupBytes(text('group-1', 20)), await measured(many, () => times(many, (n) => groupOf(n))));
});

test.each([0, 1, 1_000])(
  'a member with %d bytes of metadata weighs more than is counted, or much less',
  async (size) => {
    const row = (n: number, joinSeq: number): MemberRow => {
      return { ...memberOf(n, joinSeq), metadata: new Uint8Array(Buffer.alloc(size)) };
    };
    const bytes = await measured(many, () =>
      times(many / 1_000, (group) =>
        groupOf(
          group,
          times(1_000, (n) => row(1_000 * group + n, n)),
        ),
      ),
    );
    expectFits(memberBytes(row(0, 0)), bytes);
  },
);

test('a member with long texts weighs more than is counted, or much less', async () => {
  const row = (n: number): MemberRow => ({
    ...memberOf(n, n),
    memberId: text(`member-${n}`, 237) as MemberId,
    clientId: text(`client-${n}`, 200),
    instanceId: text(`instance-${n}`, 200),
    clientAssignors: times(10, (at) => text(`${n} ${at}`, 200)),
    topicIds: times(100, (at) => at),
  });
  const bytes = await measured(2_000, () => times(2, () => groupOf(1, times(1_000, row))));
  expectFits(memberBytes(row(0)), bytes);
});

/** A row as the database answers it. It may die, and its numbers do not fit into 32 bits. */
function subscriptionOf(id: number): SubscriptionRow {
  return {
    ...{ id, groupId: id, topicId: 1, claimSeq: far + id, createdAtMs: far + id },
    ...{ state: text('ACTIVE', 6) as 'ACTIVE', stateReason: text('CREATED', 7) as 'CREATED' },
    ...{ stateChangedAtMs: far + id, deadAfterMs: far, unattendedSinceMs: far + id, unattendedForMs: 1.5 },
  };
}

/** Subscribes groups to one topic. Resolves when their coordinators have its partitions too. */
async function subscribed(topic: Topic, groups: readonly ConsumerGroup[]): Promise<void> {
  for (const group of groups) {
    const row = subscriptionOf(group.id);
    const claimed = topic.partitions.map((log) => ({ log, cursor: cursorOf(begunAt(far)) }));
    for (const { cursor } of group.addSubscription(row, { name: 'wide', lanes: 1 }, claimed, true).logs) {
      worked(cursor, 1, (one) => one.ackRuns([far, far]));
    }
    await group.settled();
  }
}

test('a subscription to a small topic weighs more than is counted, or much less', async () => {
  const topic = wideTopic(1);
  const groups = times(many, (n) => groupOf(n));
  const bytes = await measured(many, () => subscribed(topic, groups).then(() => groups));
  expectFits(subscriptionBytes(1), bytes);
});

test('a cursor that no member holds weighs more than is counted, or much less', async () => {
  const topic = wideTopic(1_000);
  const groups = times(many / 1_000, (n) => groupOf(n));
  const bytes = await measured(many, () => subscribed(topic, groups).then(() => groups));
  expectFits(weights.cursor, bytes);
});

test('a cursor that a member holds weighs more than is counted, or much less', async () => {
  const topic = wideTopic(1_000);
  const bytes = await measured(many, async () => {
    const groups = times(many / 1_000, (n) => {
      const member = memberOf(n, 1);
      const { memberId } = member;
      return groupOf(
        n,
        [member],
        times(1_000, (at) => ({ topicId: 1, partition: at, memberId, sinceGeneration: 1 })),
      );
    });
    for (const group of groups) {
      const [{ memberId }] = group.rows() as [MemberRow];
      const held = times(1_000, (partition) => ({ topicId: 1, partition, memberId, sinceGeneration: 1 }));
      await Promise.all([subscribed(topic, [group]), group.resume(held)]);
    }
    return groups;
  });
  expectFits(weights.cursor + weights.heldCursor, bytes);
});
