import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Fault } from '../../../src/errors/fault.ts';
import type { TopicRow } from '../../../src/log/store.ts';
import type { Storage } from '../../../src/storage/storage.ts';
import { CuttingProxy } from '../../support/cutting-proxy.ts';
import { appendSlots, LogSite } from './log-site.ts';
import { batch, readAll, transaction, values } from '../../log/records.ts';

let site: LogSite;
let proxy: CuttingProxy;
let storage: Storage;
/** This storage bypasses the proxy. */
let reader: Storage;
let topic: TopicRow;

beforeEach(async () => {
  site = await LogSite.open();
  proxy = await CuttingProxy.open(site.database.url);
  storage = await site.own('one', 1, proxy.url);
  reader = site.storage('reader', 1);
  topic = await site.topic(storage, 2);
  await append('first');
});

afterEach(async () => {
  await site.close();
  await proxy.close();
});

const append = (text: string, slot = 0, partition = 0) =>
  storage.commits.append(slot, transaction([batch(topic, partition, values(text))]));

const stored = async (partition = 0): Promise<string[]> =>
  (await readAll(reader, topic, partition)).map(({ parts }) => parts[2]!);

async function faultOf(call: Promise<unknown>): Promise<Fault> {
  const fault: unknown = await call.then(
    () => null,
    (error: unknown) => error,
  );
  if (!(fault instanceof Fault)) throw new Error('a fault was expected', { cause: fault });
  return fault;
}

/** Waits until the database has ended the session of a cut append, and so its transaction. */
async function settled(): Promise<void> {
  await vi.waitFor(async () => expect(await backends('append')).toBe(0), { timeout: 10_000, interval: 5 });
}

const backends = (purpose: string) =>
  site.number(
    `SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database() AND starts_with(application_name, $1)`,
    [`millrace/one/${purpose}`],
  );

describe('a connection that is cut', () => {
  test('an append that is cut before its COMMIT writes nothing, and the next append succeeds', async () => {
    const cut = proxy.beforeCommit();
    await expect(append('lost')).rejects.toMatchObject({ kind: 'OUTCOME_UNKNOWN' });
    await cut;
    await settled();
    expect((await append('next'))[0]!.baseOffset).toBe(1);
    expect(await stored()).toEqual(['first', 'next']);
  });

  test('an append that is cut after its commit has an unknown outcome, and is not repeated', async () => {
    const cut = proxy.afterCommit();
    await expect(append('committed')).rejects.toMatchObject({ kind: 'OUTCOME_UNKNOWN' });
    await cut;
    expect((await append('next'))[0]!.baseOffset).toBe(2);
    expect(await stored()).toEqual(['first', 'committed', 'next']);
  });

  test('an append that is cut anywhere is reported as failed only if it wrote nothing', async () => {
    const told = new Map<string, number>();
    const pieces = 24;
    await append('same size 00');
    const begin = proxy.bytesSent;
    await append('same size 01');
    const size = proxy.bytesSent - begin;
    let before = await stored();
    for (let piece = 0; piece <= pieces; piece++) {
      // This connects and prepares first, so that the cut hits the transaction itself.
      await append('between');
      const cut = proxy.afterBytes(Math.floor((size * piece) / pieces));
      const text = `cut at    ${String(piece).padStart(2, '0')}`;
      const fault = await faultOf(append(text));
      await cut;
      await settled();
      const now = await stored();
      const written = now.length - before.length - 1;
      expect(['OUTCOME_UNKNOWN', 'DATABASE_UNAVAILABLE']).toContain(fault.kind);
      if (fault.kind === 'DATABASE_UNAVAILABLE') expect([piece, written]).toEqual([piece, 0]);
      expect(now.slice(before.length)).toEqual(['between', text].slice(0, written + 1));
      told.set(`${fault.kind} ${written}`, (told.get(`${fault.kind} ${written}`) ?? 0) + 1);
      before = now;
    }
    console.log(`a transaction of ${size} bytes, cut at each of ${pieces}:`, Object.fromEntries(told));
    // At least once, the whole transaction had arrived, and the database committed it.
    expect(told.get('OUTCOME_UNKNOWN 1')).toBeGreaterThan(0);
    expect(told.get('OUTCOME_UNKNOWN 0')).toBeGreaterThan(5);
  });

  test('a read that is cut fails with a fault, never with a part of the records, and the next read works', async () => {
    const texts = Array.from({ length: 8 }, (_, n) => String(n).repeat(100_000));
    for (const text of texts) await append(text, 0, 1);
    const read = () => readAll(storage, topic, 1);
    const whole = (await read()).map(({ parts }) => parts[2]);
    expect(whole).toEqual(texts);
    for (const answerBytes of [1, 20, 1_000, 100_000, 500_000, 790_000]) {
      const cut = proxy.afterAnswerBytes(answerBytes);
      expect([answerBytes, (await faultOf(read())).kind]).toEqual([answerBytes, 'DATABASE_UNAVAILABLE']);
      await cut;
      expect((await read()).map(({ parts }) => parts[2])).toEqual(whole);
    }
  });

  test('appends fail as unwritten while the database is unreachable, and succeed when it is back', async () => {
    await proxy.close();
    await settled();
    for (let tries = 0; tries < 3; tries++) expect((await faultOf(append('away'))).kind).toBe('DATABASE_UNAVAILABLE');
    expect((await faultOf(storage.log.ends(topic.id))).kind).toBe('DATABASE_UNAVAILABLE');
    expect(await stored()).toEqual(['first']);
    proxy = await CuttingProxy.open(site.database.url, Number(new URL(proxy.url).port));
    await append('back');
    expect(await stored()).toEqual(['first', 'back']);
  });

  test('a cut connection does not affect appends on other connections', async () => {
    await Promise.all([1, 2, 3].map((slot) => append(`warm ${slot}`, slot, 1)));
    const cut = proxy.afterCommit();
    const lost = expect(append('lost', 0)).rejects.toMatchObject({ kind: 'OUTCOME_UNKNOWN' });
    await cut;
    await Promise.all([1, 2, 3].map((slot) => append(`other ${slot}`, slot, 1)));
    await lost;
    expect((await stored(1)).slice(3).sort()).toEqual(['other 1', 'other 2', 'other 3']);
  });
});

describe('a database that ends its connections', () => {
  const terminate = (purpose: string) =>
    site.client.query(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND starts_with(application_name, $1)`,
      [`millrace/one/${purpose}`],
    );

  test('a database that ends idle connections loses no confirmed record, and the next calls of all kinds work', async () => {
    await Promise.all(Array.from({ length: appendSlots }, (_, slot) => append('warm', slot)));
    await readAll(storage, topic, 0);
    await storage.commits.findKeys(topic.id, 1_000, ['k']);
    await terminate('');
    // A connection that has not noticed its end may fail once with a fault, and then works.
    await vi.waitFor(async () => expect(await backends('')).toBe(0), { interval: 5 });
    let faults = 0;
    const works = async (call: () => Promise<unknown>): Promise<void> => {
      for (;;) {
        try {
          await call();
          return;
        } catch (error) {
          expect(error).toBeInstanceOf(Fault);
          expect(++faults).toBeLessThan(20);
        }
      }
    };
    for (let slot = 0; slot < appendSlots; slot++) await works(() => append('after', slot));
    await works(() => storage.commits.findKeys(topic.id, 1_000, ['k']));
    await works(() => storage.log.ends(topic.id));
    await works(() => storage.log.rollSegment(topic.id, 0));
    await works(() => storage.topics.loadTopics());
    for (let reads = 0; reads < 3; reads++) await works(() => readAll(storage, topic, 0));
    expect((await stored()).filter((text) => text === 'after').length).toBeGreaterThanOrEqual(appendSlots);
  });

  test('an append whose session ends while it waits for a lock writes nothing, and fails or has an unknown outcome', async () => {
    const holder = await site.session();
    await holder.query('BEGIN');
    await holder.query('SELECT FROM millrace.partitions WHERE id = $1 FOR UPDATE', [topic.partitions[0]!.id]);
    const appended = faultOf(append('waits'));
    await vi.waitFor(async () => {
      const waiting = `SELECT count(*) AS n FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'millrace/one/append-0' AND wait_event_type = 'Lock'`;
      expect(await site.number(waiting)).toBe(1);
    });
    await terminate('append-0');
    expect(['OUTCOME_UNKNOWN', 'DATABASE_UNAVAILABLE']).toContain((await appended).kind);
    await holder.query('ROLLBACK');
    await append('next');
    expect(await stored()).toEqual(['first', 'next']);
  });

  test('a database that ends sessions during appends keeps every confirmed record and no failed one', async () => {
    let over = false;
    const outcomes = new Map<string, 'committed' | Fault['kind']>();
    const publish = async (slot: number): Promise<void> => {
      for (let n = 0; !over; n++) {
        const text = `${slot}/${n}`;
        try {
          await append(text, slot);
          outcomes.set(text, 'committed');
        } catch (error) {
          expect(error).toBeInstanceOf(Fault);
          outcomes.set(text, (error as Fault).kind);
        }
      }
    };
    const publishers = Array.from({ length: appendSlots }, (_, slot) => publish(slot));
    for (let round = 0; round < 10; round++) {
      const before = outcomes.size;
      await vi.waitFor(() => expect(outcomes.size).toBeGreaterThan(before + 20), { interval: 5, timeout: 10_000 });
      await terminate('append');
    }
    over = true;
    await Promise.all(publishers);
    const all = await stored();
    const there = new Set(all);
    expect(all).toHaveLength(there.size);
    for (const [text, outcome] of outcomes) {
      if (outcome !== 'OUTCOME_UNKNOWN')
        expect([text, outcome, there.has(text)]).toEqual([text, outcome, outcome === 'committed']);
    }
    expect([...outcomes.values()].filter((outcome) => outcome !== 'committed').length).toBeGreaterThan(0);
  });
});
