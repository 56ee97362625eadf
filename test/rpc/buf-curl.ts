import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { promisify } from 'node:util';
import { onTestFinished } from 'vitest';

const buf = new URL('../../node_modules/.bin/buf', import.meta.url).pathname;

/**
 * Runs `buf curl` without any proto file, as a newcomer does: what it knows comes from reflection
 * or is given by `--schema`.
 */
export async function bufCurl(...args: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(buf, ['curl', ...args], {
    env: { ...process.env, BUF_CACHE_DIR: '/tmp' },
  });
  return stdout;
}

/** A `buf curl` that goes on, with a stream. */
export function bufCurlStream(...args: string[]): ChildProcess {
  const child = spawn(buf, ['curl', ...args], { stdio: ['ignore', 'pipe', 'ignore'], detached: true });
  // npm's `buf` starts the real one as a process of its own; both are of the same group.
  onTestFinished(() => {
    process.kill(-child.pid!);
  });
  return child;
}
