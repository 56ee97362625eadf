import type { AckCommand, AckEntry, AckOutcome, StartPosition } from '../../src/broker/commands.ts';
import type { Services } from '../../src/broker/services.ts';
import type { AssignorName, MemberId } from '../../src/coordinator/group.ts';
import type { SettleCommand, SettleOutcome } from '../../src/delivery/ports/settle.ts';
import type { TopicPartition } from '../../src/delivery/ports/session.ts';
import { Rejection } from '../../src/errors/rejections/rejection.ts';
import { archiveCommand } from './archive.ts';
import type { SimulatedBroker } from './broker.ts';
import type { Ledger, SentBatch } from './ledger.ts';
import type { Network } from './network.ts';
import type { World } from './world.ts';

/** What became of one entry. */
export type Answer = Pick<AckOutcome, 'status' | 'committedOffset'>;

type AckCall = (broker: Services, serving: SimulatedBroker, command: AckCommand) => Promise<readonly Answer[]>;

/** When a batch was taken in. */
interface Taken {
  readonly round: number;
  readonly generation: number;
}

/** What all members have: a place to live, a group to belong to. */
export interface MemberSite {
  readonly world: World;
  readonly network: Network;
  readonly ledger: Ledger;
  readonly group: string;
  readonly topics: readonly string[];
  /** Where the group begins. */
  readonly start: StartPosition;
  /** Whether its members give out the partitions themselves. */
  readonly clientSide: boolean;
  /** Among which its members choose where the broker gives them out. */
  readonly assignors: readonly AssignorName[];
  /** A process has stopped because its instance is another's. */
  readonly fenced: (member: Member) => void;
  readonly ack: AckCall;
  /** The same, of acks up to an offset, by CommitOffsets. */
  readonly commit: AckCall;
  /** Puts records away: they are completed if and only if they are archived. null: its members do not do that. */
  readonly settle: ((serving: SimulatedBroker, command: SettleCommand) => Promise<SettleOutcome>) | null;
  /** Whether members still do what members should not: be slow, refuse, hold back. */
  readonly troubled: () => boolean;
}

export const retryMs = 300;

const beatMs = 3_000;

/** How many of its batches a member puts away. */
const archiveRate = 0.25;

/** A consumer: how it handles what it gets. */
export abstract class Member {
  alive = true;
  /** Never handles anything again, and does not know. */
  stuck = false;
  memberId: MemberId | null = null;
  /** A name that outlives the process; null: none. */
  readonly instanceId: string | null;
  readonly maxPollIntervalMs: number;
  protected readonly site: MemberSite;
  /** What it reads. */
  #topics: readonly string[];
  #hasChanged = false;
  protected generation = 0;
  /** Rises with each stream or membership: what was begun under an older one is not finished. */
  protected round = 0;
  /** It begins nothing new. */
  protected stopping = false;
  /** What it was asked to give back. */
  protected revoking: readonly TopicPartition[] = [];
  #busyUntilMs = 0;
  #stalledUntilMs = 0;
  #slow = false;
  readonly #waiting: { readonly batch: SentBatch; readonly taken: Taken }[] = [];
  /**
   * By partition: what it has refused and not acked since, and the epoch of the broker that has
   * taken the refusal (null: none yet). An ack up to an offset must not pass that.
   */
  readonly #refusals = new Map<string, Map<number, number | null>>();

  constructor(site: MemberSite, instanceId: string | null) {
    const { world } = site;
    this.site = site;
    this.instanceId = instanceId;
    this.maxPollIntervalMs = world.chance(0.4) ? world.whole(1_000, 4_000) : 300_000;
    this.#topics = site.topics;
  }

  /** A broker says that it is no member, or that there is no such group. */
  protected abstract sentAway(error: Rejection): void;
  /** It reads other topics from now on. */
  protected abstract changed(): void;
  /** Whether it may ack everything up to an offset. */
  protected abstract readonly cumulative: boolean;
  abstract start(): void;

  get topics(): readonly string[] {
    return this.#topics;
  }

  /** Goes without a word. */
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

  /** Reads all topics of its group; says so even if it does already: what it said before may have arrived later. */
  readAll(): void {
    if (!this.alive || !this.#hasChanged) return;
    this.#topics = this.site.topics;
    this.changed();
  }

  /** Handles nothing for so long, and keeps its membership alive. */
  stall(forMs: number): void {
    this.stuck = forMs === Infinity;
    this.#stalledUntilMs = Math.max(this.#stalledUntilMs, this.site.world.nowMs + forMs);
  }

  /**
   * What a refusal means for its membership. `entering`: of a call that names its instance as well, and so says for certain whether another
   * process has that now; where it is not certain, the member asks again with the id that it has, and does not push another one out.
   */
  protected refused({ reason }: Rejection, entering: boolean): void {
    if (reason === 'INSTANCE_FENCED') this.#stop();
    const gone = reason === 'MEMBER_FENCED' || reason === 'GROUP_NOT_FOUND';
    if (gone && (entering || this.instanceId === null)) this.forgetMembership();
  }

  /** Its instance is another's: it stops, and what it has in hand it may still finish. */
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

  protected forgetMembership(): void {
    this.memberId = null;
    this.generation = 0;
    this.#refusals.clear();
  }

  beSlow(slow: boolean): void {
    this.#slow = slow;
  }

  /** Says that it leaves, and goes whether or not it is heard. */
  async leave(): Promise<void> {
    const { memberId } = this;
    this.crash();
    if (memberId === null) return;
    const { network, group } = this.site;
    await network.call((broker) => broker.group.leaveGroup({ group, memberId })).catch(() => undefined);
  }

  /** When everything that it took in is handled. */
  protected get busyMs(): number {
    return Math.max(0, Math.max(this.#busyUntilMs, this.#stalledUntilMs) - this.site.world.nowMs);
  }

  /**
   * Takes a batch in: it is handled after those before it, and then acked, or not. It is acked in the
   * generation with which it came, which may be older than what a heartbeat has told meanwhile: of
   * what was delivered before the group began anew, nothing counts after it.
   */
  protected take(batch: SentBatch, generation: number): void {
    const { world } = this.site;
    const { round } = this;
    const workMs = this.#slow && this.site.troubled() ? world.between(500, 3_000) : world.between(0, 20);
    this.#busyUntilMs = Math.max(this.#busyUntilMs, world.nowMs) + workMs;
    this.#waiting.push({ batch, taken: { round, generation } });
    this.#handleAfter(this.#busyUntilMs - world.nowMs);
  }

  /** Handles the batch that has waited longest: a cumulative ack speaks for those before it. */
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

  /** Says that it lives, whatever its handler does. */
  protected async beat(): Promise<void> {
    const { world, network, ledger, group } = this.site;
    while (this.alive && !this.stopping) {
      const { memberId, generation } = this;
      const revoked = world.chance(0.5) ? this.revoking : [];
      if (memberId !== null) {
        try {
          const beat = await network.call(async (broker, { epoch }) => {
            const answer = await broker.broker.heartbeat({ group, memberId, generation, revoked });
            ledger.groups.generationTold({ epoch, group, memberId }, answer.generation);
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

  /** It is to say who gets what. */
  protected lead(): void {
    // Only those who can are asked.
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
      // Some, and the rest later.
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
   * Puts some of a batch away and handles the rest. What it cannot put away it handles too, unless it may be put away
   * all the same; until then it must not be passed over.
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
      await this.#name(batch, away, taken);
    }
  }

  /** Gives a record back long after, in the generation of by now, in which it may have lost the partition. */
  #giveBackLate(batch: SentBatch): void {
    const { world } = this.site;
    world.after(world.between(0, 8_000), () => {
      const { offset } = batch.records[0]!;
      const { round, generation } = this;
      if (this.alive)
        void this.#say([{ ...entryOf(batch), action: 'RELEASE', runs: [offset, offset] }], { round, generation });
    });
  }

  /** Acks a batch: up to its end, if it has refused nothing before that; some members forget that they have. */
  async #done(batch: SentBatch, offsets: readonly number[], taken: Taken): Promise<void> {
    const { world, troubled, ack, commit } = this.site;
    const upToOffset = offsets.at(-1)!;
    const refusals = [...this.#refusalsOf(batch)].filter(([offset]) => offset <= upToOffset);
    const forgets = troubled() && world.chance(0.3);
    if (!this.cumulative || (refusals.length > 0 && !forgets)) return this.#name(batch, offsets, taken);
    const call = world.chance(0.3) ? commit : ack;
    // Only the broker that has taken a refusal knows of it, so only that one may be asked for too much.
    const knowing: AckCall = (broker, serving, command) =>
      refusals.every(([, epoch]) => epoch === serving.epoch)
        ? call(broker, serving, command)
        : Promise.resolve([{ status: 'UNKNOWN_OFFSET', committedOffset: null }]);
    const answers = await this.#say([{ ...entryOf(batch), upToOffset }], taken, knowing);
    // What it has handled counts one by one.
    if (answers?.[0]?.status === 'UNKNOWN_OFFSET') await this.#name(batch, offsets, taken);
  }

  /** Acks records one by one, refused before or not. */
  async #name(batch: SentBatch, offsets: readonly number[], taken: Taken): Promise<void> {
    if (offsets.length === 0) return;
    const answers = await this.#say([{ ...entryOf(batch), runs: runsOf(offsets) }], taken);
    const status = answers?.[0]?.status;
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
    // An ack of before has counted, so nothing is taken back: what lies behind does not come again.
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

  /** Acks, again and again until there is an answer. @returns null: it is not to be had any more. */
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
