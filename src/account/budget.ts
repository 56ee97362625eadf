import {
  kinds,
  otherBuffers,
  poolShares,
  type BudgetLimits,
  type KindLimit,
  type KindName,
  type PoolName,
} from './kinds.ts';

const mib = 1_048_576;

/** The limit of each pool and of each kind, in bytes. */
export interface Budget {
  readonly pools: Readonly<Record<PoolName, number>>;
  readonly kinds: Readonly<Record<KindName, number>>;
}

/** `heapBytes`: the old generation of the heap, which is HEAP_MIB. */
export function budgetOf(heapBytes: number, settings: BudgetLimits): Budget {
  const others = bytesOf(otherBuffers, heapBytes, settings);
  const pools = {
    kept: Math.floor(poolShares.kept * heapBytes),
    passing: Math.floor(poolShares.passing * heapBytes),
    buffers: settings.publishQueueBytesMax + settings.tailCacheBytesMax + others,
  };
  const limitOf = ([name, { pool, limit }]: [string, { pool: PoolName; limit: KindLimit }]): [string, number] => [
    name,
    Math.min(bytesOf(limit, heapBytes, settings), pools[pool]),
  ];
  return { pools, kinds: Object.fromEntries(Object.entries(kinds).map(limitOf)) as Budget['kinds'] };
}

/** Node and the code, measured. */
const baseBytes = 75 * mib;
/** The young generation of `npm start`, three semi-spaces of 32 MiB. V8's limit includes it. */
export const youngBytes = 96 * mib;
const containerFactor = 1.15;

/** The whole process, when every pool is full. */
export function processBytes(heapBytes: number, settings: BudgetLimits): number {
  return baseBytes + heapBytes + youngBytes + budgetOf(heapBytes, settings).pools.buffers;
}

/** The limit of a container, in whole MiB. */
export function containerBytes(heapBytes: number, settings: BudgetLimits): number {
  return Math.ceil((containerFactor * processBytes(heapBytes, settings)) / mib) * mib;
}

function bytesOf(limit: KindLimit, heapBytes: number, settings: BudgetLimits): number {
  if ('setting' in limit) return settings[limit.setting];
  if ('bytes' in limit) return limit.bytes;
  const { share, bytesMin = 0, bytesMax = Infinity } = limit;
  return Math.min(bytesMax, Math.max(bytesMin, Math.floor(share * heapBytes)));
}
