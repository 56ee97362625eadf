import type { Seat } from './feed.ts';
import type { BlockedOn } from '../ports/session.ts';

/** The reasons of a member's logs. The first one counts, because acting on it helps most. */
const urgency: readonly BlockedOn[] = [
  'CREDIT',
  'WINDOW',
  'DEAD_LETTER',
  'RETRY',
  'REVOKING',
  'READING',
  'PAUSED',
  'CAUGHT_UP',
];

/**
 * The logs of a member, divided into those that may have records for its readers (ready) and those
 * that wait. A wake of a reader costs by the number of ready logs, not of all logs.
 *
 * ```
 *   ready ──looked at, nothing to deliver──▶ waiting ──an event of the table──▶ ready
 * ```
 *
 * Every reason to wait needs an event that makes the log ready again, because otherwise its records
 * would never go out. `settle` is that of the group.
 *
 * | waits for | event |
 * |---|---|
 * | CAUGHT_UP | `Feed.appended`; `settle`, after a NACK, a RELEASE or an expired lease |
 * | WINDOW | `settle`, after an ack, or any other end of the records in flight before them |
 * | DEAD_LETTER | `settle`, when the MOVING records are acked, or come back |
 * | READING | the end of the read in `Feed`, even if it has failed |
 * | RETRY | `timePassed`; `settle`, after an ack of the refused records |
 * | CREDIT | `creditReturned`, from any log of the member; `timePassed`, to split the batch |
 * | REVOKING | `Member.hold`, if the member keeps the log |
 * | PAUSED | `ActiveSubscription.wake`, when the subscription is no longer PAUSED |
 *
 * A log also becomes ready when the member gets it, when it is revoked or paused (its reason
 * changes), and when a stream begins.
 */
export class ReadyLogs {
  readonly #ready = new Queue();
  readonly #forCredit = new Queue();
  readonly #forTime = new Queue();
  /** The number of logs that wait for each reason. */
  readonly #waiting = new Map<BlockedOn, number>();

  /** The log that has waited longest for its turn; null if none is ready. */
  get next(): Seat | null {
    return this.#ready.first;
  }

  /** The most urgent reason for which a log waits; null if none waits. */
  get reason(): BlockedOn | null {
    return urgency.find((reason) => this.#waitingFor(reason) > 0) ?? null;
  }

  /** Whether a log waits for a read of the database. */
  get isReading(): boolean {
    return this.#waitingFor('READING') > 0;
  }

  /** Adds a log that the member has got. */
  admit(log: Seat): void {
    log.waitFor(null);
    this.#ready.push(log);
  }

  /** Removes a log that the member has lost. */
  remove(log: Seat): void {
    if (log.waitsFor === null) this.#ready.remove(log);
    else this.#leave(log, log.waitsFor);
  }

  /** Makes the log ready. A log that is ready already keeps its turn. */
  add(log: Seat): void {
    if (log.waitsFor === null) return;
    this.#leave(log, log.waitsFor);
    this.admit(log);
  }

  /** Makes a ready log wait, after a look has found nothing to deliver. */
  wait(log: Seat, reason: BlockedOn): void {
    this.#ready.remove(log);
    log.waitFor(reason);
    this.#waiting.set(reason, this.#waitingFor(reason) + 1);
    this.#queueOf(reason)?.push(log);
  }

  /** Puts the log behind all other ready logs, because it has had its turn and may have more. */
  served(log: Seat): void {
    this.#ready.remove(log);
    this.#ready.push(log);
  }

  /** Makes the logs ready that wait for credit of the member. */
  creditReturned(): void {
    this.#addAll(this.#forCredit);
  }

  /**
   * Makes the logs ready that wait for a time. Those that wait for credit may now split a batch.
   */
  timePassed(): void {
    this.#addAll(this.#forTime);
    this.#addAll(this.#forCredit);
  }

  #addAll(queue: Queue): void {
    for (let log = queue.first; log !== null; log = queue.first) this.add(log);
  }

  #leave(log: Seat, reason: BlockedOn): void {
    this.#waiting.set(reason, this.#waitingFor(reason) - 1);
    this.#queueOf(reason)?.remove(log);
  }

  #waitingFor(reason: BlockedOn): number {
    return this.#waiting.get(reason) ?? 0;
  }

  /** Only events of the whole member need a queue. All other events name their log. */
  #queueOf(reason: BlockedOn): Queue | null {
    if (reason === 'CREDIT') return this.#forCredit;
    return reason === 'RETRY' ? this.#forTime : null;
  }
}

/**
 * Logs in the order of their turns. The links are in the seats, because a log is in one queue at
 * most, and a member may have 100,000 logs.
 */
class Queue {
  #first: Seat | null = null;
  #last: Seat | null = null;

  get first(): Seat | null {
    return this.#first;
  }

  push(log: Seat): void {
    log.follow(this.#last);
    this.#first ??= log;
    this.#last = log;
  }

  remove(log: Seat): void {
    if (this.#first === log) this.#first = log.after;
    if (this.#last === log) this.#last = log.before;
    log.unlink();
  }
}
