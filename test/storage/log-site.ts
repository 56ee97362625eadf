import { Client } from 'pg';
import { boundsPerRecord, type RecordSelection, type StoredBatch } from '../../src/log/batch.ts';
import type { AppendTransaction, BatchToAppend, IdempotencyKeyToStore } from '../../src/commit/store.ts';
import type { TopicRow } from '../../src/log/store.ts';
import { parseDatabaseAddress } from '../../src/address/database-address.ts';
import { takeFence } from '../../src/storage/sessions/fence.ts';
import { openStorage, type Storage } from '../../src/storage/storage.ts';
import { ackSlot, foldSlot, groupSlot, tableSlot, topicSlot } from '../../src/storage/sessions/writer.ts';
import { systemClock } from '../../src/time/system.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';

export const appendSlots = 4;
const silent = { info: () => undefined, warn: () => undefined };

/** A database of its own, migrated, and the storage of as many brokers as a test wants. */
export class LogSite {
  readonly database: TestDatabase;
  /** A session beside the brokers'. */
  readonly client: Client;
  readonly #storages: Storage[] = [];
  readonly #clients: Client[] = [];
  #topics = 0;

  private constructor(database: TestDatabase, client: Client) {
    this.database = database;
    this.client = client;
  }

  static async open(): Promise<LogSite> {
    const database = await createTestDatabase();
    const client = new Client({ connectionString: database.url });
    await client.connect();
    const site = new LogSite(database, client);
    await site.storage('nobody', 0).migrate();
    return site;
  }

  /** Makes `broker` the owner, in that epoch. */
  async own(broker: string, epoch: number, url = this.database.url, answerMsMax?: number): Promise<Storage> {
    await this.client.query('BEGIN');
    await takeFence(this.client, broker, epoch, [
      ...Array(appendSlots).keys(),
      ackSlot,
      foldSlot,
      groupSlot,
      topicSlot,
      tableSlot,
    ]);
    await this.client.query('COMMIT');
    return this.storage(broker, epoch, url, answerMsMax);
  }

  /** The storage of a broker that believes to own the database. */
  storage(brokerId: string, epoch: number, url = this.database.url, answerMsMax?: number): Storage {
    const storage = openStorage({
      address: parseDatabaseAddress(url),
      brokerId,
      appendSlots,
      clock: systemClock,
      log: silent,
      ...(answerMsMax !== undefined && { answerMsMax }),
    });
    storage.setEpoch(epoch);
    this.#storages.push(storage);
    return storage;
  }

  async topic(storage: Storage, partitions: number, idempotencyWindowMs = 120_000): Promise<TopicRow> {
    const name = `topic-${++this.#topics}`;
    const topic = await storage.topics.createTopic({ name, partitions, idempotencyWindowMs, description: '' });
    if (topic === null) throw new Error(`${name} is there already`);
    return topic;
  }

  /** Another session of somebody else. */
  async session(): Promise<Client> {
    const client = new Client({ connectionString: this.database.url });
    client.on('error', () => undefined);
    await client.connect();
    this.#clients.push(client);
    return client;
  }

  /** The number that a query with one row and one column `n` answers. */
  async number(sql: string, values: unknown[] = []): Promise<number> {
    const { rows } = await this.client.query<{ n: string | number }>(sql, values);
    return Number(rows[0]!.n);
  }

  /** Resolves when a query like that of `number` answers more than 0. */
  async until(sql: string, values: unknown[] = []): Promise<void> {
    while ((await this.number(sql, values)) === 0);
  }

  async close(): Promise<void> {
    await Promise.all(this.#storages.map((storage) => storage.close()));
    await Promise.all([this.client, ...this.#clients].map((client) => client.end()));
    await this.database.drop();
  }
}

/** Makes the topic's next segment and sends appends to it. @returns the current segment. */
export async function roll(storage: Storage, topicId: number, current: number): Promise<number> {
  await storage.log.makeSegment(topicId, current);
  return storage.log.rollSegment(topicId, current);
}

/** A record as its four stored parts; what is absent is empty. */
export interface Parts {
  readonly key?: Buffer;
  readonly headers?: Buffer;
  readonly value: Buffer;
  readonly rest?: Buffer;
}

const empty = Buffer.alloc(0);
const partsOf = ({ key = empty, headers = empty, value, rest = empty }: Parts) => [key, headers, value, rest];

/** Records as the scan of a request leaves them: slices of one buffer, in which other bytes lie between them. */
export function selection(records: readonly Parts[]): RecordSelection {
  const pieces: Buffer[] = [];
  const bounds = new Int32Array(records.length * boundsPerRecord);
  let at = 0;
  for (const [index, record] of records.entries()) {
    for (const [part, bytes] of partsOf(record).entries()) {
      if (bytes.length === 0) continue;
      pieces.push(Buffer.from([0xee]), bytes);
      bounds[index * boundsPerRecord + part * 2] = at + 1;
      at += 1 + bytes.length;
      bounds[index * boundsPerRecord + part * 2 + 1] = at;
    }
  }
  const set = { count: records.length, buffer: Buffer.concat(pieces), bounds };
  return { set, indexes: Int32Array.from(records.keys()) };
}

export function values(...texts: readonly string[]): Parts[] {
  return texts.map((text) => ({ value: Buffer.from(text) }));
}

export function batch(topic: TopicRow, partition: number, records: readonly Parts[]): BatchToAppend {
  const byteSize = records.reduce((sum, record) => sum + Buffer.concat(partsOf(record)).length, 0);
  const { id: topicId, segment } = topic;
  const partitionId = topic.partitions[partition]!.id;
  const recordCount = records.length;
  return { topicId, segment, partitionId, partition, lane: 0, recordCount, byteSize, records: [selection(records)] };
}

/** A transaction; batches are brought into the order of their locks. */
export function transaction(
  batches: readonly BatchToAppend[],
  keys: readonly IdempotencyKeyToStore[] = [],
): AppendTransaction {
  return { batches: [...batches].sort((a, b) => a.partitionId - b.partitionId), keys, acks: null };
}

/** A stored record with its offset, its parts as text of one character a byte. */
export interface Found {
  readonly offset: number;
  readonly appendTimeUs: number;
  readonly parts: readonly string[];
}

export function found(batches: readonly StoredBatch[]): Found[] {
  return batches.flatMap(({ baseOffset, appendTimeUs, records }) =>
    records.flatMap(({ set, indexes }) =>
      Array.from(indexes, (index) => ({
        offset: baseOffset + index,
        appendTimeUs,
        parts: [0, 1, 2, 3].map((part) => {
          const at = index * boundsPerRecord + part * 2;
          return set.buffer.toString('latin1', set.bounds[at], set.bounds[at + 1]);
        }),
      })),
    ),
  );
}

/** The parts of records as `found` shows them. */
export function shown(records: readonly Parts[]): string[][] {
  return records.map((record) => partsOf(record).map((bytes) => bytes.toString('latin1')));
}

/** All records of a log from an offset on, in as many reads as it takes. */
export async function readAll(
  storage: Storage,
  { id: topicId }: TopicRow,
  partition: number,
  from = 0,
  bytesMax = 1_048_576,
): Promise<Found[]> {
  const all: Found[] = [];
  for (let offset = from; ;) {
    const batches = await storage.log.read({ topicId, partition, lane: 0, offset, bytesMax });
    const records = found(batches);
    if (records.length === 0) return all;
    all.push(...records);
    offset = records.at(-1)!.offset + 1;
  }
}
