import type { GroupChange, MemberId } from '../../src/coordinator/group.ts';
import { mergeDelta, type CursorSnapshot } from '../../src/cursor/cursor.ts';
import type { AckCommand, AckOutcome } from '../../src/delivery/calls.ts';
import type { TopicPartition } from '../../src/delivery/session.ts';
import type { AckRound, CursorKey, SubscriptionRow } from '../../src/delivery/store.ts';
import { leaseMs } from '../../src/ownership/lease.ts';
import type { Database } from './database.ts';
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

/** Who sends to whom. */
export interface Recipient {
  readonly epoch: number;
  readonly group: string;
  readonly memberId: MemberId;
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
  readonly #database: Database;
  readonly #consumptions = new Map<string, Consumption>();
  /** Where each record is: by its value. */
  readonly #confirmed = new Map<string, string>();
  readonly #written = new Map<string, string>();
  /** Cursors as they are durable. */
  readonly #cursors = new Map<string, CursorSnapshot>();
  /** Each holding of a partition, and whose it is. */
  readonly #holdings = new Map<string, MemberId>();
  /** What the members of a group were told to have, by broker. */
  readonly #told = new Map<string, Map<MemberId, ReadonlySet<string>>>();
  /** The lowest offset that a member has given back, by what came: whether it counted is not looked at. */
  readonly #givenBack = new Map<string, number>();
  #appends = 0;
  readonly counts = { sent: 0, received: 0, acked: 0, refused: 0, confirmed: 0, duplicates: 0 };

  constructor(world: World, database: Database) {
    this.world = world;
    this.#database = database;
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

  /** A change of a group is being committed. */
  groupSaved(groupId: number, change: GroupChange, epoch: number): void {
    const row = this.#database.groups.groups.find(({ id }) => id === groupId)!;
    const said = `epoch ${epoch} saves generation ${change.generation} of ${row.name}`;
    this.world.note(said);
    this.world.demand(change.generation >= row.generation, () => `${said}, which is at ${row.generation}`);
    for (const { topicId, partition, memberId, sinceGeneration } of change.putAssignments) {
      const holding = `${groupId}:${topicId}/${partition} since ${sinceGeneration}`;
      const holder = this.#holdings.get(holding) ?? memberId;
      this.world.demand(holder === memberId, () => `${said}: ${holding} is given to ${memberId} and was to ${holder}`);
      this.#holdings.set(holding, memberId);
      const before = row.assignments.get(`${topicId}/${partition}`)?.sinceGeneration ?? 0;
      this.world.demand(sinceGeneration >= before, () => `${said}: ${holding}, and before since ${before}`);
      this.world.demand(sinceGeneration <= change.generation, () => `${said}: ${holding}`);
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

  /** A member is told something in this generation, which must be durable by then. */
  generationTold({ group, memberId }: Recipient, generation: number): void {
    const durable = this.#groupRow(group)?.generation ?? 0;
    this.world.demand(
      generation <= durable,
      () => `${memberId} of ${group} is told of generation ${generation} when ${durable} is durable`,
    );
  }

  /** A member is told what it has: nobody else of whom this broker knows may still have been told the same. */
  assignmentTold({ epoch, group, memberId }: Recipient, partitions: readonly TopicPartition[]): void {
    const told = this.#toldIn(epoch, group);
    const own = new Set(partitions.map(({ topic, partition }) => `${topic}/${partition}`));
    for (const [other, theirs] of told) {
      if (other === memberId) continue;
      for (const one of own) {
        this.world.demand(!theirs.has(one), () => `${group}: ${one} is ${memberId}'s while ${other} still has it`);
      }
    }
    told.set(memberId, own);
  }

  /** The member's stream has ended, seen from the broker. */
  streamEnded({ epoch, group, memberId }: Recipient): void {
    this.#toldIn(epoch, group).delete(memberId);
  }

  /** Records go out to a member. */
  sent({ epoch, group, memberId }: Recipient, { topic, partition, records }: SentBatch): void {
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
    const rows = this.#groupRow(group)?.assignments;
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
      const row = this.#groupRow(group)!;
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
    const groupId = this.#groupRow(group)!.id;
    const { id } = subscriptions.find((one) => one.groupId === groupId && one.topicId === topicId)!;
    return nameOf({ subscriptionId: id, partition, lane: 0 });
  }

  #groupRow(name: string) {
    return this.#database.groups.groups.find((group) => group.name === name);
  }

  #topicId(name: string): number {
    return this.#database.log.rows().find((row) => row.name === name)?.id ?? -1;
  }

  #toldIn(epoch: number, group: string): Map<MemberId, ReadonlySet<string>> {
    const name = `${epoch}/${group}`;
    let told = this.#told.get(name);
    if (told === undefined) this.#told.set(name, (told = new Map<MemberId, ReadonlySet<string>>()));
    return told;
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
