import { Client as Postgres } from 'pg';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { call, connect } from '../../../bench/client/service-client.ts';
import type { BrokerProcess } from '../../../bench/support/broker-process.ts';
import { randomValues } from '../../../bench/support/random.ts';
import { nodeFlagsOfSegments } from '../../../bench/support/small-segments.ts';
import { waitFor } from '../../../bench/support/timing.ts';
import { BrokerService } from '../../../gen/millrace/v1/broker_pb.js';
import { MessageService } from '../../../gen/millrace/v1/message_pb.js';
import { KeptReason, TopicService } from '../../../gen/millrace/v1/topic_pb.js';
import { Brokers } from '../brokers.ts';

/**
 * A broker is killed at each step of a drop, and the next one goes on. Each step has a topic of two
 * sealed segments, whose records become old before that broker starts.
 */

interface Step {
  readonly halt: Halt;
  /** Whether the broker is at the step. */
  readonly isThere: (topic: Topic) => Promise<boolean>;
  /** What becomes of the statement of the broker that has died. */
  readonly statement: 'goes on' | 'is ended';
}

/** What makes a broker halt at a step. */
interface Halt {
  readonly begin: (topic: Topic) => Promise<void>;
  readonly end: () => Promise<void>;
  /** Whether the next broker meets it too. */
  readonly isKept: boolean;
}

interface Topic {
  readonly id: number;
  readonly name: string;
  readonly firstKept: number;
  readonly end: number;
}

const halting = 7_512;
const segmentBytes = 262_144;
/** Much longer than all steps take, so that nothing grows old by itself. */
const keptSeconds = 86_400;
const recordsAtOnce = 4;

/** A trigger that waits for a lock of the test. */
const trigger = (kind: string, when: string, on = ''): Halt => ({
  begin: async () => {
    await halter.query(`CREATE ${kind} halts ${when}`);
    await halter.query('SELECT pg_advisory_lock($1)', [halting]);
  },
  end: async () => {
    await halter.query('SELECT pg_advisory_unlock($1)', [halting]);
    await halter.query(`DROP ${kind.replace('CONSTRAINT ', '')} halts ${on}`);
  },
  isKept: false,
});

const ofAudit = (kind: string, when: string): Halt => {
  const on = 'ON millrace.segment_drops';
  return trigger(kind, when.replace('ON', on), on);
};

/** A plan inserts a row for each segment. */
const atInsert = ofAudit('TRIGGER', 'BEFORE INSERT ON FOR EACH STATEMENT EXECUTE FUNCTION public.halt()');
const atCommit = ofAudit(
  'CONSTRAINT TRIGGER',
  'AFTER INSERT ON INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.halt()',
);
/** An update notes that a table is gone. */
const atUpdate = ofAudit('TRIGGER', 'BEFORE UPDATE ON FOR EACH STATEMENT EXECUTE FUNCTION public.halt()');
const atDrop = trigger(
  'EVENT TRIGGER',
  "ON ddl_command_start WHEN TAG IN ('DROP TABLE') EXECUTE FUNCTION public.halt_ddl()",
);

/** A reader keeps the table of the topic, or also those of its segments. */
const reader = (only: 'ONLY' | ''): Halt => ({
  begin: async ({ id }) => {
    await halter.query('BEGIN');
    await halter.query(`LOCK TABLE ${only} millrace.record_batches_${id} IN ACCESS SHARE MODE`);
  },
  end: async () => {
    await halter.query('COMMIT');
  },
  isKept: true,
});

const isHalted = async (): Promise<boolean> =>
  (await count("SELECT count(*) AS n FROM pg_locks WHERE locktype = 'advisory' AND objid = $1 AND NOT granted", [
    halting,
  ])) > 0;
const isDetaching = async (): Promise<boolean> =>
  (await count(
    `SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database()
      AND query LIKE '%DETACH%CONCURRENTLY' AND wait_event_type = 'Lock'`,
  )) > 0;
const isPlanned = async ({ id }: Topic): Promise<boolean> => (await rowsOf(id)).length === 2;

const steps: Readonly<Record<string, Step>> = {
  'before the plan is in the audit': { halt: atInsert, isThere: isHalted, statement: 'goes on' },
  'in the commit of the plan, which succeeds': { halt: atCommit, isThere: isHalted, statement: 'goes on' },
  'in the commit of the plan, which fails': { halt: atCommit, isThere: isHalted, statement: 'is ended' },
  'between the plan and the detach': { halt: reader(''), isThere: isPlanned, statement: 'is ended' },
  'in the detach, which goes on': { halt: reader('ONLY'), isThere: isDetaching, statement: 'goes on' },
  'in the detach, which stays pending': { halt: reader('ONLY'), isThere: isDetaching, statement: 'is ended' },
  'in the drop of the table, which succeeds': { halt: atDrop, isThere: isHalted, statement: 'goes on' },
  'in the drop of the table, which fails': { halt: atDrop, isThere: isHalted, statement: 'is ended' },
  'before the audit says that the table is gone': { halt: atUpdate, isThere: isHalted, statement: 'is ended' },
};

let brokers: Brokers;
let postgres: Postgres;
/** The session that makes brokers halt. */
let halter: Postgres;
const topics = new Map<string, Topic>();

const count = async (text: string, values: unknown[] = []): Promise<number> =>
  Number((await postgres.query<{ n: string }>(text, values)).rows[0]!.n);
const rowsOf = async (topicId: number) => {
  const { rows } = await postgres.query<{ segment: number; reason: string; isDone: boolean }>(
    'SELECT segment, reason, done_at IS NOT NULL AS "isDone" FROM millrace.segment_drops WHERE topic_id = $1 ORDER BY segment',
    [topicId],
  );
  return rows;
};
const tablesOf = async (topicId: number): Promise<string[]> => {
  const { rows } = await postgres.query<{ name: string }>(
    "SELECT relname::text AS name FROM pg_class WHERE relname ~ $1 AND relkind IN ('r', 'p') ORDER BY 1",
    [`^record_batches_${topicId}(_[0-9]+)?$`],
  );
  return rows.map((row) => row.name);
};
const running: BrokerProcess[] = [];
const active = async (): Promise<BrokerProcess> => {
  const broker = await brokers.active({ nodeFlags: nodeFlagsOfSegments(segmentBytes) });
  running.push(broker);
  return broker;
};

async function died(broker: BrokerProcess): Promise<void> {
  broker.kill('SIGKILL');
  await broker.exited;
}

/** A step that failed leaves nothing to the next one. */
afterEach(async () => {
  for (const broker of running.splice(0)) await died(broker);
  await endSessions();
  await halter.query('ROLLBACK');
  await halter.query('SELECT pg_advisory_unlock_all()');
  await halter.query('DROP TRIGGER IF EXISTS halts ON millrace.segment_drops');
  await halter.query('DROP EVENT TRIGGER IF EXISTS halts');
});

beforeAll(async () => {
  brokers = await Brokers.open();
  postgres = new Postgres({ connectionString: brokers.database.url });
  halter = new Postgres({ connectionString: brokers.database.url });
  await Promise.all([postgres.connect(), halter.connect()]);
  const broker = await active();
  for (const step of Object.keys(steps)) topics.set(step, await filled(broker, `topic-${topics.size + 1}`));
  await died(broker);
  for (const [name, type] of [
    ['halt', 'trigger'],
    ['halt_ddl', 'event_trigger'],
  ] as const) {
    // The broker gives its statements little time for locks.
    await halter.query(`CREATE FUNCTION public.${name}() RETURNS ${type} LANGUAGE plpgsql SET lock_timeout = 0 AS $$
      BEGIN PERFORM pg_advisory_xact_lock_shared(${halting}); ${type === 'trigger' ? 'RETURN NULL;' : ''} END $$`);
  }
}, 120_000);

afterAll(async () => {
  await Promise.all([postgres.end(), halter.end()]);
  await brokers.close();
});

/** A topic with two sealed segments, which goes without subscriptions once its records are old. */
async function filled(broker: BrokerProcess, name: string): Promise<Topic> {
  const client = connect(broker.grpcAddress);
  const zeroSubscriptions = { policy: { case: 'keepFor', value: { seconds: BigInt(keptSeconds), nanos: 0 } } } as const;
  await call(client, TopicService.method.createTopic, { topic: { name, partitions: 1, zeroSubscriptions } });
  const id = await count('SELECT id AS n FROM millrace.topics WHERE name = $1', [name]);
  let end = 0;
  while ((await count('SELECT segment AS n FROM millrace.topics WHERE id = $1', [id])) < 3)
    end = (await publish(broker, name)) + 1;
  client.close();
  const firstKept = await count(
    'SELECT base_offset AS n FROM millrace.segment_bases WHERE topic_id = $1 AND segment = 3',
    [id],
  );
  return { id, name, firstKept, end };
}

/** @returns the offset of the last record. */
async function publish(broker: BrokerProcess, topic: string): Promise<number> {
  const client = connect(broker.grpcAddress);
  const records = randomValues(1, recordsAtOnce, 12_288).map((value) => ({ value }));
  const { results } = await call(client, BrokerService.method.publish, { topic, partition: 0, records });
  client.close();
  return Number(results.at(-1)!.offset);
}

/** The offsets that a reader from the beginning gets. */
async function readable(broker: BrokerProcess, topic: string): Promise<number[]> {
  const client = connect(broker.grpcAddress);
  const offsets: number[] = [];
  let from: { readonly case: 'offset'; readonly value: bigint } | undefined;
  for (let isAtEnd = false; !isAtEnd;) {
    const request = { topic, partition: 0, ...(from !== undefined && { from }) };
    const read = await call(client, MessageService.method.readMessages, request);
    for (const { records } of read.batches) offsets.push(...records.map(({ offset }) => Number(offset)));
    from = { case: 'offset', value: read.nextOffset! };
    isAtEnd = read.nextOffset === read.highWatermark;
  }
  client.close();
  return offsets;
}

/** What a reader from the beginning gets, and what the topic says of itself. */
async function expectRest(broker: BrokerProcess, { id, name, firstKept, end }: Topic): Promise<void> {
  expect(await readable(broker, name)).toEqual(Array.from({ length: end - firstKept }, (_, n) => firstKept + n));
  expect(await publish(broker, name)).toBe(end + recordsAtOnce - 1);
  expect(await tablesOf(id)).toEqual([`record_batches_${id}`, `record_batches_${id}_3`]);
  const client = connect(broker.grpcAddress);
  const { keptBy, drops } = await call(client, TopicService.method.getTopicStorage, { name });
  client.close();
  expect(keptBy.map(({ reason }) => KeptReason[reason])).toEqual(['CURRENT']);
  const ranges = drops.flatMap((drop) => drop.ranges.map(({ first, last }) => [Number(first), Number(last)] as const));
  expect([ranges[1]![0], ranges[1]![1] + 1, ranges[0]![1] + 1]).toEqual([0, ranges[0]![0], firstKept]);
}

test.each(Object.keys(steps))(
  'a drop whose broker is killed %s is ended by the next one, once',
  async (name) => {
    const { halt, isThere, statement } = steps[name]!;
    const topic = topics.get(name)!;
    // The row of a segment has the time of the last append before it.
    await postgres.query(
      "UPDATE millrace.segment_bases SET last_appended_at = last_appended_at - $2 * interval '2 s' WHERE topic_id = $1",
      [topic.id, keptSeconds],
    );
    await halt.begin(topic);
    const first = await active();
    await waitFor('the step', 60_000, 5, () => isThere(topic));
    await died(first);
    if (statement === 'is ended') await endSessions();
    if (!halt.isKept) await halt.end();
    const second = await active();
    if (halt.isKept) await halt.end();
    await waitFor('the end of both drops', 120_000, 20, async () => {
      const rows = await rowsOf(topic.id);
      return rows.length === 2 && rows.every(({ isDone }) => isDone);
    });
    const done = { reason: 'ZERO_SUBSCRIPTIONS', isDone: true };
    expect(await rowsOf(topic.id)).toEqual([
      { segment: 1, ...done },
      { segment: 2, ...done },
    ]);
    await expectRest(second, topic);
    await died(second);
  },
  300_000,
);

async function endSessions(): Promise<void> {
  await postgres.query(
    `SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
      WHERE application_name LIKE 'millrace/%' AND datname = current_database()`,
  );
}
