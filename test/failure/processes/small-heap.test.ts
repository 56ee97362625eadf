import { Client as Postgres } from 'pg';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { call, connect } from '../../../bench/client/service-client.ts';
import { AckAction, AckStatus, BrokerService } from '../../../gen/millrace/v1/broker_pb.js';
import { GroupService } from '../../../gen/millrace/v1/group_pb.js';
import { OffsetStatus, type FetchOffsetsResponse } from '../../../gen/millrace/v1/offset_pb.js';
import { SubscriptionService } from '../../../gen/millrace/v1/subscription_pb.js';
import { TopicService } from '../../../gen/millrace/v1/topic_pb.js';
import { Brokers } from '../brokers.ts';

/**
 * A broker with a small heap is filled, killed, and started again with the same heap. The next one
 * can load all that it accepted.
 */

const start = { heapMib: 96, timeoutMs: 30_000 };

let brokers: Brokers;
let postgres: Postgres;
beforeEach(async () => {
  brokers = await Brokers.open();
  postgres = new Postgres({ connectionString: brokers.database.url });
  await postgres.connect();
});
afterEach(async () => {
  await postgres.end();
  await brokers.close();
});

type Broker = Awaited<ReturnType<Brokers['active']>>;

async function withClient<T>(broker: Broker, work: (client: ReturnType<typeof connect>) => Promise<T>): Promise<T> {
  const client = connect(broker.grpcAddress);
  try {
    return await work(client);
  } finally {
    client.close();
  }
}

async function restarted(broker: Broker): Promise<Broker> {
  broker.kill('SIGKILL');
  await broker.exited;
  return brokers.active(start);
}

async function subscribe(broker: Broker, topic: string, partitions: number, groups: readonly string[]): Promise<void> {
  await withClient(broker, async (client) => {
    await call(client, TopicService.method.createTopic, { topic: { name: topic, partitions } });
    for (const group of groups) {
      const earliest = { position: { case: 'earliest' as const, value: {} } };
      await call(client, SubscriptionService.method.createSubscription, { group, topic, start: earliest });
    }
  });
}

const wide = 'wide';
const partitions = 1_000;

/** The notes of all partitions of `wide`, each of 4 KiB. */
async function note(broker: Broker, group: string): Promise<void> {
  const metadata = 'new'.padEnd(4_000, '.');
  const offsets = Array.from({ length: partitions }, (_, partition) => ({
    topic: wide,
    partition,
    offset: 0n,
    metadata,
  }));
  await withClient(broker, async (client) => {
    for (let first = 0; first < partitions; first += 500) {
      const some = offsets.slice(first, first + 500);
      const { results } = await call(client, GroupService.method.commitOffsets, { group, offsets: some });
      expect(results.every(({ status }) => status === OffsetStatus.OK || status === OffsetStatus.NOT_ADVANCED)).toBe(
        true,
      );
    }
  });
}

async function notesOf(broker: Broker, group: string): Promise<Set<string>> {
  const found = new Set<string>();
  await withClient(broker, async (client) => {
    for (let pageToken: string | null = ''; pageToken !== null;) {
      const page: FetchOffsetsResponse = await call(client, GroupService.method.fetchOffsets, { group, pageToken });
      for (const { metadata } of page.offsets) found.add(metadata.replace(/\.+$/, ''));
      pageToken = page.nextPageToken === '' ? null : page.nextPageToken;
    }
  });
  return found;
}

test(
  'notes that fill an eighth of the heap, and rounds with older ones that are larger than the heap, are loaded by a broker of the same heap',
  { timeout: 300_000 },
  async () => {
    const groups = ['a', 'b', 'c'];
    const first = await brokers.active(start);
    await subscribe(first, wide, partitions, groups);
    for (const group of groups) await note(first, group);
    first.kill('SIGKILL');
    await first.exited;
    // Rows as brokers write them, of 1 MiB, with older notes of the same cursors.
    await postgres.query(`
    INSERT INTO millrace.ack_log_2 (subscription_ids, partitions, lanes, committed_offsets, acked_counts, acked,
           attempt_counts, attempts, metadata_at, metadata_seqs, metadata)
    SELECT array_agg(s.id), array_agg(n % 1000), array_agg(0), array_agg(0), array_agg(0), '{}', array_agg(0), '{}',
           array_agg((n - 1) % 250), array_agg(0), array_agg(rpad(n::text, 4000, md5(n::text)))
      FROM generate_series(1, 27000) AS n, millrace.subscriptions AS s
     WHERE s.id = (SELECT min(id) + (n / 250) % 3 FROM millrace.subscriptions)
     GROUP BY (n - 1) / 250`);
    const second = await brokers.active(start);
    for (const group of groups) expect(await notesOf(second, group)).toEqual(new Set(['new']));
    const third = await restarted(second);
    for (const group of groups) expect(await notesOf(third, group)).toEqual(new Set(['new']));
    expect(third.output()).not.toMatch(/bugId/);
  },
);

const records = 10_000;

async function publish(broker: Broker, topic: string): Promise<void> {
  await withClient(broker, (client) =>
    call(client, BrokerService.method.publish, {
      topic,
      records: Array.from({ length: records }, () => ({ value: Buffer.from('x') })),
    }),
  );
}

/** Pulls all records, and NACKs those that `isNacked` names. @returns their attempts. */
async function pullAndNack(broker: Broker, group: string, topic: string, isNacked: (offset: bigint) => boolean) {
  return withClient(broker, async (client) => {
    const { batches, memberId, generation } = await call(client, BrokerService.method.pull, {
      group,
      topics: [topic],
      maxRecords: records,
      wait: { seconds: 20n },
    });
    const got = batches.flatMap((batch) => batch.records);
    const offsets = got.map(({ offset }) => offset!).filter(isNacked);
    const acks = [{ topic, partition: 0, lane: 0, action: AckAction.NACK, offsets, delay: {} }];
    const { results } = await call(client, BrokerService.method.ack, {
      group,
      memberId,
      generation: generation!,
      acks,
    });
    expect(results.map(({ status }) => AckStatus[status])).toEqual(['OK']);
    // A member that the next broker still knows would keep the partition until its session ends.
    await call(client, GroupService.method.leaveGroup, { group, memberId });
    return { attempts: new Set(got.map(({ attempt }) => attempt)), count: got.length };
  });
}

test(
  'attempts of 10,000 records in each of many groups, NACKed all or every second one, cost a row a few numbers and are loaded again',
  { timeout: 300_000 },
  async () => {
    const topic = 'narrow';
    const groups = Array.from({ length: 20 }, (_, n) => `group-${n}`);
    const first = await brokers.active(start);
    await subscribe(first, topic, 1, groups);
    await publish(first, topic);
    const isNacked = (at: number) => (offset: bigint) => at % 2 === 0 || offset % 2n === 0n;
    for (const [at, group] of groups.entries()) {
      expect(await pullAndNack(first, group, topic, isNacked(at))).toEqual({ attempts: new Set([1]), count: records });
    }
    const second = await restarted(first);
    const { rows } = await postgres.query<{ numbers: number }>(`
    SELECT max(numbers) AS numbers FROM (
      SELECT cardinality(attempts) AS numbers FROM millrace.cursors UNION ALL
      SELECT unnest(attempt_counts) FROM millrace.ack_log_0 UNION ALL SELECT unnest(attempt_counts) FROM millrace.ack_log_1
       UNION ALL SELECT unnest(attempt_counts) FROM millrace.ack_log_2) AS stored`);
    // 1,000 runs of one record.
    expect(rows[0]!.numbers).toBe(2 * 1_000);
    const [{ attempts }, other] = [
      await pullAndNack(second, groups[0]!, topic, () => true),
      await pullAndNack(second, groups[1]!, topic, () => true),
    ];
    expect([attempts, other.attempts]).toEqual([new Set([2]), new Set([1, 2])]);
    expect(second.output()).not.toMatch(/bugId/);
  },
);

test(
  'metadata of 900 members, 500,000 runs of acks and 50,000 runs of attempts are loaded by a broker with a heap of 96 MiB',
  { timeout: 300_000 },
  async () => {
    const first = await brokers.active(start);
    await subscribe(first, wide, partitions, ['a', 'b']);
    first.kill('SIGKILL');
    await first.exited;
    // 56 MiB of metadata of one group, 500,000 runs of acks, and 50,000 runs of attempts.
    await postgres.query(`
    INSERT INTO millrace.group_members (group_id, member_id, client_id, host, kind, session_timeout_ms, rebalance_timeout_ms,
           assignor, join_seq, topic_ids, metadata)
    SELECT (SELECT min(id) FROM millrace.consumer_groups), 'm-' || n, 'c', 'h', 'PULL', 1800000, 60000, 'sticky', n, '{1}',
           convert_to(rpad(n::text, 65536, md5(n::text)), 'UTF8') FROM generate_series(1, 900) AS n;
    UPDATE millrace.cursors SET acked = ARRAY(SELECT 2 * (n / 2) + 5 FROM generate_series(0, 1999) AS n ORDER BY n)
     WHERE partition < 250;
    UPDATE millrace.cursors SET attempts = ARRAY(
        SELECT value FROM generate_series(0, 999) AS n, LATERAL (VALUES (1, 10000 + 3 * n), (2, -2), (3, 1 + n % 2)) AS run (nth, value)
         ORDER BY n, nth) WHERE partition >= 975`);
    const second = await brokers.active(start);
    const members = await withClient(second, (client) => call(client, GroupService.method.getGroup, { group: 'a' }));
    expect(members.group?.memberCount).toBe(900);
    expect(await notesOf(second, 'b')).toEqual(new Set(['']));
    const third = await restarted(second);
    expect(await notesOf(third, 'b')).toEqual(new Set(['']));
    expect(third.output()).not.toMatch(/bugId/);
  },
);
