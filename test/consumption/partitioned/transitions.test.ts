import { expect, test } from 'vitest';
import { begunAt, Cursor } from '../../../src/consumption/partitioned/cursor.ts';
import { bounds, type Moving } from './scene.ts';

/** The state of one record for the holder of its log. */
type State = 'WAITING' | 'IN_FLIGHT' | 'RETURNED' | 'REFUSED' | 'REPEATED' | 'MOVING' | 'ACKED';
type Input =
  | 'deliver'
  | 'ackUpTo'
  | 'ackRuns'
  | 'nack'
  | 'release'
  | 'leaseOver'
  | 'leftByPeace'
  | 'lost'
  | 'resend'
  | 'takeover'
  | 'reset'
  | 'move'
  | 'moved'
  | 'stays';
type Outcome = readonly [State, said: string, ended: number];

/** The settlement of the record at offset 0. */
const token: Moving = { runs: [0, 0], delta: { ...begunAt(0), acked: [0, 0] } };

/** Each input to a cursor of a log with one record, at offset 0, which has a lease until 10 ms. */
const inputs: Readonly<Record<Input, (cursor: Cursor) => unknown>> = {
  deliver: (cursor) => {
    const next = cursor.next(1, 0);
    if (next.type === 'blocked') return next.on;
    cursor.deliver(next.first, next.last, { keptBytes: 0, bytesOf: () => 100 }, 10);
    return 'deliver';
  },
  ackUpTo: (cursor) => cursor.ackUpTo(0).status,
  ackRuns: (cursor) => cursor.ackRuns([0, 0]).status,
  nack: (cursor) => cursor.nack({ upTo: 0 }, 0, 0).status,
  release: (cursor) => cursor.release({ upTo: 0 }, 0).status,
  leaseOver: (cursor) => cursor.expireLeases(10).records,
  leftByPeace: (cursor) => cursor.giveBackAll(false).records,
  lost: (cursor) => cursor.giveBackAll(true).records,
  resend: (cursor) => cursor.resend().records,
  takeover: () => 'reload',
  move: (cursor) => {
    const may = cursor.mayMove(token.runs);
    const moved = orBug(() => JSON.stringify(cursor.move(token.runs)) === JSON.stringify(token));
    expect(may === 'OK').toBe(moved === true);
    return moved;
  },
  moved: (cursor) => orBug(() => cursor.moved(token).records),
  stays: (cursor) => orBug(() => cursor.stays(token).records),
  reset: (cursor) => {
    if (cursor.inFlightRecords > 0) {
      expect(() => {
        cursor.reset(0, 1);
      }).toThrow('in flight');
      return 'a bug';
    }
    cursor.reset(0, 1);
    return 'reset';
  },
};

function orBug(input: () => unknown): unknown {
  try {
    return input();
  } catch (error) {
    expect(String(error)).toContain('only records that');
    return 'a bug';
  }
}

/** The inputs that lead to each state. */
const ways: Readonly<Record<State, readonly Input[]>> = {
  WAITING: [],
  IN_FLIGHT: ['deliver'],
  RETURNED: ['deliver', 'resend'],
  REFUSED: ['deliver', 'release'],
  REPEATED: ['deliver', 'release', 'deliver'],
  MOVING: ['deliver', 'move'],
  ACKED: ['deliver', 'ackUpTo'],
};

/** The table is complete by type: a missing cell does not compile. */
const table: Readonly<Record<State, Readonly<Record<Input, Outcome>>>> = {
  WAITING: {
    deliver: ['IN_FLIGHT', 'deliver', 0],
    ackUpTo: ['WAITING', 'UNKNOWN_OFFSET', 0],
    ackRuns: ['WAITING', 'UNKNOWN_OFFSET', 0],
    nack: ['WAITING', 'UNKNOWN_OFFSET', 0],
    release: ['WAITING', 'UNKNOWN_OFFSET', 0],
    leaseOver: ['WAITING', '0', 0],
    leftByPeace: ['WAITING', '0', 0],
    lost: ['WAITING', '0', 0],
    resend: ['WAITING', '0', 0],
    takeover: ['WAITING', 'reload', 0],
    reset: ['WAITING', 'reset', 0],
    move: ['WAITING', 'a bug', 0],
    moved: ['WAITING', 'a bug', 0],
    stays: ['WAITING', 'a bug', 0],
  },
  IN_FLIGHT: {
    deliver: ['IN_FLIGHT', 'CAUGHT_UP', 0],
    ackUpTo: ['ACKED', 'OK', 0],
    ackRuns: ['ACKED', 'OK', 0],
    nack: ['REFUSED', 'OK', 1],
    release: ['REFUSED', 'OK', 0],
    leaseOver: ['REFUSED', '1', 1],
    leftByPeace: ['WAITING', '1', 0],
    lost: ['WAITING', '1', 1],
    resend: ['RETURNED', '1', 0],
    takeover: ['WAITING', 'reload', 0],
    reset: ['IN_FLIGHT', 'a bug', 0],
    move: ['MOVING', 'true', 0],
    moved: ['IN_FLIGHT', 'a bug', 0],
    stays: ['IN_FLIGHT', 'a bug', 0],
  },
  RETURNED: {
    deliver: ['IN_FLIGHT', 'deliver', 0],
    ackUpTo: ['ACKED', 'OK', 0],
    ackRuns: ['ACKED', 'OK', 0],
    nack: ['REFUSED', 'LEASE_EXPIRED', 0],
    release: ['REFUSED', 'LEASE_EXPIRED', 0],
    leaseOver: ['RETURNED', '0', 0],
    leftByPeace: ['WAITING', '0', 0],
    lost: ['WAITING', '0', 0],
    resend: ['RETURNED', '0', 0],
    takeover: ['WAITING', 'reload', 0],
    reset: ['WAITING', 'reset', 0],
    move: ['RETURNED', 'a bug', 0],
    moved: ['RETURNED', 'a bug', 0],
    stays: ['RETURNED', 'a bug', 0],
  },
  REFUSED: {
    deliver: ['REPEATED', 'deliver', 0],
    ackUpTo: ['REFUSED', 'UNKNOWN_OFFSET', 0],
    ackRuns: ['ACKED', 'OK', 0],
    nack: ['REFUSED', 'LEASE_EXPIRED', 0],
    release: ['REFUSED', 'LEASE_EXPIRED', 0],
    leaseOver: ['REFUSED', '0', 0],
    leftByPeace: ['WAITING', '0', 0],
    lost: ['WAITING', '0', 0],
    resend: ['REFUSED', '0', 0],
    takeover: ['WAITING', 'reload', 0],
    reset: ['WAITING', 'reset', 0],
    move: ['REFUSED', 'a bug', 0],
    moved: ['REFUSED', 'a bug', 0],
    stays: ['REFUSED', 'a bug', 0],
  },
  REPEATED: {
    deliver: ['REPEATED', 'CAUGHT_UP', 0],
    ackUpTo: ['REPEATED', 'UNKNOWN_OFFSET', 0],
    ackRuns: ['ACKED', 'OK', 0],
    nack: ['REFUSED', 'OK', 1],
    release: ['REFUSED', 'OK', 0],
    leaseOver: ['REFUSED', '1', 1],
    leftByPeace: ['WAITING', '1', 0],
    lost: ['WAITING', '1', 1],
    resend: ['REFUSED', '1', 0],
    takeover: ['WAITING', 'reload', 0],
    reset: ['REPEATED', 'a bug', 0],
    move: ['MOVING', 'true', 0],
    moved: ['REPEATED', 'a bug', 0],
    stays: ['REPEATED', 'a bug', 0],
  },
  MOVING: {
    deliver: ['MOVING', 'CAUGHT_UP', 0],
    ackUpTo: ['MOVING', 'UNKNOWN_OFFSET', 0],
    ackRuns: ['MOVING', 'UNKNOWN_OFFSET', 0],
    nack: ['MOVING', 'UNKNOWN_OFFSET', 0],
    release: ['MOVING', 'UNKNOWN_OFFSET', 0],
    leaseOver: ['MOVING', '0', 0],
    leftByPeace: ['MOVING', '0', 0],
    lost: ['MOVING', '0', 0],
    resend: ['MOVING', '0', 0],
    takeover: ['WAITING', 'reload', 0],
    reset: ['MOVING', 'a bug', 0],
    move: ['MOVING', 'a bug', 0],
    moved: ['ACKED', '1', 0],
    stays: ['REFUSED', '1', 0],
  },
  ACKED: {
    deliver: ['ACKED', 'CAUGHT_UP', 0],
    ackUpTo: ['ACKED', 'ALREADY_ACKED', 0],
    ackRuns: ['ACKED', 'ALREADY_ACKED', 0],
    nack: ['ACKED', 'ALREADY_ACKED', 0],
    release: ['ACKED', 'ALREADY_ACKED', 0],
    leaseOver: ['ACKED', '0', 0],
    leftByPeace: ['ACKED', '0', 0],
    lost: ['ACKED', '0', 0],
    resend: ['ACKED', '0', 0],
    takeover: ['ACKED', 'reload', 0],
    reset: ['WAITING', 'reset', 0],
    move: ['ACKED', 'a bug', 0],
    moved: ['ACKED', 'a bug', 0],
    stays: ['ACKED', 'a bug', 0],
  },
};

/** Finds the state from the records in flight and the answers to acks. It uses up the cursor. */
function stateOf(cursor: Cursor): State {
  if (cursor.committedOffset === 1) return 'ACKED';
  const isOut = cursor.inFlightRecords === 1;
  if (cursor.ackUpTo(0).status === 'OK') return isOut ? 'IN_FLIGHT' : 'RETURNED';
  if (cursor.ackRuns([0, 0]).status === 'UNKNOWN_OFFSET') return isOut ? 'MOVING' : 'WAITING';
  return isOut ? 'REPEATED' : 'REFUSED';
}

const cells = Object.entries(table).flatMap(([state, row]) =>
  Object.entries(row).map(([input, outcome]) => ({ state: state as State, input: input as Input, outcome })),
);

test.each(cells)('a record in state $state answers $input with $outcome', ({ state, input, outcome }) => {
  let cursor = new Cursor(begunAt(0), bounds);
  for (const way of ways[state]) inputs[way](cursor);
  const said = String(inputs[input](cursor));
  if (input === 'takeover') cursor = new Cursor(cursor.snapshot(), bounds);
  const ended = cursor.attemptOf(0) - 1;
  expect([stateOf(cursor), said, ended]).toEqual(outcome);
});
