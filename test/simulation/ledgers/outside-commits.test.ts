import { beforeEach, describe, expect, test } from 'vitest';
import { begunAt } from '../../../src/consumption/partitioned/cursor.ts';
import type { MemberId, MemberRow } from '../../../src/coordinator/group.ts';
import { Database } from '../database/database.ts';
import { Ledger } from './ledger.ts';
import { World } from '../world.ts';
import { keepsForever } from '../../support/retention/stored-segments.ts';

const member = 'member' as MemberId;
const place = { topic: 'orders', partition: 0 };
const committed = { status: 'OK', committedOffset: 0 } as const;

let world: World;
let ledger: Ledger;
let members: Map<MemberId, MemberRow>;

beforeEach(() => {
  world = new World(1);
  const database = new Database(world);
  ledger = new Ledger(world, database);
  database.log.create({
    name: 'orders',
    partitions: 1,
    idempotencyWindowMs: 1_000,
    description: '',
    retention: keepsForever,
  });
  const { groups, subscriptions, cursors } = database.groups;
  members = new Map();
  const row = { id: 1, name: 'billing', generation: 1, members, assignments: new Map(), rebalances: new Map() };
  groups.push({ ...row, emptySinceMs: 0 });
  const subscription = subscriptions.create(1, 1, null);
  const key = { subscriptionId: 1, partition: 0, lane: 0 };
  cursors.set('1/0/0', { key, cursor: begunAt(0) });
  ledger.subscribed([subscription]);
});

/** Makes the members of the group durable. */
function save(epoch: number, ...now: readonly MemberId[]): void {
  members.clear();
  for (const memberId of now) members.set(memberId, { memberId } as MemberRow);
  ledger.groupsSaved(epoch);
}

describe('the check of commits from outside', () => {
  test('the check lets a commit count whose group was empty for a part of the call', async () => {
    save(1, member);
    const commit = ledger.commitArrived(2, 'billing', place, 0);
    save(2);
    save(2, member);
    ledger.commitAnswered(commit, committed);
    await world.run(1);
  });

  test('the check finds a commit that counts although the group had members for all of the call', async () => {
    save(1, member);
    const commit = ledger.commitArrived(1, 'billing', place, 0);
    save(1, member);
    ledger.commitAnswered(commit, committed);
    await expect(world.run(1)).rejects.toThrow('OK commit from outside, and the group has members');
  });

  test('the check finds a commit that counts at a broker that does not know that the group is empty', async () => {
    save(1, member);
    const commit = ledger.commitArrived(1, 'billing', place, 0);
    save(2);
    save(2, member);
    ledger.commitAnswered(commit, committed);
    await expect(world.run(1)).rejects.toThrow('OK commit from outside, and the group has members');
  });

  test('members that come after a commit has ended must get what it would have passed', async () => {
    save(1, member);
    const commit = ledger.commitArrived(1, 'billing', place, 1);
    ledger.commitEnded(commit);
    save(1);
    expect(ledger.mayPassOver('billing', place, 0, 1)).toBe(false);
  });
});
