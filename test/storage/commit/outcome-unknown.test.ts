import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Fault } from '../../../src/errors/fault.ts';
import { endOffset } from '../../../src/log/batch.ts';
import { AckRing } from '../../../src/commit/ack-ring.ts';
import { Publisher } from '../../../src/commit/publisher.ts';
import { Log } from '../../../src/log/log.ts';
import type { PublishCommand, PublishStreamToken } from '../../../src/commit/publish.ts';
import type { TopicRow } from '../../../src/log/store.ts';
import type { Storage } from '../../../src/storage/storage.ts';
import { systemClock, systemRandom } from '../../../src/time/system.ts';
import { createBatchCodec } from '../../../src/wire/batch-codec.ts';
import { CuttingProxy } from '../../support/cutting-proxy.ts';
import { LogSite } from '../log/log-site.ts';
import { readAll, selection, values } from '../../log/records.ts';
import { roomyAccount } from '../../account/accounts.ts';

let site: LogSite;
let proxy: CuttingProxy;
let reader: Storage;
let topic: TopicRow;
let log: Log;
let publisher: Publisher;

beforeEach(async () => {
  site = await LogSite.open();
  proxy = await CuttingProxy.open(site.database.url);
  const storage = await site.own('one', 1, proxy.url);
  reader = site.storage('reader', 1);
  topic = await site.topic(storage, 2);
  const account = roomyAccount();
  log = new Log({
    store: storage.log,
    clock: systemClock,
    codec: createBatchCodec(),
    account,
    owner: account.owner(),
    log: { info: () => undefined, warn: () => undefined },
  });
  publisher = new Publisher({
    store: storage.commits,
    log,
    ring: new AckRing(),
    clock: systemClock,
    random: systemRandom,
    account,
    onFenced: expect.unreachable,
    warn: () => undefined,
  });
  log.open([topic]);
  await publish('first');
});

afterEach(async () => {
  await publisher.drain();
  await log.stop();
  await site.close();
  await proxy.close();
});

interface Published {
  readonly partition?: number;
  readonly key?: string;
  readonly expectedOffset?: number;
  readonly stream?: PublishStreamToken;
}

/** Publishes one record. @returns its offset, with `again` if it is a repeat. */
async function publish(text: string, options: Published = {}): Promise<string> {
  const { partition = 0, key, expectedOffset = null, stream = null } = options;
  const command: PublishCommand = {
    topic: topic.name,
    records: selection(values(text)).set,
    idempotencyKeys: key === undefined ? null : [key],
    partition,
    committed: true,
    expectedOffset,
    lane: null,
    stream,
  };
  const published = await publisher.publish(command);
  return `${published!.offsets[0]}${published!.duplicates?.[0] === 1 ? ' again' : ''}`;
}

const stored = async (partition = 0): Promise<string[]> =>
  (await readAll(reader, topic, partition)).map(({ parts }) => parts[2]!);

const unknown = { kind: 'OUTCOME_UNKNOWN' } satisfies Partial<Fault>;

describe('a publish that committed without an answer', () => {
  test('a publish with a lost answer gets OUTCOME_UNKNOWN, is not appended again, and the next one follows it', async () => {
    const cut = proxy.afterCommit();
    await expect(publish('lost answer')).rejects.toMatchObject(unknown);
    await cut;
    expect(await publish('next')).toBe('2');
    expect(await stored()).toEqual(['first', 'lost answer', 'next']);
  });

  test('a publish with a lost answer is recognized by its idempotency key when it is repeated', async () => {
    await publish('warm', { key: 'other' });
    const cut = proxy.afterCommit();
    await expect(publish('once', { key: 'k' })).rejects.toMatchObject(unknown);
    await cut;
    expect(await publish('once', { key: 'k' })).toBe('2 again');
    expect(await publish('other key', { key: 'l' })).toBe('3');
    expect(await publish('warm', { key: 'other' })).toBe('1 again');
    expect(await stored()).toEqual(['first', 'warm', 'once', 'other key']);
  });

  test('a publish with a lost answer moves the end that an expected offset is compared with', async () => {
    const cut = proxy.afterCommit();
    await expect(publish('won', { expectedOffset: 1 })).rejects.toMatchObject(unknown);
    await cut;
    await expect(publish('late', { expectedOffset: 1 })).rejects.toMatchObject({ reason: 'EXPECTED_OFFSET_MISMATCH' });
    expect(await publish('right', { expectedOffset: 2 })).toBe('2');
  });

  test('a publish with a lost answer reaches readers, even if no other publish follows', async () => {
    const [partition] = log.partitionLogs(topic.id);
    const heard = Promise.withResolvers<void>();
    const listener = { appended: heard.resolve, trimmed: () => undefined };
    partition!.addListener(listener);
    const cut = proxy.afterCommit();
    await expect(publish('lost answer')).rejects.toMatchObject(unknown);
    await cut;
    await heard.promise;
    partition!.removeListener(listener);
    expect(partition!.endOffset).toBe(2);
    expect(endOffset((await partition!.fetch(1))!)).toBe(2);
  });

  test('a publish with a lost answer fails with its whole transaction, and with no other one', async () => {
    await publish('warm', { partition: 1 });
    const cut = proxy.afterCommit();
    const together = Promise.allSettled([publish('a'), publish('b', { partition: 1 }), publish('c')]);
    await cut;
    expect((await together).map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected']);
    expect(await publish('d')).toBe('3');
    expect(await publish('e', { partition: 1 })).toBe('2');
    expect([await stored(), await stored(1)]).toEqual([
      ['first', 'a', 'c', 'd'],
      ['warm', 'b', 'e'],
    ]);
  });
});

describe('a publish whose COMMIT never arrived', () => {
  test('a publish whose COMMIT never arrived gets OUTCOME_UNKNOWN, and the next one takes its offset', async () => {
    const cut = proxy.beforeCommit();
    await expect(publish('never', { key: 'k' })).rejects.toMatchObject(unknown);
    await cut;
    expect(await publish('next')).toBe('1');
    expect(await publish('never', { key: 'k' })).toBe('2');
    expect(await stored()).toEqual(['first', 'next', 'never']);
  });

  test('a publish with an unknown outcome ends its stream, so that no later one overtakes it', async () => {
    const stream: PublishStreamToken = { failure: null };
    const cut = proxy.beforeCommit();
    const sent = Promise.allSettled(['a', 'b', 'c'].map((text) => publish(text, { stream })));
    await cut;
    for (const answer of await sent) expect(answer).toMatchObject({ status: 'rejected', reason: unknown });
    await expect(publish('d', { stream })).rejects.toMatchObject(unknown);
    expect(await publish('another stream', { stream: { failure: null } })).toBe('1');
    expect(await stored()).toEqual(['first', 'another stream']);
  });
});

describe('a publish in flight on an abandoned connection', () => {
  test('a late publish is not appended beside its repeat with the same idempotency key', async () => {
    const cut = proxy.late();
    await expect(publish('once', { key: 'k' })).rejects.toMatchObject(unknown);
    const deliver = await cut;
    expect(await publish('once', { key: 'k' })).toBe('1');
    await deliver();
    expect(await stored()).toEqual(['first', 'once']);
    expect(await publish('once', { key: 'k' })).toBe('1 again');
  });

  test('a late publish does not take the offset that another publisher expects', async () => {
    const cut = proxy.late();
    await expect(publish('late', { partition: 1, expectedOffset: 0 })).rejects.toMatchObject(unknown);
    const deliver = await cut;
    expect(await publish('elsewhere')).toBe('1');
    await deliver();
    expect(await publish('expects', { partition: 1, expectedOffset: 0 })).toBe('0');
    expect(await stored(1)).toEqual(['expects']);
  });
});

test('publishes in one transaction with a record that the database rejects are appended without it', async () => {
  const table = `millrace.record_batches_${topic.id}_1`;
  // The check reads the text of the array, so that it finds the record anywhere in the batch.
  await site.client.query(
    `ALTER TABLE ${table} ADD CHECK ("values"::text NOT LIKE '%' || encode('refused', 'hex') || '%')`,
  );
  const holder = await site.session();
  await holder.query('BEGIN');
  await holder.query('SELECT FROM millrace.partitions WHERE id = $1 FOR UPDATE', [topic.partitions[0]!.id]);
  const first = publish('holds the partition');
  await vi.waitFor(() => expect(publisher.stats().queuedRecords).toBe(0));
  const texts = ['a', 'refused', 'b'];
  const gathered = Promise.allSettled(texts.map((text) => publish(text)));
  await holder.query('COMMIT');
  await first;
  const answers = await gathered;
  expect(
    answers.map((answer) => (answer.status === 'fulfilled' ? answer.value : (answer.reason as Fault).kind)),
  ).toEqual(['2', 'DATA_REFUSED', '3']);
  expect(await stored()).toEqual(['first', 'holds the partition', 'a', 'b']);
});

test('a short outage of the database fails only its own publishes, and needs no restart', async () => {
  const port = Number(new URL(proxy.url).port);
  await proxy.close();
  await expect(publish('away')).rejects.toMatchObject({ name: 'Fault' });
  await expect(publish('away')).rejects.toMatchObject({ kind: 'DATABASE_UNAVAILABLE' });
  proxy = await CuttingProxy.open(site.database.url, port);
  expect(await publish('back')).toBe('1');
  expect(await stored()).toEqual(['first', 'back']);
});
