import type { AckRow, CommitStore } from '../../../src/commit/store.ts';
import { begunAt } from '../../../src/consumption/partitioned/cursor.ts';
import { cursorName, type GroupStore, type StoredCursor } from '../../../src/delivery/ports/store.ts';
import type { DropPlan, RetentionStore } from '../../../src/lifecycle/store.ts';
import type { LogStore, TopicStore } from '../../../src/log/store.ts';
import type { LeaseStore } from '../../../src/ownership/store.ts';
import { MemoryGroupStore, namedIn, pieces } from '../../support/memory-group-store.ts';
import { MemoryRetentionStore } from '../../support/retention/memory-retention-store.ts';
import type { Connection } from './connection.ts';
import type { Database } from './database.ts';
import type { Ledger } from '../ledgers/ledger.ts';
import type { GoingSegment } from '../ledgers/retention-ledger.ts';
import { wrongFacts, type Sabotage } from '../sabotage.ts';

/** Shared by all stores of a broker. */
export interface StoreParts {
  readonly database: Database;
  readonly ledger: Ledger;
  readonly sabotage: Sabotage;
  /** The epoch in which the broker writes. */
  readonly epoch: () => number;
  readonly connect: () => Connection;
}

export const appendSlots = 2;

function write<T>(
  { database, epoch, sabotage }: StoreParts,
  connection: Connection,
  locks: readonly string[],
  work: () => T | Promise<T>,
): Promise<T> {
  const fence = epoch();
  return connection.call((session) => {
    const claimed = sabotage === 'IGNORES_THE_FENCE' ? database.fenceEpoch : fence;
    return database.transaction({ session, epoch: claimed, writer: fence, locks, work });
  });
}

/** The store of the lease, over its own session. */
export function leaseStore(parts: StoreParts): LeaseStore & { readonly connection: Connection } {
  const { database } = parts;
  const connection = parts.connect();
  return {
    connection,
    tryLock: () => connection.call((session) => database.tryLock(session)),
    onUnlocked: (listener) => {
      connection.onLost(listener);
    },
    unlock: () =>
      connection.call((session) => {
        database.unlock(session);
      }),
    read: () => connection.call((session) => database.read(session)),
    evict: (broker, ageMsMin) => connection.call(() => database.evict(broker, ageMsMin)),
    takeOver: (seen, patienceMs) => connection.call((session) => database.takeOver(session, seen, patienceMs)),
    renew: (epoch) => connection.call((session) => database.renew(session, epoch)),
    release: (epoch) =>
      connection.call((session) => {
        database.release(session, epoch);
      }),
  };
}

const topicLocks = (database: Database, topicId: number): string[] => [
  `topic ${topicId}`,
  ...(database.log.topics.get(topicId)?.row.partitions ?? []).map(({ id }) => `partition ${id}`),
];

/** Writes a row of the ack log. */
function appendRow({ database, ledger }: StoreParts, row: AckRow): void {
  database.groups.ackLog.push(structuredClone(row));
  ledger.acksWritten(row);
}

/** Checks and writes the settlements of an append, if it has any. */
function settle(parts: StoreParts, row: AckRow | null): void {
  parts.ledger.settled(row);
  if (row !== null) appendRow(parts, row);
}

/** The log over five connections: two append, one takes locks, one makes tables, and one reads. */
export function logStore(parts: StoreParts): LogStore & CommitStore {
  const { database, sabotage, ledger } = parts;
  const { log } = database;
  const writers = Array.from({ length: appendSlots }, () => parts.connect());
  const admin = parts.connect();
  const acks = parts.connect();
  const tables = parts.connect();
  const reads = parts.connect();
  const busy = new Set<number>();
  return {
    appendSlots,
    async append(slot, transaction) {
      if (busy.has(slot)) throw new Error(`two appends at once on connection ${slot}`);
      busy.add(slot);
      const locks = new Set(transaction.batches.map(({ partitionId }) => `partition ${partitionId}`));
      try {
        const early = sabotage === 'COMPLETES_BEFORE_THE_APPEND' ? transaction.acks : null;
        if (early !== null) {
          await write(parts, writers[slot]!, [], () => {
            settle(parts, early);
          });
        }
        return await write(parts, writers[slot]!, [...locks], () => {
          if (sabotage === 'LOSES_A_COMMIT' && ledger.nthAppend() === 5) return log.pretend(transaction);
          const appended = log.append(transaction);
          settle(parts, early === null ? transaction.acks : null);
          return appended;
        });
      } finally {
        busy.delete(slot);
      }
    },
    appendAcks: (row) =>
      write(parts, acks, [], () => {
        if (sabotage !== 'LOSES_ACKS') appendRow(parts, row);
      }),
    hasReceipt: async (table, receipt) => {
      if (sabotage === 'APPLIES_TWICE') return false;
      await admin.call((session) => database.endLost(session.broker, parts.epoch()));
      return write(parts, admin, [], () => {
        const isThere = database.groups.hasReceipt(table, receipt);
        ledger.world.count(isThere ? 'a receipt is there' : 'a receipt is not there');
        return isThere;
      });
    },
    ends: (topicId) => write(parts, admin, topicLocks(database, topicId), () => log.ends(topicId)),
    endsOf: (topicIds) =>
      reads.call(() => new Map(topicIds.flatMap((id) => (log.topics.has(id) ? [[id, log.ends(id)]] : [])))),
    starts: (topicId) => reads.call(() => log.starts(topicId)),
    read: (request) =>
      reads.call(() => {
        ledger.world.count('records are read from the database');
        return sabotage === 'READS_NOTHING' ? [] : log.read(request);
      }),
    offsetAtTime: (topicId, partition, _lane, timeUs) => reads.call(() => log.offsetAtTime(topicId, partition, timeUs)),
    appendAges: (topicId, places) => reads.call(() => log.appendAges(topicId, places)),
    findKeys: (topicId, windowMs, keys) =>
      reads.call(() => log.findKeys(topicId, sabotage === 'FORGETS_IDEMPOTENCY_KEYS' ? 0 : windowMs, keys)),
    makeSegment: (topicId, current) =>
      write(parts, tables, [], () => {
        log.makeSegment(topicId, current);
      }),
    rollSegment: (topicId, current, bytes) =>
      write(parts, admin, topicLocks(database, topicId), () => {
        const segment = log.roll(topicId, current, bytes);
        if (segment === current + 1) ledger.world.count('a segment begins');
        return segment;
      }),
    saveSegmentBytes: (topicId, segment, bytes) =>
      write(parts, admin, [], () => {
        log.saveSegmentBytes(topicId, segment, bytes);
      }),
    segmentSize: (topicId) => reads.call(() => log.segmentSize(topicId)),
    turnIdempotencyRing: () => write(parts, admin, [], () => undefined),
  };
}

/** The topics. The brokers of the simulation only add partitions to them. */
export function topicStore(parts: StoreParts): TopicStore {
  const connection = parts.connect();
  const { ledger } = parts;
  const { log, groups } = parts.database;
  return {
    loadTopics: () => connection.call(() => log.rows()),
    createTopic: (topic) =>
      write(parts, connection, ['topics'], () => {
        const row = log.create(topic);
        if (row !== null) groups.addPartitions(row.id, row.partitions.length);
        return row;
      }),
    updateTopic: (topicId, change) => write(parts, connection, ['topics'], () => log.update(topicId, change)),
    addPartitions: (topicId, count) =>
      write(parts, connection, ['topics'], () => {
        const row = log.addPartitions(topicId, count);
        if (row === null) return null;
        groups.addPartitions(topicId, row.partitions.length);
        ledger.subscribed(groups.subscriptions.live().filter((subscription) => subscription.topicId === topicId));
        return row;
      }),
    deleteTopic: (topicId) =>
      write(parts, connection, ['topics', ...topicLocks(parts.database, topicId)], () => {
        log.remove(topicId);
        groups.partitions.delete(topicId);
        groups.remove((row) => row.topicId === topicId);
      }),
  };
}

/** The segments that a plan lets go, as they are before. */
function goingSegments({ log }: Database, { facts, drop }: DropPlan): GoingSegment[] {
  const topic = log.topics.get(facts.topicId);
  return drop.flatMap(({ segment, reason }) => {
    const sealed = topic?.segments.sealed.filter((one) => one.segment >= segment) ?? [];
    if (topic === undefined || sealed[0]?.segment !== segment) return [];
    const bytesFrom = sealed.reduce((sum, { bytes }) => sum + bytes, topic.segmentBytes);
    return [{ segment, reason, ranges: topic.segments.rangesOf(segment), bytesFrom }];
  });
}

/** What the cleanup of logs needs. */
export function retentionStore(parts: StoreParts): RetentionStore {
  const { ledger, sabotage, database } = parts;
  const { log, groups } = database;
  const tables = new MemoryRetentionStore({ logs: log, groups, demandOwner: () => undefined });
  const [plans, reads, steps] = [parts.connect(), parts.connect(), parts.connect()];
  const fenced = <T>(locks: readonly string[], work: () => Promise<T>): Promise<T> => write(parts, plans, locks, work);
  return {
    facts: (topicId) => reads.call(async () => wrongFacts(sabotage, await tables.facts(topicId))),
    plan: (plan) =>
      fenced(topicLocks(database, plan.facts.topicId).slice(0, 1), async () => {
        const going = goingSegments(database, plan);
        const planned = await tables.plan(plan);
        if (typeof planned === 'string') return planned;
        ledger.retention.dropped(plan.facts.topicId, going.slice(0, planned.dropped.length));
        return planned;
      }),
    decidedStarts: (topicId) => reads.call(() => tables.decidedStarts(topicId)),
    saveWatermarks: (moved) =>
      fenced([], async () => {
        const saved = await tables.saveWatermarks(moved);
        for (const { facts, offsets } of moved) {
          if (saved.includes(facts.topicId)) ledger.retention.watermarksSaved(facts.topicId, offsets);
        }
        return saved;
      }),
    loadWatermarks: () => reads.call(() => tables.loadWatermarks()),
    pendingDrops: () => steps.call(() => tables.pendingDrops()),
    table: (drop) => steps.call(() => tables.table(drop)),
    detach: (drop) => steps.call(() => tables.detach(drop)),
    cancelDetach: () => steps.call(() => tables.cancelDetach()),
    finalize: (drop) => steps.call(() => tables.finalize(drop)),
    drop: (drop) => steps.call(() => tables.drop(drop)),
    done: (drop) => fenced([], () => tables.done(drop)),
    firstOffsets: (...which) => reads.call(() => tables.firstOffsets(...which)),
    audit: (topicName, limit) => reads.call(() => tables.audit(topicName, limit)),
    tidy: () => fenced([], () => tables.tidy()),
    hasSpace: () => reads.call(() => tables.hasSpace()),
    freeBallast: () => fenced([], () => tables.freeBallast()),
    makeBallast: () => fenced([], () => tables.makeBallast()),
    stop: () => undefined,
  };
}

const lockOf = (subscriptionId: number): string => `subscription ${subscriptionId}`;

function lockNames<T>(rows: readonly T[], nameOf: (row: T) => string): string[] {
  return [...new Set(rows.map(nameOf))];
}

/** A deep copy, in which bytes stay a Buffer, as `pg` gives them. */
function copied<T>(value: T): T {
  if (value instanceof Uint8Array) return Buffer.from(value) as unknown as T;
  if (Array.isArray(value)) return value.map(copied) as T;
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, copied<unknown>(one)])) as T;
}

/** The groups, subscriptions, cursors and the ack log. */
export function groupStore(parts: StoreParts): GroupStore {
  const { database, ledger, sabotage } = parts;
  const tables = new MemoryGroupStore(database.groups);
  /** Does what a commit does to lives, and lets the ledger check it. */
  const living = async <T>(work: () => Promise<T>): Promise<T> => {
    const { subscriptions } = database.groups;
    const before = new Map(subscriptions.all().map((row) => [row.id, row]));
    const done = await work();
    ledger.lives.changed(parts.epoch(), before, subscriptions.all());
    return done;
  };
  /** The cursor of a DEAD subscription as a sabotaged broker takes it. */
  const atEnd = (stored: StoredCursor): StoredCursor => {
    const { subscriptionId, partition } = stored.key;
    const row = database.groups.subscriptions.find(subscriptionId)!;
    if (row.state !== 'DEAD') return stored;
    const { length } = database.log.partition(row.topicId, partition).values;
    return { ...stored, cursor: begunAt(length, stored.cursor.resets) };
  };
  const rowsOf = (groupIds: readonly number[]): string[] =>
    database.groups.subscriptions.live().flatMap((row) => (groupIds.includes(row.groupId) ? [lockOf(row.id)] : []));
  const [groups, folds, reads] = [parts.connect(), parts.connect(), parts.connect()];
  return {
    listGroups: () => reads.call(() => tables.listGroups()),
    readAckLog: () => reads.call(() => tables.readAckLog()),
    loadGroups: (groupIds) =>
      reads.call(async () => {
        ledger.world.count('groups are loaded');
        const loaded = copied(await tables.loadGroups(groupIds));
        if (sabotage !== 'REPEATS_A_GENERATION') return loaded;
        return loaded.map((group) => {
          const generation = Math.max(0, group.snapshot.generation - 1);
          return { ...group, snapshot: { ...group.snapshot, generation } };
        });
      }),
    loadCursors: async (subscriptionIds, visit) => {
      const { inherited } = tables;
      // Taken before the read: a fold may write it, and drop it, before the cursors are read.
      const found = new MemoryGroupStore(database.groups);
      found.inherited = sabotage === 'LOADS_CURSORS_WITHOUT_THE_ACK_LOG' ? [] : inherited;
      const stored: [StoredCursor, boolean][] = [];
      await reads.call(() => found.loadCursors(subscriptionIds, (...one) => stored.push(one)));
      // A cursor that the ack log names is folded although it does not move.
      const isFolded = sabotage !== 'FOLDS_ONLY_WHAT_MOVES';
      for (const [one, inAckLog] of stored) {
        visit(sabotage === 'A_RETURN_LOSES_ITS_PLACE' ? atEnd(one) : one, inAckLog && isFolded);
      }
    },
    loadGaps: (subscriptionIds) =>
      reads.call(() => (sabotage === 'FORGETS_GAPS' ? Promise.resolve([]) : tables.loadGaps(subscriptionIds))),
    cursorsLoaded: (subscriptionIds) => {
      tables.cursorsLoaded(subscriptionIds);
    },
    createGroup: (name) => write(parts, groups, [`group ${name}`], () => tables.createGroup(name)),
    endGroup: (groupId, reason, owed) =>
      write(parts, folds, [`group ${groupId}`, 'cursors'], () => tables.endGroup(groupId, reason, owed)),
    touchGroups: (groupIds) => write(parts, groups, [], () => tables.touchGroups(groupIds)),
    saveGaps: (jumps) =>
      write(parts, folds, ['cursors'], async () => {
        if (sabotage === 'JUMPS_WITHOUT_A_GAP') return;
        await tables.saveGaps(jumps);
        ledger.gapsSaved(jumps);
      }),
    tellGaps: (told) =>
      write(parts, folds, ['cursors'], async () => {
        ledger.gaps.told(told);
        await tables.tellGaps(told);
      }),
    resetCursors: (resets) =>
      write(parts, folds, ['cursors'], async () => {
        if (sabotage === 'LOSES_A_RESET') return resets.map(({ offset }) => offset);
        const offsets = await tables.resetCursors(resets);
        const begun = resets.map((reset, at) => ({ ...reset, offset: offsets[at] ?? reset.offset }));
        const { subscriptions } = database.groups;
        ledger.cursorsReset(begun.filter(({ key }) => subscriptions.find(key.subscriptionId)?.state !== 'CANCELLED'));
        return offsets;
      }),
    // A transaction that goes on after its connection was cut still locks its rows, so later writes
    // wait for it.
    saveGroups: (changes, isRepeat) => {
      const saved = write(
        parts,
        groups,
        [...lockNames(changes, ({ groupId }) => `group ${groupId}`), ...rowsOf(changes.map(({ groupId }) => groupId))],
        async () => {
          for (const { groupId, change } of changes) ledger.groups.saved(groupId, change, parts.epoch());
          const stored = changes.map(({ groupId, change, heardAgoMs }) => {
            return {
              groupId,
              change: copied(change),
              heardAgoMs: sabotage === 'FORGETS_SIGNS_OF_LIFE' ? () => null : heardAgoMs,
            };
          });
          const rows = await living(() => tables.saveGroups(stored, isRepeat));
          ledger.groupsSaved(parts.epoch());
          return rows;
        },
      );
      if (sabotage !== 'TELLS_BEFORE_IT_IS_DURABLE') return saved;
      saved.catch(() => undefined);
      return Promise.resolve([]);
    },
    noteHeard: (groupIds) =>
      write(
        parts,
        groups,
        lockNames(groupIds, (groupId) => `group ${groupId}`),
        async () => {
          ledger.world.count('an owner notes the first signs of life after a takeover');
          if (sabotage !== 'FORGETS_SIGNS_OF_LIFE') await tables.noteHeard(groupIds);
        },
      ),
    loadRebalances: (groupId) => reads.call(() => tables.loadRebalances(groupId)),
    createSubscriptions: (wanted) =>
      write(
        parts,
        groups,
        lockNames(wanted, ({ groupId, topicId }) => `claim ${groupId}/${topicId}`),
        async () => {
          const created = await tables.createSubscriptions(wanted);
          ledger.subscribed(created.map(({ row }) => row));
          return created;
        },
      ),
    changeSubscription: (subscriptionId, input) =>
      write(parts, input.type === 'CANCEL' ? folds : groups, [lockOf(subscriptionId)], async () => {
        const before = database.groups.subscriptions.find(subscriptionId)?.state;
        const change = await living(() => tables.changeSubscription(subscriptionId, input));
        if (input.type === 'CANCEL' && before !== 'CANCELLED') ledger.cancelled(subscriptionId);
        const isOnPaper = sabotage === 'PAUSES_ON_PAPER' && change.type === 'STORED' && change.row.state === 'PAUSED';
        return isOnPaper ? { ...change, row: { ...change.row, state: 'ACTIVE' } } : change;
      }),
    markDead: (subscriptionIds) =>
      write(parts, groups, subscriptionIds.map(lockOf), () => living(() => tables.markDead(subscriptionIds))),
    async fold(current, snapshots, mayGoOn = () => true) {
      const written = new Set<string>();
      const fold = async (piece: readonly StoredCursor[]): Promise<void> => {
        await write(parts, folds, ['cursors'], () => {
          for (const one of piece) database.groups.fold(one);
          ledger.folded();
        });
        for (const { key } of piece) written.add(cursorName(key));
      };
      const isCut = (): boolean => {
        if (written.size === 0 || mayGoOn()) return false;
        ledger.world.count('a fold is cut short');
        return true;
      };
      // The parts are small, so that much can happen between them.
      for (const piece of pieces(snapshots(), 2)) {
        if (isCut()) return 'CUT';
        await fold(piece);
      }
      const { inherited } = tables;
      if (inherited === null) return 'KEPT';
      const left = namedIn(inherited).filter((key) => !written.has(cursorName(key)));
      for (const piece of pieces(sabotage === 'FOLDS_ONLY_WHAT_MOVES' ? [] : left, 2)) {
        if (isCut()) return 'CUT';
        ledger.world.count('a fold writes what the broker before has left');
        await fold(await reads.call(() => piece.flatMap((key) => database.groups.withRows(key, inherited) ?? [])));
      }
      return write(parts, folds, ['cursors'], () => {
        tables.inherited = [];
        const isLeft = database.groups.truncateOthers(current);
        ledger.folded();
        return isLeft ? 'KEPT' : 'EMPTIED';
      });
    },
  };
}
