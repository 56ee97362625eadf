import { readFileSync } from 'node:fs';
import { status, type ServiceError } from '@grpc/grpc-js';
import { Client } from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { connect } from '../../../bench/client/service-client.ts';
import { waitFor } from '../../../bench/support/timing.ts';
import { BrokerService } from '../../../gen/millrace/v1/broker_pb.js';
import { GroupService, GroupState } from '../../../gen/millrace/v1/group_pb.js';
import { TopicService } from '../../../gen/millrace/v1/topic_pb.js';
import { Member } from '../member.ts';
import { Site } from '../site.ts';
import { answerOf } from '../start.ts';

/** Everything of our own on /metrics. */
const kinds: Readonly<Record<string, 'gauge' | 'counter' | 'histogram'>> = {
  millrace_active: 'gauge',
  millrace_topics: 'gauge',
  millrace_groups: 'gauge',
  millrace_groups_by_state: 'gauge',
  millrace_subscriptions_by_state: 'gauge',
  millrace_members: 'gauge',
  millrace_in_flight_records: 'gauge',
  millrace_lag_records: 'gauge',
  millrace_publish_queue_bytes: 'gauge',
  millrace_publish_queue_records: 'gauge',
  millrace_tail_cache_bytes: 'gauge',
  millrace_read_cache_bytes: 'gauge',
  millrace_feed_bytes: 'gauge',
  millrace_account_bytes: 'gauge',
  millrace_account_limit_bytes: 'gauge',
  millrace_account_refused_total: 'counter',
  millrace_account_pool_bytes: 'gauge',
  millrace_account_pool_limit_bytes: 'gauge',
  millrace_append_transactions_total: 'counter',
  millrace_appended_records_total: 'counter',
  millrace_appended_bytes_total: 'counter',
  millrace_delivered_records_total: 'counter',
  millrace_delivered_bytes_total: 'counter',
  millrace_rebalances_total: 'counter',
  millrace_rebalance_seconds_total: 'counter',
  millrace_heap_kept_bytes: 'gauge',
  millrace_heap_max_bytes: 'gauge',
  millrace_heartbeats_total: 'counter',
  millrace_session_timeouts_total: 'counter',
  millrace_fenced_calls_total: 'counter',
  millrace_offset_commits_total: 'counter',
  millrace_gap_records_total: 'counter',
  millrace_uncounted_attempts_total: 'counter',
  millrace_dropped_segments_total: 'counter',
  millrace_dropped_bytes_total: 'counter',
  millrace_publish_seconds: 'histogram',
  millrace_ack_seconds: 'histogram',
  millrace_commit_seconds: 'histogram',
  millrace_rpcs_total: 'counter',
  millrace_refusals_total: 'counter',
  millrace_database_wal_bytes_total: 'counter',
  millrace_database_bytes: 'gauge',
  millrace_database_disk_free_bytes: 'gauge',
  millrace_database_held_transactions: 'gauge',
  millrace_database_held_seconds: 'gauge',
  millrace_database_dead_tuples: 'gauge',
  millrace_database_table_bytes: 'gauge',
  millrace_database_bloat_bytes: 'gauge',
};

let site: Site;
const members: Member[] = [];
/** A session that keeps a snapshot, and the statistics of the tables. */
let holder: Client;
beforeAll(async () => {
  site = await Site.open({ flags: ['--database-bytes-max', '100000000000'] });
  await site.createTopic('orders', 2);
  await site.refusal(BrokerService.method.publish, { topic: 'nowhere', records: [{}] });
  holder = new Client({ connectionString: site.databaseUrl, application_name: 'a "holder"' });
  await holder.connect();
  await holder.query('ANALYZE millrace.topics');
  await holder.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
  await holder.query('SELECT 1');
});
afterAll(async () => {
  for (const member of members) member.leave();
  await holder.end();
  await site.close();
});

interface Scrape {
  readonly samples: ReadonlyMap<string, number>;
  readonly types: ReadonlyMap<string, string>;
  readonly help: ReadonlySet<string>;
}

/** Reads the text format of Prometheus 0.0.4, and refuses a line that is none of it. */
async function scrape(): Promise<Scrape> {
  const response = await fetch(`${site.broker.httpUrl}/metrics`);
  expect([response.status, response.headers.get('content-type')]).toEqual([
    200,
    expect.stringMatching(/^text\/plain; version=0\.0\.4; charset=utf-8$/),
  ]);
  const samples = new Map<string, number>();
  const types = new Map<string, string>();
  const help = new Set<string>();
  for (const line of (await response.text()).split('\n').filter((each) => each !== '')) {
    const comment = /^# (HELP|TYPE) ([a-z_][a-z0-9_]*) (.+)$/.exec(line);
    const sample = /^([a-z_][a-z0-9_]*(?:\{(?:[a-z_]+="(?:[^"\\]|\\.)*",?)+\})?) (\S+)$/.exec(line);
    if (comment !== null) {
      const [, kind, name, text] = comment;
      if (kind === 'TYPE') types.set(name!, text!);
      else help.add(name!);
    } else {
      expect(sample, `no line of the format: ${line}`).not.toBe(null);
      // Read in any case of letters; prom-client writes Nan.
      expect(sample![2], line).toMatch(/^([+-]?\d+(\.\d+)?(e[+-]?\d+)?|[+-]?Inf|NaN)$/i);
      samples.set(sample![1]!, Number(sample![2]));
    }
  }
  return { samples, types, help };
}

async function value(name: string): Promise<number> {
  const found = (await scrape()).samples.get(name);
  expect(found, name).toBeDefined();
  return found!;
}

async function until(name: string, wanted: number): Promise<void> {
  let last = NaN;
  await waitFor(`${name} = ${wanted}`, 5_000, 10, async () => (last = await value(name)) === wanted).catch(
    (error: unknown) => {
      throw new Error(`${String(error)}; it is ${last}`);
    },
  );
}

test(
  'every metric has a help text and a type, and the metrics of the process are there too',
  { timeout: 90_000 },
  async () => {
    // A scrape waits for the database for a second only.
    await waitFor('the numbers of the database', 60_000, 100, async () =>
      (await scrape()).samples.has('millrace_database_bytes'),
    );
    const { samples, types, help } = await scrape();
    const ours = [...types].filter(([name]) => name.startsWith('millrace_'));
    expect(Object.fromEntries(ours)).toEqual(kinds);
    for (const name of Object.keys(kinds)) {
      expect(help.has(name), name).toBe(true);
      expect(
        [...samples.keys()].some((sample) => sample.replace(/\{.*/, '').replace(/_bucket$/, '') === name),
        name,
      ).toBe(true);
    }
    expect(samples.get('millrace_active')).toBe(1);
    expect(samples.get('millrace_topics')).toBe(1);
    expect(samples.get('process_resident_memory_bytes')).toBeGreaterThan(20 * 1_048_576);
    expect(samples.get('process_cpu_seconds_total')).toBeGreaterThan(0);
  },
);

test('docs/metrics.md lists exactly the metrics of the broker, with their kinds', () => {
  const text = readFileSync(new URL('../../../docs/metrics.md', import.meta.url), 'utf8');
  const [sums] = text.split('## Single groups and topics');
  const rows = sums!.matchAll(/^\| `(millrace_\w+)` \| (\w+) \|/gm);
  expect(Object.fromEntries(Array.from(rows, ([, name, kind]) => [name, kind]))).toEqual(kinds);
});

test('the counters of the log grow with published records, and not with rejected ones', async () => {
  const before = await scrape();
  const records = Array.from({ length: 50 }, (_, n) => ({ key: `k${n}`, value: Buffer.alloc(1_000) }));
  await site.call(BrokerService.method.publish, { topic: 'orders', records });
  await until('millrace_appended_records_total', 50 + before.samples.get('millrace_appended_records_total')!);
  expect(await value('millrace_append_transactions_total')).toBe(
    before.samples.get('millrace_append_transactions_total')! + 1,
  );
  const ofRecords = records.length * 1_000 + 'k0'.length * 10 + 'k10'.length * 40;
  expect(await value('millrace_appended_bytes_total')).toBe(
    before.samples.get('millrace_appended_bytes_total')! + ofRecords,
  );
  await until('millrace_publish_queue_bytes', 0);
  await until('millrace_publish_queue_records', 0);
  await site.refusal(BrokerService.method.publish, { topic: 'orders', records: [] });
  await site.refusal(BrokerService.method.publish, { topic: 'nowhere', records: [{}] });
  expect(await value('millrace_appended_records_total')).toBe(
    50 + before.samples.get('millrace_appended_records_total')!,
  );
});

test('a repeated idempotent record is not counted as appended', async () => {
  const before = await value('millrace_appended_records_total');
  const records = [{ idempotencyKey: 'once' }];
  for (let n = 0; n < 3; n++) await site.call(BrokerService.method.publish, { topic: 'orders', records });
  expect(await value('millrace_appended_records_total')).toBe(before + 1);
});

test('the metrics of groups, members, lag and records in flight show the present values', async () => {
  const total = await value('millrace_appended_records_total');
  const join = (group: string) => {
    members.push(new Member(site.broker.grpcAddress, { group, topics: ['orders'] }));
    return members.at(-1)!;
  };
  const billing = await join('billing').untilReceived(total);
  await join('shipping').untilReceived(total);
  await until('millrace_groups', 2);
  await until('millrace_members', 2);
  await until('millrace_in_flight_records', 2 * total);
  await until('millrace_lag_records', 2 * total);
  expect(await value('millrace_delivered_records_total')).toBe(2 * total);
  expect(await value('millrace_delivered_bytes_total')).toBeGreaterThan(
    2 * (await value('millrace_appended_bytes_total')),
  );
  const inFirst = billing.of(0).length;
  expect(await billing.ack(0, { upToOffset: BigInt(inFirst - 1) })).toEqual(['OK', BigInt(inFirst)]);
  await until('millrace_in_flight_records', 2 * total - inFirst);
  await until('millrace_lag_records', 2 * total - inFirst);
  join('shipping');
  await until('millrace_members', 3);
  for (const member of members.splice(0)) member.leave();
  await until('millrace_members', 0);
  await until('millrace_in_flight_records', 0);
  expect(await value('millrace_groups')).toBe(2);
  expect(await value('millrace_lag_records')).toBe(2 * total - inFirst);
  const { groups } = await site.call(GroupService.method.listGroups, {});
  expect(groups.map(({ name }) => name)).toEqual(['billing', 'shipping']);
});

test('rebalances and fenced calls are counted, and each group counts under its state', async () => {
  const names = ['rebalances', 'heartbeats', 'fenced_calls', 'session_timeouts', 'offset_commits'];
  const countsNow = async (): Promise<Record<string, number>> => {
    const { samples } = await scrape();
    return Object.fromEntries(names.map((name) => [name, samples.get(`millrace_${name}_total`)!]));
  };
  const before = await countsNow();
  const secondsBefore = await value('millrace_rebalance_seconds_total');
  const group = 'counted';
  const joined = await site.call(GroupService.method.joinGroup, { group, topics: ['orders'] });
  const { memberId, generation } = joined;
  await until('millrace_rebalances_total', before['rebalances']! + 1);
  await site.call(BrokerService.method.heartbeat, { group, memberId, generation: generation! });
  await site.refusal(BrokerService.method.heartbeat, { group, memberId: 'nobody', generation: generation! });
  // Over both edges.
  const after = { ...before, rebalances: before['rebalances']! + 1, heartbeats: before['heartbeats']! + 1 };
  expect(await countsNow()).toEqual({ ...after, fenced_calls: before['fenced_calls']! + 2 });
  expect(await value('millrace_rebalance_seconds_total')).toBeGreaterThanOrEqual(secondsBefore);
  await until('millrace_groups_by_state{state="STABLE"}', 1);
  const { groups } = await site.call(GroupService.method.listGroups, { states: [GroupState.EMPTY] });
  await until('millrace_groups_by_state{state="EMPTY"}', groups.length);
  expect(groups.map(({ name }) => name)).not.toContain(group);
  await site.call(GroupService.method.leaveGroup, { group, memberId });
  await until('millrace_groups_by_state{state="STABLE"}', 0);
});

test('recent batches are cached and counted once a group is subscribed', async () => {
  expect(await value('millrace_tail_cache_bytes')).toBe(0);
  const start = { position: { case: 'latest' as const, value: {} } };
  const reader = new Member(site.broker.grpcAddress, { group: 'billing', topics: ['orders'], start });
  members.push(reader);
  await reader.untilPartitions(0, 1);
  await reader.untilReceived(1);
  const records = [{ value: Buffer.alloc(100_000) }];
  await site.call(BrokerService.method.publish, { topic: 'orders', partition: 0, records });
  await waitFor('a kept batch', 5_000, 10, async () => (await value('millrace_tail_cache_bytes')) > 100_000);
  expect(await value('millrace_tail_cache_bytes')).toBeLessThan(110_000);
});

test('publishes, acks and transactions are counted with their durations', async () => {
  const before = await scrape();
  const countOf = ({ samples }: Scrape, name: string): number => samples.get(`millrace_${name}_seconds_count`)!;
  await site.call(BrokerService.method.publish, { topic: 'orders', records: [{}] });
  const after = await scrape();
  expect(countOf(after, 'publish')).toBe(countOf(before, 'publish') + 1);
  expect(countOf(after, 'commit')).toBeGreaterThanOrEqual(countOf(before, 'commit') + 1);
  expect(countOf(after, 'ack')).toBeGreaterThan(0);
  expect(after.samples.get('millrace_publish_seconds_bucket{le="+Inf"}')).toBe(countOf(after, 'publish'));
  expect(after.samples.get('millrace_publish_seconds_sum')).toBeGreaterThan(0);
});

test('calls are counted by method and code, and refusals by reason, over both edges', async () => {
  const found = 'millrace_rpcs_total{method="GetTopic",code="OK"}';
  const lost = 'millrace_rpcs_total{method="GetTopic",code="NOT_FOUND"}';
  const refused = 'millrace_refusals_total{reason="TOPIC_NOT_FOUND"}';
  const before = (await scrape()).samples;
  await site.call(TopicService.method.getTopic, { name: 'orders' });
  const overHttp = await fetch(`${site.broker.httpUrl}/millrace.v1.TopicService/GetTopic`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ name: 'orders' }),
  });
  expect(overHttp.status).toBe(200);
  // Over both edges.
  await site.refusal(TopicService.method.getTopic, { name: 'nowhere' });
  const after = (await scrape()).samples;
  expect(after.get(found)).toBe((before.get(found) ?? 0) + 2);
  expect(after.get(lost)).toBe((before.get(lost) ?? 0) + 2);
  expect(after.get(refused)).toBe((before.get(refused) ?? 0) + 2);
});

test('a call that does not exist makes no series, over either edge', async () => {
  const path = '/millrace.v1.TopicService/Nothing';
  const client = connect(site.broker.grpcAddress);
  const same = (bytes: Buffer): Buffer => bytes;
  const error = await new Promise<ServiceError | null>((resolve) => {
    client.makeUnaryRequest(path, same, same, Buffer.alloc(0), resolve);
  });
  client.close();
  expect(error?.code).toBe(status.UNIMPLEMENTED);
  const headers = { 'content-type': 'application/json' };
  const { status: code } = await fetch(`${site.broker.httpUrl}${path}`, { method: 'POST', headers, body: '{}' });
  expect(code).toBe(404);
  expect([...(await scrape()).samples.keys()].filter((name) => name.includes('Nothing'))).toEqual([]);
});

test('a stream that its client ends is counted as cancelled', async () => {
  const ended = 'millrace_rpcs_total{method="Subscribe",code="CANCELLED"}';
  const before = (await scrape()).samples.get(ended) ?? 0;
  const member = new Member(site.broker.grpcAddress, { group: 'leaving', topics: ['orders'] });
  await member.untilPartitions(0, 1);
  member.leave();
  await until(ended, before + 1);
});

test('the session that keeps the oldest snapshot is named with its age', { timeout: 90_000 }, async () => {
  // A transaction of another database of this server may be older for a moment.
  await waitFor('the session with its age', 60_000, 100, async () => {
    const held = [...(await scrape()).samples].find(([name]) => name.startsWith('millrace_database_held_seconds{'));
    return held?.[0].includes('application="a \\"holder\\""') === true && held[1] > 0;
  });
});

test('/healthz and /readyz answer 200 with their state, and an unknown path answers 404', async () => {
  const port = String(site.broker.httpPort);
  expect(await answerOf(port, '/healthz')).toEqual([200, 'ok']);
  expect(await answerOf(port, '/readyz')).toEqual([200, 'ready']);
  expect(await answerOf(port, '/nothing')).toEqual([404, expect.stringContaining('/nothing')]);
});
