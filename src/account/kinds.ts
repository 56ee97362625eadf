import { limits, type TunableLimits } from '../limits/limits.ts';

/**
 * What clients can make the broker hold, one row for each kind. New state that a client can cause
 * needs a row here before it needs code. `npm run generate` writes docs/memory.md from this table.
 *
 * A pool is a limit over several kinds. `kept` and `passing` lie on the heap, and V8 ends the
 * process when the heap is full. `buffers` lie outside of it and only make the process larger.
 */
export type PoolName = (typeof poolNames)[number];
export const poolNames = ['kept', 'passing', 'buffers'] as const;

/** The limit of a kind, from the bytes of the heap or from a setting. */
export type KindLimit =
  | { readonly share: number; readonly bytesMin?: number; readonly bytesMax?: number }
  | { readonly bytes: number }
  | { readonly setting: 'publishQueueBytesMax' | 'tailCacheBytesMax' };

/** What happens to a client, or to what is held, at the limit. */
export type AtLimit =
  'BROKER_FULL' | 'BROKER_BUSY' | 'PUBLISH_QUEUE_FULL' | 'CLOSED' | 'EVICTED' | 'PAUSED' | 'UNCOUNTED' | 'WAITS';

export interface KindRow {
  readonly pool: PoolName;
  /** For docs/memory.md. */
  readonly counts: string;
  readonly limit: KindLimit;
  /** The limit of one connection; beyond it the call gets CONNECTION_BUSY. */
  readonly ownerBytesMax?: number;
  /** One piece alone may be larger than the limit of its connection. */
  readonly ownerMayHaveOne?: true;
  readonly atLimit: AtLimit;
}

const mib = 1_048_576;
/** A kind that only its pool limits. */
const wholePool = { share: 1 };

/** The share of the heap that each pool may have. The remainder is for short-lived objects. */
export const poolShares = { kept: 1 / 2, passing: 1 / 4 } as const;
/** What `buffers` may have beside the publish queue and the tail cache. */
export const otherBuffers = { share: 11 / 64, bytesMin: 32 * mib } as const;
export const connectionBytes = 24_576;
/** The part of it that lies on the heap: the remainder of the heap has room for all of them. */
export const connectionHeapBytes = 8_192;

export const kinds = {
  topics: {
    pool: 'kept',
    counts: 'topics and their partitions',
    limit: wholePool,
    atLimit: 'BROKER_FULL',
  },
  groups: { pool: 'kept', counts: 'consumer groups', limit: wholePool, atLimit: 'BROKER_FULL' },
  members: { pool: 'kept', counts: 'members with their metadata', limit: { share: 1 / 4 }, atLimit: 'BROKER_FULL' },
  cursors: {
    pool: 'kept',
    counts: 'cursors of subscriptions, and what a member has for each that it holds',
    limit: wholePool,
    atLimit: 'BROKER_FULL',
  },
  notes: { pool: 'kept', counts: 'metadata of committed offsets', limit: { share: 1 / 8 }, atLimit: 'BROKER_FULL' },
  holes: {
    pool: 'kept',
    counts: 'runs of acked offsets above the committed one',
    limit: { share: 1 / 8 },
    atLimit: 'BROKER_FULL',
  },
  attempts: {
    pool: 'kept',
    counts: 'delivery attempts of records, by runs',
    limit: { share: 1 / 16 },
    atLimit: 'UNCOUNTED',
  },
  keys: { pool: 'kept', counts: 'idempotency keys of all topics', limit: { share: 1 / 16 }, atLimit: 'EVICTED' },

  streams: {
    pool: 'passing',
    counts: 'open calls and streams',
    // 17 calls of gRPC for each MiB of the heap: one for each connection that there may be.
    limit: { share: 1 / 5 },
    ownerBytesMax: limits.grpcConnectionCallsMax * limits.openCallBytes,
    atLimit: 'BROKER_BUSY',
  },
  batches: {
    pool: 'passing',
    counts: 'the objects of batches in `tail`, `reads` and `feeds`, beside their bytes',
    limit: { share: 1 / 16 },
    atLimit: 'EVICTED',
  },
  deliveries: {
    pool: 'passing',
    counts: 'records in flight, by the runs that went out together, and refused records',
    limit: { share: 1 / 8, bytesMin: 8 * mib },
    atLimit: 'WAITS',
  },
  decoded: {
    pool: 'passing',
    counts: 'requests under way as they are decoded, above 4 KiB each',
    // A plan of 100,000 partitions takes up to 31 MiB.
    limit: { share: 1 / 8, bytesMin: 16 * mib },
    ownerBytesMax: 16 * mib,
    ownerMayHaveOne: true,
    atLimit: 'BROKER_BUSY',
  },
  queued: {
    pool: 'passing',
    counts: 'the objects and the idempotency keys of `publishes`, beside their bytes',
    // The largest publish has 10,000 keys, which take 5 MiB.
    limit: { share: 1 / 8, bytesMin: 8 * mib },
    atLimit: 'BROKER_BUSY',
  },
  starts: {
    pool: 'passing',
    counts: 'first offsets of subscriptions that are being created',
    limit: { bytes: 16 * mib },
    atLimit: 'BROKER_BUSY',
  },

  connections: {
    pool: 'buffers',
    counts: 'connections of clients',
    limit: { share: 3 / 8, bytesMax: 10_000 * connectionBytes },
    atLimit: 'CLOSED',
  },
  bodies: {
    pool: 'buffers',
    counts: 'requests that have not arrived completely, or whose stream is not read at the moment',
    // Sixteen publishes of the largest size, four of them on one connection.
    limit: { share: 1 / 4, bytesMin: 16 * mib },
    ownerBytesMax: 16 * mib,
    atLimit: 'BROKER_BUSY',
  },
  publishes: {
    pool: 'buffers',
    counts: 'requests of publishes until their commit',
    limit: { setting: 'publishQueueBytesMax' },
    atLimit: 'PUBLISH_QUEUE_FULL',
  },
  answers: {
    pool: 'buffers',
    counts: 'answers that their client has not read',
    limit: { share: 3 / 16, bytesMin: 16 * mib },
    ownerBytesMax: 8 * mib,
    atLimit: 'BROKER_BUSY',
  },
  unsent: {
    pool: 'buffers',
    counts: 'events of streams that their client has not read',
    limit: { share: 3 / 16, bytesMin: 16 * mib },
    atLimit: 'PAUSED',
  },
  reads: {
    pool: 'buffers',
    counts: 'older batches, read from the database',
    limit: { bytes: limits.readCacheBytesMax },
    atLimit: 'EVICTED',
  },
  feeds: {
    pool: 'buffers',
    counts: 'older batches that were read for a group and have not gone out',
    limit: { bytes: limits.feedBytesMax },
    atLimit: 'EVICTED',
  },
  tail: {
    pool: 'buffers',
    counts: 'recently appended batches',
    limit: { setting: 'tailCacheBytesMax' },
    atLimit: 'EVICTED',
  },
} as const satisfies Readonly<Record<string, KindRow>>;

export type KindName = keyof typeof kinds;

/** The settings that the limits of the account follow. */
export type BudgetLimits = Pick<TunableLimits, 'publishQueueBytesMax' | 'tailCacheBytesMax'>;
