import type { Client } from 'pg';
import type { DatabaseAddress } from '../address/database-address.ts';
import type { AckTable } from '../commit/ack-ring.ts';
import type { CommitStore } from '../commit/store.ts';
import type { GroupStore } from '../delivery/ports/store.ts';
import type { RetentionStore } from '../lifecycle/store.ts';
import type { LogStore, TopicStore } from '../log/store.ts';
import { Fault } from '../errors/fault.ts';
import { Trouble } from '../errors/trouble.ts';
import { WriteTrouble } from '../errors/write-trouble.ts';
import { patienceMs } from '../ownership/lease-times.ts';
import type { NumbersStore } from '../metrics/database-numbers.ts';
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
import { RetentionStorage } from './retention/retention-store.ts';
import { migrate, refuseNewerSchema, UnfitDatabase } from './migrations/migrate.ts';
import { numbersSettings, PostgresNumbers } from './numbers/database-numbers.ts';
import { ServerChoice } from './sessions/server-choice.ts';
import { PostgresTopicStore } from './log/topics.ts';
import { ackSlot, foldSlot, groupSlot, retentionSlot, tableSlot, topicSlot, Writer } from './sessions/writer.ts';

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
  readonly retention: RetentionStore;
  readonly lease: LeaseStore;
  readonly numbers: NumbersStore;
  /** Whether the database takes writes. */
  readonly writes: WriteTrouble;
  /** Sets the epoch in which this broker owns the database. It fences all later writes. */
  setEpoch(epoch: number): void;
  /** @throws UnfitDatabase */
  check(allowUnsafe: boolean): Promise<void>;
  /** @throws UnfitDatabase if the schema is newer than this version. */
  migrate(): Promise<void>;
  close(): Promise<void>;
}

const answerMsMaxDefault = 30_000;
/** The version of the schema that brought retention. */
const retentionVersion = 11;
/** The session of the lease, and the session that ends those of a predecessor. */
const leaseSessions = 2;

/** Opens the storage. Each connection connects for its first work. */
export function openStorage(options: StorageOptions): Storage {
  const { brokerId, appendSlots, clock, log, now = databaseClock } = options;
  const opened: Connection[] = [];
  const server = new ServerChoice();
  const writes = new WriteTrouble(() => clock.wallMs());
  const answer = { withinMs: options.answerMsMax ?? answerMsMaxDefault, clock };
  const open = opener(options, { server, writes }, opened);
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
  const logStore = new PostgresLogStore({ ...shared, tables: tableWriter, maintenance: admin, clock });
  const forget = (topicId: number): void => logStore.forgetSegments(topicId);
  const retention = retentionStorage(open, writer, { admin, onChanged: forget, now });
  const lease = leaseStorage(options, server);
  return {
    log: logStore,
    commits,
    topics: new PostgresTopicStore({ writer: topicWriter, tables: tableWriter, admin, now, onChanged: forget }),
    groups: new GroupStorage({
      reads: groupReads,
      groups: writer(connect('groups', writerSettings), groupSlot),
      filled,
      folds: writer(open('folds', { settings: keyedSettings }), foldSlot),
      now,
      log,
    }),
    retention,
    lease,
    numbers: new PostgresNumbers(connect('numbers', numbersSettings)),
    writes,
    setEpoch: (next) => void (current = next),
    async check(allowUnsafe) {
      // The check reaches the lease's session first, so that it checks the server of the lease.
      await check(lease, admin, groupReads, allowUnsafe);
      await tellSessions(opened.length + leaseSessions, admin, log);
    },
    migrate: () =>
      admin.run(async (client) => {
        const applied = await migrate(client, Infinity, (wait) => lease.endingPredecessor(client, patienceMs, wait));
        await tellKept(client, applied, log);
      }),
    async close() {
      logStore.stop();
      retention.stop();
      await Promise.all([lease.close(), ...opened.map((connection) => connection.close())]);
    },
  };
}

type Open = ReturnType<typeof opener>;

/**
 * Its sessions have no answer limit: a look at a topic with a million cursors takes seconds, and a
 * detach waits for the readers of its parent. Its callers report failures.
 */
function retentionStorage(
  open: Open,
  writer: (connection: Connection, slot: number) => Writer,
  others: Pick<ConstructorParameters<typeof RetentionStorage>[0], 'admin' | 'onChanged' | 'now'>,
): RetentionStorage {
  return new RetentionStorage({
    connect: (purpose) => open(purpose, {}, false),
    writer: writer(open('retention', { settings: writerSettings }, false), retentionSlot),
    reads: open('retention-reads', {}, false),
    ...others,
  });
}

function leaseStorage(options: StorageOptions, server: ServerChoice): LeaseStorage {
  const { address, brokerId, appendSlots, clock, log, now = databaseClock } = options;
  const others = [ackSlot, foldSlot, groupSlot, topicSlot, tableSlot, retentionSlot];
  const slots = [...Array.from({ length: appendSlots }, (_, slot) => slot), ...others];
  return new LeaseStorage({ address, server, brokerId, slots, clock, log, checkVersion: refuseNewerSchema, now });
}

/**
 * Makes connections, and adds each to `opened`. If `told`, failures are logged once for all
 * connections of a kind.
 */
function opener(
  { address, brokerId, clock, log }: StorageOptions,
  { server, writes }: { readonly server: ServerChoice; readonly writes: WriteTrouble },
  opened: Connection[],
) {
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
      writes,
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

/** Says once that topics from before retention keep everything. */
async function tellKept(client: Client, applied: readonly number[], log: Logger): Promise<void> {
  if (!applied.includes(retentionVersion)) return;
  const { rows } = await client.query<{ n: number }>('SELECT count(*)::integer AS n FROM millrace.topics');
  const topics = rows[0]?.n ?? 0;
  if (topics > 0) log.warn({ topics }, 'topics from before keep everything: UpdateTopic gives them a retention');
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
