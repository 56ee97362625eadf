import type { MemberId } from '../../../src/coordinator/group.ts';
import { begunAt, mergeDelta, type CursorSnapshot } from '../../../src/consumption/partitioned/cursor.ts';
import type { AckCommand, AckOutcome } from '../../../src/delivery/ports/acks.ts';
import type { CommittedOffset, ResetOffset } from '../../../src/delivery/ports/offsets.ts';
import type { StreamEvent, TopicPartition } from '../../../src/delivery/ports/session.ts';
import type {
  CursorJump,
  CursorKey,
  CursorReset,
  StoredGap,
  SubscriptionRow,
} from '../../../src/delivery/ports/store.ts';
import type { AckRow } from '../../../src/commit/store.ts';
import type { SettleCommand, SettleOutcome } from '../../../src/delivery/ports/settle.ts';
import { Fault } from '../../../src/errors/fault.ts';
import type { Rejection } from '../../../src/errors/rejections/rejection.ts';
import { leaseMs } from '../../../src/ownership/lease-times.ts';
import { archivedRecord, archiveTopic } from '../clients/archive.ts';
import { claimPrefix } from '../clients/claimant.ts';
import { Consumption } from './consumption.ts';
import type { Database } from '../database/database.ts';
import { GapLedger } from './gaps.ts';
import { GroupLedger, type Recipient } from './group-ledger.ts';
import { LifeLedger } from './lives.ts';
import { RetentionLedger } from './retention-ledger.ts';
import type { World } from '../world.ts';

type IdleEvent = Extract<StreamEvent, { readonly type: 'idle' }>;

/** A record as a broker has sent it to a member. */
export interface SentRecord {
  readonly offset: number;
  readonly key: string;
  readonly value: string;
  readonly attempt: number;
}

export interface SentBatch extends TopicPartition {
  readonly records: readonly SentRecord[];
}

/** The state at the arrival of an ack or a commit. */
export interface Arrival {
  readonly epoch: number;
  /** The durable holder of each entry's partition. */
  readonly holders: readonly ({ readonly memberId: MemberId; readonly sinceGeneration: number } | null)[];
  /** The incarnation of each entry's cursor. */
  readonly resets: readonly number[];
  /** Whether a reset was under way at this broker, which may come before or after this. */
  readonly resetting: boolean;
}

/** A settlement at a broker, until its answer. */
export interface Settling extends Arrival {
  readonly command: SettleCommand;
  /** Describes a record that went out behind one of its MOVING records; null if none did. */
  overtaken: string | null;
}

/** A commit from outside at a broker, until its answer. */
export interface OutsideCommit {
  readonly epoch: number;
  readonly group: string;
  readonly place: TopicPartition;
  readonly offset: number;
  /**
   * Whether the group has had no member at any time of the call. The broker looks once at some time
   * of it: a call that waits for the load of the group sees the group without the members that the
   * takeover has removed.
   */
  wasEmpty: boolean;
  readonly resets: number;
  readonly resetting: boolean;
}

/**
 * Keeps all promises to clients. Every answer to a client and every commit of the database is
 * compared with the earlier ones, and the first contradiction ends the run.
 */
export class Ledger {
  readonly world: World;
  /** Checks memberships and assignments. */
  readonly groups: GroupLedger;
  /** Checks which segments go. */
  readonly retention: RetentionLedger;
  /** Checks the lives of subscriptions. */
  readonly lives: LifeLedger;
  /** Checks that members get gaps. */
  readonly gaps: GapLedger;
  readonly #database: Database;
  /** By group, topic and partition: that of the last subscription. */
  readonly #consumptions = new Map<string, Consumption>();
  /** By cursor: those of all subscriptions. */
  readonly #consumptionsOf = new Map<string, Consumption>();
  /** The last subscription of each group and topic. */
  readonly #subscriptions = new Map<string, number>();
  /** The confirmed place of each record, by its value. */
  readonly #confirmed = new Map<string, string>();
  readonly #written = new Map<string, string>();
  /** The durable cursors. */
  readonly #cursors = new Map<string, CursorSnapshot>();
  /**
   * The lowest offset that a member has given back, or a failed settlement has left, even if it did
   * not count.
   */
  readonly #givenBack = new Map<string, number>();
  /** The incarnation of the cursor when each batch was sent. */
  readonly #sentIn = new WeakMap<SentBatch, number>();
  /** The number of resets under way, by epoch and group. */
  readonly #resetting = new Map<string, number>();
  /** Settlements that are under way, or whose outcome is unknown to their broker. */
  readonly #settling = new Set<Settling>();
  /** Commits from outside that are under way, and whose group has had members so far. */
  readonly #outside = new Set<OutsideCommit>();
  /** The records that the current transaction has put into the archive. */
  #archived: string[] = [];
  #appends = 0;
  readonly counts = { sent: 0, received: 0, acked: 0, refused: 0, confirmed: 0, duplicates: 0 };

  constructor(world: World, database: Database) {
    this.world = world;
    this.#database = database;
    this.groups = new GroupLedger(world, database);
    this.retention = new RetentionLedger(world, database);
    this.lives = new LifeLedger(world, database);
    const subscriptionOf = (group: string, topic: string): number =>
      this.#subscriptions.get(`${group}:${this.#topicId(topic)}`)!;
    const isLoss = ({ key, gap }: StoredGap): boolean => {
      const consumption = this.#findConsumption(key);
      if (consumption === undefined) return false;
      const { excused, received, archived } = consumption;
      const isLost = (offset: number): boolean => excused.has(offset) && !received.has(offset) && !archived.has(offset);
      return Array.from({ length: gap.last + 1 - gap.first }, (_, at) => gap.first + at).some(isLost);
    };
    this.gaps = new GapLedger(world, database, { subscriptionOf, isLoss });
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
      this.retention.appended(topicId, partition);
      if (topicId === database.log.idOf(archiveTopic)) this.#archived.push(archivedRecord(value));
    };
  }

  nthAppend(): number {
    return ++this.#appends;
  }

  /** Checks the place that a publisher gets for its record. */
  confirmed(topic: string, partition: number, offset: number, value: string): void {
    this.counts.confirmed++;
    const where = `${this.#topicId(topic)}/${partition}@${offset}`;
    const before = this.#confirmed.get(value) ?? where;
    this.world.demand(before === where, () => `${value} was confirmed at ${before}, and then at ${where}`);
    this.world.demand(this.#written.get(value) === where, () => `${value} is not at ${where}, as was confirmed`);
    this.#confirmed.set(value, where);
  }

  /** Checks that every confirmed record is still at its place. */
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
        this.retention.begun(key, topicId, cursor);
        const group = this.#database.groups.groups.find((one) => one.id === groupId)!;
        if (group.name.startsWith(claimPrefix)) continue;
        const name = `${group.name}:${topicId}/${key.partition}`;
        const consumption = new Consumption(cursor.committedOffset, this.#consumptions.get(name));
        this.#consumptions.set(name, consumption);
        this.#consumptionsOf.set(nameOf(key), consumption);
        this.#subscriptions.set(`${group.name}:${topicId}`, id);
      }
    }
  }

  /** Called when a commit cancels a subscription. Its acks need not be folded any more. */
  cancelled(subscriptionId: number): void {
    for (const { key } of this.#database.groups.cursors.values()) {
      if (key.subscriptionId === subscriptionId) this.#findConsumption(key)?.end();
    }
    this.retention.ended(subscriptionId);
  }

  /**
   * Checks a commit of appends with settlements. It must archive each record that it completes,
   * once, and no other record.
   */
  settled(row: Pick<AckRow, 'deltas'> | null): void {
    const archived = this.#archived.splice(0);
    for (const { key, delta } of row?.deltas ?? []) {
      const before = this.#cursors.get(nameOf(key))!;
      const consumption = this.#consumptionOf(key);
      const name = this.#recordsOf(key);
      const { world } = this;
      world.demand(delta.resets === before.resets, () => `${name} is settled in incarnation ${delta.resets}`);
      for (const offset of offsetsOf(null, delta.acked, 0)) {
        const record = `${name}@${offset}`;
        const at = archived.indexOf(record);
        world.demand(at >= 0, () => `${record} is completed by a settlement and not in the archive`);
        archived.splice(at, 1);
        world.demand(!isAcked(before, offset), () => `${record} is archived by a settlement and was complete before`);
        world.demand(consumption.settling.has(offset), () => `${record} is settled by who should not count`);
        for (const set of [consumption.archived, consumption.named, consumption.namedEver]) set.add(offset);
        consumption.namedByRuns.add(offset);
        consumption.refused.delete(offset);
        world.count('a record is archived');
      }
    }
    this.world.demand(archived.length === 0, () => `${archived.join()} is archived and not completed by that`);
  }

  /** Called when a settlement arrives at a broker. */
  settleArrived(epoch: number, command: SettleCommand): Settling {
    const { group, memberId, generation, entries } = command;
    const rows = this.groups.row(group)?.assignments;
    const holders = entries.map(({ topic, partition }) => rows?.get(`${this.#topicId(topic)}/${partition}`) ?? null);
    const resets = entries.map(({ topic, partition, runs }, index) => {
      const consumption = this.#consumption(group, this.#topicId(topic), partition);
      const holder = holders[index] ?? null;
      const mayCount = holder?.memberId === memberId && holder.sinceGeneration <= generation;
      for (const offset of offsetsOf(null, runs, 0)) {
        consumption.forgetAttempt(offset);
        if (mayCount) consumption.settling.add(offset);
      }
      return consumption.resets;
    });
    const resetting = this.#resetting.has(`${epoch}/${group}`);
    const settling = { epoch, holders, resets, resetting, command, overtaken: null };
    this.#settling.add(settling);
    return settling;
  }

  /** Checks the answer to a settlement. */
  settleAnswered(settling: Settling, outcome: SettleOutcome | Rejection | Fault): void {
    const { world } = this;
    const { command, holders, overtaken } = settling;
    if (outcome instanceof Error) {
      const reason = outcome instanceof Fault ? outcome.kind : outcome.reason;
      world.count(`a settlement ends with ${reason}`);
      if (reason === 'OUTCOME_UNKNOWN' || reason === 'FENCED') return;
      for (const entry of command.entries) this.#givesBack(command, entry, entry.runs[0]!);
    }
    this.#settling.delete(settling);
    if (outcome instanceof Error) return;
    const { memberId, generation, entries, group } = command;
    for (const status of outcome.statuses) world.count(`SETTLE is answered ${status}`);
    if (outcome.published === null) return;
    world.demand(overtaken === null, () => overtaken!);
    entries.forEach(({ topic, partition, runs }, index) => {
      const where = `${group}: ${topic}/${partition}`;
      const holder = holders[index] ?? null;
      world.demand(
        holder?.memberId === memberId && holder.sinceGeneration <= generation,
        () => `${where}: ${memberId} settles in generation ${generation}, and ${holder?.memberId} holds it`,
      );
      const consumption = this.#consumption(group, this.#topicId(topic), partition);
      if (consumption.resets !== settling.resets[index] || settling.resetting) return;
      for (const offset of offsetsOf(null, runs, 0)) {
        const isThere = consumption.archived.has(offset);
        world.demand(isThere, () => `${where}@${offset} is answered as settled and is not`);
      }
    });
  }

  /** Checks that the records in flight of a member are the sum over its partitions. */
  inFlightTold({ epoch, group, memberId }: Recipient, { inFlightRecords, partitions }: IdleEvent): void {
    // MOVING records count for the member that had them, which may have lost the partition.
    for (const { epoch: of, command } of this.#settling) if (of === epoch && command.group === group) return;
    const held = partitions.reduce((sum, one) => sum + one.inFlightRecords, 0);
    this.world.count('the credit of a member is compared');
    this.world.demand(
      held === inFlightRecords,
      () => `${memberId} has credit for ${inFlightRecords} records out, and its partitions have ${held} in flight`,
    );
  }

  #recordsOf({ subscriptionId, partition }: CursorKey): string {
    const { subscriptions, groups } = this.#database.groups;
    const { groupId, topicId } = subscriptions.find(subscriptionId)!;
    const { name } = groups.find(({ id }) => id === groupId)!;
    return `${name}:${this.#database.log.topics.get(topicId)!.row.name}/${partition}`;
  }

  /** Notes records that go out behind the MOVING records of a settlement. */
  #overtakes({ epoch, group, memberId }: Recipient, { topic, partition, records }: SentBatch): void {
    for (const settling of this.#settling) {
      if (settling.epoch !== epoch || settling.command.group !== group) continue;
      const { archived } = this.#consumption(group, this.#topicId(topic), partition);
      for (const entry of settling.command.entries) {
        if (entry.topic !== topic || entry.partition !== partition || archived.has(entry.runs[0]!)) continue;
        const last = records.at(-1)!.offset;
        if (last < entry.runs[0]!) continue;
        settling.overtaken ??= `${group}: ${topic}/${partition}@${last} goes out to ${memberId} behind @${entry.runs[0]}, which is MOVING`;
      }
    }
  }

  /** Checks a round of acks that is being committed. */
  acksWritten({ deltas }: Pick<AckRow, 'deltas'>): void {
    for (const { key, delta } of deltas) {
      const before = this.#cursors.get(nameOf(key))!;
      const after = mergeDelta(before, delta);
      this.#cursors.set(nameOf(key), after);
      const consumption = this.#findConsumption(key);
      for (let offset = before.committedOffset; offset < endOf(after); offset++) {
        if (!isAcked(after, offset) || isAcked(before, offset)) continue;
        this.retention.done(key, offset);
        // A claimant has no members, and may commit anything.
        if (consumption === undefined) continue;
        const where = `${nameOf(key)}@${offset}`;
        const known = consumption.sent.has(offset) || consumption.excused.has(offset);
        this.world.demand(known, () => `${where} is acked and was never sent`);
        this.world.demand(consumption.named.has(offset), () => `${where} is acked by an ack that should not count`);
      }
    }
  }

  /** Takes resets of cursors. Those that are at the new incarnation already stay as they are. */
  cursorsReset(resets: readonly CursorReset[]): void {
    for (const { key, offset, resets: incarnation } of resets) {
      const before = this.#cursors.get(nameOf(key))!;
      if (before.resets >= incarnation) continue;
      this.world.note(`${nameOf(key)} begins anew at ${offset}`);
      this.world.count(`a cursor is reset ${offset < before.committedOffset ? 'to the past' : 'ahead'}`);
      const begun = begunAt(offset, incarnation);
      this.#cursors.set(nameOf(key), begun);
      this.retention.begun(key, this.#topicOf(key), begun);
      this.#findConsumption(key)?.begin(offset, incarnation);
    }
  }

  /** Takes gaps that are durable: nobody has to handle what lies in them, which must be gone. */
  gapsSaved(jumps: readonly CursorJump[]): void {
    for (const { key, resets, gap } of jumps) {
      const cursor = this.#cursors.get(nameOf(key))!;
      const consumption = this.#findConsumption(key);
      if (cursor.resets !== resets || consumption === undefined) continue;
      this.world.note(`${nameOf(key)} loses @${gap.first} to @${gap.last}`);
      this.world.count('a cursor jumps over what a drop has taken');
      const start = this.#database.groups.logStart(this.#topicOf(key), key.partition, key.lane);
      // The gap goes on over records that the group has acked already.
      for (let offset = start; offset <= gap.last; offset++) {
        this.world.count('a gap ends behind acked records');
        this.world.demand(
          consumption.named.has(offset) || consumption.archived.has(offset),
          () => `${nameOf(key)} loses @${offset}, which is not acked, and its log begins at ${start}`,
        );
      }
      for (let offset = gap.first; offset <= Math.min(gap.last, start - 1); offset++) {
        if (isAcked(cursor, offset)) continue;
        for (const set of [consumption.named, consumption.namedEver, consumption.excused]) set.add(offset);
        consumption.refused.delete(offset);
      }
    }
  }

  /** Checks that a fold has lost no ack. */
  folded(): void {
    for (const { key, cursor } of this.#database.groups.cursors.values()) {
      // Nothing is owed to a cancelled subscription, so nobody folds its last acks.
      if (this.#database.groups.subscriptions.find(key.subscriptionId)?.state === 'CANCELLED') continue;
      let now = cursor;
      for (const { deltas } of this.#database.groups.ackLog) {
        for (const one of deltas) if (nameOf(one.key) === nameOf(key)) now = mergeDelta(now, one.delta);
      }
      const before = this.#cursors.get(nameOf(key))!;
      for (let offset = now.committedOffset; offset < endOf(before); offset++) {
        if (!isAcked(before, offset) || isAcked(now, offset)) continue;
        this.world.violated(`the fold takes the ack of ${nameOf(key)}@${offset} back`);
      }
      // A fold may write acks before their round does.
      for (let offset = before.committedOffset; offset < endOf(now); offset++) {
        if (isAcked(now, offset)) this.retention.done(key, offset);
      }
      this.#cursors.set(nameOf(key), now);
    }
  }

  /** Checks records that go out to a member. */
  sent(recipient: Recipient, batch: SentBatch): void {
    const { topic, partition, records } = batch;
    const { epoch, group, memberId } = recipient;
    this.groups.delivered(recipient, { topic, partition });
    const topicId = this.#topicId(topic);
    const { values } = this.#database.log.partition(topicId, partition);
    const consumption = this.#consumption(group, topicId, partition);
    this.#sentIn.set(batch, consumption.resets);
    this.#overtakes(recipient, batch);
    const isOwner = epoch === this.#database.epoch;
    this.world.demand(
      isOwner || this.#database.sinceRenewalMs(epoch) < leaseMs,
      () => `epoch ${epoch} delivers to ${memberId} ${this.#database.sinceRenewalMs(epoch)} ms after its renewal`,
    );
    if (isOwner) this.lives.sent(this.#subscriptions.get(`${group}:${topicId}`)!);
    else this.world.count('a broker delivers that does not know yet that it was replaced');
    for (const { offset, value, attempt } of records) {
      this.counts.sent++;
      if (attempt > 2) this.world.count('a record goes out for the third time or more');
      const where = `${topic}/${partition}@${offset}`;
      this.world.demand(values[offset] === value, () => `${value} goes out as ${where}, where ${values[offset]} is`);
      this.world.demand(
        !isOwner || !consumption.acked.has(offset),
        () => `${where} was acked by ${group} and goes out again, to ${memberId}`,
      );
      this.world.demand(
        !isOwner || !consumption.archived.has(offset),
        () => `${where} was archived by ${group} and goes out again, to ${memberId}`,
      );
      consumption.sent.add(offset);
      this.#attemptTold(recipient, consumption, where, { offset, attempt });
    }
  }

  /** Checks that a slow reader has cost its records no attempt. */
  #attemptTold(
    { epoch, group, memberId }: Recipient,
    { deliveries, keptAttempts }: Consumption,
    where: string,
    { offset, attempt }: Pick<SentRecord, 'offset' | 'attempt'>,
  ): void {
    const kept = keptAttempts.get(offset);
    if (kept?.epoch === epoch) {
      this.world.count('a record comes again after a slow reader');
      this.world.demand(
        attempt <= kept.attempt,
        () =>
          `${group}: ${where} goes out to ${memberId} as attempt ${attempt}, and was attempt ${kept.attempt} when its client did not read`,
      );
    }
    keptAttempts.delete(offset);
    deliveries.set(offset, { epoch, memberId, attempt });
  }

  /** Called when a broker ends the stream of a member because the client does not read. */
  slowReaderEnded({ epoch, group, memberId }: Recipient): void {
    for (const [name, consumption] of this.#consumptions) {
      if (name.startsWith(`${group}:`)) consumption.keepAttempts(memberId, epoch);
    }
  }

  /**
   * Called when a member has handled a batch, except for the records `unhandled`. If the cursor was
   * reset since the batch was sent, its records must be handled again.
   */
  received(group: string, batch: SentBatch, unhandled: readonly number[]): void {
    const { received, resets } = this.#consumption(group, this.#topicId(batch.topic), batch.partition);
    for (const { offset } of batch.records) {
      this.counts.received++;
      if (received.has(offset)) this.counts.duplicates++;
      if (this.#sentIn.get(batch) === resets && !unhandled.includes(offset)) received.add(offset);
    }
  }

  #givesBack(
    { group, memberId }: Pick<AckCommand, 'group' | 'memberId'>,
    { topic, partition }: TopicPartition,
    lowest: number,
  ): void {
    const name = `${group}/${memberId}/${topic}/${partition}`;
    this.#givenBack.set(name, Math.min(this.#givenBack.get(name) ?? Infinity, lowest));
  }

  /** The lowest offset that the member has given back since the last call; Infinity if none. */
  takeGivenBack(group: string, memberId: MemberId, { topic, partition }: TopicPartition): number {
    const name = `${group}/${memberId}/${topic}/${partition}`;
    const lowest = this.#givenBack.get(name) ?? Infinity;
    this.#givenBack.delete(name);
    return lowest;
  }

  /**
   * Whether delivery may pass over the record: it is before the group's start, or an ack that may
   * count has named it. A broker that was replaced without knowing it may go by any ack that it
   * got, even for an incarnation that has ended since.
   */
  mayPassOver(group: string, { topic, partition }: TopicPartition, offset: number, epoch: number): boolean {
    const { start, named, namedEver } = this.#consumption(group, this.#topicId(topic), partition);
    return offset < start || (epoch === this.#database.epoch ? named : namedEver).has(offset);
  }

  /** Called when an ack arrives at a broker. @returns the state at that time. */
  ackArrived(epoch: number, command: AckCommand): Arrival {
    const { group, memberId, generation, entries } = command;
    const rows = this.groups.row(group)?.assignments;
    const holders = entries.map(({ topic, partition }) => rows?.get(`${this.#topicId(topic)}/${partition}`) ?? null);
    const resets = entries.map(({ topic, partition, action, upToOffset, runs }, index) => {
      const consumption = this.#consumption(group, this.#topicId(topic), partition);
      if (action !== 'ACK') {
        this.#givesBack(command, entries[index]!, runs?.[0] ?? 0);
        for (const offset of offsetsOf(null, runs, 0)) consumption.forgetAttempt(offset);
        return consumption.resets;
      }
      const holder = holders[index] ?? null;
      const mayCount = holder?.memberId === memberId && holder.sinceGeneration <= generation;
      const holding = holdingOf(epoch, holder);
      const passes = [...consumption.refused].some(([offset, of]) => offset <= (upToOffset ?? -1) && of === holding);
      if (passes) this.world.count('a cumulative ack comes that passes a refused record');
      for (const offset of offsetsOf(upToOffset, runs, 0)) {
        consumption.namedEver.add(offset);
        if (!mayCount || passes) continue;
        consumption.named.add(offset);
        if (runs === null) continue;
        consumption.namedByRuns.add(offset);
        consumption.refused.delete(offset);
      }
      return consumption.resets;
    });
    return { epoch, holders, resets, resetting: this.#resetting.has(`${epoch}/${group}`) };
  }

  /** Whether the claim has ended, or its cursor was reset, since it had so many resets. */
  hasBegunAnew(group: string, { topic, partition }: TopicPartition, resets: number): boolean {
    const { resets: now, ended } = this.#consumption(group, this.#topicId(topic), partition);
    return ended || now !== resets;
  }

  /** Checks the answer to an ack, or to a commit of a member, which is a cumulative ack. */
  ackAnswered(
    { group, memberId, generation, entries }: AckCommand,
    { epoch, holders, resets, resetting }: Arrival,
    outcomes: readonly Pick<AckOutcome, 'status' | 'committedOffset'>[],
    call: 'ACK' | 'COMMIT' = 'ACK',
  ): void {
    outcomes.forEach(({ status, committedOffset }, index) => {
      const { topic, partition, action, upToOffset, runs } = entries[index]!;
      const where = `${group}: ${topic}/${partition}`;
      if (status !== 'OK') this.counts.refused++;
      this.world.count(`${call === 'COMMIT' ? call : action} is answered ${status}`);
      const isSame = !resetting && this.#consumption(group, this.#topicId(topic), partition).resets === resets[index];
      if (isSame) this.#committedTold(group, { topic, partition }, committedOffset);
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
      if (action !== 'ACK' && status === 'OK' && isSame) {
        const holding = holdingOf(epoch, holder);
        this.#refused(
          group,
          { topic, partition },
          runs ?? [],
          holding === this.#holding(epoch, group, entries[index]!) ? holding : null,
        );
      }
      if ((action !== 'ACK' && status === 'OK') || !isSame) return;
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

  /**
   * Called when a NACK or RELEASE has counted. `holding` is null if the partition has moved since.
   */
  #refused(group: string, { topic, partition }: TopicPartition, runs: readonly number[], holding: string | null): void {
    const { named, namedByRuns, refused } = this.#consumption(group, this.#topicId(topic), partition);
    for (const offset of offsetsOf(null, runs, 0)) {
      // A record that an ack has named may be acked by now.
      if (holding === null || namedByRuns.has(offset)) continue;
      refused.set(offset, holding);
      named.delete(offset);
    }
  }

  /** The current holding of the partition, as it is durable. */
  #holding(epoch: number, group: string, { topic, partition }: TopicPartition): string {
    const holder = this.groups.row(group)?.assignments.get(`${this.#topicId(topic)}/${partition}`) ?? null;
    return holdingOf(epoch === this.#database.epoch ? epoch : -1, holder);
  }

  /** Called when a commit from outside arrives. @returns the call, for its end. */
  commitArrived(epoch: number, group: string, place: TopicPartition, offset: number): OutsideCommit {
    const resets = this.#consumptions.get(this.#consumptionName(group, place))?.resets ?? 0;
    const resetting = this.#resetting.has(`${epoch}/${group}`);
    const commit = { epoch, group, place, offset, wasEmpty: false, resets, resetting };
    this.#outside.add(commit);
    this.#lookEmpty(commit);
    return commit;
  }

  /** Called when a broker has saved groups. Only a commit at the same broker may count by that. */
  groupsSaved(epoch: number): void {
    for (const commit of this.#outside) if (commit.epoch === epoch) this.#lookEmpty(commit);
  }

  /** Notes that a commit from outside may count, if its group has no member now. */
  #lookEmpty(commit: OutsideCommit): void {
    const { group, place, offset } = commit;
    if (this.groups.row(group)?.members.size !== 0) return;
    commit.wasEmpty = true;
    this.#outside.delete(commit);
    const consumption = this.#consumptions.get(this.#consumptionName(group, place));
    for (let below = 0; consumption !== undefined && below < offset; below++) {
      for (const set of [consumption.named, consumption.namedEver, consumption.excused]) set.add(below);
    }
  }

  /** Called when a commit from outside has ended, with any outcome. */
  commitEnded(commit: OutsideCommit): void {
    this.#outside.delete(commit);
  }

  /** Checks the answer to a commit from outside. */
  commitAnswered(
    { group, place, offset, wasEmpty, resets, resetting }: OutsideCommit,
    { status, committedOffset }: Pick<CommittedOffset, 'status' | 'committedOffset'>,
  ): void {
    const where = `${group}: ${place.topic}/${place.partition}`;
    this.world.count(`a commit from outside is answered ${status}`);
    this.world.demand(wasEmpty, () => `${where}: ${status} commit from outside, and the group has members`);
    const consumption = this.#consumptions.get(this.#consumptionName(group, place));
    if (consumption?.resets !== resets || resetting) return;
    this.#committedTold(group, place, committedOffset);
    if (status !== 'OK' && status !== 'NOT_ADVANCED') return;
    const durable = this.#cursorOf(group, place);
    this.world.demand(
      durable.committedOffset >= offset,
      () => `${where}@${offset} is answered as committed and not durable`,
    );
    for (let below = consumption.start; below < offset; below++) consumption.acked.add(below);
  }

  /** The partitions of a topic, each with its end. */
  places(topic: string): (TopicPartition & { readonly end: number })[] {
    const row = this.#database.log.rows().find(({ name }) => name === topic);
    return (row?.partitions ?? []).map(({ partition }) => {
      return { topic, partition, end: this.#database.log.partition(row!.id, partition).values.length };
    });
  }

  /**
   * Called when a reset arrives at a broker.
   * @returns the incarnations of the group's cursors at that time.
   */
  resetArrived(epoch: number, group: string): ReadonlyMap<string, number> {
    const name = `${epoch}/${group}`;
    this.#resetting.set(name, (this.#resetting.get(name) ?? 0) + 1);
    const cursors = [...this.#consumptions].filter(([cursor]) => cursor.startsWith(`${group}:`));
    return new Map(cursors.map(([cursor, { resets }]) => [cursor, resets]));
  }

  /** Called when a reset has ended, with any outcome. */
  resetEnded(epoch: number, group: string): void {
    const name = `${epoch}/${group}`;
    const others = this.#resetting.get(name)! - 1;
    if (others > 0) this.#resetting.set(name, others);
    else this.#resetting.delete(name);
  }

  /** Checks that an answered reset is durable, and happened after the call arrived. */
  resetAnswered(group: string, before: ReadonlyMap<string, number>, answered: readonly ResetOffset[]): void {
    for (const place of answered) {
      const name = this.#consumptionName(group, place);
      const { resets, start } = this.#consumptions.get(name)!;
      const known = before.get(name) ?? 0;
      this.world.demand(resets > known, () => `${name} is answered as reset and is not`);
      this.world.demand(
        resets > known + 1 || start === place.offset,
        () => `${name} is answered as reset to ${place.offset}, and begins at ${start}`,
      );
    }
  }

  /** Checks a committed offset that a client gets. */
  #committedTold(group: string, place: TopicPartition, told: number | null): void {
    const { committedOffset } = this.#cursorOf(group, place);
    this.world.demand(
      told === null || told <= committedOffset,
      () =>
        `${group}: ${place.topic}/${place.partition} is told to be committed at ${told}, and ${committedOffset} is durable`,
    );
  }

  /** What prevents that every group has handled every record; null if nothing does. */
  missing(): string | null {
    for (const [name, consumption] of this.#consumptions) {
      if (consumption.ended) return `${name} is cancelled, and its members have not subscribed anew`;
      const [group, topicId, partition] = name.split(/[:/]/) as [string, string, string];
      const { values } = this.#database.log.partition(Number(topicId), Number(partition));
      const cursor = this.#cursors.get(this.#cursorName(group, Number(topicId), Number(partition)))!;
      if (cursor.committedOffset !== values.length) {
        return `${name} is committed at ${cursor.committedOffset} of ${values.length}`;
      }
      for (let offset = consumption.start; offset < values.length; offset++) {
        const { received, excused, archived } = consumption;
        if (!received.has(offset) && !excused.has(offset) && !archived.has(offset))
          return `${name}@${offset} was acked and never handled`;
      }
      const row = this.groups.row(group)!;
      const holder = row.assignments.get(`${topicId}/${partition}`)?.memberId;
      if (holder === undefined || !row.members.has(holder)) return `${name} is with nobody`;
    }
    return this.gaps.missing();
  }

  #topicOf({ subscriptionId }: CursorKey): number {
    return this.#database.groups.subscriptions.find(subscriptionId)!.topicId;
  }

  #consumptionOf(key: CursorKey): Consumption {
    return this.#findConsumption(key)!;
  }

  /** Undefined for a claimant, which has no members. */
  #findConsumption(key: CursorKey): Consumption | undefined {
    return this.#consumptionsOf.get(nameOf(key));
  }

  #consumptionName(group: string, { topic, partition }: TopicPartition): string {
    return `${group}:${this.#topicId(topic)}/${partition}`;
  }

  #cursorOf(group: string, { topic, partition }: TopicPartition): CursorSnapshot {
    return this.#cursors.get(this.#cursorName(group, this.#topicId(topic), partition))!;
  }

  #consumption(group: string, topicId: number, partition: number): Consumption {
    return this.#consumptions.get(`${group}:${topicId}/${partition}`)!;
  }

  #cursorName(group: string, topicId: number, partition: number): string {
    const subscriptionId = this.#subscriptions.get(`${group}:${topicId}`)!;
    return nameOf({ subscriptionId, partition, lane: 0 });
  }

  #topicId(name: string): number {
    return this.#database.log.idOf(name);
  }
}

/** Names one holding: a partition with one member of one broker, until the member loses it. */
function holdingOf(epoch: number, holder: Arrival['holders'][number]): string {
  return `${holder?.memberId} since ${holder?.sinceGeneration} in epoch ${epoch}`;
}

function nameOf({ subscriptionId, partition, lane }: CursorKey): string {
  return `${subscriptionId}/${partition}/${lane}`;
}

function isAcked({ committedOffset, acked }: CursorSnapshot, offset: number): boolean {
  if (offset < committedOffset) return true;
  for (let at = 0; at < acked.length; at += 2) if (offset >= acked[at]! && offset <= acked[at + 1]!) return true;
  return false;
}

/** The offset behind the last acked record. */
function endOf({ committedOffset, acked }: CursorSnapshot): number {
  return Math.max(committedOffset, (acked.at(-1) ?? -1) + 1);
}

function* offsetsOf(upTo: number | null, runs: readonly number[] | null, start: number): Generator<number> {
  if (upTo !== null) for (let offset = start; offset <= upTo; offset++) yield offset;
  for (let at = 0; runs !== null && at < runs.length; at += 2) {
    for (let offset = runs[at]!; offset <= runs[at + 1]!; offset++) yield offset;
  }
}
