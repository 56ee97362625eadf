import type { LogStore, TopicRow } from '../../src/log/store.ts';

/** The storage layer of a broker without the broker: its log on one topic of a database of its own. */
export interface RawStore {
  readonly log: LogStore;
  readonly topic: TopicRow;
  close(): Promise<void>;
}

/** Opens the log of a database: migrated, fenced, with one topic. */
export function openRawStore(databaseUrl: string, partitions: number): Promise<RawStore> {
  const where = new URL(databaseUrl).pathname.slice(1);
  return Promise.reject(new Error(`raw append on ${where}, ${partitions} partitions: src/storage has no LogStore yet`));
}
