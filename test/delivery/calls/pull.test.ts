import { beforeEach, describe, expect, test, vi } from 'vitest';
import { Cursor } from '../../../src/consumption/partitioned/cursor.ts';
import { Reply } from '../../../src/delivery/ports/reply.ts';
import { offsetsOf, Scene, type Delivered, type FakeLog } from '../scene.ts';

let scene: Scene;
let logs: FakeLog[];
beforeEach(async () => {
  scene = await Scene.open();
  logs = scene.addTopic('orders', 2);
});

test('a pull takes the records that are there, within its bounds, and names the end of their lease', async () => {
  logs[0]!.append(5);
  const pulled = await scene.wait(scene.pull('billing', { maxRecords: 3 }));
  expect(offsetsOf(pulled)).toEqual([0, 1, 2]);
  expect(pulled.leaseDeadlineAtMs! - scene.clock.wallMs()).toBeGreaterThan(29_000);
  const next = await scene.wait(scene.pull('billing', { memberId: pulled.memberId }));
  expect(offsetsOf(next)).toEqual([3, 4]);
});

test('a pull whose bytes end within the name of a partition returns the records before', async () => {
  for (let n = 0; n < 4; n++) logs[0]!.append(1);
  const { fields } = await scene.wait(scene.pull('billing', { maxBytes: 70 }));
  const bytes = fields.reduce((sum, field) => sum + field.length, 0);
  expect(fields.length).toBeGreaterThan(0);
  expect(bytes - fields.at(-1)!.length).toBeLessThanOrEqual(70);
});

test('a pulled record whose lease has expired comes again, as the next attempt', async () => {
  logs[0]!.append(2);
  const first = await scene.wait(scene.pull('billing', { sessionTimeoutMs: 600_000 }));
  await scene.clock.advance(29_000);
  const none = await scene.wait(scene.pull('billing', { memberId: first.memberId }));
  expect(offsetsOf(none)).toEqual([]);
  await scene.clock.advance(2_000);
  const again = await scene.wait(scene.pull('billing', { memberId: first.memberId }));
  expect(JSON.parse(again.fields[0]!.toString())).toEqual({ partition: 0, offsets: [0, 1], attempts: [2, 2] });
});

test('a pull that waits is woken by the first record', async () => {
  const pulling = scene.pull('billing', { waitMs: 60_000 });
  await scene.clock.advance(1_000);
  logs[1]!.append(1);
  const pulled = await scene.wait(pulling);
  expect(offsetsOf(pulled)).toEqual([0]);
  expect(scene.clock.nowMs()).toBeLessThan(1_002_000);
});

test('a pull that found nothing in time gives the reason', async () => {
  const pulled = await scene.wait(scene.pull('billing', { waitMs: 2_000 }));
  expect(pulled).toMatchObject({ fields: [], blockedOn: 'CAUGHT_UP', leaseDeadlineAtMs: null });
});

test('a pull that does not wait gets records that are only in the database', async () => {
  logs[0]!.append(3);
  logs[0]!.cachedFrom = 3;
  const read = Promise.withResolvers<void>();
  logs[0]!.gate = read.promise;
  const pulling = scene.pull('billing');
  await scene.clock.advance(100);
  read.resolve();
  expect(offsetsOf(await scene.wait(pulling))).toEqual([0, 1, 2]);
});

test('records that a pull with auto-ack returns are durably acked before', async () => {
  logs[0]!.append(3);
  const commit = Promise.withResolvers<void>();
  scene.store.before = (write) => (write === 'appendAcks' ? commit.promise : undefined);
  let returned = false;
  const pulling = scene.pull('billing', { autoAck: true }).finally(() => {
    returned = true;
  });
  await scene.clock.advance(100);
  expect(returned).toBe(false);
  commit.resolve();
  expect((await scene.wait(pulling)).leaseDeadlineAtMs).toBeNull();
  expect((await scene.store.cursor({ subscriptionId: 1, partition: 0, lane: 0 }))?.committedOffset).toBe(3);
});

test('pulls without a member id, one after the other, do not wait for the session of the one before', async () => {
  for (let n = 0; n < 5; n++) {
    logs[0]!.append(1);
    const pulled = await scene.wait(scene.pull('billing', { autoAck: true }));
    expect(offsetsOf(pulled)).toEqual([n]);
  }
  expect(scene.describe('billing').members).toHaveLength(1);
});

test('a client that goes away while its pull waits takes no records', async () => {
  const reply = new Reply();
  const pulling = scene.pull('billing', { waitMs: 60_000, reply });
  await scene.clock.settle();
  reply.lose();
  expect(offsetsOf(await scene.wait(pulling))).toEqual([]);
  logs[0]!.append(1);
  expect(offsetsOf(await scene.wait(scene.pull('billing')))).toEqual([0]);
});

test('a pull whose member is removed meanwhile is rejected', async () => {
  const { memberId } = await scene.wait(scene.pull('billing'));
  const pulling = scene.pull('billing', { memberId, waitMs: 60_000 });
  const refused = expect(scene.wait(pulling)).rejects.toMatchObject({ reason: 'MEMBER_FENCED' });
  await scene.clock.settle();
  await scene.delivery.membership.leave('billing', memberId);
  await refused;
});

describe('several pulls of a member', () => {
  const waitMs = 60_000;

  test('an append wakes one of many pulls, which looks at one of many partitions', async () => {
    const wide = scene.addTopic('wide', 500);
    const { memberId } = await scene.wait(scene.pull('billing', { topics: ['wide'] }));
    const pulls = Array.from({ length: 10 }, () => scene.pull('billing', { topics: ['wide'], memberId, waitMs }));
    await scene.clock.settle();
    const looks = vi.spyOn(Cursor.prototype, 'next');
    wide[123]!.append(1);
    const first = await scene.wait(Promise.race(pulls));
    expect(first.fields.map((field) => (JSON.parse(field.toString()) as Delivered).partition)).toEqual([123]);
    expect(looks.mock.calls.length).toBeLessThan(10);
    looks.mockRestore();
    for (const log of wide.slice(0, 9)) {
      log.append(1);
      await scene.clock.settle();
    }
    const partitions = (await scene.wait(Promise.all(pulls))).flatMap(({ fields }) =>
      fields.map((field) => (JSON.parse(field.toString()) as Delivered).partition),
    );
    expect(partitions.toSorted((a, b) => a - b)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 123]);
  });

  test('what a full pull leaves behind goes to the next one that waits', async () => {
    const { memberId } = await scene.wait(scene.pull('billing'));
    const pulls = Array.from({ length: 3 }, () => scene.pull('billing', { memberId, waitMs, maxRecords: 2 }));
    await scene.clock.settle();
    logs[0]!.append(6);
    const all = await scene.wait(Promise.all(pulls));
    expect(all.map(offsetsOf)).toEqual([
      [0, 1],
      [2, 3],
      [4, 5],
    ]);
  });

  test('a record that waits for its retry reaches another pull when the one that knew the time has gone', async () => {
    logs[0]!.append(1);
    const { memberId, generation } = await scene.wait(scene.pull('billing'));
    const reply = new Reply();
    const knowing = scene.pull('billing', { memberId, waitMs, reply });
    await scene.clock.settle();
    const other = scene.pull('billing', { memberId, waitMs });
    await scene.ack('billing', { memberId, generation }, { action: 'NACK', runs: [0, 0], delayMs: 5_000 });
    reply.lose();
    await scene.wait(knowing);
    expect(offsetsOf(await scene.wait(other))).toEqual([0]);
    expect(scene.clock.nowMs()).toBeLessThan(1_000_000 + 10_000);
  });

  test('a member with 10 pulls under way is told to wait for one of them to end', async () => {
    const { memberId } = await scene.wait(scene.pull('billing'));
    const pulls = Array.from({ length: 10 }, () => scene.pull('billing', { memberId, waitMs }));
    await scene.clock.settle();
    const refused = { reason: 'MEMBER_PULLS_MAX', metadata: { memberId, memberPullsMax: '10' } };
    await expect(scene.wait(scene.pull('billing', { memberId }))).rejects.toMatchObject(refused);
    logs[0]!.append(1);
    await scene.wait(Promise.race(pulls));
    await scene.wait(scene.pull('billing', { memberId }));
  });
});
