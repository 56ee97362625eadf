import { beforeEach, describe, expect, test } from 'vitest';
import type { GroupChange, MemberId, MemberRow } from '../../../src/coordinator/group.ts';
import { instanceFenced } from '../../../src/errors/rejections/members.ts';
import { MemoryGroupStore } from '../../support/memory-group-store.ts';
import { Database } from '../database/database.ts';
import { GroupLedger } from './group-ledger.ts';
import { World } from '../world.ts';
import { keepsForever } from '../../support/retention/stored-segments.ts';

const [first, second] = ['first', 'second'] as [MemberId, MemberId];
const orders = (...partitions: number[]) => partitions.map((partition) => ({ topic: 'orders', partition }));
const to = (memberId: MemberId) => ({ epoch: 1, group: 'billing', memberId });

let world: World;
let database: Database;
let ledger: GroupLedger;

beforeEach(async () => {
  world = new World(1);
  database = new Database(world);
  ledger = new GroupLedger(world, database);
  database.log.create({
    name: 'orders',
    partitions: 2,
    idempotencyWindowMs: 1_000,
    description: '',
    retention: keepsForever,
  });
  await new MemoryGroupStore(database.groups).createGroup('billing');
});

function rowOf(memberId: MemberId, instanceId: string | null = null): MemberRow {
  return {
    memberId,
    clientId: 'client',
    host: 'host',
    instanceId,
    kind: 'STREAM',
    sessionTimeoutMs: 10_000,
    rebalanceTimeoutMs: 10_000,
    maxPollIntervalMs: 10_000,
    assignor: 'sticky',
    clientAssignors: [],
    metadata: new Uint8Array(),
    topicIds: [1],
    joinSeq: 0,
  };
}

/** Commits the holders of the first partitions, each since a generation. */
function save(
  generation: number,
  holders: readonly (readonly [MemberId, number])[],
  change: Partial<GroupChange> = {},
) {
  const putAssignments = holders.map(([memberId, sinceGeneration], partition) => {
    return { topicId: 1, partition, memberId, sinceGeneration };
  });
  const whole = {
    generation,
    putMembers: [],
    removedMembers: [],
    putAssignments,
    removedAssignments: [],
    rebalances: [],
  };
  ledger.saved(1, { ...whole, ...change }, 1);
  const row = ledger.row('billing')!;
  row.generation = generation;
  for (const one of putAssignments) row.assignments.set(`1/${one.partition}`, one);
  for (const one of change.removedMembers ?? []) row.members.delete(one);
  for (const one of change.putMembers ?? []) row.members.set(one.memberId, one);
}

const violation = () => expect(world.run(1)).rejects;

describe('the check of groups', () => {
  test('the check of groups finds a generation that falls', async () => {
    save(2, []);
    save(1, []);
    await violation().toThrow('saves generation 1 of billing, which is at 2');
  });

  test('the check of groups finds a generation that a member gets before it is durable', async () => {
    save(1, []);
    ledger.generationTold(to(first), 2);
    await violation().toThrow('is told of generation 2 when 1 is durable');
  });

  test('the check of groups finds a partition with two holders since one generation', async () => {
    save(1, [[first, 1]]);
    save(1, [[second, 1]]);
    await violation().toThrow('1/0 since 1 is given to second and was to first');
  });

  test('the check of groups finds two members that get one partition', async () => {
    save(1, [[first, 1]]);
    ledger.assignmentTold(to(first), orders(0), 1);
    save(2, [[second, 2]]);
    ledger.assignmentTold(to(second), orders(0), 2);
    await violation().toThrow("orders/0 is second's while first still has it");
  });

  test('the check of groups finds an assignment that misses a partition which the member still holds', async () => {
    save(1, [
      [first, 1],
      [first, 1],
    ]);
    ledger.assignmentTold(to(first), orders(0, 1), 1);
    ledger.assignmentTold(to(first), orders(0), 1);
    await violation().toThrow('first is told that it has lost orders/1, which it holds since 1');
  });

  test('the check of groups lets a member lose what it gets back in a generation that the broker does not know yet', async () => {
    save(1, [[first, 1]]);
    save(2, [[first, 2]]);
    ledger.assignmentTold(to(first), orders(0), 1);
    ledger.assignmentTold(to(first), [], 2);
    await world.run(1);
  });

  test('the check of groups finds records that go to an earlier holder after they went to a later one', async () => {
    save(1, [[first, 1]]);
    save(2, [[second, 2]]);
    ledger.delivered(to(second), orders(0)[0]!);
    ledger.delivered(to(first), orders(0)[0]!);
    await violation().toThrow("goes to first, whose it was before it was another's");
  });

  test('the check of groups finds records that go to a member that never held the partition', async () => {
    save(1, [[first, 1]]);
    ledger.delivered(to(second), orders(0)[0]!);
    await violation().toThrow('goes to second, whose it never was');
  });

  test('the check of groups finds a fenced process that is still the member of its instance', async () => {
    save(1, [], { putMembers: [rowOf(first, 'worker')] });
    ledger.refusalTold(instanceFenced({ memberId: first }));
    await violation().toThrow("first is told that its instance is another's, and is a member of billing");
  });

  test('the check of groups finds two plans for one generation', async () => {
    ledger.planTaken(1, 'billing', 1, 1);
    ledger.planTaken(1, 'billing', 1, 1);
    await violation().toThrow('the plan for generation 1 of billing is taken twice');
  });
});

test('a new process of an instance may hold its partitions since the same generation', async () => {
  save(1, [[first, 1]], { putMembers: [rowOf(first, 'worker')] });
  ledger.delivered(to(first), orders(0)[0]!);
  save(1, [[second, 1]], { putMembers: [rowOf(second, 'worker')], removedMembers: [first] });
  ledger.delivered(to(second), orders(0)[0]!);
  expect(ledger.successorOf(first)).toBe(second);
  await expect(world.run(1)).resolves.toBe(false);
});

test('the check of groups reports a member without a partition, and a process that is no member', () => {
  save(1, [[first, 1]], { putMembers: [rowOf(first), rowOf(second)] });
  const live = (memberId: MemberId | null, stuck = false) => ({ memberId, topics: ['orders'], stuck });
  expect(ledger.missing('billing', [live(first), live(second)], false)).toBe('second of billing has nothing');
  expect(ledger.missing('billing', [live(first), live(second, true)], false)).toBeNull();
  expect(ledger.missing('billing', [live(first)], false)).toBe('second is a member of billing, and no process is it');
  const withAnother = [live(first), live(second, true), live(null)];
  expect(ledger.missing('billing', withAnother, false)).toBe('a process is not a member of billing');
  expect(ledger.missing('billing', withAnother, true)).toBeNull();
});
