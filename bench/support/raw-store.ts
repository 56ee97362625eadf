import type { LogStore, TopicRow } from '../../src/log/store.ts';

/** The storage layer of a broker without the broker: its log on one topic of a database of its own. */
export interface RawStore {
  readonly log: LogStore;
  readonly topic: TopicRow;
  close(): Promise<void>;
}
