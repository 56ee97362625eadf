import { Client } from 'pg';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { takeFence } from '../../../src/storage/sessions/fence.ts';
import { appliedVersion, migrate, UnfitDatabase } from '../../../src/storage/migrations/migrate.ts';
import { parseDatabaseAddress } from '../../../src/address/database-address.ts';
import { openStorage, type Storage } from '../../../src/storage/storage.ts';
import { groupSlot, tableSlot, topicSlot } from '../../../src/storage/sessions/writer.ts';
import { systemClock, systemRandom } from '../../../src/time/system.ts';
import { createTestDatabase, type TestDatabase } from '../../support/database.ts';
import { migrations, rollBack } from './roll-back.ts';
import { keepsForever } from '../../support/retention/stored-segments.ts';
import { catalogOf } from './catalog.ts';
import { batch, readAll, roll, transaction, values } from '../../log/records.ts';
import { allCursors, allGroups } from '../../conformance/loads.ts';

const newest = migrations.at(-1)!.version;
const versions = migrations.map(({ version }) => version);

let database: TestDatabase;
let client: Client;
let cleanups: (() => Promise<unknown>)[];

beforeEach(async () => {
  database = await createTestDatabase();
  cleanups = [() => database.drop()];
  client = await session();
});

afterEach(async () => {
  for (const cleanup of cleanups.reverse()) await cleanup();
});

async function session(url = database.url): Promise<Client> {
  const opened = new Client({ connectionString: url });
  await opened.connect();
  cleanups.push(() => opened.end());
  return opened;
}

function storageAt(url = database.url): Storage {
  const log = { info: () => undefined, warn: () => undefined };
  const storage = openStorage({
    address: parseDatabaseAddress(url),
    brokerId: 'one',
    appendSlots: 1,
    clock: systemClock,
    log,
  });
  storage.setEpoch(1);
  cleanups.push(() => storage.close());
  return storage;
}

test('every migration has a number and a name of its own', () => {
  expect(new Set(versions).size).toBe(versions.length);
  expect(new Set(migrations.map(({ name }) => name)).size).toBe(versions.length);
});

describe('an empty database', () => {
  test('an empty database gets the whole schema, and a second migration changes nothing', async () => {
    await migrate(client);
    expect(await appliedVersion(client)).toBe(newest);
    const catalog = await catalogOf(client);
    await migrate(client);
    expect(await catalogOf(client)).toEqual(catalog);
  });

  test('an empty database is migrated once by brokers that start at the same time', async () => {
    const sessions = await Promise.all(Array.from({ length: 5 }, () => session()));
    await Promise.all(sessions.map((one) => migrate(one)));
    const { rows } = await client.query<{ version: number }>(
      'SELECT version FROM millrace.migrations ORDER BY version',
    );
    expect(rows.map(({ version }) => version)).toEqual(versions);
  });

  test('an empty database needs only the right to create a schema, and later not even that', async () => {
    const role = `role_${systemRandom.uuid().replaceAll('-', '')}`;
    await client.query(`CREATE ROLE ${role} LOGIN PASSWORD 'secret'`);
    cleanups.push(() => client.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`));
    await client.query(`GRANT CREATE ON DATABASE ${database.name} TO ${role}`);
    const url = new URL(database.url);
    url.username = role;
    url.password = 'secret';
    const storage = storageAt(url.href);
    await storage.check(false);
    await storage.migrate();
    await client.query(`REVOKE CREATE ON DATABASE ${database.name} FROM ${role}`);
    await storage.check(false);
    await storage.migrate();
    expect(await appliedVersion(client)).toBe(newest);
    await storage.close();
  });
});

describe('a database of an older version', () => {
  test.each(versions.slice(0, -1))('a database of version %i keeps its data through the migration', async (version) => {
    // The storage writes only to the newest version, so the test fills that and rolls it back.
    await migrate(client);
    const storage = storageAt();
    await client.query("INSERT INTO millrace.broker_lease VALUES (true, 'one', 1, now())");
    await takeFence(client, 'one', 1, [0, topicSlot, tableSlot]);
    const filled = version >= 2 ? await fill(storage) : null;
    await rollBack(client, version);
    expect(await appliedVersion(client)).toBe(version);
    await migrate(client);
    expect(await appliedVersion(client)).toBe(newest);
    const { rows } = await client.query('SELECT broker, epoch FROM millrace.broker_lease');
    expect(rows).toEqual([{ broker: 'one', epoch: '1' }]);
    if (filled === null) return;
    const reader = storageAt();
    expect(await reader.topics.loadTopics()).toEqual([{ ...filled.topic, segmentAgeMs: expect.any(Number) as number }]);
    expect((await readAll(reader, filled.topic, 1)).map(({ parts }) => parts[2])).toEqual(['a', 'b']);
    expect((await reader.commits.findKeys(filled.topic.id, 60_000, ['k'])).get('k')).toEqual({
      partition: 1,
      offset: 1,
    });
    await expect(filled.append('c')).rejects.toMatchObject({ kind: 'FENCED' });
    await takeFence(client, 'one', 1, [0, topicSlot, tableSlot]);
    await filled.append('c');
    expect((await reader.log.ends(filled.topic.id)).map(({ endOffset }) => endOffset)).toEqual([0, 3]);
  });
});

/** Makes a topic with two records in its partition 1, the second with a key. */
async function fill(storage: Storage) {
  const wanted = {
    name: 'orders',
    partitions: 2,
    idempotencyWindowMs: 60_000,
    description: 'all of them',
    retention: keepsForever,
  };
  const topic = (await storage.topics.createTopic(wanted))!;
  const append = (...texts: string[]) => storage.commits.append(0, transaction([batch(topic, 1, values(...texts))]));
  await append('a');
  const keys = [{ topicId: topic.id, key: 'k', batch: 0, index: 0 }];
  await storage.commits.append(0, transaction([batch(topic, 1, values('b'))], keys));
  return { topic, append };
}

/**
 * Makes two groups, one with a member and cursors at 10, and ack rounds in the form of version 3.
 */
async function fillGroups(): Promise<void> {
  await client.query(`
    INSERT INTO millrace.topics (name, semantics, idempotency_window_ms, description, segment)
      VALUES ('orders', 'PUB_SUB', 1000, '', 1);
    INSERT INTO millrace.consumer_groups (name) VALUES ('attended'), ('empty');
    INSERT INTO millrace.group_members VALUES (1, 'm', 'c', 'h', 'STREAM', NULL, 1, 'range', '{1}', 1);
    INSERT INTO millrace.subscriptions (group_id, topic_id) VALUES (1, 1);
    INSERT INTO millrace.cursors (subscription_id, partition, lane, committed_offset) VALUES (1, 0, 0, 10), (1, 1, 0, 10);
    INSERT INTO millrace.ack_log_1 VALUES ('{1,1}', '{0,1}', '{0,0}', '{12,11}', '{2,0}', '{14,15}', '{0,2}', '{11,3}')`);
}

const ackLogRows = async (): Promise<number> => {
  const { rows } = await client.query<{ n: number }>('SELECT count(*)::int AS n FROM millrace.ack_log_1');
  return rows[0]!.n;
};

describe('the offsets of groups', () => {
  test('offsets of version 3 survive the migration, with the rest of the ack log', async () => {
    await migrate(client, 3);
    await fillGroups();
    await migrate(client);
    const storage = storageAt();
    const cursors = (await allCursors(storage.groups)).sort((a, b) => a.key.partition - b.key.partition);
    expect(cursors.map(({ cursor }) => cursor)).toEqual([
      { resets: 0, committedOffset: 12, acked: [14, 15], attempts: [], metadata: null },
      { resets: 0, committedOffset: 11, acked: [], attempts: [11, 11, 3], metadata: null },
    ]);
    const [attended, empty] = await allGroups(storage.groups);
    expect(attended?.emptyForMs).toBeNull();
    expect(empty?.emptyForMs).toBeLessThan(10_000);
  });

  test.each([
    { resets: 0, left: 1, fate: 'keeps the ack log' },
    { resets: 1, left: 0, fate: 'drops the acks before a reset, which would skip records' },
  ])('a rollback to version 3, with cursors reset $resets times, $fate', async ({ resets, left }) => {
    await migrate(client, 4);
    await fillGroups();
    await client.query('UPDATE millrace.cursors SET resets = $1 WHERE partition = 1', [resets]);
    await rollBack(client, 3);
    expect(await ackLogRows()).toBe(left);
    await takeFence(client, 'one', 1, [0]);
    await client.query(
      "SELECT millrace.append_acks('one', 0, 1, 1, '{1}', '{0}', '{0}', '{13}', '{0}', '{}', '{0}', '{}')",
    );
    expect(await ackLogRows()).toBe(left + 1);
  });
});

describe('runs of attempts', () => {
  test('attempts of 10,000 records that an older broker stored one by one are one run for the next one', async () => {
    await migrate(client, 9);
    await fillGroups();
    await client.query(`
      UPDATE millrace.cursors SET committed_offset = 11, attempts = (
        SELECT array_agg(value ORDER BY place, nth) FROM generate_series(11, 10010) AS place,
               LATERAL (VALUES (1, place), (2, 1)) AS pair (nth, value)) WHERE partition = 1`);
    await migrate(client);
    const { cursor } = (await allCursors(storageAt().groups)).find(({ key }) => key.partition === 1)!;
    expect(cursor.attempts).toEqual([11, 11, 3, 12, 10_010, 1]);
  });

  test('a rollback gives the older broker a pair for each record, in cursors and in the ack log', async () => {
    await migrate(client);
    await fillGroups();
    await client.query(`
      UPDATE millrace.cursors SET attempts = '{20,7,22,-3,2,9007199254740000,1}' WHERE partition = 0;
      UPDATE millrace.ack_log_1 SET attempt_counts = '{3,2}', attempts = '{13,-2,4,11,3}'`);
    await rollBack(client, 9);
    const { rows } = await client.query<{ attempts: string }>(
      'SELECT attempts::text FROM millrace.cursors ORDER BY partition',
    );
    expect(rows.map(({ attempts }) => attempts)).toEqual(['{20,7,22,2,23,2,24,2,9007199254740000,1}', '{}']);
    const { rows: log } = await client.query('SELECT attempt_counts::text, attempts::text FROM millrace.ack_log_1');
    expect(log).toEqual([{ attempt_counts: '{4,2}', attempts: '{13,4,14,4,11,3}' }]);
  });

  test('a round of an older broker that is too large to be read at once is divided, and nothing of it is lost', async () => {
    await migrate(client, 9);
    await fillGroups();
    await client.query(`
      INSERT INTO millrace.ack_log_1 (subscription_ids, partitions, lanes, committed_offsets, acked_counts, acked,
          attempt_counts, attempts, resets, metadata_at, metadata_seqs, metadata, receipts)
        SELECT array_agg(n), array_agg(n % 7), array_agg(0), array_agg(n), array_agg(2 * (n % 3)), '{}',
               array_agg(2 * (n % 2)), '{}', '{}', '{}', '{}', '{}', '{r}' FROM generate_series(1, 1000) AS n;
      UPDATE millrace.ack_log_1 SET
        acked = ARRAY(SELECT n * 10 + m FROM generate_series(1, 1000) AS n, generate_series(1, 2 * (n % 3)) AS m ORDER BY n, m),
        attempts = ARRAY(SELECT n * 10 + m FROM generate_series(1, 1000) AS n, generate_series(1, 2 * (n % 2)) AS m ORDER BY n, m),
        metadata_at = ARRAY(SELECT n - 1 FROM generate_series(1, 1000) AS n WHERE n % 2 = 0 ORDER BY n),
        metadata_seqs = ARRAY(SELECT n FROM generate_series(1, 1000) AS n WHERE n % 2 = 0 ORDER BY n),
        metadata = ARRAY(SELECT repeat(n::text, 2000) FROM generate_series(1, 1000) AS n WHERE n % 2 = 0 ORDER BY n)
        WHERE receipts = '{r}'`);
    const told = async (): Promise<unknown> => {
      const { rows } = await client.query<Record<string, number[] & string[]>>('SELECT * FROM millrace.ack_log_1');
      const deltas = rows.flatMap((row) => {
        const acked = [...row['acked']!];
        const attempts = [...row['attempts']!];
        return row['subscription_ids']!.map((id, at) => {
          const note = row['metadata_at']!.indexOf(at);
          return {
            id,
            place: [row['partitions']![at], row['lanes']![at], row['committed_offsets']![at], row['resets']![at]],
            acked: acked.splice(0, row['acked_counts']![at]),
            attempts: attempts.splice(0, row['attempt_counts']![at]),
            note: note < 0 ? null : [row['metadata_seqs']![note], row['metadata']![note]],
          };
        });
      });
      return {
        deltas: deltas.sort((a, b) => Number(a.id) - Number(b.id)),
        receipts: rows.flatMap((row) => row['receipts']!),
      };
    };
    const before = await told();
    await migrate(client);
    expect(await told()).toEqual(before);
    expect(await ackLogRows()).toBe(4);
  });
});

describe('a rollback of the schema', () => {
  test('a rollback undoes each migration to the last definition, and the migration works again', async () => {
    const catalogs = new Map<number, string[]>();
    for (const version of versions) {
      await migrate(client, version);
      catalogs.set(version, await catalogOf(client));
    }
    for (const [index, version] of [...versions.entries()].reverse()) {
      // Versions may have gaps.
      const before = versions[index - 1] ?? 0;
      await rollBack(client, version - 1);
      expect(await appliedVersion(client)).toBe(before);
      if (before > 0) expect(await catalogOf(client)).toEqual(catalogs.get(before));
      await migrate(client, version);
      expect(await catalogOf(client)).toEqual(catalogs.get(version));
      await rollBack(client, version - 1);
    }
    expect((await catalogOf(client)).filter((line) => !line.includes('migrations'))).toEqual([]);
  });

  test('a rollback works with data, and the tables of the next migration are empty and work', async () => {
    await migrate(client);
    await takeFence(client, 'one', 1, [0, topicSlot, tableSlot]);
    const storage = storageAt();
    const { topic } = await fill(storage);
    await roll(storage, topic.id, 1);
    await client.query("INSERT INTO millrace.consumer_groups (name) VALUES ('billing')");
    await client.query(
      'INSERT INTO millrace.subscriptions (group_id, topic_id) SELECT g.id, t.id FROM millrace.consumer_groups AS g, millrace.topics AS t',
    );
    await storage.close();
    await rollBack(client, 0);
    expect((await catalogOf(client)).filter((line) => !line.includes('migrations'))).toEqual([]);
    await migrate(client);
    await takeFence(client, 'one', 1, [0, topicSlot, tableSlot]);
    const again = storageAt();
    expect(await again.topics.loadTopics()).toEqual([]);
    const filled = await fill(again);
    expect((await readAll(again, filled.topic, 1)).map(({ offset }) => offset)).toEqual([0, 1]);
  });
});

test('a broker that hangs in the middle of a write does not block the migration of a newer version', async () => {
  await migrate(client, 5);
  await client.query("INSERT INTO millrace.broker_lease (broker, epoch, renewed_at) VALUES ('old', 1, now())");
  await client.query("INSERT INTO millrace.broker_fence (broker, slot, epoch) VALUES ('old', 0, 1)");
  const hanging = new Client({ connectionString: database.url });
  const ended = new Promise((resolve) => hanging.on('error', resolve));
  await hanging.connect();
  await hanging.query('BEGIN');
  await hanging.query("SELECT millrace.fence('old', 0, 1)");
  await storageAt().migrate();
  await ended;
  expect(await appliedVersion(client)).toBe(newest);
});

test('a database of a newer version is rejected with its reason, and is not changed', async () => {
  await migrate(client);
  await client.query("INSERT INTO millrace.migrations (version, name) VALUES ($1, 'of tomorrow')", [newest + 1]);
  const catalog = await catalogOf(client);
  const refused = await storageAt()
    .migrate()
    .catch((error: unknown) => error);
  expect(refused).toBeInstanceOf(UnfitDatabase);
  const { message } = refused as UnfitDatabase;
  expect(message).toContain(`version ${newest + 1}`);
  expect(message).toContain(`knows ${newest}`);
  expect(message).toContain('newer Millrace');
  expect(message).not.toContain('\n');
  expect(await catalogOf(client)).toEqual(catalog);
});

describe('names', () => {
  test('names are unique within a namespace, and two namespaces may have the same name', async () => {
    await migrate(client);
    const group = (namespace: number) =>
      client.query("INSERT INTO millrace.consumer_groups (namespace_id, name) VALUES ($1, 'billing')", [namespace]);
    await group(7);
    await takeFence(client, 'one', 1, [0, topicSlot, tableSlot, groupSlot]);
    const storage = storageAt();
    const made = await storage.groups.createGroup('billing');
    expect(await storage.groups.createGroup('billing')).toBe(made);
    await expect(group(0)).rejects.toMatchObject({ code: '23505' });
    const { rows } = await client.query('SELECT namespace_id FROM millrace.consumer_groups ORDER BY namespace_id');
    expect(rows).toEqual([{ namespace_id: 0 }, { namespace_id: 7 }]);
    const { topic } = await fill(storage);
    expect(await storage.topics.createTopic({ ...topic, partitions: 1 })).toBeNull();
  });

  test('names from before namespaces are in the default one after the migration', async () => {
    await migrate(client, 6);
    await client.query("INSERT INTO millrace.consumer_groups (name) VALUES ('billing')");
    await migrate(client);
    const { rows } = await client.query('SELECT name, namespace_id FROM millrace.consumer_groups');
    expect(rows).toEqual([{ name: 'billing', namespace_id: 0 }]);
  });
});

describe('an owner of an older version, whose database a newer version migrates', () => {
  /**
   * Opens a transaction of the owner behind the fence, with a write. The owner has not signed its
   * fence row, like a version that cannot.
   */
  async function openWrite(): Promise<Client> {
    const owner = await session();
    owner.on('error', () => undefined);
    await owner.query('BEGIN');
    await write(owner, 1);
    return owner;
  }

  async function write(owner: Client, n: number): Promise<void> {
    await owner.query("SELECT millrace.fence('old', 0, 1)");
    await owner.query('INSERT INTO public.written VALUES ($1)', [n]);
  }

  const written = async (): Promise<number[]> => {
    const { rows } = await client.query<{ n: number }>('SELECT n FROM public.written ORDER BY n');
    return rows.map(({ n }) => n);
  };

  const migrationWaits = () =>
    vi.waitFor(async () => {
      const { rows } = await client.query(
        "SELECT FROM pg_locks WHERE relation = 'millrace.broker_fence'::regclass AND mode = 'ExclusiveLock' AND NOT granted",
      );
      expect(rows).toHaveLength(1);
    });

  beforeEach(async () => {
    await migrate(client);
    await client.query('CREATE TABLE public.written (n integer)');
  });

  test.each([1, versions.at(-2)!])('a write of version %i is there before the migration or never', async (version) => {
    await rollBack(client, version);
    await takeFence(client, 'old', 1, [0]);
    const owner = await openWrite();
    const migrating = migrate(await session());
    await migrationWaits();
    const late = await session();
    const second = write(late, 2).catch((error: unknown) => error);
    await owner.query('COMMIT');
    await migrating;
    expect(await second).toMatchObject({ code: 'MR001' });
    await expect(write(owner, 3)).rejects.toMatchObject({ code: 'MR001' });
    expect(await written()).toEqual([1]);
  });

  test('an owner keeps its fence if there is nothing to migrate', async () => {
    await takeFence(client, 'old', 1, [0]);
    await migrate(client);
    await write(client, 1);
    expect(await written()).toEqual([1]);
  });

  test('an old owner that hangs in a write does not block a newer broker, which ends its session', async () => {
    await rollBack(client, versions.at(-2)!);
    await takeFence(client, 'old', 1, [0]);
    await openWrite();
    await storageAt().migrate();
    expect(await appliedVersion(client)).toBe(newest);
    expect(await written()).toEqual([]);
  });
});

test('a broker does not stand by for a database of a newer version', async () => {
  await migrate(client);
  await client.query("INSERT INTO millrace.migrations (version, name) VALUES ($1, 'of tomorrow')", [newest + 1]);
  const refused = await storageAt()
    .check(false)
    .catch((error: unknown) => error);
  expect(refused).toBeInstanceOf(UnfitDatabase);
  expect((refused as UnfitDatabase).message).toContain('start a newer Millrace');
});

test('a migration that fails half way changes nothing, and the next start repeats it', async () => {
  await migrate(client, 1);
  const catalog = await catalogOf(client);
  await client.query('CREATE VIEW millrace.messages AS SELECT 1 AS n');
  await expect(migrate(client)).rejects.toThrow('messages');
  await client.query('DROP VIEW millrace.messages');
  expect(await appliedVersion(client)).toBe(1);
  expect(await catalogOf(client)).toEqual(catalog);
  await migrate(client);
  expect(await appliedVersion(client)).toBe(newest);
});
