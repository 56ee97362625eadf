import { limits } from '../limits/limits.ts';
import { budgetOf, containerBytes, processBytes } from './budget.ts';
import {
  connectionBytes,
  connectionHeapBytes,
  kinds,
  poolShares,
  type AtLimit,
  type KindLimit,
  type KindName,
  type KindRow,
  type PoolName,
} from './kinds.ts';

const mib = 1_048_576;
const shownHeapBytes = 256 * mib;

const poolMeanings: Readonly<Record<PoolName, string>> = {
  kept: 'state that stays, and that a restart loads again (heap)',
  passing: 'objects of calls under way (heap)',
  buffers: 'bytes outside of the heap',
};

const meanings: Readonly<Record<AtLimit, string>> = {
  BROKER_FULL: '`BROKER_FULL`',
  BROKER_BUSY: '`BROKER_BUSY`',
  PUBLISH_QUEUE_FULL: '`PUBLISH_QUEUE_FULL`',
  CLOSED: 'a new connection is closed',
  EVICTED: 'the oldest goes, and the database has it',
  PAUSED: 'the stream waits for its client',
  WAITS: 'members get no more records until others are done; `BROKER_BUSY` for an ack that needs more',
  UNCOUNTED: '`BROKER_FULL` for a NACK; a lost delivery stays uncounted',
};

/** docs/memory.md, from the table of kinds. */
export function memoryDocument(): string {
  const budget = budgetOf(shownHeapBytes, limits);
  const rows = (Object.entries(kinds) as [KindName, KindRow][]).map(([name, row]) => {
    const { pool, counts, limit, atLimit } = row;
    return [`\`${name}\``, pool, counts, limitText(limit), shown(budget.kinds[name]), meanings[atLimit]];
  });
  const pools = (Object.entries(budget.pools) as [PoolName, number][]).map(([name, bytes]) => {
    return [`\`${name}\``, poolMeanings[name], shown(bytes)];
  });
  return [
    ...opening,
    ...table(['pool', 'counts', 'limit at 256'], pools),
    ...beforeKinds,
    ...table(['kind', 'pool', 'counts', 'limit', 'at 256', 'at the limit'], rows),
    '',
    ...onTheHeap(budget.kinds.connections),
    '',
    ...memoryOfProcess(),
    '',
    ...whenFull,
    '',
  ].join('\n');
}

/** The memory of the whole process, for docs/configuration.md too. */
export function memoryOfProcess(): string[] {
  const { pools } = budgetOf(shownHeapBytes, limits);
  return [
    '## The memory of the process',
    '',
    'The limits allow the process the sum of four parts: 75 MiB for Node and the code, `HEAP_MIB`, 96',
    'MiB for young objects, and the pool `buffers`. With the defaults that is',
    `75 + 256 + 96 + ${pools.buffers / mib} = ${processBytes(shownHeapBytes, limits) / mib} MiB. The limit of a container should be 15 % above`,
    `the sum: ${containerBytes(shownHeapBytes, limits) / mib} MiB, as in deploy/compose.yaml.`,
  ];
}

/** What `buffers` has on the heap all the same. */
function onTheHeap(connectionsBytes: number): string[] {
  const bytes = (connectionsBytes / connectionBytes) * connectionHeapBytes;
  return [
    `Of each connection up to ${connectionHeapBytes / 1_024} KiB lie on the heap: at most ${shown(bytes)} at 256, beside the`,
    `${shown(shownHeapBytes * (poolShares.kept + poolShares.passing))} of the first two pools. The remainder of the heap is for what is collected soon.`,
  ];
}

const opening = [
  '# Memory',
  '',
  'One account counts what clients make the broker hold, in bytes, before the broker holds it. Each',
  'kind has a limit over all clients. Above the kinds are three pools. The first two lie on the heap,',
  'and a full heap ends the process. The third only makes the process larger. The limits follow',
  '`HEAP_MIB` (256 by default) and two settings.',
  '',
  'This file is written from the table in `src/account/kinds.ts` by `npm run generate`.',
  '',
  '## Pools',
  '',
];

const beforeKinds = [
  '',
  'A kind that is full does not take from the others. When a pool is full, its caches give way first:',
  'they lose bytes before a request is rejected.',
  '',
  '## Kinds',
  '',
];

const whenFull = [
  '## When the broker is full',
  '',
  '`kind` in the metadata of `BROKER_FULL` and `BROKER_BUSY` names the kind. The metrics',
  '`millrace_account_bytes` and `millrace_account_limit_bytes` show how full each kind is, and',
  '`millrace_account_refused_total` counts rejections ([metrics.md](metrics.md)). A larger `HEAP_MIB`',
  'raises all limits in proportion. Deleted topics, groups and subscriptions give their bytes back.',
  '',
  'The bytes of an object are estimates above the truth. The broker also looks at the heap itself',
  'after each full collection. Above 80 % of `HEAP_MIB` it takes nothing new that stays, whatever the',
  'sums are, and logs a warning.',
];

function table(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  return [head, head.map(() => '---'), ...rows].map((cells) =>
    `| ${cells.join(' | ')} |`.replaceAll('| --- ', '|---').replaceAll('--- |', '---|'),
  );
}

function limitText(limit: KindLimit): string {
  if ('setting' in limit)
    return limit.setting === 'tailCacheBytesMax' ? '`--tail-cache-bytes-max`' : '`--publish-queue-bytes-max`';
  if ('bytes' in limit) return shown(limit.bytes);
  const { share, bytesMin, bytesMax } = limit;
  if (share === 1) return 'its pool';
  const bounds = [
    ...(bytesMin === undefined ? [] : [`at least ${shown(bytesMin)}`]),
    ...(bytesMax === undefined ? [] : [`at most ${shown(bytesMax)}`]),
  ];
  return [`${Number((share * 100).toFixed(1))} % of \`HEAP_MIB\``, ...bounds].join(', ');
}

function shown(bytes: number): string {
  return `${Math.round(bytes / mib)} MiB`;
}
