import type { MemberId } from '../../src/coordinator/group.ts';
import { mergeDelta, type CursorSnapshot } from '../../src/cursor/cursor.ts';
import type { AckCommand, AckOutcome } from '../../src/delivery/calls.ts';
import type { TopicPartition } from '../../src/delivery/session.ts';
import type { AckRound, CursorKey, SubscriptionRow } from '../../src/delivery/store.ts';
import { leaseMs } from '../../src/ownership/lease.ts';
import type { Database } from './database.ts';
import { GroupLedger, type Recipient } from './group-ledger.ts';
import type { World } from './world.ts';

/** One record as it went out to a member. */
export interface SentRecord {
  readonly offset: number;
  readonly key: string;
  readonly value: string;
  readonly attempt: number;
}

export interface SentBatch extends TopicPartition {
  readonly records: readonly SentRecord[];
}

/** What a group has done with one partition. */
class Consumption {
  /** Sent to a member, by whatever broker. */
  readonly sent = new Set<number>();
  /** Its ack was answered: it is never sent again. */
  readonly acked = new Set<number>();
  /** Named by an ack, whether or not it counted. */
  readonly named = new Set<number>();
  /** Handled by a member. */
  readonly received = new Set<number>();
  /** The first offset that is owed. */
  start = 0;
}

/**
 * What was promised, and to whom. Everything that clients are told and the database commits passes by here, and is compared with
 * what was said before; the first contradiction ends the run.
 */
export class Ledger {
  readonly world: World;
  /** Memberships and assignments. */
  readonly groups: GroupLedger;
  readonly #database: Database;
  readonly #consumptions = new Map<string, Consumption>();
  /** Where each record is: by its value. */
  readonly #confirmed = new Map<string, string>();
  readonly #written = new Map<string, string>();
  /** Cursors as they are durable. */
  readonly #cursors = new Map<string, CursorSnapshot>();
  /** The lowest offset that a member has given back, by what came: whether it counted is not looked at. */
  readonly #givenBack = new Map<string, number>();
  #appends = 0;
  readonly counts = { sent: 0, received: 0, acked: 0, refused: 0, confirmed: 0, duplicates: 0 };

  constructor(world: World, database: Database) {
    this.world = world;
    this.#database = database;
    this.groups = new GroupLedger(world, database);
    database.observer = {
      writing: (epoch) => {
        world.demand(epoch === database.epoch, () => `a broker of epoch ${epoch} wrote in epoch ${database.epoch}`);
      },
      takenOver: (epoch, broker) => {
        world.note(`${broker} has taken over: epoch ${epoch}`);
        if (epoch > 1) world.count('a broker takes over from another');
      },
    };
    database.log.onRecord = (topicId, partition, offset, value) => {
      const where = `${topicId}/${partition}@${offset}`;
      world.demand(!this.#written.has(value), () => `${value} is at ${this.#written.get(value)} and at ${where}`);
      this.#written.set(value, where);
    };
  }

  nthAppend(): number {
    return ++this.#appends;
  }

  /** A publisher was told where its record is. */
  confirmed(topic: string, partition: number, offset: number, value: string): void {
    this.counts.confirmed++;
    const where = `${this.#topicId(topic)}/${partition}@${offset}`;
    const before = this.#confirmed.get(value) ?? where;
    this.world.demand(before === where, () => `${value} was confirmed at ${before}, and then at ${where}`);
    this.world.demand(this.#written.get(value) === where, () => `${value} is not at ${where}, as was confirmed`);
    this.#confirmed.set(value, where);
  }

  /** Everything that was confirmed is where it was. */
  confirmedAll(): void {
    for (const [value, where] of this.#confirmed) {
      const [topicId, partition, offset] = where.split(/[/@]/).map(Number) as [number, number, number];
      const found = this.#database.log.partition(topicId, partition).values[offset];
      this.world.demand(found === value, () => `${value} was confirmed at ${where}, where now ${found} is`);
    }
  }

  subscribed(rows: readonly SubscriptionRow[]): void {
    for (const { id, groupId, topicId } of rows) {
      for (const { key, cursor } of this.#database.groups.cursors.values()) {
        if (key.subscriptionId !== id || this.#cursors.has(nameOf(key))) continue;
        this.#cursors.set(nameOf(key), cursor);
        const consumption = new Consumption();
        consumption.start = cursor.committedOffset;
        const group = this.#database.groups.groups.find((one) => one.id === groupId)!;
        this.#consumptions.set(`${group.name}:${topicId}/${key.partition}`, consumption);
      }
    }
  }

  /** A round of acks is being committed. */
  acksWritten({ deltas }: AckRound): void {
    for (const { key, delta } of deltas) {
      const before = this.#cursors.get(nameOf(key))!;
      const after = mergeDelta(before, delta);
      this.#cursors.set(nameOf(key), after);
      const consumption = this.#consumptionOf(key);
      for (let offset = before.committedOffset; offset < endOf(after); offset++) {
        if (!isAcked(after, offset) || isAcked(before, offset)) continue;
        this.world.demand(consumption.sent.has(offset), () => `${nameOf(key)}@${offset} is acked and was never sent`);
      }
    }
  }

  /** Cursors were folded: nothing that was acked may be missing. */
  folded(): void {
    for (const { key, cursor } of this.#database.groups.cursors.values()) {
      let now = cursor;
      for (const { deltas } of this.#database.groups.ackLog) {
        for (const one of deltas) if (nameOf(one.key) === nameOf(key)) now = mergeDelta(now, one.delta);
      }
      const before = this.#cursors.get(nameOf(key))!;
      for (let offset = now.committedOffset; offset < endOf(before); offset++) {
        if (!isAcked(before, offset) || isAcked(now, offset)) continue;
        this.world.violated(`the fold takes the ack of ${nameOf(key)}@${offset} back`);
      }
      this.#cursors.set(nameOf(key), now);
    }
  }

  /** Records go out to a member. */
  sent(recipient: Recipient, { topic, partition, records }: SentBatch): void {
    const { epoch, group, memberId } = recipient;
    this.groups.delivered(recipient, { topic, partition });
    const topicId = this.#topicId(topic);
    const { values } = this.#database.log.partition(topicId, partition);
    const consumption = this.#consumption(group, topicId, partition);
    const isOwner = epoch === this.#database.epoch;
    this.world.demand(
      isOwner || this.#database.sinceRenewalMs(epoch) < leaseMs,
      () => `epoch ${epoch} delivers to ${memberId} ${this.#database.sinceRenewalMs(epoch)} ms after its renewal`,
    );
    if (!isOwner) this.world.count('a broker delivers that does not know yet that it was replaced');
    for (const { offset, value, attempt } of records) {
      this.counts.sent++;
      if (attempt > 2) this.world.count('a record goes out for the third time or more');
      const where = `${topic}/${partition}@${offset}`;
      this.world.demand(values[offset] === value, () => `${value} goes out as ${where}, where ${values[offset]} is`);
      this.world.demand(
        !isOwner || !consumption.acked.has(offset),
        () => `${where} was acked by ${group} and goes out again, to ${memberId}`,
      );
      consumption.sent.add(offset);
    }
  }

  received(group: string, { topic, partition, records }: SentBatch): void {
    const { received } = this.#consumption(group, this.#topicId(topic), partition);
    for (const { offset } of records) {
      this.counts.received++;
      if (received.has(offset)) this.counts.duplicates++;
      received.add(offset);
    }
  }

  /** The lowest offset that the member has given back since this was asked last; Infinity: none. */
  takeGivenBack(group: string, memberId: MemberId, { topic, partition }: TopicPartition): number {
    const name = `${group}/${memberId}/${topic}/${partition}`;
    const lowest = this.#givenBack.get(name) ?? Infinity;
    this.#givenBack.delete(name);
    return lowest;
  }

  /** Whether an ack has named the record, so that it may be passed over; before the group's start nothing is owed. */
  mayPassOver(group: string, { topic, partition }: TopicPartition, offset: number): boolean {
    const { start, named } = this.#consumption(group, this.#topicId(topic), partition);
    return offset < start || named.has(offset);
  }

  /** Who held the partitions that an ack names when it came. */
  ackArrived(command: AckCommand): ({ memberId: MemberId; sinceGeneration: number } | null)[] {
    const { group, memberId, entries } = command;
    for (const { topic, partition, action, upToOffset, runs } of entries) {
      if (action !== 'ACK') {
        const name = `${group}/${memberId}/${topic}/${partition}`;
        this.#givenBack.set(name, Math.min(this.#givenBack.get(name) ?? Infinity, runs?.[0] ?? 0));
        continue;
      }
      const { named, start } = this.#consumption(group, this.#topicId(topic), partition);
      for (const offset of offsetsOf(upToOffset, runs, start)) named.add(offset);
    }
    const rows = this.groups.row(group)?.assignments;
    return entries.map(({ topic, partition }) => rows?.get(`${this.#topicId(topic)}/${partition}`) ?? null);
  }

  /** An ack is answered. */
  ackAnswered(
    { group, memberId, generation, entries }: AckCommand,
    holders: ReturnType<Ledger['ackArrived']>,
    outcomes: readonly AckOutcome[],
  ): void {
    outcomes.forEach(({ status }, index) => {
      const { topic, partition, action, upToOffset, runs } = entries[index]!;
      const where = `${group}: ${topic}/${partition}`;
      if (status !== 'OK') this.counts.refused++;
      this.world.count(`${action} is answered ${status}`);
      if (status !== 'OK' && status !== 'ALREADY_ACKED') return;
      const holder = holders[index] ?? null;
      const successor = this.groups.successorOf(memberId);
      this.world.demand(
        successor === undefined || holder?.memberId !== successor,
        () => `${where}: ${status} ${action} of ${memberId}, whose instance is ${successor}`,
      );
      this.world.demand(
        holder?.memberId === memberId && holder.sinceGeneration <= generation,
        () =>
          `${where}: ${status} ${action} of ${memberId} in generation ${generation}, and ${holder?.memberId} holds it since ${holder?.sinceGeneration}`,
      );
      if (action !== 'ACK' && status === 'OK') return;
      const topicId = this.#topicId(topic);
      const consumption = this.#consumption(group, topicId, partition);
      const durable = this.#cursors.get(this.#cursorName(group, topicId, partition))!;
      for (const offset of offsetsOf(upToOffset, runs, consumption.start)) {
        this.world.demand(isAcked(durable, offset), () => `${where}@${offset} is answered as acked and not durable`);
        if (!consumption.acked.has(offset)) this.counts.acked++;
        consumption.acked.add(offset);
      }
    });
  }

  /** What is still to happen before everything has come to everybody; null: nothing. */
  missing(): string | null {
    for (const [name, consumption] of this.#consumptions) {
      const [group, topicId, partition] = name.split(/[:/]/) as [string, string, string];
      const { values } = this.#database.log.partition(Number(topicId), Number(partition));
      const cursor = this.#cursors.get(this.#cursorName(group, Number(topicId), Number(partition)))!;
      if (cursor.committedOffset !== values.length) {
        return `${name} is committed at ${cursor.committedOffset} of ${values.length}`;
      }
      for (let offset = consumption.start; offset < values.length; offset++) {
        if (!consumption.received.has(offset)) return `${name}@${offset} was acked and never handled`;
      }
      const row = this.groups.row(group)!;
      const holder = row.assignments.get(`${topicId}/${partition}`)?.memberId;
      if (holder === undefined || !row.members.has(holder)) return `${name} is with nobody`;
    }
    return null;
  }

  #consumptionOf({ subscriptionId, partition }: CursorKey): Consumption {
    const { subscriptions, groups } = this.#database.groups;
    const { groupId, topicId } = subscriptions.find(({ id }) => id === subscriptionId)!;
    return this.#consumption(groups.find(({ id }) => id === groupId)!.name, topicId, partition);
  }

  #consumption(group: string, topicId: number, partition: number): Consumption {
    return this.#consumptions.get(`${group}:${topicId}/${partition}`)!;
  }

  #cursorName(group: string, topicId: number, partition: number): string {
    const { subscriptions } = this.#database.groups;
    const groupId = this.groups.row(group)!.id;
    const { id } = subscriptions.find((one) => one.groupId === groupId && one.topicId === topicId)!;
    return nameOf({ subscriptionId: id, partition, lane: 0 });
  }

  #topicId(name: string): number {
    return this.#database.log.idOf(name);
  }
}

function nameOf({ subscriptionId, partition, lane }: CursorKey): string {
  return `${subscriptionId}/${partition}/${lane}`;
}

function isAcked({ committedOffset, acked }: CursorSnapshot, offset: number): boolean {
  if (offset < committedOffset) return true;
  for (let at = 0; at < acked.length; at += 2) if (offset >= acked[at]! && offset <= acked[at + 1]!) return true;
  return false;
}

/** Behind everything that is acked. */
function endOf({ committedOffset, acked }: CursorSnapshot): number {
  return Math.max(committedOffset, (acked.at(-1) ?? -1) + 1);
}

function* offsetsOf(upTo: number | null, runs: readonly number[] | null, start: number): Generator<number> {
  if (upTo !== null) for (let offset = start; offset <= upTo; offset++) yield offset;
  for (let at = 0; runs !== null && at < runs.length; at += 2) {
    for (let offset = runs[at]!; offset <= runs[at + 1]!; offset++) yield offset;
  }
}
