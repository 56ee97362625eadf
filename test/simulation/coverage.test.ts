import { expect, test } from 'vitest';
import { Simulation } from './simulation.ts';

const seeds = 100;

/**
 * The events that the faults must cause, without the rare ones. If one of these no longer happens,
 * the simulation checks less than it claims.
 */
const wanted = [
  'a broker takes over from another',
  'a write is fenced',
  'a broker wakes',
  'a call is given up before its answer',
  'a publish is found to be there already',
  'a record goes out for the third time or more',
  'records are read from the database',
  'a segment begins',
  'a claim begins',
  'a claim begins anew',
  'a claim ends',
  'a claim is committed: OK',
  'a watermark moves',
  'a segment goes: COMPLETED',
  'a segment goes: ZERO_SUBSCRIPTIONS',
  'revoking is told',
  'changes are told',
  'draining is told',
  'a call ends with OUTCOME_UNKNOWN',
  'a call ends with DATABASE_UNAVAILABLE',
  'a call ends with FENCED',
  'a call ends with MEMBER_FENCED',
  'a call ends with DRAINING',
  'a call ends with SYNC_TIMEOUT',
  'ACK is answered OK',
  'ACK is answered ALREADY_ACKED',
  'NACK is answered OK',
  'NACK is answered LEASE_EXPIRED',
  'RELEASE is answered OK',
  'ACK is answered STALE_GENERATION',
  'RELEASE is answered NOT_OWNER',
  'ACK is answered UNKNOWN_OFFSET',
  'COMMIT is answered UNKNOWN_OFFSET',
  'a cumulative ack comes that passes a refused record',
  'COMMIT is answered OK',
  'COMMIT is answered ALREADY_ACKED',
  'COMMIT is answered STALE_GENERATION',
  'a commit from outside is answered OK',
  'a commit from outside is answered NOT_ADVANCED',
  'a commit from outside is answered UNKNOWN_OFFSET',
  'a call ends with GROUP_NOT_EMPTY',
  'a group is reset',
  'a group is reset by force',
  'a cursor is reset to the past',
  'a cursor is reset ahead',
  'a record is archived',
  'SETTLE is answered OK',
  'SETTLE is answered ALREADY_ACKED',
  'SETTLE is answered LEASE_EXPIRED',
  'SETTLE is answered STALE_GENERATION',
  'SETTLE is answered UNKNOWN_OFFSET',
  'a settlement ends with DATABASE_UNAVAILABLE',
  'a receipt is there',
  'a receipt is not there',
  'the credit of a member is compared',
  'a process takes the place of another one of its instance',
  "a process stops because its instance is another's",
  'a stream ends with INSTANCE_FENCED',
  'a stream ends with SLOW_READER',
  'a stream is cut off',
  'a record comes again after a slow reader',
  'a member reconnects 20 times',
  'a call ends with INSTANCE_FENCED',
  'a call ends with INCONSISTENT_PROTOCOLS',
  'a call ends with ASSIGNOR_FAILED',
  'a call ends with PLAN_STALE',
  'a plan is taken',
  'a member changes its topics',
  'a member is stuck',
  'a topic grows',
  'a rebalance because of MEMBER_JOINED',
  'a rebalance because of MEMBER_LEFT',
  'a rebalance because of STREAM_LOST',
  'a rebalance because of SESSION_TIMEOUT',
  'a rebalance because of REBALANCE_TIMEOUT',
  'a rebalance because of MAX_POLL_INTERVAL',
  'a rebalance because of MEMBER_RESUMED',
  'a rebalance because of MEMBER_CHANGED',
  'a rebalance because of PARTITIONS_CHANGED',
  'a rebalance because of TAKEOVER',
];

test('the faults of the simulation cause every event that it claims to check', { timeout: 200_000 }, async () => {
  const counted = new Map<string, number>();
  for (let seed = 1; seed <= seeds; seed++) {
    const simulation = new Simulation({ seed });
    await simulation.run();
    for (const [what, count] of simulation.world.counted) counted.set(what, (counted.get(what) ?? 0) + count);
  }
  if (process.env['SIMULATION_COUNTS'] !== undefined) console.table([...counted].sort());
  expect(wanted.filter((what) => !counted.has(what))).toEqual([]);
});
