import type { DatabaseAddress } from '../address/database-address.ts';
import type { AckTable } from '../commit/ack-ring.ts';
import type { CommitStore } from '../commit/store.ts';
import type { GroupStore } from '../delivery/ports/store.ts';
import type { LogStore, TopicStore } from '../log/store.ts';
import { Fault } from '../errors/fault.ts';
import { Trouble } from '../errors/trouble.ts';
import { patienceMs } from '../ownership/lease-times.ts';
import type { LeaseStore } from '../ownership/store.ts';
import type { Clock } from '../time/clock.ts';
import type { Logger } from '../time/logger.ts';
import { checkDatabase, checkSchemaVersion } from './migrations/check-database.ts';
import { checkSessions, sessionsLeft } from './migrations/check-sessions.ts';
import { PostgresCommitStore } from './commit/commit-store.ts';
import { UnsettledSessions } from './commit/unsettled.ts';
import { Connection, keyedSettings, writerSettings, type ConnectionOptions } from './sessions/connection.ts';
import { isRefusedForGood, refusalOf } from './pg/faults.ts';
import { databaseClock, type Now } from './pg/now.ts';
import { GroupStorage } from './groups/groups.ts';
import { LeaseStorage, sessionName } from './ownership/lease.ts';
import { PostgresLogStore } from './log/log-store.ts';
import { migrate, refuseNewerSchema, UnfitDatabase } from './migrations/migrate.ts';
import { ServerChoice } from './sessions/server-choice.ts';
import { PostgresTopicStore } from './log/topics.ts';
import { ackSlot, foldSlot, groupSlot, tableSlot, topicSlot, Writer } from './sessions/writer.ts';

interface StorageOptions {
  readonly address: DatabaseAddress;
  readonly brokerId: string;
  /** How many connections append. Each runs one transaction at a time. */
  readonly appendSlots: number;
  readonly clock: Clock;
  /**
   * The time limit of appends, acks, reads, and writes of groups. Default: 30 s, which is longer
   * than the lock timeout of the writers.
   */
  readonly answerMsMax?: number;
  /** Default: the clock of the database. */
  readonly now?: Now;
  readonly log: Logger;
}

/** Everything durable: one store for each machine with durable state. */
export interface Storage {
  readonly log: LogStore;
  readonly commits: CommitStore;
  readonly topics: TopicStore;
  readonly groups: GroupStore;
  readonly lease: LeaseStore;
  /** Sets the epoch in which this broker owns the database. It fences all later writes. */
  setEpoch(epoch: number): void;
  /** @throws UnfitDatabase */
  check(allowUnsafe: boolean): Promise<void>;
  /** @throws UnfitDatabase if the schema is newer than this version. */
  migrate(): Promise<void>;
  close(): Promise<void>;
}

const answerMsMaxDefault = 30_000;
/** The session of the lease, and the session that ends those of a predecessor. */
const leaseSessions = 2;

/** Opens the storage. Each connection connects for its first work. */
export function openStorage(options: StorageOptions): Storage {
  const { address, brokerId, appendSlots, clock, log, now = databaseClock } = options;
  const opened: Connection[] = [];
  const server = new ServerChoice();
  const answer = { withinMs: options.answerMsMax ?? answerMsMaxDefault, clock };
  const open = opener(options, server, opened);
  let current = 0;
  const epoch = (): number => current;
  const connect = (purpose: string, settings: ConnectionOptions['settings'] = {}): Connection =>
    open(purpose, { settings, answer });
  const writer = (connection: Connection, slot: number): Writer =>
    new Writer(connection, { broker: brokerId, slot, epoch });
  // No answer limit, because migrations, drops and vacuums may take long. Its callers report
  // failures.
  const admin = open('admin', {}, false);
  const groupReads = open('group-reads', { settings: keyedSettings });
  const slow = (purpose: string): Connection => open(purpose, { settings: writerSettings });
  const topicWriter = writer(slow('topics'), topicSlot);
  // A separate connection: it may wait for an ANALYZE, and publishes wait for the topics' writer.
  const tableWriter = writer(slow('tables'), tableSlot);
  const shared = { connect, lookups: connect('lookup'), unsettled: new UnsettledSessions(), admin: topicWriter, now };
  const filled = new Set<AckTable>();
  const commits = new PostgresCommitStore({
    ...shared,
    brokerId,
    epoch,
    appendSlots,
    acks: connect('acks', writerSettings),
    acksFence: { broker: brokerId, slot: ackSlot, epoch },
    filled,
  });
  const logStore = new PostgresLogStore({ ...shared, tables: tableWriter, maintenance: admin });
  const others = [ackSlot, foldSlot, groupSlot, topicSlot, tableSlot];
  const slots = [...Array.from({ length: appendSlots }, (_, slot) => slot), ...others];
  const checkVersion = refuseNewerSchema;
  const lease = new LeaseStorage({ address, server, brokerId, slots, clock, log, checkVersion, now });
  return {
    log: logStore,
    commits,
    topics: new PostgresTopicStore({
      writer: topicWriter,
      tables: tableWriter,
      admin,
      now,
      onChanged: (topicId) => logStore.forgetSegments(topicId),
    }),
    groups: new GroupStorage({
      reads: groupReads,
      groups: writer(connect('groups', writerSettings), groupSlot),
      filled,
      folds: writer(open('folds', { settings: keyedSettings }), foldSlot),
      now,
      log,
    }),
    lease,
    setEpoch(next) {
      current = next;
    },
    async check(allowUnsafe) {
      // The check reaches the lease's session first, so that it checks the server of the lease.
      await check(lease, admin, groupReads, allowUnsafe);
      await tellSessions(opened.length + leaseSessions, admin, log);
    },
    migrate: () =>
      admin.run((client) => migrate(client, Infinity, (wait) => lease.endingPredecessor(client, patienceMs, wait))),
    async close() {
      await Promise.all([lease.close(), ...opened.map((connection) => connection.close())]);
    },
  };
}

/**
 * Makes connections, and adds each to `opened`. If `told`, failures are logged once for all
 * connections of a kind.
 */
function opener({ address, brokerId, clock, log }: StorageOptions, server: ServerChoice, opened: Connection[]) {
  const troubles = new Map<string, Trouble>();
  return (purpose: string, more: Pick<ConnectionOptions, 'settings' | 'answer'>, told = true): Connection => {
    // One kind: append-0, append-1, …
    const kind = purpose.replace(/-\d+$/, '');
    const trouble = troubles.get(kind) ?? new Trouble({ what: `database sessions for ${kind}`, clock, log });
    troubles.set(kind, trouble);
    const applicationName = sessionName(brokerId, purpose);
    const connection = new Connection({
      address,
      applicationName,
      clock,
      server,
      ...more,
      ...(told ? { trouble } : {}),
    });
    opened.push(connection);
    return connection;
  };
}

/**
 * Tells a start that can never succeed from one that a retry may help. No other code decides it.
 */
async function check(lease: LeaseStorage, admin: Connection, other: Connection, allowUnsafe: boolean): Promise<void> {
  try {
    await lease.reach();
    await checkSessions(admin, other);
    await admin.run((client) => checkDatabase(client, allowUnsafe));
    await admin.run(checkSchemaVersion);
  } catch (error) {
    if (error instanceof Fault && isRefusedForGood(error)) throw new UnfitDatabase(refusalOf(error));
    throw error;
  }
}

/**
 * Warns when the database has too few sessions left, because the broker then serves only some
 * calls.
 */
async function tellSessions(needed: number, admin: Connection, log: StorageOptions['log']): Promise<void> {
  const { left, limit } = await admin.run(sessionsLeft);
  // The session of this query is one of those in use.
  const available = left + 1;
  const text = `this broker needs ${needed} sessions of the database and can get ${available}`;
  if (available >= needed) log.info({ needed, available }, text);
  else log.warn({ needed, available }, `${text}, by ${limit}: raise it, or calls will fail with DATABASE_UNAVAILABLE`);
}
