import type { AckCommand, AckEntry, AckOutcome, StartPosition } from '../../../src/broker/commands.ts';
import type { Services } from '../../../src/broker/services.ts';
import type { AssignorName, MemberId } from '../../../src/coordinator/group.ts';
import type { SettleCommand, SettleOutcome } from '../../../src/delivery/ports/settle.ts';
import type { TopicPartition } from '../../../src/delivery/ports/session.ts';
import { Rejection } from '../../../src/errors/rejections/rejection.ts';
import { archiveCommand } from './archive.ts';
import type { SimulatedBroker } from '../brokers/broker.ts';
import type { Ledger, SentBatch } from '../ledgers/ledger.ts';
import type { Network } from '../network.ts';
import type { World } from '../world.ts';

/** The answer to one entry. */
export type Answer = Pick<AckOutcome, 'status' | 'committedOffset'>;

type AckCall = (broker: Services, serving: SimulatedBroker, command: AckCommand) => Promise<readonly Answer[]>;

/** The round and the generation in which a member got a batch. */
interface Taken {
  readonly round: number;
  readonly generation: number;
}

/** The surroundings and the group of a member. */
export interface MemberSite {
  readonly world: World;
  readonly network: Network;
  readonly ledger: Ledger;
  readonly group: string;
  readonly topics: readonly string[];
  /** The start position of the group. */
  readonly start: StartPosition;
  /** Whether the members assign the partitions themselves. */
  readonly clientSide: boolean;
  /** The assignors that members choose from if the broker assigns the partitions. */
  readonly assignors: readonly AssignorName[];
  /** Called when a process has stopped because another one has taken over its instance. */
  readonly fenced: (member: Member) => void;
  readonly ack: AckCall;
  /** Sends cumulative acks with CommitOffsets. */
  readonly commit: AckCall;
  /** Moves records to the archive, which completes them; null if the members never do that. */
  readonly settle: ((serving: SimulatedBroker, command: SettleCommand) => Promise<SettleOutcome>) | null;
  /** Whether members may still misbehave: be slow, refuse records, hold acks back. */
  readonly troubled: () => boolean;
}

export const retryMs = 300;

const beatMs = 3_000;

/** The part of its batches from which a member archives records. */
const archiveRate = 0.25;

/** A consumer, and how it handles records. */
export abstract class Member {
  alive = true;
  /** Whether the member never handles a record again, while its membership goes on. */
  stuck = false;
  memberId: MemberId | null = null;
  /** A name that outlives the process; null for a dynamic member. */
  readonly instanceId: string | null;
  readonly maxPollIntervalMs: number;
  protected readonly site: MemberSite;
  #topics: readonly string[];
  #hasChanged = false;
  protected generation = 0;
  /** Rises with each stream or membership. Work of an older round is dropped. */
  protected round = 0;
  /** Whether the member begins no new work. */
  protected stopping = false;
  /** The partitions that are being revoked. */
  protected revoking: readonly TopicPartition[] = [];
  #busyUntilMs = 0;
  #stalledUntilMs = 0;
  #slow = false;
  readonly #waiting: { readonly batch: SentBatch; readonly taken: Taken }[] = [];
  /**
   * By partition: the records that the member has refused and not acked since, each with the epoch
   * of the broker that took the refusal (null: none yet). A cumulative ack must not pass them.
   */
  readonly #refusals = new Map<string, Map<number, number | null>>();

  constructor(site: MemberSite, instanceId: string | null) {
    const { world } = site;
    this.site = site;
    this.instanceId = instanceId;
    this.maxPollIntervalMs = world.chance(0.4) ? world.whole(1_000, 4_000) : 300_000;
    this.#topics = site.topics;
  }

  /** Called when a broker answers that the member was removed, or that the group does not exist. */
  protected abstract sentAway(error: Rejection): void;
  /** Called when the member reads other topics. */
  protected abstract changed(): void;
  /** Whether the member may send cumulative acks. */
  protected abstract readonly cumulative: boolean;
  abstract start(): void;

  get topics(): readonly string[] {
    return this.#topics;
  }

  /** Ends the process without a leave. */
  crash(): void {
    this.alive = false;
    this.round++;
  }

  read(topics: readonly string[]): void {
    if (topics.length === this.#topics.length && topics.every((topic) => this.#topics.includes(topic))) return;
    this.#topics = topics;
    this.#hasChanged = true;
    this.site.world.count('a member changes its topics');
    this.changed();
  }

  /**
   * Reads all topics of its group. Repeats this even if nothing changes, because an older call may
   * arrive late.
   */
  readAll(): void {
    if (!this.alive || !this.#hasChanged) return;
    this.#topics = this.site.topics;
    this.changed();
  }

  /** Handles no record for `forMs`, and keeps its membership alive. */
  stall(forMs: number): void {
    this.stuck = forMs === Infinity;
    this.#stalledUntilMs = Math.max(this.#stalledUntilMs, this.site.world.nowMs + forMs);
  }

  /**
   * Applies a rejection to the membership. Only the rejection of a call that names the instance
   * (`entering`) shows whether another process has it. After others the member asks again with its
   * id, so that it does not push out the other process.
   */
  protected refused({ reason }: Rejection, entering: boolean): void {
    if (reason === 'INSTANCE_FENCED') this.#stop();
    const gone = reason === 'MEMBER_FENCED' || reason === 'GROUP_NOT_FOUND';
    if (gone && (entering || this.instanceId === null)) this.forgetMembership();
    if (reason === 'SUBSCRIPTION_CANCELLED') this.#startOver();
  }

  /** Stops, because another process has the instance. Work in hand may still be finished. */
  #stop(): void {
    const { world, troubled, fenced } = this.site;
    if (this.stopping || !this.alive) return;
    this.stopping = true;
    world.count("a process stops because its instance is another's");
    world.after(troubled() ? world.between(0, 1_000) : 0, () => {
      if (!this.alive) return;
      this.crash();
      fenced(this);
    });
  }

  /** Joins as another member, which subscribes again. The old one leaves, if that is not lost. */
  #startOver(): void {
    const { network, group } = this.site;
    const { memberId } = this;
    if (memberId !== null) {
      void network.call((broker) => broker.group.leaveGroup({ group, memberId })).catch(() => undefined);
    }
    this.forgetMembership();
  }

  protected forgetMembership(): void {
    this.memberId = null;
    this.generation = 0;
    this.#refusals.clear();
  }

  beSlow(slow: boolean): void {
    this.#slow = slow;
  }

  /** Ends the process, and sends a leave that may be lost. */
  async leave(): Promise<void> {
    const { memberId } = this;
    this.crash();
    if (memberId === null) return;
    const { network, group } = this.site;
    await network.call((broker) => broker.group.leaveGroup({ group, memberId })).catch(() => undefined);
  }

  /** The time until all batches are handled. */
  protected get busyMs(): number {
    return Math.max(0, Math.max(this.#busyUntilMs, this.#stalledUntilMs) - this.site.world.nowMs);
  }

  /**
   * Takes a batch, which is handled after the earlier ones. Its ack names the generation of its
   * delivery, which may be older than that of the last heartbeat, because acks of records that were
   * delivered before a reset must not count after it.
   */
  protected take(batch: SentBatch, generation: number): void {
    const { world } = this.site;
    const { round } = this;
    const workMs = this.#slow && this.site.troubled() ? world.between(500, 3_000) : world.between(0, 20);
    this.#busyUntilMs = Math.max(this.#busyUntilMs, world.nowMs) + workMs;
    this.#waiting.push({ batch, taken: { round, generation } });
    this.#handleAfter(this.#busyUntilMs - world.nowMs);
  }

  /** Handles the oldest batch first, because a cumulative ack covers the earlier ones. */
  #handleAfter(delayMs: number): void {
    const { world } = this.site;
    world.after(delayMs, () => {
      const stalledMs = this.#stalledUntilMs - world.nowMs;
      if (stalledMs === Infinity) return;
      if (stalledMs > 0) {
        this.#handleAfter(stalledMs);
        return;
      }
      const { batch, taken } = this.#waiting.shift()!;
      if (this.round === taken.round) void this.#handle(batch, taken);
    });
  }

  /** Sends heartbeats, whatever the handler does. */
  protected async beat(): Promise<void> {
    const { world, network, ledger, group } = this.site;
    while (this.alive && !this.stopping) {
      const { memberId, generation } = this;
      const revoked = world.chance(0.5) ? this.revoking : [];
      if (memberId !== null) {
        try {
          const beat = await network.call(async (broker, { epoch }) => {
            const atMs = world.nowMs;
            const answer = await broker.broker.heartbeat({ group, memberId, generation, revoked });
            ledger.groups.generationTold({ epoch, group, memberId }, answer.generation);
            ledger.lives.heard(group, { epoch, atMs });
            return answer;
          });
          if (this.memberId === memberId) this.generation = Math.max(this.generation, beat.generation);
          if (revoked.length > 0) this.revoking = [];
          if (beat.planWanted) this.lead();
        } catch (error) {
          if (error instanceof Rejection && this.memberId === memberId) this.sentAway(error);
        }
      }
      await world.pause(beatMs);
    }
  }

  /** Called when the broker wants a plan from this member as the leader. */
  protected lead(): void {
    // The broker asks only members that can make plans.
  }

  async #handle(batch: SentBatch, taken: Taken): Promise<void> {
    const { world, ledger, group, troubled, settle } = this.site;
    const offsets = batch.records.map(({ offset }) => offset);
    if (settle !== null && troubled() && world.chance(archiveRate)) return this.#archive(batch, offsets, taken);
    const choice = troubled() ? world.fraction() : 0;
    const refused = choice < 0.85 ? null : world.pick(offsets)!;
    ledger.received(group, batch, refused === null ? [] : [refused]);
    if (troubled() && world.chance(0.1)) this.#giveBackLate(batch);
    if (refused !== null) await this.#refuse(batch, refused, choice < 0.95 ? 'NACK' : 'RELEASE', taken);
    else if (choice < 0.7) await this.#done(batch, offsets, taken);
    else {
      // The member acks some records now and the others later.
      const now = offsets.filter(() => world.chance(0.5));
      await this.#name(batch, now, taken);
      await world.pause(world.between(0, 2_000));
      await this.#name(
        batch,
        offsets.filter((offset) => !now.includes(offset)),
        taken,
      );
    }
  }

  /**
   * Archives some records of a batch and handles the others. Records that it cannot archive it then
   * acks one by one. Until then no cumulative ack may pass them.
   */
  async #archive(batch: SentBatch, offsets: readonly number[], taken: Taken): Promise<void> {
    const { world, network, ledger, group, settle } = this.site;
    const { memberId } = this;
    if (memberId === null) return;
    const away = offsets.filter(() => world.chance(0.5));
    const rest = offsets.filter((offset) => !away.includes(offset));
    ledger.received(group, batch, away);
    for (const offset of away) this.#refusalsOf(batch).set(offset, null);
    await this.#name(batch, rest, taken);
    if (away.length === 0 || this.round !== taken.round) return;
    const { topic, partition } = batch;
    const command = {
      group,
      memberId,
      generation: taken.generation,
      entries: [{ topic, partition, lane: 0, runs: runsOf(away) }],
      publishes: [archiveCommand(group, batch, away, world.id())],
    };
    const outcome = await network.call((_, serving) => settle!(serving, command)).catch(() => null);
    if (this.round !== taken.round) return;
    if (outcome?.published != null) for (const offset of away) this.#refusalsOf(batch).delete(offset);
    else {
      ledger.received(group, batch, rest);
      // Each by itself, because a call with a record that an earlier settlement moves is rejected.
      for (const offset of away) await this.#name(batch, [offset], taken);
    }
  }

  /**
   * Gives a record back much later, in the current generation, in which the partition may be lost.
   */
  #giveBackLate(batch: SentBatch): void {
    const { world } = this.site;
    world.after(world.between(0, 8_000), () => {
      const { offset } = batch.records[0]!;
      const { round, generation } = this;
      if (this.alive)
        void this.#say([{ ...entryOf(batch), action: 'RELEASE', runs: [offset, offset] }], { round, generation });
    });
  }

  /**
   * Acks a batch. The ack is cumulative if the member has refused nothing before, or wrongly
   * forgets that.
   */
  async #done(batch: SentBatch, offsets: readonly number[], taken: Taken): Promise<void> {
    const { world, troubled, ack, commit } = this.site;
    const upToOffset = offsets.at(-1)!;
    const refusals = [...this.#refusalsOf(batch)].filter(([offset]) => offset <= upToOffset);
    const forgets = troubled() && world.chance(0.3);
    if (!this.cumulative || (refusals.length > 0 && !forgets)) return this.#name(batch, offsets, taken);
    const call = world.chance(0.3) ? commit : ack;
    // Only the broker that took a refusal can reject a cumulative ack that passes it.
    const knowing: AckCall = (broker, serving, command) =>
      refusals.every(([, epoch]) => epoch === serving.epoch)
        ? call(broker, serving, command)
        : Promise.resolve([{ status: 'UNKNOWN_OFFSET', committedOffset: null }]);
    const answers = await this.#say([{ ...entryOf(batch), upToOffset }], taken, knowing);
    // The handled records may be acked one by one.
    if (answers?.[0]?.status === 'UNKNOWN_OFFSET') await this.#name(batch, offsets, taken);
  }

  /** Acks records one by one, even refused ones. */
  async #name(batch: SentBatch, offsets: readonly number[], taken: Taken): Promise<void> {
    if (offsets.length === 0) return;
    const answers = await this.#say([{ ...entryOf(batch), runs: runsOf(offsets) }], taken);
    const status = answers?.[0]?.status;
    if (status === 'UNKNOWN_OFFSET' && offsets.length > 1) {
      // One of them may be MOVING. A call with it acks none of the others.
      for (const offset of offsets) await this.#name(batch, [offset], taken);
      return;
    }
    if (status !== 'OK' && status !== 'ALREADY_ACKED') return;
    for (const offset of offsets) this.#refusalsOf(batch).delete(offset);
  }

  async #refuse(batch: SentBatch, refused: number, action: 'NACK' | 'RELEASE', taken: Taken): Promise<void> {
    const { world, ack } = this.site;
    const before = batch.records.flatMap(({ offset }) => (offset < refused ? [offset] : []));
    const refusals = this.#refusalsOf(batch).set(refused, null);
    const refusal = { ...entryOf(batch), action, runs: [refused, refused], delayMs: world.whole(0, 500) };
    const entries = before.length > 0 ? [{ ...entryOf(batch), runs: runsOf(before) }, refusal] : [refusal];
    const said = await this.#say(entries, taken, async (broker, serving, command) => {
      const answers = await ack(broker, serving, command);
      const status = answers.at(-1)?.status;
      const counts = status === 'OK' || status === 'LEASE_EXPIRED';
      if (counts && refusals.has(refused)) refusals.set(refused, serving.epoch);
      return answers;
    });
    if (said?.at(-1)?.status !== 'ALREADY_ACKED') return;
    // An earlier ack has counted, so the refusal changes nothing, and no record comes again.
    refusals.delete(refused);
    await this.#name(
      batch,
      batch.records.flatMap(({ offset }) => (offset > refused ? [offset] : [])),
      taken,
    );
  }

  #refusalsOf({ topic, partition }: TopicPartition): Map<number, number | null> {
    const name = `${topic}/${partition}`;
    const known = this.#refusals.get(name) ?? new Map<number, number | null>();
    this.#refusals.set(name, known);
    return known;
  }

  /**
   * Acks with retries until there is an answer.
   * @returns null if the round has ended, or the call was rejected.
   */
  async #say(
    entries: readonly AckEntry[],
    { round, generation }: Taken,
    call = this.site.ack,
  ): Promise<readonly Answer[] | null> {
    const { world, network, group } = this.site;
    const { memberId } = this;
    while (this.round === round && memberId !== null) {
      try {
        return await network.call((broker, serving) => call(broker, serving, { group, memberId, generation, entries }));
      } catch (error) {
        if (error instanceof Rejection) {
          if (this.round === round) this.sentAway(error);
          return null;
        }
        await world.pause(retryMs * world.fraction());
      }
    }
    return null;
  }
}

function entryOf({ topic, partition }: SentBatch): AckEntry {
  return { topic, partition, lane: 0, action: 'ACK', upToOffset: null, runs: null, delayMs: null, error: '' };
}

function runsOf(offsets: readonly number[]): number[] {
  const runs: number[] = [];
  for (const offset of offsets) {
    if (runs.at(-1) === offset - 1) runs[runs.length - 1] = offset;
    else runs.push(offset, offset);
  }
  return runs;
}
