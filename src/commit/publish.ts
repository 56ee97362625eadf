import type { RecordSet } from '../log/batch.ts';

/** A publish request after its scan (src/wire): the records are slices of the request's bytes. */
export interface PublishCommand {
  readonly topic: string;
  readonly records: RecordSet;
  /** The idempotency key of each record, or null; null if no record has one. */
  readonly idempotencyKeys: readonly (string | null)[] | null;
  readonly partition: number | null;
  /** False for ack mode NONE: `publish` returns null when the records are queued. */
  readonly committed: boolean;
  readonly expectedOffset: number | null;
  /** The lane of `expectedOffset`; null if the request has none. */
  readonly lane: number | null;
  /** The stream of the request; null for a unary call. */
  readonly stream: PublishStreamToken | null;
}

/**
 * Shared by the requests of one PublishStream. It prevents that records are appended behind a gap:
 * once one request fails, all later ones fail too. The publish queue keeps the order of a stream.
 */
export interface PublishStreamToken {
  /**
   * Set by the committer when a request of the stream fails. The committer fails each request that
   * it takes after that with the same error, and so does `publish`.
   */
  failure: Error | null;
  /**
   * Set by `publish` when it rejects a request at once, for example because the queue is full. All
   * later requests are rejected with it. Requests in the queue are earlier ones and go on.
   */
  refused?: Error;
}

/** The partitions and offsets that the records of a publish got, in the order of the request. */
export interface PublishedRecords {
  readonly partitions: Int32Array;
  readonly offsets: Float64Array;
  /** 1 for a record whose idempotency key was known; null if no record has a key. */
  readonly duplicates: Uint8Array | null;
}
