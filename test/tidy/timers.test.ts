import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';

/** Holds waiting and loops to the few tools of src/time. */

const root = new URL('../../', import.meta.url).pathname;
const files = globSync('src/**/*.ts', { cwd: root })
  .filter((path) => !path.startsWith('src/time/'))
  .sort();

const filesWith = (found: RegExp): string[] =>
  files.filter((path) => found.test(readFileSync(join(root, path), 'utf8')));

/**
 * Files that set a timer by hand, each with the reason why no tool of src/time fits. They keep what
 * cancels the timer, and cancel it at their end.
 */
const timersByHand: Readonly<Record<string, string>> = {
  'src/delivery/calls/nack-log.ts': 'the end of a window that opens with a NACK',
  'src/delivery/dispatch/feed.ts': 'one retry of a read, which a seat waits for; the earliest deadline of a lease',
  'src/delivery/dispatch/retry-line.ts': 'one retry for all streams that wait for memory',
  'src/delivery/dispatch/stream-session.ts': 'the earliest deadline of what the stream delivers, and its idle time',
  'src/delivery/groups/driver.ts': 'the earliest deadline of the coordinator',
  'src/delivery/rounds/ack-rounds.ts': 'a round begins when an ack wants it',
  'src/delivery/rounds/jumps.ts': 'one retry for each write of gaps that has failed',
  'src/errors/trouble.ts': 'the end of a quiet time, and src/errors imports nothing',
  'src/log/log.ts': 'one retry for each topic whose ends are not known',
  'src/ownership/ownership.ts': 'the deadline of the lease machine',
  'src/rpc/bodies/buffered-bodies.ts': 'runs only while a stream of requests is open',
  'src/rpc/requests/first-bytes.ts': 'ends a connection, and nothing waits for it',
  'src/storage/log/loaded-ends.ts': 'the end of sessions that a pause has shown to be idle',
  'src/storage/pg/answered.ts': 'ends a connection, and the work that waits for its answer fails with its error',
};

test('a timer that is set by hand has a reason why no loop and no time limit of src/time fits', () => {
  expect(filesWith(/\.after\(/)).toEqual(Object.keys(timersByHand));
});

test('a race against a timer is not made by hand, because the timer of the winner would stay', () => {
  expect(filesWith(/Promise\.race\(/)).toEqual([]);
});

test('work that is shared, or done one after the other, has no promise kept for it by hand', () => {
  expect(filesWith(/\?\?= this\.#\w+\(.*\)\.finally\(|\.finally\(\(\) => (this\.#)?\w+\.delete\(/)).toEqual([]);
  expect(filesWith(/= this\.#\w+\.then\(/)).toEqual([]);
});
