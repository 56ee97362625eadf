import assert from 'node:assert/strict';

/**
 * The records and bytes that a member has in flight: delivered to it and not acked. They never
 * exceed the bounds, except for one record larger than `bytesMax`, which may go when nothing is in
 * flight.
 *
 * 1. 0 ≤ records, 0 ≤ bytes, and no bytes without records: credit returned twice is a bug.
 * 2. records ≤ recordsMax and bytes ≤ bytesMax, or records = 1.
 */
export class Credit {
  readonly recordsMax: number;
  readonly bytesMax: number;
  #records = 0;
  #bytes = 0;

  constructor(recordsMax: number, bytesMax: number) {
    assert(recordsMax > 0 && bytesMax > 0, 'credit must allow something');
    this.recordsMax = recordsMax;
    this.bytesMax = bytesMax;
  }

  /** Records in flight. */
  get records(): number {
    return this.#records;
  }

  /** Bytes in flight. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Whether this much more may be delivered. */
  fits(records: number, bytes: number): boolean {
    if (records === 1 && this.#records === 0) return true;
    return this.#records + records <= this.recordsMax && this.#bytes + bytes <= this.bytesMax;
  }

  /** Takes credit for a delivery, which must fit. */
  take(records: number, bytes: number): void {
    const isAllowed = records > 0 && bytes >= 0 && this.fits(records, bytes);
    if (!isAllowed) assert.fail(`${records} records of ${bytes} bytes do not fit`);
    this.#records += records;
    this.#bytes += bytes;
  }

  /** Returns credit that was taken, after an ack, a release or a revocation. */
  give(records: number, bytes: number): void {
    this.#records -= records;
    this.#bytes -= bytes;
    assert(
      records >= 0 && bytes >= 0 && this.#records >= 0 && this.#bytes >= 0,
      'more credit came back than was taken',
    );
    assert(this.#records > 0 || this.#bytes === 0, 'bytes are in flight without a record');
  }

  /** Nothing is in flight after this. */
  reset(): void {
    this.#records = 0;
    this.#bytes = 0;
  }
}
