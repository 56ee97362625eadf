import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { AckRing } from '../../../src/commit/ack-ring.ts';
import { Publisher } from '../../../src/commit/publisher.ts';
import type { CommitStore } from '../../../src/commit/store.ts';
import type { CursorKey } from '../../../src/consumption/offsets/cursor-key.ts';
import { Log } from '../../../src/log/log.ts';
import type { TopicRow } from '../../../src/log/store.ts';
import type { Storage } from '../../../src/storage/storage.ts';
import { systemClock, systemRandom } from '../../../src/time/system.ts';
import { createBatchCodec } from '../../../src/wire/batch-codec.ts';
import { command } from '../../log/scene.ts';
import { CuttingProxy } from '../../support/cutting-proxy.ts';
import { startsAt } from '../../support/starts.ts';
import { LogSite } from '../log/log-site.ts';
import { readAll, selection, values } from '../../log/records.ts';
import { allCursors } from '../../conformance/loads.ts';
import { roomyAccount } from '../../account/accounts.ts';
import { createIn } from '../../support/groups/group-writes.ts';

let site: LogSite;
let proxy: CuttingProxy;
let storage: Storage;
let publisher: Publisher;
let log: Log;
let topic: TopicRow;
let key: CursorKey;
let ring: AckRing;
let fenced: number;

beforeEach(async () => {
  site = await LogSite.open();
  proxy = await CuttingProxy.open(site.database.url);
  storage = await site.own('one', 1, proxy.url);
  topic = await site.topic(storage, 1);
  const groupId = await storage.groups.createGroup('billing');
  const [subscription] = await createIn(storage.groups, [{ groupId, topicId: topic.id, offsets: startsAt([0]) }]);
  key = { subscriptionId: subscription!.id, partition: 0, lane: 0 };
  fenced = 0;
  await work(storage.commits);
});

afterEach(async () => {
  await publisher.stop();
  await log.stop();
  await site.close();
  await proxy.close();
});

/** Opens the log of the broker, and its commits through the given store. */
async function work(store: CommitStore): Promise<void> {
  const quiet = { info: () => undefined, warn: () => undefined };
  const account = roomyAccount();
  log = new Log({
    store: storage.log,
    clock: systemClock,
    codec: createBatchCodec(),
    account,
    owner: account.owner(),
    log: quiet,
  });
  ring = new AckRing();
  publisher = new Publisher({
    store,
    log,
    ring,
    clock: systemClock,
    random: systemRandom,
    account,
    onFenced: () => {
      fenced++;
    },
    warn: () => undefined,
  });
  log.open([topic]);
}

/**
 * Appends the number of a record and completes the record in one commit. @returns the outcome in
 * memory.
 */
async function archive(number: number): Promise<{ readonly became: readonly string[]; readonly ended: string }> {
  const became: string[] = [];
  const delta = { resets: 0, committedOffset: 0, acked: [number, number], attempts: [], metadata: null };
  const records = { key, delta, moved: () => became.push('moved'), stays: () => became.push('stays') };
  const publish = command(topic.name, selection(values(String(number).padStart(3, '0'))).set);
  const ended = await publisher.commit({ publishes: [publish], settlements: [{ type: 'acks', records }] }).then(
    ([published]) => `at ${published!.offsets[0]}`,
    (error: unknown) => (error as { kind: string }).kind,
  );
  return { became, ended };
}

/** The state of the database, as the next broker reads it. */
async function found(by = site.storage('reader', 1)) {
  const archived = (await readAll(by, topic, 0)).map(({ parts }) => Number(parts[2]));
  const [stored] = await allCursors(by.groups);
  const { acked, committedOffset } = stored!.cursor;
  const completed = Array.from({ length: committedOffset }, (_, offset) => offset);
  for (let at = 0; at < acked.length; at += 2) {
    for (let offset = acked[at]!; offset <= acked[at + 1]!; offset++) completed.push(offset);
  }
  return { archived, completed };
}

describe('an append and a completion in one commit, over a connection that is cut', () => {
  test('a settlement that is cut before its commit writes nothing, and the record stays', async () => {
    await archive(0);
    const cut = proxy.beforeCommit();
    const lost = archive(1);
    await cut;
    expect(await lost).toEqual({ became: ['stays'], ended: 'DATABASE_UNAVAILABLE' });
    expect(await archive(2)).toEqual({ became: ['moved'], ended: 'at 1' });
    expect(await found()).toEqual({ archived: [0, 2], completed: [0, 2] });
  });

  test('a settlement that is cut after its commit is there once, and its answer has the offset', async () => {
    await archive(0);
    const cut = proxy.afterCommit();
    const lost = archive(1);
    await cut;
    expect(await lost).toEqual({ became: ['moved'], ended: 'at 1' });
    expect(await archive(2)).toEqual({ became: ['moved'], ended: 'at 2' });
    expect(await found()).toEqual({ archived: [0, 1, 2], completed: [0, 1, 2] });
  });

  test('a settlement that arrives after its receipt was looked for is never written', async () => {
    await archive(0);
    const late = proxy.late();
    const lost = archive(1);
    const deliver = await late;
    expect(await lost).toEqual({ became: ['stays'], ended: 'DATABASE_UNAVAILABLE' });
    await deliver();
    expect(await found()).toEqual({ archived: [0], completed: [0] });
    expect(await archive(1)).toEqual({ became: ['moved'], ended: 'at 1' });
  });

  test('a settlement that is cut anywhere is written whole or not at all, and memory agrees', async () => {
    await archive(0);
    const begin = proxy.bytesSent;
    await archive(1);
    const size = proxy.bytesSent - begin;
    const pieces = 24;
    const expected = [0, 1];
    const told = new Map<string, number>();
    for (let piece = 0; piece <= pieces; piece++) {
      const [between, number] = [2 + piece * 2, 3 + piece * 2];
      // This connects and prepares first, so that the cut hits the transaction itself.
      expect((await archive(between)).became).toEqual(['moved']);
      expected.push(between);
      // The transactions differ by some bytes, so the last cut waits for the commit itself.
      const cut = piece < pieces ? proxy.afterBytes(Math.floor((size * piece) / pieces)) : proxy.afterCommit();
      const lost = archive(number);
      await cut;
      const { became } = await lost;
      if (became.join() === 'moved') expected.push(number);
      told.set(became.join(), (told.get(became.join()) ?? 0) + 1);
    }
    expect(await found()).toEqual({ archived: expected, completed: expected });
    expect([...told.keys()].sort()).toEqual(['moved', 'stays']);
  });
});

describe('a takeover while the outcome of a settlement is unknown', () => {
  test.for(['beforeCommit', 'afterCommit'] as const)(
    'a successor finds a settlement cut %s whole or not at all, and the old broker moves nothing',
    async (when) => {
      let successor: Storage | null = null;
      const inner = storage.commits;
      await work({
        appendSlots: inner.appendSlots,
        append: (slot, transaction) => inner.append(slot, transaction),
        appendAcks: (row) => inner.appendAcks(row),
        findKeys: (topicId, windowMs, keys) => inner.findKeys(topicId, windowMs, keys),
        turnIdempotencyRing: () => inner.turnIdempotencyRing(),
        async hasReceipt(table, receipt) {
          successor ??= await site.own('two', 2);
          return inner.hasReceipt(table, receipt);
        },
      });
      await archive(0);
      const cut = proxy[when]();
      const lost = archive(1);
      await cut;
      expect(await lost).toEqual({ became: [], ended: 'FENCED' });
      expect(fenced).toBe(1);
      const both = when === 'afterCommit' ? [0, 1] : [0];
      expect(await found(successor!)).toEqual({ archived: both, completed: both });
      // The old broker still has a reference to its table, so its own fold would not truncate it.
      ring.turn();
      expect(ring.olderAreFree).toBe(false);
    },
  );
});

test('a fold that turns the ring while a settlement is in flight does not lose it', async () => {
  await archive(0);
  const locker = await site.session();
  await locker.query('BEGIN');
  await locker.query('SELECT FROM millrace.partitions WHERE topic_id = $1 FOR UPDATE', [topic.id]);
  const moving = archive(1);
  await site.until(`SELECT count(*) AS n FROM pg_stat_activity WHERE wait_event_type = 'Lock'`);
  ring.turn();
  const cursor = { resets: 0, committedOffset: 0, acked: [0, 0], attempts: [], metadata: null };
  let memory = cursor;
  const folding = ring.olderFree().then(() => storage.groups.fold(ring.current, () => [{ key, cursor: memory }]));
  void moving.then(() => (memory = { ...cursor, acked: [0, 1] }));
  await locker.query('COMMIT');
  expect((await moving).became).toEqual(['moved']);
  await folding;
  expect(await found()).toEqual({ archived: [0, 1], completed: [0, 1] });
});
