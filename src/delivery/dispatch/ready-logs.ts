import type { Seat } from './seat.ts';
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
 * | CAUGHT_UP | `Feed.appended`; `settle`: records were refused, released, or their lease is over |
 * | WINDOW | `settle`: records of it were acked |
 * | DEAD_LETTER | `settle`: the records that were MOVING are acked, or stay |
 * | READING | the end of the read, also of one that failed: `Feed` |
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
  get next(): Seat | null {
    return this.#ready.first;
  }

  /** The most urgent reason for which a log waits; null: none waits. */
  get reason(): BlockedOn | null {
    return urgency.find((_, at) => this.#waiting[at]! > 0) ?? null;
  }

  /** The log has come to the member. */
  admit(log: Seat): void {
    log.waitFor(null);
    this.#ready.push(log);
  }

  /** The log goes from the member. */
  remove(log: Seat): void {
    if (log.waitsFor === null) this.#ready.remove(log);
    else this.#leave(log, log.waitsFor);
  }

  /** The log may have something to deliver. One that is ready keeps its turn. */
  add(log: Seat): void {
    if (log.waitsFor === null) return;
    this.#leave(log, log.waitsFor);
    this.admit(log);
  }

  /** A look at the log, which was ready, has found nothing to deliver. */
  wait(log: Seat, reason: BlockedOn): void {
    this.#ready.remove(log);
    log.waitFor(reason);
    this.#waiting[urgency.indexOf(reason)]!++;
    this.#queueOf(reason)?.push(log);
  }

  /** The log has had its turn, and may have more. */
  served(log: Seat): void {
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

  #leave(log: Seat, reason: BlockedOn): void {
    this.#waiting[urgency.indexOf(reason)]!--;
    this.#queueOf(reason)?.remove(log);
  }

  /** Those that something about the whole member makes ready; for the others it is something of their own, which names them. */
  #queueOf(reason: BlockedOn): Queue | null {
    if (reason === 'CREDIT') return this.#forCredit;
    return reason === 'RETRY' ? this.#forTime : null;
  }
}

/** Logs in turn. A log is in one of these at most, so its seat carries the links: no object is made for 100,000 of them. */
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
