import { beforeEach, describe, expect, test } from 'vitest';
import type { MemberId } from '../../../src/coordinator/group.ts';
import { begunAt } from '../../../src/consumption/partitioned/cursor.ts';
import { Database } from '../database/database.ts';
import { Ledger } from './ledger.ts';
import { StreamOrder } from './order.ts';
import { World } from '../world.ts';
import { keepsForever } from '../../support/retention/stored-segments.ts';

const member = 'member' as MemberId;
const partition = { topic: 'orders', partition: 0 };
const batch = (...offsets: number[]) => ({
  ...partition,
  records: offsets.map((offset) => ({ offset, key: 'k', value: `${offset}`, attempt: 1 })),
});

let world: World;
let database: Database;
let ledger: Ledger;
let order: StreamOrder;

beforeEach(async () => {
  world = new World(1);
  database = new Database(world);
  ledger = new Ledger(world, database);
  database.log.create({
    name: 'orders',
    partitions: 1,
    idempotencyWindowMs: 1_000,
    description: '',
    retention: keepsForever,
  });
  const { groups, subscriptions, cursors } = database.groups;
  const held = { topicId: 1, partition: 0, memberId: member, sinceGeneration: 1 };
  const assigned = { members: new Map(), assignments: new Map([['1/0', held]]), rebalances: new Map() };
  groups.push({ id: 1, name: 'billing', generation: 1, ...assigned, emptySinceMs: 0 });
  const row = subscriptions.create(1, 1, null);
  const key = { subscriptionId: 1, partition: 0, lane: 0 };
  cursors.set('1/0/0', { key, cursor: begunAt(0) });
  ledger.subscribed([row]);
  order = new StreamOrder(ledger, 'billing');
  order.assigned([partition]);
});

function sent(what: ReturnType<typeof batch>, epoch = database.epoch): void {
  order.sent(member, what, epoch);
}

function say(action: 'ACK' | 'NACK', offset: number, memberId = member): void {
  const entry = { ...partition, lane: 0, upToOffset: null, runs: [offset, offset], delayMs: null, error: '' };
  ledger.ackArrived(database.epoch, { group: 'billing', memberId, generation: 1, entries: [{ ...entry, action }] });
}

describe('the check of the order', () => {
  test('the check of the order finds a record that is passed over because of an ack of another member', async () => {
    say('ACK', 0, 'other' as MemberId);
    sent(batch(1), database.epoch - 1);
    await expect(world.run(1)).resolves.toBe(false);
    order.assigned([]);
    order.assigned([partition]);
    sent(batch(1));
    await expect(world.run(1)).rejects.toThrow('orders/0@1 comes before @0, which is not acked');
  });

  test('the check of the order finds a record that does not come again after a reset', async () => {
    say('ACK', 0);
    ledger.cursorsReset([{ key: { subscriptionId: 1, partition: 0, lane: 0 }, offset: 0, resets: 1 }]);
    sent(batch(1));
    await expect(world.run(1)).rejects.toThrow('orders/0@1 comes before @0, which is not acked');
  });

  test('the check of the order finds a record that is passed over', async () => {
    sent(batch(0, 1));
    sent(batch(3));
    await expect(world.run(1)).rejects.toThrow('orders/0@3 comes before @2, which is not acked');
  });

  test('the check of the order finds a record that comes again although it was not given back', async () => {
    sent(batch(0, 1));
    sent(batch(1));
    await expect(world.run(1)).rejects.toThrow('orders/0@1 comes behind @1');
  });

  test('the check of the order finds delivery that goes back further than the member has given back', async () => {
    sent(batch(0, 1, 2));
    say('NACK', 1);
    sent(batch(0));
    await expect(world.run(1)).rejects.toThrow('orders/0@0 comes behind @2');
  });

  test('the check of the order finds records of a partition that is not assigned to the stream', async () => {
    sent({ ...batch(0), partition: 1 });
    await expect(world.run(1)).rejects.toThrow('was not told to have it');
  });
});

test('the check of the order lets acked records be passed over, and records that were given back come again', async () => {
  say('ACK', 0);
  sent(batch(1, 2));
  say('NACK', 2);
  sent(batch(2, 3));
  await expect(world.run(1)).resolves.toBe(false);
});
