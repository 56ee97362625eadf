import type { GroupStore } from '../delivery/store.ts';
import type { LogStore, TopicStore } from '../log/store.ts';
import type { LeaseStore } from '../ownership/store.ts';
import type { Clock } from '../time/clock.ts';
import { checkDatabase } from './check-database.ts';
import { Connection, keyedSettings, writerSettings, type ConnectionOptions } from './connection.ts';
import { GroupStorage } from './groups.ts';
import { LeaseStorage, sessionPrefix } from './lease.ts';
import { PostgresLogStore } from './log-store.ts';
import { migrate } from './migrate.ts';
import { PostgresTopicStore } from './topics.ts';
import { ackSlot, foldSlot, groupSlot, tableSlot, topicSlot, Writer } from './writer.ts';

export interface StorageOptions {
  readonly connectionString: string;
  readonly brokerId: string;
  /** Connections that append, each one transaction at a time. */
  readonly appendSlots: number;
  readonly clock: Clock;
  /** How long appends, acks, what groups decide and reads may take. Default: 30 s, longer than any of them waits for a lock. */
  readonly answerMsMax?: number;
  readonly log: { info(fields: object, message: string): void; warn(fields: object, message: string): void };
}

/** Everything durable: one store for each machine that has something to keep, on connections of their own. */
export interface Storage {
  readonly log: LogStore;
  readonly topics: TopicStore;
  readonly groups: GroupStore;
  readonly lease: LeaseStore;
  /** The epoch in which this broker owns the database: what it writes from now on is fenced by it. */
  setEpoch(epoch: number): void;
  /** @throws UnfitDatabase */
  check(allowUnsafe: boolean): Promise<void>;
  /** @throws UnfitDatabase if the schema is newer than this version. */
  migrate(): Promise<void>;
  close(): Promise<void>;
}

const answerMsMaxDefault = 30_000;

/** Opens the storage; connections are made when they are first needed. */
export function openStorage(options: StorageOptions): Storage {
  const { connectionString, brokerId, appendSlots, clock, log } = options;
  const opened: Connection[] = [];
  const answer = { withinMs: options.answerMsMax ?? answerMsMaxDefault, clock };
  const open = (purpose: string, more: Pick<ConnectionOptions, 'settings' | 'answer'>): Connection => {
    const applicationName = sessionPrefix(brokerId) + purpose;
    const connection = new Connection({ connectionString, applicationName, ...more });
    opened.push(connection);
    return connection;
  };
  let current = 0;
  const epoch = (): number => current;
  const connect = (purpose: string, settings: ConnectionOptions['settings'] = {}): Connection =>
    open(purpose, { settings, answer });
  const writer = (connection: Connection, slot: number): Writer =>
    new Writer(connection, { broker: brokerId, slot, epoch });
  // These take their time: they fill and drop tables.
  const admin = open('admin', {});
  const slow = (purpose: string): Connection => open(purpose, { settings: writerSettings });
  const topicWriter = writer(slow('topics'), topicSlot);
  // What makes tables may wait for an ANALYZE. What locks topics must not wait behind it: publishes wait for that.
  const tableWriter = writer(slow('tables'), tableSlot);
  const logStore = new PostgresLogStore({
    connect,
    brokerId,
    epoch,
    appendSlots,
    admin: topicWriter,
    tables: tableWriter,
    maintenance: admin,
  });
  const others = [ackSlot, foldSlot, groupSlot, topicSlot, tableSlot];
  const slots = [...Array.from({ length: appendSlots }, (_, slot) => slot), ...others];
  const lease = new LeaseStorage({ connectionString, brokerId, slots, clock, log });
  return {
    log: logStore,
    topics: new PostgresTopicStore({
      writer: topicWriter,
      tables: tableWriter,
      admin,
      onChanged: (topicId) => {
        logStore.forgetSegments(topicId);
      },
    }),
    groups: new GroupStorage({
      reads: open('group-reads', {}),
      groups: writer(connect('groups', writerSettings), groupSlot),
      acks: connect('acks', writerSettings),
      acksFence: { broker: brokerId, slot: ackSlot, epoch },
      folds: writer(open('folds', { settings: keyedSettings }), foldSlot),
      log,
    }),
    lease,
    setEpoch(next) {
      current = next;
    },
    check: (allowUnsafe) => admin.run((client) => checkDatabase(client, allowUnsafe)),
    migrate: () => admin.run((client) => migrate(client)),
    async close() {
      await Promise.all([lease.close(), ...opened.map((connection) => connection.close())]);
    },
  };
}
