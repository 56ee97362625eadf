import type { RecordSet } from '../log/batch.ts';

/** A scanned publish request: records as slices of the request's bytes (src/wire). */
export interface PublishCommand {
  readonly topic: string;
  readonly records: RecordSet;
  /** Per record its idempotency key, null for none; null if no record has one. */
  readonly idempotencyKeys: readonly (string | null)[] | null;
  readonly partition: number | null;
  /** false: ack mode NONE. `publish` then answers null once the records are queued. */
  readonly committed: boolean;
  readonly expectedOffset: number | null;
  /** The lane that `expectedOffset` is of; null: none is named. */
  readonly lane: number | null;
  /** The stream that the request came by; null for a unary call. */
  readonly stream: PublishStreamToken | null;
}

/**
 * Shared by the requests of one PublishStream, so that no request overtakes an earlier one that failed. Requests of a
 * stream are taken from the publish queue in the order of the `publish` calls.
 */
export interface PublishStreamToken {
  /**
   * Set by the committer when a request that it has taken fails. Each one that it takes while this is set came later: it
   * is refused with the same error and appends nothing, and `publish` refuses what comes now.
   */
  failure: Error | null;
  /**
   * Set by `publish`, before it returns, when it refuses a request at once (no such topic, the queue is full); `publish`
   * refuses every later request with it. Those that wait in the queue came earlier and are not concerned.
   */
  refused?: Error;
}

/** Where the records of a publish went. */
export interface PublishedRecords {
  /** Per record of the request: where it went. */
  readonly partitions: Int32Array;
  readonly offsets: Float64Array;
  /** 1 where the idempotency key was known; null if no record has a key. */
  readonly duplicates: Uint8Array | null;
}
