import type { SubscriptionRow } from '../../../src/delivery/ports/store.ts';
import { leaseMs } from '../../../src/ownership/lease-times.ts';
import type { Database } from '../database/database.ts';
import type { World } from '../world.ts';

/** A sign of life that an owner has answered, at the time when it came. */
interface Heard {
  readonly epoch: number;
  readonly atMs: number;
}

/**
 * How much earlier than its last answered sign of life a group may count as left: clocks differ by
 * 2 %, and the broker takes a moment to hear.
 */
const hearingMs = 200;
const driftMax = 0.02;
/** The first sign of life that an owner hears is written within this time. */
const notingMs = 15_000;

/** Checks the lives of subscriptions: that none dies too early, and that a pause is one. */
export class LifeLedger {
  readonly #world: World;
  readonly #database: Database;
  /** The last sign of life of the members of each group. */
  readonly #heard = new Map<string, Heard>();
  /** The epoch whose owner has removed the last member of each group. */
  readonly #leftIn = new Map<number, number>();
  /** Subscriptions of which an answer has said that nothing new goes out. */
  readonly #quiet = new Set<number>();

  constructor(world: World, database: Database) {
    this.#world = world;
    this.#database = database;
  }

  /** Called when an owner has answered a sign of life, which came at `atMs`. */
  heard(group: string, { epoch, atMs }: Heard): void {
    if (epoch !== this.#database.epoch || atMs < (this.#heard.get(group)?.atMs ?? -Infinity)) return;
    this.#heard.set(group, { epoch, atMs });
  }

  /** Checks what a commit has changed. `before`: the rows before it, by their ids. */
  changed(epoch: number, before: ReadonlyMap<number, SubscriptionRow>, after: readonly SubscriptionRow[]): void {
    for (const row of after) {
      const was = before.get(row.id);
      if (was === undefined) continue;
      if (was.unattendedSinceMs === null && row.unattendedSinceMs !== null) this.#leftIn.set(row.id, epoch);
      if (was.state === row.state) continue;
      this.#world.note(`${this.#nameOf(row)} is ${row.state}, ${row.stateReason}, and was ${was.state}`);
      this.#world.count(`a subscription is ${row.state} because of ${row.stateReason}`);
      if (row.state !== 'PAUSED') this.#quiet.delete(row.id);
      if (row.state === 'DEAD') this.#died(row);
    }
  }

  #died(row: SubscriptionRow): void {
    const name = this.#nameOf(row);
    const { nowMs } = this.#world;
    const sinceMs = row.unattendedSinceMs ?? Infinity;
    this.#world.demand(!this.#database.groups.isAttended(row.groupId), () => `${name} dies with a member`);
    // Stored times are whole milliseconds.
    this.#world.demand(
      nowMs - sinceMs >= (row.deadAfterMs ?? Infinity) - 1,
      () => `${name} dies ${nowMs - sinceMs} ms after it was left, and may at ${row.deadAfterMs} ms`,
    );
    const heard = this.#heard.get(this.#groupOf(row));
    if (heard === undefined) return;
    const isLeftInIt = this.#leftIn.get(row.id) === heard.epoch;
    if (!isLeftInIt && this.#endedBeforeItsNote(row, heard)) return;
    // Another owner counts from the last renewal of that one.
    const slackMs = isLeftInIt ? hearingMs : leaseMs;
    const earliestMs = heard.atMs - slackMs - driftMax * Math.max(0, nowMs - heard.atMs);
    this.#world.demand(
      sinceMs >= earliestMs,
      () => `${name} dies as left at ${sinceMs}, and was heard at ${heard.atMs}`,
    );
  }

  /** Whether the owner ended so soon after the sign of life that it may not have written it. */
  #endedBeforeItsNote({ groupId }: SubscriptionRow, { epoch, atMs }: Heard): boolean {
    const noted = this.#database.groups.subscriptions.heardEpochs.get(groupId) ?? 0;
    const renewedAtMs = this.#world.nowMs - this.#database.sinceRenewalMs(epoch);
    return noted < epoch && renewedAtMs - atMs < notingMs;
  }

  /** Called when an owner has answered that the subscription is PAUSED. */
  pauseAnswered(epoch: number, subscriptionId: number): void {
    const row = this.#database.groups.subscriptions.find(subscriptionId);
    if (epoch === this.#database.epoch && row?.state === 'PAUSED') this.#quiet.add(subscriptionId);
  }

  /** Checks that the owner sends nothing of a PAUSED subscription. */
  sent(subscriptionId: number): void {
    const row = this.#database.groups.subscriptions.find(subscriptionId);
    this.#world.demand(
      !this.#quiet.has(subscriptionId),
      () => `records go out of ${this.#nameOf(row!)}, which is PAUSED`,
    );
  }

  #groupOf({ groupId }: SubscriptionRow): string {
    return this.#database.groups.groups.find(({ id }) => id === groupId)!.name;
  }

  #nameOf(row: SubscriptionRow): string {
    return `${this.#groupOf(row)}:${row.topicId}`;
  }
}
