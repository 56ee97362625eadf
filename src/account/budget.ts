import {
  kinds,
  otherBuffers,
  poolShares,
  type BudgetLimits,
  type KindLimit,
  type KindName,
  type PoolName,
} from './kinds.ts';

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

function bytesOf(limit: KindLimit, heapBytes: number, settings: BudgetLimits): number {
  if ('setting' in limit) return settings[limit.setting];
  if ('bytes' in limit) return limit.bytes;
  const { share, bytesMin = 0, bytesMax = Infinity } = limit;
  return Math.min(bytesMax, Math.max(bytesMin, Math.floor(share * heapBytes)));
}
