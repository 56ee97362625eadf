import { beforeEach, describe, expect, test } from 'vitest';
import type { MemberId } from '../../src/coordinator/group.ts';
import { Database } from './database.ts';
import { Ledger } from './ledger.ts';
import { StreamOrder } from './order.ts';
import { World } from './world.ts';

const member = 'member' as MemberId;
const partition = { topic: 'orders', partition: 0 };
const batch = (...offsets: number[]) => ({
  ...partition,
  records: offsets.map((offset) => ({ offset, key: 'k', value: `${offset}`, attempt: 1 })),
});

let world: World;
let ledger: Ledger;
let order: StreamOrder;

beforeEach(async () => {
  world = new World(1);
  const database = new Database(world);
  ledger = new Ledger(world, database);
  database.log.create({ name: 'orders', partitions: 1, idempotencyWindowMs: 1_000, description: '' });
  const { groups, subscriptions, cursors } = database.groups;
  groups.push({
    id: 1,
    name: 'billing',
    generation: 1,
    members: new Map(),
    assignments: new Map(),
    rebalances: new Map(),
  });
  const row = { id: 1, groupId: 1, topicId: 1, createdAtMs: 0 };
  subscriptions.push(row);
  const key = { subscriptionId: 1, partition: 0, lane: 0 };
  cursors.set('1/0/0', { key, cursor: { committedOffset: 0, acked: [], attempts: [] } });
  ledger.subscribed([row]);
  order = new StreamOrder(ledger, 'billing');
  order.assigned([partition]);
});

function say(action: 'ACK' | 'NACK', offset: number): void {
  const entry = { ...partition, lane: 0, upToOffset: null, runs: [offset, offset], delayMs: null, error: '' };
  ledger.ackArrived({ group: 'billing', memberId: member, generation: 1, entries: [{ ...entry, action }] });
}

describe('the check of the order finds', () => {
  test('a record that is passed over', async () => {
    order.sent(member, batch(0, 1));
    order.sent(member, batch(3));
    await expect(world.run(1)).rejects.toThrow('orders/0@3 comes before @2, which is not acked');
  });

  test('a record that comes again without having been given back', async () => {
    order.sent(member, batch(0, 1));
    order.sent(member, batch(1));
    await expect(world.run(1)).rejects.toThrow('orders/0@1 comes behind @1');
  });

  test('what goes back further than the member asked', async () => {
    order.sent(member, batch(0, 1, 2));
    say('NACK', 1);
    order.sent(member, batch(0));
    await expect(world.run(1)).rejects.toThrow('orders/0@0 comes behind @2');
  });

  test('a partition that the stream was not told to have', async () => {
    order.sent(member, { ...batch(0), partition: 1 });
    await expect(world.run(1)).rejects.toThrow('was not told to have it');
  });
});

test('what is acked is passed over, and what is given back comes again', async () => {
  say('ACK', 0);
  order.sent(member, batch(1, 2));
  say('NACK', 2);
  order.sent(member, batch(2, 3));
  await expect(world.run(1)).resolves.toBe(false);
});
