import { Client } from 'pg';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { parseDatabaseAddress } from '../../../src/address/database-address.ts';
import type { Fault } from '../../../src/errors/fault.ts';
import { Ownership } from '../../../src/ownership/ownership.ts';
import { Connection, writerSettings } from '../../../src/storage/sessions/connection.ts';
import { LeaseStorage } from '../../../src/storage/ownership/lease.ts';
import { migrate, refuseNewerSchema } from '../../../src/storage/migrations/migrate.ts';
import { databaseClock, type Now } from '../../../src/storage/pg/now.ts';
import { ServerChoice } from '../../../src/storage/sessions/server-choice.ts';
import { ackSlot, Writer } from '../../../src/storage/sessions/writer.ts';
import { systemClock, systemRandom } from '../../../src/time/system.ts';
import { createTestDatabase, type TestDatabase } from '../../support/database.ts';
import { TravelTime } from '../../time/travel-time.ts';
import { migrations } from '../migrations/roll-back.ts';

let database: TestDatabase;
let admin: Client;
let now: Now;
let cleanups: (() => Promise<unknown>)[];

beforeEach(async () => {
  database = await createTestDatabase();
  admin = new Client({ connectionString: database.url });
  await admin.connect();
  cleanups = [() => admin.end()];
  now = databaseClock;
});

afterEach(async () => {
  await Promise.all(cleanups.map((cleanup) => cleanup()));
  await database.drop();
});

function leaseOf(brokerId: string): LeaseStorage {
  const lease = new LeaseStorage({
    address: parseDatabaseAddress(database.url),
    server: new ServerChoice(),
    brokerId,
    slots: [0, ackSlot],
    clock: systemClock,
    checkVersion: refuseNewerSchema,
    now: () => now(),
    log: { warn: () => undefined },
  });
  cleanups.push(() => lease.close());
  return lease;
}

function writerOf(broker: string, epoch: number): Writer {
  const connection = new Connection({
    address: parseDatabaseAddress(database.url),
    // A name that an operator could choose, because no decision depends on it.
    applicationName: `somebody's`,
    clock: systemClock,
    settings: writerSettings,
  });
  // Only force ends a connection with hanging work.
  cleanups.push(async () => {
    connection.destroy();
  });
  return new Writer(connection, { broker, slot: 0, epoch: () => epoch });
}

/** Makes an owner whose lease was written a while ago. */
async function owner(brokerId: string): Promise<LeaseStorage> {
  const lease = leaseOf(brokerId);
  await lease.tryLock();
  expect(await lease.takeOver((await lease.read()).lease, 2_000)).toBeGreaterThan(0);
  return lease;
}

/** Moves the present time of the lease stores forward. */
function pass(ms: number): void {
  now = new TravelTime(Math.floor(systemClock.wallMs()) + ms).iso;
}

async function endSessionsOf(broker: string): Promise<void> {
  await admin.query(
    `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
      WHERE datname = current_database() AND starts_with(application_name, $1)`,
    [`millrace/${broker}/`],
  );
}

/** Waits until a session of the broker waits for a lock. */
async function waiting(broker: string): Promise<void> {
  await vi.waitFor(async () => {
    const { rows } = await admin.query<{ n: number }>(
      `SELECT count(*)::int AS n FROM pg_stat_activity
        WHERE starts_with(application_name, $1) AND wait_event_type = 'Lock' AND datname = current_database()`,
      [`millrace/${broker}/`],
    );
    expect(rows[0]!.n).toBe(1);
  });
}

async function written(): Promise<number[]> {
  const { rows } = await admin.query<{ n: number }>('SELECT n FROM public.written ORDER BY n');
  return rows.map(({ n }) => n);
}

/** A write transaction that stays open until `proceed` is called. */
function openWrite(writer: Writer, n: number): { begun: Promise<void>; done: Promise<void>; proceed: () => void } {
  const begun = Promise.withResolvers<void>();
  const proceed = Promise.withResolvers<void>();
  const done = writer.transaction(async (client) => {
    await client.query('INSERT INTO public.written VALUES ($1)', [n]);
    begun.resolve();
    await proceed.promise;
  });
  done.catch(begun.reject);
  // Not every test awaits this promise.
  begun.promise.catch(() => undefined);
  return { begun: begun.promise, done, proceed: proceed.resolve };
}

describe('in a migrated database', () => {
  beforeEach(async () => {
    await migrate(admin);
    await admin.query('CREATE TABLE public.written (n integer)');
  });

  test('a takeover that saw the lease before its last renewal changes nothing', async () => {
    const one = await owner('one');
    const two = leaseOf('two');
    const seen = (await two.read()).lease;
    expect(await one.renew(1)).toBe(true);
    expect(await two.takeOver(seen, 2_000)).toBeNull();
    expect(await one.renew(1)).toBe(true);
    const write = openWrite(writerOf('one', 1), 1);
    write.proceed();
    await write.done;
    expect((await two.read()).lease).toMatchObject({ broker: 'one', epoch: 1 });
  });

  /** The ended epochs, each with the milliseconds from the end of the first one to its own. */
  async function ends(): Promise<(readonly [epoch: number, ms: number])[]> {
    const { rows } = await admin.query<{ epoch: string; ms: number }>(
      `SELECT epoch, extract(epoch FROM renewed_at - min(renewed_at) OVER ())::float8 * 1000 AS ms
         FROM millrace.broker_epochs ORDER BY epoch`,
    );
    return rows.map(({ epoch, ms }) => [Number(epoch), ms] as const);
  }

  test('the end of each epoch is kept: the last renewal of its owner, or the release', async () => {
    const one = await owner('one');
    pass(10_000);
    await one.renew(1);
    pass(40_000);
    const two = leaseOf('two');
    expect(await two.takeOver((await two.read()).lease, 2_000)).toBe(2);
    expect(await ends()).toEqual([[1, 0]]);
    pass(110_000);
    await two.release(2);
    pass(310_000);
    const three = leaseOf('three');
    expect(await three.takeOver((await three.read()).lease, 2_000)).toBe(3);
    const four = leaseOf('four');
    expect(await four.takeOver((await four.read()).lease, 2_000)).toBe(4);
    const kept = await ends();
    expect(kept.map(([epoch]) => epoch)).toEqual([1, 2, 3]);
    // Some seconds for a slow machine.
    expect(Math.abs(kept[1]![1] - 100_000)).toBeLessThan(20_000);
    expect(Math.abs(kept[2]![1] - 300_000)).toBeLessThan(20_000);
  });

  test('the ends of the last thousand epochs are kept', async () => {
    await owner('one');
    await admin.query(`
      INSERT INTO millrace.broker_epochs SELECT n, clock_timestamp() FROM generate_series(1, 1499) AS n;
      UPDATE millrace.broker_lease SET epoch = 1500`);
    const two = leaseOf('two');
    expect(await two.takeOver((await two.read()).lease, 2_000)).toBe(1_501);
    const kept = (await ends()).map(([epoch]) => epoch);
    expect([kept.length, kept[0], kept.at(-1)]).toEqual([1_000, 501, 1_500]);
  });

  test('a renewal that waits for a takeover finds the lease gone', async () => {
    const one = await owner('one');
    const write = openWrite(writerOf('one', 1), 1);
    await write.begun;
    const two = leaseOf('two');
    const takeover = two.takeOver((await two.read()).lease, 20_000);
    await waiting('two');
    const renewal = one.renew(1);
    await waiting('one');
    write.proceed();
    await write.done;
    expect([await takeover, await renewal]).toEqual([2, false]);
  });

  test('a takeover waits for writes of the predecessor, which writes nothing afterwards', async () => {
    await owner('one');
    const writer = writerOf('one', 1);
    const write = openWrite(writer, 1);
    await write.begun;
    const two = leaseOf('two');
    let took = false;
    const takeover = two.takeOver((await two.read()).lease, 20_000).then((epoch) => {
      took = true;
      return epoch;
    });
    await waiting('two');
    expect(took).toBe(false);
    write.proceed();
    await write.done;
    expect(await takeover).toBe(2);
    await expect(openWrite(writer, 2).done).rejects.toMatchObject({ kind: 'FENCED' });
    expect(await written()).toEqual([1]);
    const next = openWrite(writerOf('two', 2), 3);
    next.proceed();
    await next.done;
    expect(await written()).toEqual([1, 3]);
  });

  test('a broker that hangs in a transaction is ended after the patience, and its write is rolled back', async () => {
    await owner('one');
    const [first, second] = [openWrite(writerOf('one', 1), 1), openWrite(writerOf('one', 1), 2)];
    await Promise.all([first.begun, second.begun]);
    const two = leaseOf('two');
    const started = systemClock.nowMs();
    expect(await two.takeOver((await two.read()).lease, 300)).toBe(2);
    expect(systemClock.nowMs() - started).toBeGreaterThan(290);
    for (const write of [first, second]) {
      write.proceed();
      await expect(write.done).rejects.toBeInstanceOf(Error);
    }
    expect(await written()).toEqual([]);
  });

  test('a process that hangs under the same name is ended too', async () => {
    await owner('one');
    const writes = [openWrite(writerOf('one', 1), 1), openWrite(writerOf('one', 1), 2)];
    await Promise.all(writes.map(({ begun }) => begun));
    const again = leaseOf('one');
    expect(await again.takeOver((await again.read()).lease, 200)).toBe(2);
    for (const write of writes) {
      write.proceed();
      await expect(write.done).rejects.toBeInstanceOf(Error);
    }
    expect(await written()).toEqual([]);
  });

  test('an owner writes its new session into the lease even after a failure, or no standby could end it', async () => {
    const one = await owner('one');
    const unlocked = Promise.withResolvers<void>();
    one.onUnlocked(unlocked.resolve);
    await admin.query(
      `CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'full' USING ERRCODE = '53100'; END $$`,
    );
    await admin.query(
      'CREATE TRIGGER refuse BEFORE UPDATE OF pid ON millrace.broker_lease EXECUTE FUNCTION public.refuse()',
    );
    await endSessionsOf('one');
    await unlocked.promise;
    // The owner has the lock, but its write of the lease failed, as with a full disk.
    await vi.waitFor(() => expect(one.tryLock()).rejects.toThrow(/full/));
    await admin.query('DROP TRIGGER refuse ON millrace.broker_lease');
    expect(await one.renew(1)).toBe(true);
    expect(await one.tryLock()).toBe(true);
    const two = leaseOf('two');
    expect((await two.read()).lockedBy).toEqual({ broker: 'one' });
    pass(6_000);
    expect(await two.evict('one', 6_000)).toBe(true);
    await vi.waitFor(async () => {
      expect(await two.tryLock()).toBe(true);
    });
  });

  test('a call without an answer of the database ends with a fault', async () => {
    const one = await owner('one');
    await admin.query('BEGIN');
    await admin.query('SELECT 1 FROM millrace.broker_lease FOR UPDATE');
    const fault: unknown = await one.renew(1).catch((error: unknown) => error);
    expect((fault as Fault).kind).toBe('DATABASE_UNAVAILABLE');
    await admin.query('ROLLBACK');
    await one.tryLock();
    expect(await one.renew(1)).toBe(true);
  });
});

/** The ownership of the test's database by a broker; `lost` has the reasons of a loss. */
function owning(
  name: string,
  store: LeaseStorage = leaseOf(name),
): { ownership: Ownership; active: Promise<number>; lost: Promise<string> } {
  const active = Promise.withResolvers<number>();
  const lost = Promise.withResolvers<string>();
  const ownership = new Ownership({
    store,
    clock: systemClock,
    random: systemRandom,
    log: { info: () => undefined, warn: () => undefined },
    prepare: async () => {
      const client = new Client({ connectionString: database.url });
      await client.connect();
      await migrate(client);
      await client.end();
    },
    onActive: async (epoch) => {
      active.resolve(epoch);
    },
    onLost: (reason) => {
      lost.resolve(reason);
      active.reject(new Error(reason));
    },
  });
  cleanups.push(() => ownership.stop());
  return { ownership, active: active.promise, lost: lost.promise };
}

test(
  'thirty cuts of the owner’s session, each as a standby looks, hand the database to no standby',
  { timeout: 120_000 },
  async () => {
    const one = owning('one');
    one.ownership.start();
    expect(await one.active).toBe(1);
    const store = leaseOf('two');
    const done = Promise.withResolvers<void>();
    let cuts = 0;
    const look = store.read.bind(store);
    store.read = async () => {
      if (cuts < 30) {
        const { rowCount } = await admin.query(
          `SELECT pg_terminate_backend(pid, 5000) FROM pg_locks WHERE ${heldByOne}`,
        );
        cuts += rowCount ?? 0;
        return look();
      }
      const sight = await look();
      if (sight.lockedBy?.broker === 'one') done.resolve();
      return sight;
    };
    const two = owning('two', store);
    two.active.catch(() => undefined);
    two.ownership.start();
    await Promise.race([done.promise, one.lost, two.active]);
    expect([one.ownership.state, two.ownership.state, one.ownership.epoch]).toEqual(['ACTIVE', 'STANDBY', 1]);
    const { rows } = await admin.query('SELECT broker, epoch FROM millrace.broker_lease');
    expect(rows).toEqual([{ broker: 'one', epoch: '1' }]);
  },
);

test('a standby ends as soon as a newer version migrates its database, and not at the takeover', async () => {
  const one = owning('one');
  one.ownership.start();
  await one.active;
  const two = owning('two');
  two.active.catch(() => undefined);
  two.ownership.start();
  await admin.query("INSERT INTO millrace.migrations (version, name) VALUES ($1, 'of tomorrow')", [
    migrations.at(-1)!.version + 1,
  ]);
  expect(await two.lost).toContain('start a newer Millrace');
  expect([one.ownership.state, two.ownership.state]).toEqual(['ACTIVE', 'LOST']);
});

/** A condition on `pg_locks`: the lock of the lease, in the session of broker one. */
const heldByOne = `locktype = 'advisory' AND granted AND objid = 7164300
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND pid IN (SELECT pid FROM pg_stat_activity WHERE application_name = 'millrace/one/lease')`;

test('the second of two brokers that start on an empty database serves at once when the first stops', async () => {
  const brokers = ['one', 'two'].map((name) => owning(name));
  for (const { ownership } of brokers) ownership.start();
  const epoch = await Promise.race(brokers.map(({ active }) => active));
  expect(epoch).toBe(1);
  const first = brokers.find(({ ownership }) => ownership.state === 'ACTIVE')!;
  const second = brokers.find((broker) => broker !== first)!;
  expect(first.ownership.mayDeliver()).toBe(true);
  expect(second.ownership.mayDeliver()).toBe(false);
  await first.ownership.stop();
  const stoppedMs = systemClock.nowMs();
  expect(await second.active).toBe(2);
  expect(systemClock.nowMs() - stoppedMs).toBeLessThan(2_000);
});
