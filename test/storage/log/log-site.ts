import { Client } from 'pg';
import type { TopicRow } from '../../../src/log/store.ts';
import { parseDatabaseAddress } from '../../../src/address/database-address.ts';
import { databaseClock, type Now } from '../../../src/storage/pg/now.ts';
import { takeFence } from '../../../src/storage/sessions/fence.ts';
import { openStorage, type Storage } from '../../../src/storage/storage.ts';
import {
  ackSlot,
  foldSlot,
  groupSlot,
  retentionSlot,
  tableSlot,
  topicSlot,
} from '../../../src/storage/sessions/writer.ts';
import { systemClock } from '../../../src/time/system.ts';
import { keepsForever } from '../../support/retention/stored-segments.ts';
import { createMigratedDatabase, type TestDatabase } from '../../support/database.ts';

export const appendSlots = 4;
const silent = { info: () => undefined, warn: () => undefined };

/** A migrated database, and the storage of any number of brokers. */
export class LogSite {
  readonly database: TestDatabase;
  /** A session that is not of a broker. */
  readonly client: Client;
  /** The present time for the statements of the brokers. */
  now: Now = databaseClock;
  readonly #storages: Storage[] = [];
  readonly #clients: Client[] = [];
  #topics = 0;

  private constructor(database: TestDatabase, client: Client) {
    this.database = database;
    this.client = client;
  }

  static async open(): Promise<LogSite> {
    const database = await createMigratedDatabase();
    const client = new Client({ connectionString: database.url });
    await client.connect();
    return new LogSite(database, client);
  }

  /** Makes `broker` the owner in that epoch. */
  async own(broker: string, epoch: number, url = this.database.url, answerMsMax?: number): Promise<Storage> {
    await this.client.query('BEGIN');
    await takeFence(this.client, broker, epoch, [
      ...Array(appendSlots).keys(),
      ackSlot,
      foldSlot,
      groupSlot,
      topicSlot,
      tableSlot,
      retentionSlot,
    ]);
    await this.client.query('COMMIT');
    return this.storage(broker, epoch, url, answerMsMax);
  }

  /** The storage of a broker that acts as the owner in that epoch. */
  storage(brokerId: string, epoch: number, url = this.database.url, answerMsMax?: number): Storage {
    const storage = openStorage({
      address: parseDatabaseAddress(url),
      brokerId,
      appendSlots,
      clock: systemClock,
      log: silent,
      now: () => this.now(),
      ...(answerMsMax !== undefined && { answerMsMax }),
    });
    storage.setEpoch(epoch);
    this.#storages.push(storage);
    return storage;
  }

  async topic(storage: Storage, partitions: number, idempotencyWindowMs = 120_000): Promise<TopicRow> {
    const name = `topic-${++this.#topics}`;
    const topic = await storage.topics.createTopic({
      name,
      partitions,
      idempotencyWindowMs,
      description: '',
      retention: keepsForever,
    });
    if (topic === null) throw new Error(`${name} is there already`);
    return topic;
  }

  /** Another session that is not of a broker. */
  async session(): Promise<Client> {
    const client = new Client({ connectionString: this.database.url });
    client.on('error', () => undefined);
    await client.connect();
    this.#clients.push(client);
    return client;
  }

  /** The number `n` that a query returns in its only row. */
  async number(sql: string, values: unknown[] = []): Promise<number> {
    const { rows } = await this.client.query<{ n: string | number }>(sql, values);
    return Number(rows[0]!.n);
  }

  /** Resolves when such a query returns more than 0. */
  async until(sql: string, values: unknown[] = []): Promise<void> {
    while ((await this.number(sql, values)) === 0);
  }

  async close(): Promise<void> {
    await Promise.all(this.#storages.map((storage) => storage.close()));
    await Promise.all([this.client, ...this.#clients].map((client) => client.end()));
    await this.database.drop();
  }
}
