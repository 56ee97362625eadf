import type { AckCommand, AckEntry, AckOutcome, Broker, StartPosition } from '../../src/broker/broker.ts';
import type { MemberId } from '../../src/coordinator/group.ts';
import { Rejection } from '../../src/errors/rejection.ts';
import type { SimulatedBroker } from './broker.ts';
import type { Ledger, SentBatch } from './ledger.ts';
import { caller, type Network } from './network.ts';
import type { World } from './world.ts';

/** What all members have: a place to live, a group to belong to. */
export interface MemberSite {
  readonly world: World;
  readonly network: Network;
  readonly ledger: Ledger;
  readonly group: string;
  readonly topics: readonly string[];
  /** Where the group begins. */
  readonly start: StartPosition;
  readonly ack: (broker: Broker, serving: SimulatedBroker, command: AckCommand) => Promise<AckOutcome[]>;
  /** Whether members still do what members should not: be slow, refuse, hold back. */
  readonly troubled: () => boolean;
}

export const retryMs = 300;

/** A consumer: how it handles what it gets. */
export abstract class Member {
  alive = true;
  protected readonly site: MemberSite;
  protected memberId: MemberId | null = null;
  protected generation = 0;
  /** Rises with each stream or membership: what was begun under an older one is not finished. */
  protected round = 0;
  #busyUntilMs = 0;
  #slow = false;

  constructor(site: MemberSite) {
    this.site = site;
  }

  /** A broker says that it is no member, or that there is no such group. */
  protected abstract sentAway(error: Rejection): void;
  /** Whether it may ack everything up to an offset. */
  protected abstract readonly cumulative: boolean;
  abstract start(): void;

  /** Goes without a word. */
  crash(): void {
    this.alive = false;
    this.round++;
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
    await network.call((broker) => broker.leaveGroup(caller, { group, memberId })).catch(() => undefined);
  }

  /** When everything that it took in is handled. */
  protected get busyMs(): number {
    return Math.max(0, this.#busyUntilMs - this.site.world.nowMs);
  }

  /** Takes a batch in: it is handled after those before it, and then acked, or not. */
  protected take(batch: SentBatch): void {
    const { world } = this.site;
    const { round } = this;
    const workMs = this.#slow && this.site.troubled() ? world.between(500, 3_000) : world.between(0, 20);
    this.#busyUntilMs = Math.max(this.#busyUntilMs, world.nowMs) + workMs;
    world.after(this.#busyUntilMs - world.nowMs, () => {
      if (this.round === round) void this.#handle(batch, round);
    });
  }

  async #handle(batch: SentBatch, round: number): Promise<void> {
    const { world, ledger, group, troubled } = this.site;
    ledger.received(group, batch);
    const offsets = batch.records.map(({ offset }) => offset);
    const last = offsets.at(-1)!;
    const choice = troubled() ? world.fraction() : 0;
    if (choice < 0.7) {
      const named = this.cumulative ? { upToOffset: last } : { runs: runsOf(offsets) };
      await this.#say([{ ...entryOf(batch), ...named }], round);
    } else if (choice < 0.85) {
      // Some, and the rest later.
      const now = offsets.filter(() => world.chance(0.5));
      const later = offsets.filter((offset) => !now.includes(offset));
      if (now.length > 0) await this.#say([{ ...entryOf(batch), runs: runsOf(now) }], round);
      await world.pause(world.between(0, 2_000));
      if (later.length > 0) await this.#say([{ ...entryOf(batch), runs: runsOf(later) }], round);
    } else {
      const refused = world.pick(offsets)!;
      const before = offsets.filter((offset) => offset < refused);
      const action = choice < 0.95 ? 'NACK' : 'RELEASE';
      const refusal = { ...entryOf(batch), action, runs: [refused, refused], delayMs: world.whole(0, 500) } as const;
      const entries = before.length > 0 ? [{ ...entryOf(batch), runs: runsOf(before) }, refusal] : [refusal];
      await this.#say(entries, round);
    }
  }

  /** Acks, again and again until there is an answer; in the generation that it knew when it began. */
  async #say(entries: readonly AckEntry[], round: number): Promise<void> {
    const { world, network, group, ack } = this.site;
    const { memberId, generation } = this;
    while (this.round === round && memberId !== null) {
      try {
        await network.call((broker, serving) => ack(broker, serving, { group, memberId, generation, entries }));
        return;
      } catch (error) {
        if (error instanceof Rejection) {
          if (this.round === round) this.sentAway(error);
          return;
        }
        await world.pause(retryMs * world.fraction());
      }
    }
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
