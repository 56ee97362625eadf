import { beforeEach, expect, test } from 'vitest';
import type { MemberId } from '../../../src/coordinator/group.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { Scene, type FakeStream } from '../scene.ts';

/** Looks at the beginning of each turn of the event loop that work has asked for. */
class WatchedClock extends FakeClock {
  onTurn: () => void = () => undefined;

  override soon(run: () => void): void {
    super.soon(() => {
      this.onTurn();
      run();
    });
  }
}

const partitions = 25_000;
let clock: WatchedClock;
let scene: Scene;
let members: FakeStream[];

beforeEach(async () => {
  clock = new WatchedClock();
  scene = await Scene.open({ clock, movesAtOnce: 10_000 });
  scene.addTopic('orders', partitions);
  members = [];
  for (let count = 0; count < 2; count++) {
    members.push(await scene.subscribe('billing', { assignor: 'round_robin', maxInFlightRecords: 1 }));
    await scene.gathered();
  }
});

const holders = (group: string) => scene.describe(group).partitions.map(({ memberId }) => memberId);
const heldBy = (memberId: MemberId): number => holders('billing').filter((holder) => holder === memberId).length;

/** The least partitions with a member at the beginning of a turn, while one more member joins. */
async function leastHeld(group: string, topic: string): Promise<{ least: number; late: FakeStream }> {
  let least = Infinity;
  clock.onTurn = () => {
    least = Math.min(least, holders(group).filter((holder) => holder !== null).length);
  };
  const late = await scene.subscribe(group, { topics: [topic], assignor: 'round_robin' });
  await scene.gathered();
  return { least, late };
}

test('a rebalance of very many partitions keeps the event loop until all of it is carried out, or loses one', async () => {
  const { least, late } = await leastHeld('billing', 'orders');
  expect(least).toBeLessThan(partitions);
  expect([...members, late].map(({ memberId }) => heldBy(memberId))).toEqual([8_334, 8_333, 8_333]);
});

test('a small rebalance is carried out in several turns of the event loop', async () => {
  scene.addTopic('small', 100);
  for (let count = 0; count < 2; count++) {
    await scene.subscribe('other', { topics: ['small'], assignor: 'round_robin' });
    await scene.gathered();
  }
  expect((await leastHeld('other', 'small')).least).toBe(100);
});

test('a broker that stops between two turns of a rebalance goes on with it, or leaves a join without an answer', async () => {
  let stopped: Promise<void> | null = null;
  let assigned = 0;
  clock.onTurn = () => {
    if (stopped !== null) return;
    assigned = heldBy(members[0]!.memberId);
    stopped = scene.delivery.stop();
  };
  await expect(scene.subscribe('billing', { assignor: 'round_robin' })).rejects.toThrow();
  await scene.gathered();
  expect(stopped).not.toBe(null);
  expect(heldBy(members[0]!.memberId)).toBe(assigned);
});

test('a member with few partitions of a large group gets them in another order than a member with many', async () => {
  for (const topic of ['b', 'a']) scene.addTopic(topic, 12);
  const few = await scene.join('billing', { topics: ['b', 'a'], assignor: 'round_robin' });
  await scene.gathered();
  const { signal } = new AbortController();
  const asked = { group: 'billing', memberId: few.memberId, knownGeneration: null, plan: null, waitMs: 0, signal };
  const answer = scene.delivery.membership.sync(asked);
  const places = (await scene.wait(answer)).partitions.map(({ place }) => `${place.topic}/${place.partition}`);
  const all = (topic: string) => Array.from({ length: 12 }, (_, partition) => `${topic}/${partition}`);
  expect(places).toEqual([...all('a'), ...all('b')]);
});

test('a member that asks between two turns of a rebalance gets a part of its assignment in the new generation', async () => {
  const one = await Scene.open({ clock, seed: 'small', movesAtOnce: 1 });
  one.addTopic('small', 12);
  const options = { topics: ['small'], assignor: 'round_robin' };
  const joined = await Promise.all([1, 2, 3].map(() => one.join('other', options)));
  await one.gathered();
  const [leaving, ...staying] = joined.map(({ memberId }) => memberId);
  const asked: ReturnType<typeof one.delivery.membership.sync>[] = [];
  const { signal } = new AbortController();
  clock.onTurn = () => {
    for (const memberId of staying) {
      const command = { group: 'other', memberId, knownGeneration: null, plan: null, waitMs: 1_000, signal };
      asked.push(one.delivery.membership.sync(command));
    }
  };
  await one.wait(one.delivery.membership.leave('other', leaving!));
  const answers = await one.wait(Promise.all(asked));
  const { generation } = one.describe('other');
  const told = new Set(answers.map((answer) => `${answer.generation}: ${answer.partitions.length}`));
  expect([...told].sort()).toEqual([`${generation - 1}: 4`, `${generation}: 6`]);
});
