import type { Account } from '../../account/account.ts';
import type { Counted } from '../../account/hold.ts';
import type { Owner } from '../../account/owner.ts';
import type { Clock } from '../../time/clock.ts';
import { RetryLine, type WaitingReader } from './retry-line.ts';

/** The last part of the room is for members with at most so many records in flight. */
const fewRecords = 100;
const lastPart = 1 / 4;

interface DeliveryRoomDeps {
  readonly account: Account;
  readonly owner: Owner;
  readonly clock: Clock;
}

/**
 * Room for records in flight, of all members together. Members that ack nothing could fill all of
 * it, and the others would get nothing any more.
 */
export class DeliveryRoom {
  readonly #deliveries: Counted;
  readonly #line: RetryLine;
  readonly #bytesMax: number;

  constructor({ account, owner, clock }: DeliveryRoomDeps) {
    this.#deliveries = owner.kind('deliveries');
    this.#bytesMax = account.kind('deliveries').bytesMax;
    this.#line = new RetryLine(clock);
  }

  /** Whether a member with so many records in flight may get more. */
  has(recordsInFlight: number): boolean {
    const { room } = this.#deliveries;
    return room > 0 && (recordsInFlight <= fewRecords || room >= lastPart * this.#bytesMax);
  }

  /** As `has`. If not, the stream is woken later. */
  hasFor(stream: WaitingReader, recordsInFlight: number): boolean {
    const has = this.has(recordsInFlight);
    if (!has) this.#line.wait(stream);
    return has;
  }

  /** Wakes no stream any more. */
  stop(): void {
    this.#line.stop();
  }
}
