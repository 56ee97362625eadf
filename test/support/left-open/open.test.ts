import { spawn } from 'node:child_process';
import { watch } from 'node:fs';
import { createServer, Socket, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { promisify } from 'node:util';
import { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';
import { describeOpen, leftOpen, openNow, stillOpen } from './open.ts';

/** What is left open after `open`, as a failure shows it, and then without it. */
async function leftBy(open: () => (() => unknown) | Promise<() => unknown>): Promise<string[]> {
  const before = new Set(openNow());
  const close = await open();
  const left = leftOpen(before).map(describeOpen);
  await close();
  expect((await stillOpen(before)).map(describeOpen)).toEqual([]);
  return left;
}

test('a timer that a test leaves is found, with its time and the line that set it', async () => {
  const left = await leftBy(() => {
    const timer = setTimeout(() => undefined, 60_000);
    return () => {
      clearTimeout(timer);
    };
  });
  expect(left).toEqual([expect.stringMatching(/^a timer of 60000 ms, set\n.*open\.test\.ts:\d+/)]);
});

test('an interval that a test leaves is found after many other timers have ended', async () => {
  const left = await leftBy(() => {
    const interval = setInterval(() => undefined, 60_000);
    for (let times = 0; times < 5_000; times++) clearTimeout(setTimeout(() => undefined, 60_000));
    return () => {
      clearInterval(interval);
    };
  });
  expect(left).toEqual([expect.stringMatching(/^a timer of 60000 ms/)]);
});

test('a timer that has fired, was cleared, or does not keep the process alive is not a leak', async () => {
  const before = new Set(openNow());
  await promisify(setTimeout)(1);
  clearTimeout(setTimeout(() => undefined, 60_000));
  const background = setTimeout(() => undefined, 60_000).unref();
  expect(leftOpen(before)).toEqual([]);
  clearTimeout(background);
});

test('a timer is a leak at once, even if it fires while a test may wait for what is closing', async () => {
  const before = new Set(openNow());
  const timer = setTimeout(() => undefined, 2_000);
  expect((await stillOpen(before)).map(describeOpen)).toEqual([expect.stringMatching(/^a timer of 2000 ms/)]);
  clearTimeout(timer);
});

test('a listener and both ends of a socket that a test leaves are found with their addresses', async () => {
  let port = 0;
  const left = await leftBy(async () => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    ({ port } = server.address() as AddressInfo);
    const accepted = new Promise<Socket>((resolve) => server.once('connection', resolve));
    const socket = new Socket().connect(port, '127.0.0.1');
    const other = await accepted;
    await new Promise<void>((resolve) => (socket.connecting ? socket.once('connect', resolve) : resolve()));
    return () => {
      for (const one of [socket, other]) one.destroy();
      server.close();
    };
  });
  const at = `127.0.0.1:${String(port)}`;
  expect(
    left.map((line) => line.replace(/127\.0\.0\.1:\d+/g, (place) => (place === at ? 'here' : 'there'))).sort(),
  ).toEqual(['a socket from here to there', 'a socket from there to here', 'the listener on here']);
});

test('a child process that a test leaves is found with its command, and one that was killed may take its time', async () => {
  const left = await leftBy(() => {
    const child = spawn('sleep', ['60'], { stdio: 'ignore' });
    return () => child.kill('SIGKILL');
  });
  expect(left).toEqual([expect.stringMatching(/^the child process \d+: sleep 60$/)]);
});

test('a worker and a watcher that a test leaves are found', async () => {
  const left = await leftBy(async () => {
    const worker = new Worker('setInterval(() => undefined, 60_000)', { eval: true });
    const watcher = watch(tmpdir());
    await new Promise((resolve) => worker.once('online', resolve));
    return () => {
      watcher.close();
      return worker.terminate();
    };
  });
  expect(left).toEqual(expect.arrayContaining(['a FSWatcher', 'a Worker']));
});
