import type { MemberId } from '../../../src/coordinator/group.ts';

/** The last delivery of a record. */
export interface LastDelivery {
  readonly epoch: number;
  readonly memberId: MemberId;
  readonly attempt: number;
}

/** The state of one partition in one group, as the ledger has seen it. */
export class Consumption {
  /** Offsets that any broker has sent to a member. */
  readonly sent = new Set<number>();
  /** Offsets whose ack was answered. They must never be sent again. */
  readonly acked = new Set<number>();
  /** Offsets named by an ack or commit that may count. */
  readonly named = new Set<number>();
  /** Offsets named by any ack in any incarnation, even if it did not count. */
  readonly namedEver = new Set<number>();
  /** Offsets named one by one, by an ack that may count. */
  readonly namedByRuns = new Set<number>();
  /**
   * Offsets refused by their holder and not named one by one since, each with the holding. A
   * cumulative ack from the same holding must not count.
   */
  readonly refused = new Map<number, string>();
  /** Offsets committed from outside, which no member needs to handle. */
  readonly excused = new Set<number>();
  /** Offsets named by a settlement that may count. */
  readonly settling = new Set<number>();
  /** Offsets completed by a settlement, which are therefore in the archive. */
  readonly archived = new Set<number>();
  /** Offsets that a member has handled. */
  readonly received = new Set<number>();
  /** The last delivery of each offset that no refusal or settlement has named since. */
  readonly deliveries = new Map<number, LastDelivery>();
  /** Deliveries that a slow reader had in flight: the next one must be the same attempt. */
  readonly keptAttempts = new Map<number, LastDelivery>();
  /** The first offset that the group must get. */
  start: number;
  /** Rises with each reset of the cursor, and with the end and the begin of a subscription. */
  resets: number;
  /** Whether the subscription is CANCELLED, and there is no other one yet. */
  ended = false;
  /** What the incarnation of a reset adds to. */
  readonly #resetsBefore: number;

  /** @param before that of the subscription before, of the same names. */
  constructor(start: number, before?: Consumption) {
    this.start = start;
    this.resets = this.#resetsBefore = before === undefined ? 0 : before.resets + 1;
    // A broker that was replaced may deliver by what it knows of the subscription before.
    for (const offset of before?.namedEver ?? []) this.namedEver.add(offset);
  }

  /** The attempts of the record may rise, because its member refuses or settles it. */
  forgetAttempt(offset: number): void {
    this.deliveries.delete(offset);
    this.keptAttempts.delete(offset);
  }

  /** A stream of the member has ended because its client does not read. */
  keepAttempts(memberId: MemberId, epoch: number): void {
    for (const [offset, last] of this.deliveries) {
      if (last.memberId === memberId && last.epoch === epoch) this.keptAttempts.set(offset, last);
    }
  }

  /** The claim ends: what is on its way counts no more. */
  end(): void {
    this.ended = true;
    this.resets++;
  }

  /**
   * Begins a new incarnation at the offset. Older acks no longer count, and the records from there
   * on come again.
   */
  begin(offset: number, resets: number): void {
    this.start = offset;
    this.resets = this.#resetsBefore + resets;
    const { sent, acked, named, namedByRuns, refused, excused, settling, archived } = this;
    for (const set of [sent, acked, named, namedByRuns, refused, excused, settling, archived]) set.clear();
    this.deliveries.clear();
    this.keptAttempts.clear();
    for (let below = 0; below < offset; below++) this.acked.add(below);
    for (const one of this.received) if (one >= offset) this.received.delete(one);
  }
}
