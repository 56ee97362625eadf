import { afterAll, beforeAll, expect, test } from 'vitest';
import { Fault } from '../../../src/errors/fault.ts';
import { detachesAtOnce } from '../../../src/lifecycle/store.ts';
import type { TopicRow } from '../../../src/log/store.ts';
import { nextStep } from '../../../src/retention/drop-step.ts';
import type { Storage } from '../../../src/storage/storage.ts';
import { batch, readAll, transaction, values } from '../../log/records.ts';
import { World } from '../../simulation/world.ts';
import { dropAll, noPressure, takeStep } from '../../support/retention/drop-all.ts';
import { LogSite } from '../log/log-site.ts';
import { Actor, Scheduler } from './actors.ts';

/**
 * A dropper, a roller, a creator of topics and a foreign reader over real sessions, whose steps
 * interleave as a seed says. INTERLEAVINGS=200 runs as many seeds.
 */

const seeds = Number(process.env['INTERLEAVINGS'] ?? 12);
const stepsOfSeed = 40;

let site: LogSite;

beforeAll(async () => {
  site = await LogSite.open();
});

afterAll(() => site.close());

/** A broker of another name, which the fence lets write too. */
async function another(broker: string): Promise<Storage> {
  await site.client.query(
    `INSERT INTO millrace.broker_fence (broker, slot, epoch)
     SELECT DISTINCT $1, slot, epoch FROM millrace.broker_fence ON CONFLICT DO NOTHING`,
    [broker],
  );
  return site.storage(broker, 1);
}

/** What a broker tries again later is no failure: a lock that was not free in time. */
async function unlessBusy(step: () => Promise<unknown>): Promise<void> {
  try {
    await step();
  } catch (error) {
    if (!(error instanceof Fault) || error.kind !== 'DATABASE_UNAVAILABLE') throw error;
    if ((error.cause as { code?: string }).code !== '55P03') throw error;
  }
}

const wide = { timeout: 60_000 + seeds * 20_000 };

test('no order of detach, drop, roll, create and foreign reads blocks an append or leaves a table', wide, async () => {
  const owner = await site.own('owner', 1);
  const [dropper, roller, creator] = [await another('dropper'), await another('roller'), await another('creator')];
  const monitor = await site.session();
  for (let seed = 1; seed <= seeds; seed++) {
    const world = new World(seed);
    const detaches = new Set<Promise<void>>();
    const topic = await site.topic(owner, 1);
    const reader = await readerOf(topic);
    const actors = [
      new Actor('the dropper', 'millrace/dropper/', () => dropStep(dropper, topic, world, detaches)),
      new Actor('the roller', 'millrace/roller/', () => rollStep(roller, topic, world)),
      new Actor('the creator', 'millrace/creator/', () => createStep(creator, world)),
      new Actor('the reader', 'reader', () => reader.step(world)),
    ];
    const scheduler = new Scheduler(world, monitor, actors);
    let appended = 0;
    await scheduler.run(stepsOfSeed, () => append(owner, topic, `${appended++}`));
    await reader.end();
    await scheduler.ended();
    await Promise.all(detaches);
    await dropAll(dropper.retention);
    expect(await dropper.retention.pendingDrops(), `seed ${seed}`).toEqual([]);
    await expectWhole(owner, topic, appended);
  }
});

/** Appends a record. It never waits for a table, whatever other sessions wait for. */
async function append(storage: Storage, { id }: TopicRow, text: string): Promise<void> {
  for (;;) {
    const topic = (await storage.topics.loadTopics()).find((one) => one.id === id)!;
    const done = storage.commits.append(0, transaction([batch(topic, 0, values(text))]));
    let isDone = false;
    const settled = done.then(
      () => 'appended',
      () => 'moved',
    );
    void settled.then(() => (isDone = true));
    while (!isDone) {
      const waiting = await site.number(
        `SELECT count(*) AS n FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
          WHERE NOT l.granted AND l.locktype = 'relation' AND starts_with(a.application_name, 'millrace/owner/append')`,
      );
      expect(waiting, 'an append waits for a table').toBe(0);
    }
    // The segment moved between the look and the append.
    if ((await settled) === 'appended') return;
  }
}

async function dropStep(
  { retention }: Storage,
  topic: TopicRow,
  world: World,
  detaches: Set<Promise<void>>,
): Promise<void> {
  const pending = (await retention.pendingDrops()).filter((drop) => drop.topicId === topic.id || world.chance(0.5));
  if (pending.length === 0 || world.chance(0.3)) {
    const facts = (await retention.facts(topic.id))!;
    const drop = facts.sealed.slice(0, 1).map(({ segment }) => ({ segment, reason: 'COMPLETED' as const }));
    await unlessBusy(() => retention.plan({ facts, drop, complete: [] }));
    return;
  }
  const drop = world.pick(pending)!;
  const table = await retention.table(drop);
  const { detachingPid } = table;
  if (detachingPid !== null && world.chance(0.5)) await retention.cancelDetach(detachingPid);
  else if (nextStep(table, noPressure).type !== 'DETACH') await takeStep(retention, drop);
  else if (detaches.size < detachesAtOnce) {
    // It waits for the reader on a session of its own, and the dropper goes on.
    const detach = retention.detach(drop).finally(() => detaches.delete(detach));
    detaches.add(detach);
  }
}

async function rollStep({ log, topics }: Storage, { id }: TopicRow, world: World): Promise<void> {
  const { segment } = (await topics.loadTopics()).find((one) => one.id === id)!;
  await unlessBusy(() => (world.chance(0.5) ? log.makeSegment(id, segment) : log.rollSegment(id, segment, 1)));
}

async function createStep({ topics }: Storage, world: World): Promise<void> {
  const others = (await topics.loadTopics()).filter(({ name }) => name.startsWith('other-'));
  const other = others.at(-1);
  if (other !== undefined && world.chance(0.5)) {
    await topics.deleteTopic(other.id);
    return;
  }
  const name = `other-${world.whole(1, 1e9)}`;
  const retention = {
    afterCompletionMs: null,
    excusedKeepMs: 1,
    maxAgeMs: null,
    maxBytes: null,
    keepUnsubscribedMs: 1,
  };
  await topics.createTopic({ name, partitions: 1, idempotencyWindowMs: 1_000, description: '', retention });
}

/** A session that reads the parent, a leaf or all messages, and stays in its transaction. */
async function readerOf({ id }: TopicRow) {
  const session = await site.session();
  await session.query("SET application_name = 'reader'");
  await session.query("SET lock_timeout = '100ms'");
  let reads = false;
  const end = async (): Promise<void> => {
    if (reads) await session.query('COMMIT');
    reads = false;
  };
  return {
    end,
    async step(world: World): Promise<void> {
      if (reads) {
        await end();
        return;
      }
      reads = true;
      const parent = `millrace.record_batches_${id}`;
      const { rows } = await session.query<{ name: string }>(
        `SELECT format('millrace.%I', relname) AS name FROM pg_class WHERE relname ~ $1 ORDER BY relname`,
        [`^record_batches_${id}_\\d+$`],
      );
      const targets = ['millrace.topics', parent, 'millrace.record_batches', ...rows.map(({ name }) => name)];
      await session.query('BEGIN');
      const read = session.query(`SELECT count(*) FROM ${world.pick(targets)!}`);
      // The table went, or is being dropped: the transaction stays as it is, and ends later.
      await read.catch(() => undefined);
    },
  };
}

/** The log is dense from its start to its end, and the tables are those of its segments. */
async function expectWhole(storage: Storage, topic: TopicRow, appended: number): Promise<void> {
  const [end] = await storage.log.ends(topic.id);
  expect(end!.endOffset).toBe(appended);
  const found = await readAll(storage, topic, 0, end!.startOffset);
  expect(found.map(({ offset }) => offset)).toEqual(
    Array.from({ length: appended - end!.startOffset }, (_, n) => end!.startOffset + n),
  );
  const { rows } = await site.client.query<{ tables: string[]; segments: string[] }>(
    `SELECT ARRAY(SELECT relname::text FROM pg_class WHERE relname ~ $1 AND relkind = 'r' ORDER BY 1) AS tables,
            ARRAY(SELECT format('record_batches_%s_%s', topic_id, segment) FROM millrace.segments WHERE topic_id = $2 ORDER BY 1) AS segments`,
    [`^record_batches_${topic.id}_\\d+$`, topic.id],
  );
  expect(rows[0]!.tables).toEqual(rows[0]!.segments);
}
