import pg from 'pg';
import { limits } from '../../../src/limits/limits.ts';
import type { CommitStore } from '../../../src/commit/store.ts';
import type { TopicRow } from '../../../src/log/store.ts';
import { takeFence } from '../../../src/storage/sessions/fence.ts';
import { parseDatabaseAddress } from '../../../src/address/database-address.ts';
import { openStorage } from '../../../src/storage/storage.ts';
import { tableSlot, topicSlot } from '../../../src/storage/sessions/writer.ts';
import { systemClock, systemRandom } from '../../../src/time/system.ts';

/** The storage layer without a broker: the log of one topic in its own database. */
export interface RawStore {
  readonly commits: CommitStore;
  readonly topic: TopicRow;
  close(): Promise<void>;
}

const brokerId = 'raw-append';
const epoch = 1;
/** The broker's default (src/config/settings.ts). */
const appendSlots = 4;

/** Migrates a database, takes its fence, and creates one topic. */
export async function openRawStore(databaseUrl: string, partitions: number): Promise<RawStore> {
  const silent = { info: () => undefined, warn: () => undefined };
  const storage = openStorage({
    address: parseDatabaseAddress(databaseUrl),
    brokerId,
    appendSlots,
    clock: systemClock,
    log: silent,
  });
  await storage.migrate();
  await own(databaseUrl);
  storage.setEpoch(epoch);
  const topic = await storage.topics.createTopic({
    name: `raw-${systemRandom.uuid()}`,
    partitions,
    idempotencyWindowMs: limits.idempotencyWindowMsDefault,
    description: '',
    retention,
  });
  return { commits: storage.commits, topic: topic!, close: () => storage.close() };
}

/** Nothing is dropped. */
const retention = {
  afterCompletionMs: null,
  excusedKeepMs: 1,
  maxAgeMs: null,
  maxBytes: null,
  keepUnsubscribedMs: 1,
};

async function own(databaseUrl: string): Promise<void> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  await client.query('BEGIN');
  await takeFence(client, brokerId, epoch, [...Array(appendSlots).keys(), topicSlot, tableSlot]);
  await client.query('COMMIT');
  await client.end();
}
