import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { waitFor } from '../../../bench/support/timing.ts';
import { BrokerService } from '../../../gen/millrace/v1/broker_pb.js';
import { Member } from '../member.ts';
import { Site } from '../site.ts';
import { answerOf } from '../start.ts';

/** /metrics/detail of a running broker, and the metrics that the rules and the dashboards name. */

const root = new URL('../../../', import.meta.url).pathname;
let site: Site;
let member: Member;

beforeAll(async () => {
  site = await Site.open({ flags: ['--database-bytes-max', '100000000000'] });
  await site.createTopic('orders', 2);
  await site.createTopic('other', 1);
  await site.call(BrokerService.method.publish, {
    topic: 'orders',
    records: Array.from({ length: 10 }, () => ({ value: Buffer.alloc(100) })),
  });
  await site.refusal(BrokerService.method.publish, { topic: 'nowhere', records: [{}] });
  member = new Member(site.broker.grpcAddress, { group: 'billing', topics: ['orders'] });
  await member.untilReceived(10);
});

afterAll(async () => {
  member.leave();
  await site.close();
});

async function textOf(path: string): Promise<string> {
  const response = await fetch(`${site.broker.httpUrl}${path}`);
  expect(response.status).toBe(200);
  expect(response.headers.get('content-type')).toMatch(/^text\/plain; version=0\.0\.4/);
  return response.text();
}

async function sample(path: string, series: string): Promise<number> {
  const line = (await textOf(path)).split('\n').find((each) => each.startsWith(`${series} `));
  return line === undefined ? NaN : Number(line.slice(series.length + 1));
}

const ofBilling = (name: string): string => `millrace_group_${name}{group="billing",topic="orders"}`;

test('the series of a group follow its deliveries, acks and resets', async () => {
  const path = '/metrics/detail?family=group';
  expect(await sample(path, ofBilling('lag_records'))).toBe(10);
  expect(await sample(path, ofBilling('in_flight_records'))).toBe(10);
  expect(await sample(path, ofBilling('delivered_records_total'))).toBe(10);
  expect(await sample(path, ofBilling('acked_records_total'))).toBe(0);
  expect(await sample(path, ofBilling('members'))).toBe(1);
  expect(await sample(path, ofBilling('oldest_unacked_seconds'))).toBeGreaterThan(0);
  const inFirst = member.of(0).length;
  await member.ack(0, { upToOffset: BigInt(inFirst - 1) });
  expect(await sample(path, ofBilling('lag_records'))).toBe(10 - inFirst);
  expect(await sample(path, ofBilling('in_flight_records'))).toBe(10 - inFirst);
  expect(await sample(path, ofBilling('acked_records_total'))).toBe(inFirst);
});

test('the series of a topic have its records, its bytes and its segments', async () => {
  const path = '/metrics/detail?family=topic&match=ord*';
  expect(await sample(path, 'millrace_topic_appended_records_total{topic="orders"}')).toBe(10);
  expect(await sample(path, 'millrace_topic_segments{topic="orders"}')).toBe(1);
  expect(await sample(path, 'millrace_topic_stored_bytes{topic="orders"}')).toBeGreaterThanOrEqual(1_000);
  expect(await sample(path, 'millrace_topic_watermark_lag_records{topic="orders"}')).toBe(10);
  const text = await textOf(path);
  expect(text).not.toContain('topic="other"');
  expect(text).not.toContain('millrace_group_');
  expect(text).toContain('millrace_detail_left_out{family="topic"} 0\n');
});

test('docs/metrics.md lists exactly the series of groups and topics, with their kinds', async () => {
  const docs = readFileSync(join(root, 'docs/metrics.md'), 'utf8').split('## Single groups and topics')[1]!;
  const rows = Array.from(docs.matchAll(/^\| `(millrace_\w+)` \| (\w+) \|/gm), ([, name, kind]) => [name, kind]);
  const types = (await textOf('/metrics/detail')).matchAll(/^# TYPE (\w+) (\w+)$/gm);
  expect(Array.from(types, ([, name, kind]) => [name, kind])).toEqual(rows);
});

test('an unknown family or parameter, or a parameter that is given twice, is refused', async () => {
  const port = String(site.broker.httpPort);
  for (const query of ['family=members', 'family=', 'match=a&match=b', 'name=a', 'match=%ff']) {
    const [status, text] = await answerOf(port, `/metrics/detail?${query}`);
    expect([query, status]).toEqual([query, 400]);
    expect(text).toMatch(/"reason":"(INVALID_FIELD|MALFORMED_REQUEST)"/);
  }
  const response = await fetch(`${site.broker.httpUrl}/metrics/detail`, { method: 'POST' });
  expect(response.status).toBe(405);
});

test('a running broker has every metric that the rules and the dashboards name', { timeout: 90_000 }, async () => {
  await waitFor('the numbers of the database', 60_000, 100, async () =>
    (await textOf('/metrics')).includes('\nmillrace_database_bytes '),
  );
  const text = `${await textOf('/metrics')}\n${await textOf('/metrics/detail')}`;
  const types = new Map(Array.from(text.matchAll(/^# TYPE (\w+) (\w+)$/gm), ([, name, type]) => [name!, type!]));
  const shown = new Set(
    [...types].flatMap(([name, type]) =>
      type === 'histogram' ? ['_bucket', '_sum', '_count'].map((suffix) => `${name}${suffix}`) : [name],
    ),
  );
  const files = globSync(['deploy/grafana/*.json', 'deploy/prometheus/**/*.yml'], { cwd: root });
  expect(files).toHaveLength(7);
  for (const file of files) {
    const names = readFileSync(join(root, file), 'utf8').match(/\b(millrace|nodejs|process)_\w+/g) ?? [];
    expect(
      names.filter((name) => !shown.has(name)),
      file,
    ).toEqual([]);
  }
});
