import type { ConsumedLog } from './consumed-log.ts';
import type { BlockedOn } from '../ports/session.ts';

/** Which reason counts when the logs of a member wait for different ones: the one that acting on would help most. */
const urgency: readonly BlockedOn[] = ['CREDIT', 'WINDOW', 'DEAD_LETTER', 'RETRY', 'REVOKING', 'READING', 'CAUGHT_UP'];

/**
 * The logs of a member that may have something for its stream, in turn: a wake costs what is ready, not what is held. All others wait.
 *
 * ```
 *   ready ──looked at, nothing to deliver──▶ waiting ──what it waits for may have come──▶ ready
 * ```
 *
 * A log waits only for what makes it ready again when it comes, or its records would never go out:
 *
 * | waits for | ready again by |
 * |---|---|
 * | CAUGHT_UP | `ConsumedLog.appended`; `settle`: records were refused, released, or their lease is over |
 * | WINDOW | `settle`: records of it were acked |
 * | DEAD_LETTER | `settle`: the records that were MOVING are acked, or stay |
 * | READING | the end of the read, also of one that failed: `ConsumedLog` |
 * | RETRY | the time, `timePassed`; `settle`: what is refused was acked after all |
 * | CREDIT | credit of the member that comes back from any log, `creditReturned`; the time after which a batch is split |
 * | REVOKING | `Member.hold`: it may stay after all |
 *
 * Besides that a log is ready when it comes to the member, when it is asked back (its reason is another one), and when a stream is opened.
 */
export class ReadyLogs {
  readonly #ready = new Queue();
  readonly #forCredit = new Queue();
  readonly #forTime = new Queue();
  /** How many logs wait for each reason, by its place in `urgency`. */
  readonly #waiting = urgency.map(() => 0);

  /** Whose turn it is; null: none is ready. */
  get next(): ConsumedLog | null {
    return this.#ready.first;
  }

  /** The most urgent reason for which a log waits; null: none waits. */
  get reason(): BlockedOn | null {
    return urgency.find((_, at) => this.#waiting[at]! > 0) ?? null;
  }

  /** The log has come to the member. */
  admit(log: ConsumedLog): void {
    log.waitsFor = null;
    this.#ready.push(log);
  }

  /** The log goes from the member. */
  remove(log: ConsumedLog): void {
    if (log.waitsFor === null) this.#ready.remove(log);
    else this.#leave(log, log.waitsFor);
  }

  /** The log may have something to deliver. One that is ready keeps its turn. */
  add(log: ConsumedLog): void {
    if (log.waitsFor === null) return;
    this.#leave(log, log.waitsFor);
    this.admit(log);
  }

  /** A look at the log, which was ready, has found nothing to deliver. */
  wait(log: ConsumedLog, reason: BlockedOn): void {
    this.#ready.remove(log);
    log.waitsFor = reason;
    this.#waiting[urgency.indexOf(reason)]!++;
    this.#queueOf(reason)?.push(log);
  }

  /** The log has had its turn, and may have more. */
  served(log: ConsumedLog): void {
    this.#ready.remove(log);
    this.#ready.push(log);
  }

  /** The member may have more in flight than before. */
  creditReturned(): void {
    this.#addAll(this.#forCredit);
  }

  /** A time for which a log waits may have come. Batches that wait for credit are split after a while. */
  timePassed(): void {
    this.#addAll(this.#forTime);
    this.#addAll(this.#forCredit);
  }

  #addAll(queue: Queue): void {
    for (let log = queue.first; log !== null; log = queue.first) this.add(log);
  }

  #leave(log: ConsumedLog, reason: BlockedOn): void {
    this.#waiting[urgency.indexOf(reason)]!--;
    this.#queueOf(reason)?.remove(log);
  }

  /** Those that something about the whole member makes ready; for the others it is something of their own, which names them. */
  #queueOf(reason: BlockedOn): Queue | null {
    if (reason === 'CREDIT') return this.#forCredit;
    return reason === 'RETRY' ? this.#forTime : null;
  }
}

/** Logs in turn. A log is in one of these at most, so it carries the links itself: no object is made for 100,000 of them. */
class Queue {
  first: ConsumedLog | null = null;
  #last: ConsumedLog | null = null;

  push(log: ConsumedLog): void {
    log.turnBefore = this.#last;
    if (this.#last === null) this.first = log;
    else this.#last.turnAfter = log;
    this.#last = log;
  }

  remove(log: ConsumedLog): void {
    const { turnBefore, turnAfter } = log;
    if (turnBefore === null) this.first = turnAfter;
    else turnBefore.turnAfter = turnAfter;
    if (turnAfter === null) this.#last = turnBefore;
    else turnAfter.turnBefore = turnBefore;
    log.turnBefore = log.turnAfter = null;
  }
}
