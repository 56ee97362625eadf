import { Counter, Gauge, type Registry } from 'prom-client';
import type { OpenBroker } from '../broker/opening.ts';
import type { Account } from '../account/account.ts';
import { poolNames } from '../account/kinds.ts';
import type { HeapUse } from './heap-watch.ts';

type Counts = ReturnType<OpenBroker['counts']>;
type Described = readonly [
  count: Exclude<keyof Counts, 'groupsByState' | 'subscriptionsByState' | 'segmentDrops' | 'droppedBytes'>,
  name: string,
  help: string,
];

const gauges: readonly Described[] = [
  ['topics', 'millrace_topics', 'Topics.'],
  ['groups', 'millrace_groups', 'Consumer groups.'],
  ['members', 'millrace_members', 'Members of all groups.'],
  ['inFlightRecords', 'millrace_in_flight_records', 'Records delivered and not acked, of all groups.'],
  ['lag', 'millrace_lag_records', 'Records that groups have not acked, summed over all groups.'],
  ['queuedBytes', 'millrace_publish_queue_bytes', 'Publishes that wait for their append, in bytes.'],
  ['queuedRecords', 'millrace_publish_queue_records', 'Publishes that wait for their append, in records.'],
  ['tailCacheBytes', 'millrace_tail_cache_bytes', 'Recent batches in memory, in bytes.'],
  ['readCacheBytes', 'millrace_read_cache_bytes', 'Older batches, read from the database, in memory, in bytes.'],
  ['feedBytes', 'millrace_feed_bytes', 'Older batches that were read for a group and have not gone out, in bytes.'],
];

const counters: readonly Described[] = [
  ['appends', 'millrace_append_transactions_total', 'Append transactions that were committed.'],
  ['appendedRecords', 'millrace_appended_records_total', 'Records that were appended.'],
  ['appendedBytes', 'millrace_appended_bytes_total', 'Bytes of the records that were appended.'],
  [
    'deliveredRecords',
    'millrace_delivered_records_total',
    'Records that were handed out to members of groups, repeated ones too.',
  ],
  ['deliveredBytes', 'millrace_delivered_bytes_total', 'Bytes of the records that were handed out.'],
  ['rebalances', 'millrace_rebalances_total', 'Rebalances of all groups that are over.'],
  ['rebalanceSeconds', 'millrace_rebalance_seconds_total', 'How long they took together, in seconds.'],
  ['heartbeats', 'millrace_heartbeats_total', 'Heartbeats of members.'],
  [
    'sessionTimeouts',
    'millrace_session_timeouts_total',
    'Members that were removed because nothing was heard of them.',
  ],
  ['fencedCalls', 'millrace_fenced_calls_total', 'Calls that were refused because their member is none any more.'],
  ['commits', 'millrace_offset_commits_total', 'Offsets that CommitOffsets committed.'],
  [
    'uncountedAttempts',
    'millrace_uncounted_attempts_total',
    'How often lost deliveries of a cursor were not counted as attempts, because there was no memory.',
  ],
  ['gapRecords', 'millrace_gap_records_total', 'Records that groups were owed when retention dropped them.'],
];

/** The states of groups at work; a deleted group is not among them. */
const states = ['EMPTY', 'PREPARING_REBALANCE', 'COMPLETING_REBALANCE', 'STABLE'] as const;
/** A cancelled subscription is not in memory. */
const subscriptionStates = ['ACTIVE', 'PAUSED', 'DEAD'] as const;
const dropReasons = ['COMPLETED', 'ZERO_SUBSCRIPTIONS', 'MAX_AGE', 'MAX_BYTES'] as const;

/**
 * Puts the broker's numbers on /metrics. Each scrape counts all of them at once: the first metric
 * of the registry is collected first, and sets the others.
 */
export function exposeMetrics(
  registry: Registry,
  counts: () => Counts | null,
  epoch: () => number | null,
  heap: () => HeapUse,
  account: Account,
): void {
  const registers = [registry];
  const active = new Gauge({
    name: 'millrace_active',
    help: 'Whether this broker owns the database: 1, or 0 for a standby.',
    registers,
    collect() {
      active.set(epoch() === null ? 0 : 1);
      const { keptBytes, maxBytes } = heap();
      heapKept.set(keptBytes);
      heapMax.set(maxBytes);
      showAccount();
      const now = counts();
      for (const [count, gauge] of shown) gauge.set(now?.[count] ?? 0);
      for (const state of states) byState.set({ state }, now?.groupsByState[state] ?? 0);
      for (const state of subscriptionStates) byLife.set({ state }, now?.subscriptionsByState[state] ?? 0);
      showDrops(now);
      for (const [count, counter] of counted) {
        // The broker counts by itself, but a counter of prom-client can only be added to.
        counter.reset();
        counter.inc(now?.[count] ?? 0);
      }
    },
  });
  const showAccount = exposeAccount(registers, account);
  const showDrops = exposeDrops(registers);
  const heapKept = new Gauge({
    name: 'millrace_heap_kept_bytes',
    help: 'What the last full collection of the heap left in it, in bytes.',
    registers,
  });
  const heapMax = new Gauge({ name: 'millrace_heap_max_bytes', help: 'How much it may be, in bytes.', registers });
  const byState = new Gauge({
    name: 'millrace_groups_by_state',
    help: 'Consumer groups in each state.',
    labelNames: ['state'],
    registers,
  });
  const byLife = new Gauge({
    name: 'millrace_subscriptions_by_state',
    help: 'Subscriptions in each state.',
    labelNames: ['state'],
    registers,
  });
  const shown = gauges.map(([count, name, help]) => [count, new Gauge({ name, help, registers })] as const);
  const counted = counters.map(([count, name, help]) => [count, new Counter({ name, help, registers })] as const);
}

/** @returns what sets the metrics of dropped segments. */
function exposeDrops(registers: Registry[]): (counts: Counts | null) => void {
  const byReason = { labelNames: ['reason'], registers };
  const segments = new Counter({
    name: 'millrace_dropped_segments_total',
    help: 'Segments that went, of all topics, by reason.',
    ...byReason,
  });
  const bytes = new Counter({ name: 'millrace_dropped_bytes_total', help: 'Their bytes.', ...byReason });
  return (counts) => {
    segments.reset();
    bytes.reset();
    for (const reason of dropReasons) {
      segments.inc({ reason }, counts?.segmentDrops[reason] ?? 0);
      bytes.inc({ reason }, counts?.droppedBytes[reason] ?? 0);
    }
  };
}

/** @returns what sets the metrics of the account. */
function exposeAccount(registers: Registry[], account: Account): () => void {
  const byKind = { labelNames: ['kind'], registers };
  const byPool = { labelNames: ['pool'], registers };
  const bytes = new Gauge({
    name: 'millrace_account_bytes',
    help: 'What clients make the broker hold, by kind, in bytes.',
    ...byKind,
  });
  const bytesMax = new Gauge({
    name: 'millrace_account_limit_bytes',
    help: 'How much it may be, in bytes.',
    ...byKind,
  });
  const refused = new Counter({
    name: 'millrace_account_refused_total',
    help: 'How often there was no room for more of a kind.',
    ...byKind,
  });
  const poolBytes = new Gauge({
    name: 'millrace_account_pool_bytes',
    help: 'The kinds of a pool together, in bytes.',
    ...byPool,
  });
  const poolMax = new Gauge({
    name: 'millrace_account_pool_limit_bytes',
    help: 'How much they may be, in bytes.',
    ...byPool,
  });
  return () => {
    refused.reset();
    for (const kind of account.kinds()) {
      bytes.set({ kind: kind.name }, kind.bytes);
      bytesMax.set({ kind: kind.name }, kind.bytesMax);
      refused.inc({ kind: kind.name }, kind.refused);
    }
    for (const pool of poolNames) {
      poolBytes.set({ pool }, account.poolBytes(pool).bytes);
      poolMax.set({ pool }, account.poolBytes(pool).bytesMax);
    }
  };
}
