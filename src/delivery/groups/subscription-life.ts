import { deadAtMs } from '../../subscription/life.ts';
import type { Clock } from '../../time/clock.ts';
import type { Logger } from '../../time/logger.ts';
import { lifeOf, type SubscriptionRow } from '../ports/store.ts';
import type { ActiveSubscription } from '../subscriptions/subscription.ts';
import type { GroupWriter } from './group-writer.ts';

/** The most subscriptions in one write of deaths. */
const markedTogetherMax = 1_000;

interface LivesDeps {
  /** Runs on while the process is stopped, so that a pause of the broker postpones no death. */
  readonly clock: Clock;
  readonly log: Pick<Logger, 'info'>;
  /** Called with the change of the number of ACTIVE and PAUSED ones, and when a DEAD one ends. */
  readonly live: (topicId: number, change: 1 | 0 | -1) => void;
}

/**
 * The lives of the subscriptions in memory, as the database has them: their rows, and which may be
 * due to die. All changes of a row but its cancellation are committed on one connection, so the
 * answers come in the order of the commits, and memory takes each as it comes.
 */
export class SubscriptionLives {
  readonly #d: LivesDeps;
  readonly #byId = new Map<number, ActiveSubscription>();
  /** When each subscription that may die is due, by the clock. */
  readonly #dueAtMs = new Map<ActiveSubscription, number>();

  constructor(deps: LivesDeps) {
    this.#d = deps;
  }

  /**
   * Adds a subscription that is in memory now.
   * @param isNew the topic has not counted it yet.
   */
  added(subscription: ActiveSubscription, isNew: boolean): void {
    const { row } = subscription;
    this.#byId.set(row.id, subscription);
    if (isNew && isLive(row)) this.#d.live(row.topicId, 1);
    this.#watch(subscription);
  }

  /** Removes a subscription. Idempotent. */
  removed(subscription: ActiveSubscription): void {
    const { row } = subscription;
    if (!this.#byId.delete(row.id)) return;
    this.#dueAtMs.delete(subscription);
    this.#d.live(row.topicId, isLive(row) ? -1 : 0);
  }

  /** Forgets a subscription that stays in the database. */
  forgotten(subscription: ActiveSubscription): void {
    this.#byId.delete(subscription.row.id);
    this.#dueAtMs.delete(subscription);
  }

  /** Takes rows as they are in the database now. Rows of ended subscriptions are ignored. */
  changed(rows: readonly SubscriptionRow[]): void {
    for (const row of rows) {
      const subscription = this.#byId.get(row.id);
      if (subscription !== undefined && row.state !== 'CANCELLED') this.#change(subscription, row);
    }
  }

  /**
   * Asks the database about those that may be due, if there are any. Its rows count: a member may
   * have come, and the answer of an earlier look may be lost. @throws Fault
   */
  async look(writer: Pick<GroupWriter, 'settle'>): Promise<void> {
    const due = this.#due();
    for (let at = 0; at < due.length; at += markedTogetherMax) {
      const ids = due.slice(at, at + markedTogetherMax);
      await writer.settle(
        (store) => store.markDead(ids),
        (rows) => {
          this.changed(rows);
        },
      );
    }
  }

  /** The subscriptions that the database may find to be due. */
  #due(): number[] {
    const nowMs = this.#d.clock.nowMs();
    const due: number[] = [];
    for (const [{ row }, atMs] of this.#dueAtMs) if (atMs <= nowMs) due.push(row.id);
    return due;
  }

  #change(subscription: ActiveSubscription, row: SubscriptionRow): void {
    const before = subscription.row;
    subscription.changed(row);
    this.#watch(subscription);
    if (before.state === row.state) return;
    if (isLive(before) !== isLive(row)) this.#d.live(row.topicId, isLive(row) ? 1 : -1);
    const { groupName: group, topicName: topic } = subscription;
    this.#d.log.info({ group, topic, before: before.state, state: row.state, reason: row.stateReason }, changedText);
    // The logs look again, and say that they are paused, or go on.
    if (before.state === 'PAUSED' || row.state === 'PAUSED') subscription.wake();
  }

  #watch(subscription: ActiveSubscription): void {
    const { row } = subscription;
    if (deadAtMs(lifeOf(row)) === null || row.deadAfterMs === null || row.unattendedForMs === null) {
      this.#dueAtMs.delete(subscription);
      return;
    }
    this.#dueAtMs.set(subscription, this.#d.clock.nowMs() + row.deadAfterMs - row.unattendedForMs);
  }
}

const changedText = 'a subscription has changed its state';

/** Whether the subscription holds records back, and publishes may rely on it. */
function isLive({ state }: SubscriptionRow): boolean {
  return state === 'ACTIVE' || state === 'PAUSED';
}
