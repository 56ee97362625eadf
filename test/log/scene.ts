import { boundsPerRecord, endOffset, type EncodedBatch, type RecordSet } from '../../src/log/batch.ts';
import { AckRing } from '../../src/commit/ack-ring.ts';
import { WriteTrouble } from '../../src/errors/write-trouble.ts';
import { Publisher } from '../../src/commit/publisher.ts';
import type { Account } from '../../src/account/account.ts';
import { KeyMemory } from '../../src/log/known-keys.ts';
import { Log } from '../../src/log/log.ts';
import type { PartitionLog } from '../../src/log/partition-log.ts';
import type { PublishCommand, PublishedRecords, PublishStreamToken } from '../../src/commit/publish.ts';
import { Reader } from '../../src/log/reader.ts';
import { route, type RoutedPublish } from '../../src/commit/route.ts';
import { noSettlements, type CommitUnit } from '../../src/commit/unit.ts';
import type { TopicRow } from '../../src/log/store.ts';
import { TailCache } from '../../src/log/tail-cache.ts';
import { Topic } from '../../src/log/topic.ts';
import type { Clock } from '../../src/time/clock.ts';
import { createBatchCodec } from '../../src/wire/batch-codec.ts';
import { roomyAccount, smallAccount } from '../account/accounts.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { MemoryLogs, MemoryLogStore, type LogCall } from '../support/memory-log-store.ts';
import { decodeBatch } from '../wire/delivery.ts';

export const codec = createBatchCodec();

/**
 * Records as a scan returns them. The key of a text is the part before its first ":"; the rest is
 * the value.
 */
export function records(...texts: readonly string[]): RecordSet {
  const buffer = Buffer.from(`#${texts.join('')}`);
  const bounds = new Int32Array(texts.length * boundsPerRecord);
  let at = 1;
  texts.forEach((text, i) => {
    const bytes = Buffer.byteLength(text);
    const keyBytes = Buffer.byteLength(text.slice(0, Math.max(0, text.indexOf(':'))));
    if (keyBytes > 0) bounds.set([at, at + keyBytes], i * boundsPerRecord);
    bounds.set([at + keyBytes, at + bytes], i * boundsPerRecord + 4);
    at += bytes;
  });
  return { count: texts.length, buffer, bounds };
}

/** A topic without a log, whose partitions have the given ids. */
export function topicAtWork(
  clock: Clock,
  name: string,
  ids: readonly number[],
  store = new MemoryLogStore(clock),
): Topic {
  const partitions = ids.map((id, partition) => ({ id, partition }));
  const row = store.shared.addTopic(name, ids.length, { partitions });
  const account = roomyAccount();
  const tails = new TailCache({ codec, account, joinBytesMax: 10_000 });
  const reader = new Reader({ store, codec, fetchBytesMax: 10_000, chunkBytes: 5_000, account });
  const keys = new KeyMemory(account.kind('keys'));
  const missing = { failed: () => undefined };
  const times = { nowMs: clock.nowMs(), keysCompleteSinceMs: -Infinity, untilOpened: null };
  return new Topic(row, { store, codec, tails, reader, keys, missing }, times);
}

/** A unit of one publish, with the fields of that publish. */
export type PendingPublish = CommitUnit & RoutedPublish;

/** A request as it waits in the queue. `onEnd` gets its outcome. */
export function pending(
  topic: Topic,
  set: RecordSet,
  changes: Partial<PublishCommand> = {},
  onEnd: (end: PublishedRecords | Error) => void = () => undefined,
): PendingPublish {
  const one = command(topic.row.name, set, changes);
  const routed = route(topic, one);
  return {
    ...routed,
    publishes: [routed],
    settlements: noSettlements,
    receipt: null,
    own: false,
    queued: { bytes: routed.bytes, heapBytes: 1 },
    records: set.count,
    resolve: ([published]) => {
      onEnd(published!);
    },
    reject: onEnd,
    ended: false,
  };
}

/** The records of a batch as a reader decodes them: "offset=" with key and value behind it. */
export function texts({ bytes }: EncodedBatch): string[] {
  return decodeBatch(bytes).records.map(({ record, offset }) => {
    return `${offset}=${record!.key}${Buffer.from(record!.value).toString()}`;
  });
}

/** Reads a log to its end as delivery does: from memory if it can, otherwise from the database. */
export async function readAll(log: PartitionLog, from = log.startOffset): Promise<string[]> {
  const read: string[] = [];
  for (let offset = from; offset < log.endOffset;) {
    const batch = log.cached(offset) ?? (await log.fetch(offset));
    if (batch === null) throw new Error(`offset ${offset} of ${log.endOffset} is nowhere`);
    read.push(...texts(batch).slice(offset - batch.baseOffset));
    offset = endOffset(batch);
  }
  return read;
}

export function command(topic: string, set: RecordSet, changes: Partial<PublishCommand> = {}): PublishCommand {
  return {
    topic,
    records: set,
    idempotencyKeys: null,
    partition: 0,
    committed: true,
    expectedOffset: null,
    lane: null,
    stream: null,
    ...changes,
  };
}

export const newStream = (): PublishStreamToken => ({ failure: null });

/** "partition/offset" of each record, with "again" behind duplicates. */
export function places({ partitions, offsets, duplicates }: PublishedRecords): string[] {
  return [...offsets].map((offset, i) => `${partitions[i]}/${offset}${duplicates?.[i] === 1 ? ' again' : ''}`);
}

/** Calls of the store wait at a gate until the test opens it. */
export class Gate {
  #open: () => void = () => undefined;
  readonly #opened = new Promise<void>((resolve) => {
    this.#open = resolve;
  });
  /** Calls that have reached the gate. */
  waiting = 0;

  pass(): Promise<void> {
    this.waiting++;
    return this.#opened;
  }

  open(): void {
    this.#open();
  }
}

/** A log and its publisher over a store in memory, on a fake clock. */
export class Scene {
  readonly clock: FakeClock;
  readonly store: MemoryLogStore;
  readonly account: Account;
  readonly log: Log;
  readonly publisher: Publisher;
  readonly ring = new AckRing();
  #receipts = 0;
  readonly said: string[] = [];
  fenced = 0;

  constructor({
    appendSlots = 1,
    queueBytesMax = 2_000_000,
    tailBytesMax = 1_000_000,
    clock = new FakeClock(),
    shared = new MemoryLogs(),
    accountBytes = {},
    writes = new WriteTrouble(() => clock.wallMs()),
  } = {}) {
    this.clock = clock;
    this.account = smallAccount({ publishes: queueBytesMax, tail: tailBytesMax, ...accountBytes });
    const { account } = this;
    this.store = new MemoryLogStore(clock, { appendSlots, shared });
    const say = (_fields: object, message: string): void => {
      this.said.push(message);
    };
    this.log = new Log({
      store: this.store,
      clock,
      codec,
      account,
      owner: account.owner(),
      log: { info: say, warn: say },
    });
    this.publisher = new Publisher({
      store: this.store,
      log: this.log,
      ring: this.ring,
      clock,
      random: { uuid: () => `receipt-${++this.#receipts}`, fraction: () => 0.5 },
      account,
      writes,
      onFenced: () => {
        this.fenced++;
      },
      warn: say,
    });
  }

  /** Opens a log with one topic, "orders", that is older than the broker. */
  static async open(
    options: ConstructorParameters<typeof Scene>[0] & { partitions?: number; topic?: Partial<TopicRow> } = {},
  ): Promise<Scene> {
    const scene = new Scene(options);
    const row = scene.store.shared.addTopic('orders', options.partitions ?? 1, options.topic);
    scene.log.open([row]);
    await scene.log.untilOpen(row.id);
    return scene;
  }

  partition(partition = 0): PartitionLog {
    return this.log.partitionLogs(1)[partition]!;
  }

  /**
   * Publishes. The outcome is there once the clock has settled: places, "queued", or the reason of
   * the error.
   */
  publish(set: RecordSet, changes: Partial<PublishCommand> = {}): Publish {
    return new Publish(this.publisher.publish(command('orders', set, changes)));
  }

  start(): void {
    this.log.start();
    this.publisher.start();
  }

  stop(): void {
    void this.publisher.stop();
    void this.log.stop();
  }

  async drain(): Promise<void> {
    await this.publisher.drain();
    void this.log.stop();
  }

  stats() {
    return { ...this.log.stats(), ...this.publisher.stats() };
  }

  /** Stops these calls at a gate before they have any effect. */
  hold(...calls: readonly LogCall[]): Gate {
    const gate = new Gate();
    this.store.before = (call) => (calls.includes(call) ? gate.pass() : undefined);
    return gate;
  }

  /** The number of records of each committed transaction. */
  get transactions(): number[] {
    return this.store.appended.map(({ batches }) => batches.reduce((sum, { recordCount }) => sum + recordCount, 0));
  }
}

/** A publish whose outcome a test can read at any time. */
export class Publish {
  readonly done: Promise<string>;
  /** The outcome; "pending" until there is one. */
  ended = 'pending';

  constructor(promise: Promise<PublishedRecords | null>) {
    this.done = promise.then(
      (published) => (published === null ? 'queued' : places(published).join(' ')),
      (error: Error) => reasonOf(error),
    );
    void this.done.then((ended) => {
      this.ended = ended;
    });
  }
}

export function reasonOf(error: Error): string {
  if ('reason' in error) return String(error.reason);
  return 'kind' in error ? String(error.kind) : `bug: ${error.message}`;
}
