import type { CommitStore } from '../../src/commit/store.ts';
import type { CursorSnapshot } from '../../src/consumption/partitioned/cursor.ts';
import type { CursorKey, FoundInAckLog, GroupStore, LoadedGroup } from '../../src/delivery/ports/store.ts';
import type { RetentionStore } from '../../src/lifecycle/store.ts';
import type { LogStore, TopicRow, TopicStore } from '../../src/log/store.ts';
import type { LeaseStore } from '../../src/ownership/store.ts';
import { keepsForever } from '../support/retention/stored-segments.ts';
import { allCursors, allGroups } from './loads.ts';

/** The stores of one broker. */
export interface Stores {
  readonly log: LogStore;
  readonly commits: CommitStore;
  readonly topics: TopicStore;
  readonly groups: GroupStore;
  readonly retention: RetentionStore;
}

/** A database, or its twin in memory, which brokers own one after the other. */
export interface StoreSite {
  /** Makes a new broker the owner, without a renewal yet. The next call fences its stores. */
  own(): Promise<Stores>;
  /** The owner renews its lease. */
  renew(): Promise<void>;
  /** The time of the database. */
  readonly nowMs: number;
  /** Moves the time of the database; a negative number moves it back. */
  pass(ms: number): void;
  close(): Promise<void>;
}

/** A database, or its twin, with the leases of brokers. */
export interface LeaseSite {
  /** A lease store of that broker, with its own session. */
  lease(broker: string): LeaseStore;
  /** Makes the tables, which a takeover needs. */
  prepare(): Promise<void>;
  pass(ms: number): void;
  /** Ends the sessions of the broker, as an administrator can. */
  cut(broker: string): Promise<void>;
  /** Resolves when `holds` does. */
  until(holds: () => Promise<boolean>): Promise<void>;
  close(): Promise<void>;
}

let topics = 0;

/** A topic with a name that no other test of the run uses. */
export async function newTopic(
  stores: Stores,
  partitions: number,
  { name = `topic-${++topics}`, idempotencyWindowMs = 120_000, retention = keepsForever } = {},
): Promise<TopicRow> {
  const topic = await stores.topics.createTopic({
    name,
    partitions,
    idempotencyWindowMs,
    description: 'of a test',
    retention,
  });
  if (topic === null) throw new Error(`the topic ${name} is already there`);
  return topic;
}

let groups = 0;

/** A group with a name that no other test of the run uses. */
export async function newGroup(stores: Stores): Promise<{ readonly name: string; readonly id: number }> {
  const name = `group-${++groups}`;
  return { name, id: await stores.groups.createGroup(name) };
}

/** The group in the database; undefined if it is deleted. */
export async function findGroup(stores: Stores, name: string): Promise<LoadedGroup | undefined> {
  const group = (await allGroups(stores.groups)).find((one) => one.name === name);
  if (group === undefined) return undefined;
  const assignments = [...group.snapshot.assignments].sort(
    (a, b) => a.topicId - b.topicId || a.partition - b.partition,
  );
  return { ...group, snapshot: { ...group.snapshot, assignments } };
}

/** The cursors of a subscription, by partition. */
export async function cursorsOf(stores: Stores, subscriptionId: number): Promise<CursorSnapshot[]> {
  const stored = (await allCursors(stores.groups)).filter(({ key }) => key.subscriptionId === subscriptionId);
  return stored.sort((a, b) => a.key.partition - b.key.partition).map(({ cursor }) => cursor);
}

/** The subscriptions that have cursors. */
export async function subscriptionsWithCursors(stores: Stores): Promise<Set<number>> {
  return new Set((await allCursors(stores.groups)).map(({ key }) => key.subscriptionId));
}

/** Makes a new owner, which loads the ack log of its predecessor. */
export async function readAckLog(stores: Stores): Promise<FoundInAckLog> {
  return stores.groups.readAckLog();
}

/** The first keys of a subscription, in partitions 0, 1, 2, … */
export function keysOf(subscriptionId: number, partitions: number): CursorKey[] {
  return Array.from({ length: partitions }, (_, partition) => ({ subscriptionId, partition, lane: 0 }));
}
