import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { command, records } from '../../log/scene.ts';
import { hour, minute, RetentionScene } from '../retention/scene.ts';
import { Consumer } from './consumer.ts';

// Each wait of a scene ends by itself before that.
vi.setConfig({ testTimeout: 600_000, hookTimeout: 60_000 });

let scene: RetentionScene;
beforeEach(async () => {
  scene = await RetentionScene.open();
  await scene.topic('orders');
});
afterEach(() => scene.close());

const numbers = (from: number, until: number): number[] => Array.from({ length: until - from }, (_, n) => from + n);
/** Publishes so many records in one call. */
const publish = (count: number) =>
  scene.services.broker.publish(command('orders', records(...numbers(0, count).map(String))));
const consumer = (group: string): Consumer => new Consumer(() => scene.services, group, 'orders');
const stateOf = async (group: string) => {
  const page = { size: 1, token: '' };
  return (await scene.services.subscription.getSubscription(group, 'orders', page)).subscription.state;
};

/** The groups that are owed each record, by the claims that the database has. */
async function owed(): Promise<string[]> {
  const { highWatermark } = await scene.extent('orders');
  const claims = await scene.query<{ name: string; start: number; end: number | null }>(
    `SELECT g.name, c.start_offset::float8 AS start, c.end_offset::float8 AS end
       FROM millrace.cursors AS c JOIN millrace.subscriptions AS s ON s.id = c.subscription_id
       JOIN millrace.consumer_groups AS g ON g.id = s.group_id ORDER BY g.name`,
  );
  return numbers(0, highWatermark).map((offset) => {
    return claims
      .filter(({ start, end }) => start <= offset && offset < (end ?? Infinity))
      .map(({ name }) => name)
      .join('');
  });
}

/** So many records that are owed to these groups. */
const of = (groups: string, count = 10): string[] => numbers(0, count).map(() => groups);

/** The group gets a member, which leaves, and is silent for its time. */
async function die(group: string): Promise<void> {
  const member = consumer(group);
  await member.readAll();
  await member.leave();
  scene.pass(4 * minute);
  await scene.until(`the death of ${group}`, async () => (await stateOf(group)) === 'DEAD');
}

const reset = (group: string, offset: number) =>
  scene.services.group.resetOffsets({
    group,
    topics: ['orders'],
    partitions: [],
    to: { type: 'offset', offset },
    force: false,
    dryRun: false,
  });

describe('who is owed a record', () => {
  test('F5: groups from now, paused, dead and back change nothing of the past, and a start, a reset and a cancel exactly what they say', async () => {
    await scene.subscribe('a', 'orders');
    await publish(10);
    await scene.subscribe('b', 'orders', 'latest');
    expect(await owed()).toEqual(of('a'));
    await publish(10);
    await scene.services.subscription.pauseSubscription('a', 'orders');
    expect(await owed()).toEqual([...of('a'), ...of('ab')]);
    await publish(10);
    await die('b');
    expect(await owed()).toEqual([...of('a'), ...of('ab', 20)]);
    await publish(10);
    const b = consumer('b');
    expect(await b.readAll()).toEqual(numbers(30, 40));
    expect(await stateOf('b')).toBe('ACTIVE');
    await publish(10);
    expect(await owed()).toEqual([...of('a'), ...of('ab', 40)]);

    await scene.subscribe('c', 'orders', 'earliest');
    expect(await owed()).toEqual([...of('ac'), ...of('abc', 40)]);
    await b.leave();
    await reset('b', 5);
    expect(await owed()).toEqual([...of('ac', 5), ...of('abc', 45)]);
    await reset('b', 25);
    expect(await owed()).toEqual([...of('ac', 25), ...of('abc', 25)]);
    await scene.services.subscription.cancelSubscription('c', 'orders');
    await publish(10);
    expect(await owed()).toEqual([...of('ac', 25), ...of('abc', 25), ...of('ab')]);

    await scene.services.subscription.resumeSubscription('a', 'orders');
    expect(await consumer('a').readAll()).toEqual(numbers(0, 60));
    expect(await consumer('b').readAll()).toEqual(numbers(25, 60));
  });

  test('fault 3: a group that joins from now during publishes gets every record from its start on', async () => {
    const publishing = scene.publish('orders', 40);
    const groups = numbers(0, 8).map((n) => `from-now-${n}`);
    const starts: number[] = [];
    for (const group of groups) {
      const { partitions } = await scene.subscribe(group, 'orders', 'latest');
      starts.push(partitions.items[0]!.committedOffset);
    }
    await publishing;
    for (const [at, group] of groups.entries()) {
      expect(await consumer(group).readAll()).toEqual(numbers(starts[at]!, 40));
    }
  });

  test('fault 4: a group that starts again from now gets what it was owed meanwhile', async () => {
    const before = consumer('billing');
    expect(await before.readAll()).toEqual([]);
    await before.leave();
    await publish(10);
    // It asks for the latest, as each Pull of it does.
    expect(await consumer('billing').readAll()).toEqual(numbers(0, 10));
  });

  test('fault 5: a group goes on after a graceful stop and a start of broker and member', async () => {
    const before = consumer('billing');
    await before.readAll();
    await publish(10);
    expect(await before.readAll(4)).toEqual(numbers(0, 4));
    await before.leave();
    await scene.takeOver();
    await publish(5);
    expect(await consumer('billing').readAll()).toEqual(numbers(4, 15));
  });

  test('fault 8: a dead group that comes back is not owed again what it had finished', async () => {
    const before = consumer('billing');
    await before.readAll();
    await publish(10);
    expect(await before.readAll(7)).toEqual(numbers(0, 7));
    await before.leave();
    scene.pass(4 * minute);
    await scene.until('the death', async () => (await stateOf('billing')) === 'DEAD');
    await publish(5);
    await scene.takeOver();
    expect(await stateOf('billing')).toBe('DEAD');
    expect(await consumer('billing').readAll()).toEqual(numbers(7, 15));
    expect(await stateOf('billing')).toBe('ACTIVE');
  });
});

describe('dead or alive', () => {
  test('R3: a group that is silent is DEAD, the others go on, and it continues where it was', async () => {
    const [silent, other] = [consumer('silent'), consumer('other')];
    for (const one of [silent, other]) await one.readAll();
    await publish(10);
    expect(await silent.readAll(3)).toEqual(numbers(0, 3));
    await silent.leave();
    for (let from = 0; from < 40; from += 10) {
      expect(await other.readAll()).toEqual(numbers(from, from + 10));
      scene.pass(minute);
      await publish(10);
    }
    await scene.until('the death', async () => (await stateOf('silent')) === 'DEAD');
    expect(await other.readAll()).toEqual(numbers(40, 50));
    expect(await stateOf('other')).toBe('ACTIVE');
    expect(await silent.readAll()).toEqual(numbers(3, 50));
    expect(await stateOf('silent')).toBe('ACTIVE');
  });

  test('a subscription whose member does not return after a takeover is DEAD, counted from the owner before', async () => {
    await consumer('billing').readAll();
    await scene.query('UPDATE millrace.group_members SET session_timeout_ms = 500');
    // The owner renewed its lease for the last time three minutes ago.
    await scene.query('INSERT INTO millrace.broker_epochs (epoch, renewed_at) VALUES (1, $1)', [
      new Date(scene.nowMs - 3 * minute),
    ]);
    await scene.takeOver();
    await scene.until('the removal of the member', async () => {
      return (await scene.services.group.listMembers('billing', { size: 10, token: '' })).items.length === 0;
    });
    expect(await stateOf('billing')).toBe('ACTIVE');
    scene.pass(minute);
    await scene.until('the death', async () => (await stateOf('billing')) === 'DEAD');
  });

  test('fault 19: an idle member and an idle subscription write nothing', async () => {
    const member = consumer('billing');
    await member.readAll();
    await scene.subscribe('nobody', 'orders');
    await publish(3);
    await member.readAll();
    const rows = () =>
      scene.query(
        `SELECT 'subscription' AS what, id, xmin::text FROM millrace.subscriptions
         UNION ALL SELECT 'group', id, xmin::text FROM millrace.consumer_groups
         UNION ALL SELECT 'member', group_id, xmin::text FROM millrace.group_members
         UNION ALL SELECT 'assignment', group_id, xmin::text FROM millrace.group_assignments
         UNION ALL SELECT 'cursor', subscription_id, xmin::text FROM millrace.cursors ORDER BY 1, 2`,
      );
    // The fold of the acks is the last write.
    await scene.until('the fold', async () => {
      const [cursor] = await scene.query<{ offset: number }>(
        'SELECT max(committed_offset)::float8 AS offset FROM millrace.cursors',
      );
      return cursor?.offset === 3;
    });
    const before = await rows();
    for (let times = 0; times < 5; times += 1) {
      scene.pass(hour);
      await scene.looked('orders');
      await member.readAll();
    }
    expect(await rows()).toEqual(before);
  });
});

describe('what a DEAD subscription keeps', () => {
  test('C3: a DEAD group holds cleanup back for its excused time and no longer, and a CANCELLED one not at all', async () => {
    await scene.subscribe('zombie', 'orders');
    const published = await scene.fill('orders', 2);
    const zombie = consumer('zombie');
    expect(await zombie.readAll(1)).toEqual([0]);
    await zombie.leave();
    scene.pass(4 * minute);
    await scene.until('the death', async () => (await stateOf('zombie')) === 'DEAD');
    // The retention is an hour from the look that finds completion, and the excused time two hours.
    await scene.completed('orders', 2);
    scene.pass(2 * hour - minute);
    await scene.looked('orders');
    expect(await scene.drops('orders')).toEqual([]);
    scene.pass(minute);
    await scene.until('two drops', async () => (await scene.drops('orders')).length === 2);
    const drops = await scene.drops('orders');
    expect(drops.map(({ segment, reason }) => [segment, reason])).toEqual([
      [1, 'COMPLETED'],
      [2, 'COMPLETED'],
    ]);
    const start = drops[1]!.ranges[0]!.last + 1;
    // What it has lost is counted, and written down before the cursor jumps.
    await scene.until('the jump', () => scene.counts.gapRecords >= start - 1);
    expect(scene.counts.gapRecords).toBe(start - 1);
    expect(
      await scene.query(
        'SELECT first_offset::int AS first, last_offset::int AS last, reason FROM millrace.cursor_gaps',
      ),
    ).toEqual([{ first: 1, last: start - 1, reason: 'RETENTION' }]);
    expect(await zombie.readAll()).toEqual(numbers(start, published));

    await scene.topic('letters');
    await scene.services.subscription.createSubscription({
      group: 'done',
      topic: 'letters',
      start: { type: 'latest' },
    });
    await scene.services.subscription.createSubscription({
      group: 'gone',
      topic: 'letters',
      start: { type: 'latest' },
    });
    const letters = await scene.fill('letters', 2);
    await scene.commit('done', 'letters', letters);
    scene.pass(hour);
    await scene.looked('letters');
    expect(await scene.drops('letters')).toEqual([]);
    await scene.services.subscription.cancelSubscription('gone', 'letters');
    await scene.completed('letters', 2);
    scene.pass(hour);
    await scene.until('two drops', async () => (await scene.drops('letters')).length === 2);
  });
});
