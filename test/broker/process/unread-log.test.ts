import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { waitFor } from '../../../bench/support/timing.ts';
import { answerOf, entryPoint, flagsOf, Starts } from '../start.ts';

const starts = new Starts();
const { O_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY } = constants;

/** The path of a new named pipe. */
function pipe(): string {
  const directory = mkdtempSync(join(tmpdir(), 'millrace-log-'));
  onTestFinished(() => {
    rmSync(directory, { recursive: true });
  });
  const path = join(directory, 'log');
  expect(spawnSync('mkfifo', [path]).status).toBe(0);
  return path;
}

function opened(path: string, flags: number): number {
  const fd = openSync(path, flags);
  onTestFinished(() => {
    closeSync(fd);
  });
  return fd;
}

/** A pipe that takes no byte more. */
function fullPipe(): number {
  const fd = opened(pipe(), O_RDWR | O_NONBLOCK);
  try {
    for (;;) writeSync(fd, Buffer.alloc(4_096, '\n'));
  } catch {
    return fd;
  }
}

function pipeWithoutReader(): number {
  const path = pipe();
  const reader = openSync(path, O_RDONLY | O_NONBLOCK);
  const fd = opened(path, O_WRONLY | O_NONBLOCK);
  closeSync(reader);
  return fd;
}

/** A broker that serves and logs all that it can, and what logs more of it. */
async function serving(stderr: number): Promise<ChildProcess> {
  const flags = await flagsOf(starts.database.url);
  const node = ['--disable-warning=ExperimentalWarning', entryPoint];
  const { PATH } = process.env;
  const child = spawn(process.execPath, [...node, ...flags, '--log-level', 'trace'], {
    env: { PATH },
    stdio: ['ignore', 'ignore', stderr],
  });
  onTestFinished(() => {
    child.kill('SIGKILL');
  });
  await waitFor('the broker to serve', 30_000, 20, async () => {
    const answer = await answerOf(flags[3]!, '/readyz').catch(() => [0]);
    return answer[0] === 200;
  });
  return child;
}

test.each([
  ['whose pipe is full and has no reader', fullPipe],
  ['whose pipe has lost its reader', pipeWithoutReader],
])('SIGTERM ends a broker with a log %s', { timeout: 90_000 }, async (_what, stderr) => {
  const broker = await serving(stderr());
  const ended = once(broker, 'exit');
  const sentMs = performance.now();
  broker.kill('SIGTERM');
  expect(await ended).toEqual([0, null]);
  expect(performance.now() - sentMs).toBeLessThan(10_000);
});

test.each([
  ['whose pipe is full and has no reader', fullPipe],
  ['whose pipe has lost its reader', pipeWithoutReader],
])('a failed start ends with a log %s', { timeout: 90_000 }, async (_what, stderr) => {
  const flags = await flagsOf(starts.database.url.replace(/\/[^/?]+(?=$|\?)/, '/no_such_database'));
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', entryPoint, ...flags], {
    stdio: ['ignore', 'ignore', stderr()],
  });
  onTestFinished(() => {
    child.kill('SIGKILL');
  });
  expect(await once(child, 'exit')).toEqual([1, null]);
});
