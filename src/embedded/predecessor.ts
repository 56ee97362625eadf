import { execFile } from 'node:child_process';
import { readFile, readlink, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Clock } from '../time/clock.ts';
import { EmbeddedPostgresError } from './error.ts';
import type { EmbeddedLog } from './log.ts';

const execute = promisify(execFile);

const fastStopMs = 15_000;
const immediateStopMs = 15_000;
const lookMs = 20;

/**
 * Ends a server that a killed broker left running on this cluster. The caller holds the directory's lock, so that broker
 * is gone, and nobody else may stop a server here. What it committed is kept; the new server recovers what is not flushed.
 */
export async function stopPredecessor(cluster: string, log: EmbeddedLog, clock: Clock): Promise<void> {
  const pid = await runningServer(cluster);
  if (pid === null) return;
  log.warn(`stopping PostgreSQL (process ${String(pid)}), which a killed broker left running`);
  signal(pid, 'SIGINT');
  if (await gone(pid, cluster, fastStopMs, clock)) return;
  signal(pid, 'SIGQUIT');
  if (await gone(pid, cluster, immediateStopMs, clock)) return;
  throw new EmbeddedPostgresError(
    `PostgreSQL of an earlier broker (process ${String(pid)}) still runs on ${cluster} and does not stop; end it first`,
  );
}

/** The pid in postmaster.pid, if it is that of a server on this cluster: after a crash it may be anybody's. */
async function runningServer(cluster: string): Promise<number | null> {
  const text = await readFile(join(cluster, 'postmaster.pid'), 'utf8').catch(() => '');
  const pid = Number.parseInt(text, 10);
  return Number.isInteger(pid) && pid > 1 && (await servesCluster(pid, cluster)) ? pid : null;
}

async function servesCluster(pid: number, cluster: string): Promise<boolean> {
  if (process.platform === 'linux') {
    const directory = await readlink(`/proc/${String(pid)}/cwd`).catch(() => null);
    return directory !== null && directory === (await realpath(cluster));
  }
  const { stdout } = await execute('ps', ['-o', 'command=', '-p', String(pid)]).catch(() => ({ stdout: '' }));
  return stdout.includes('postgres') && stdout.includes(cluster);
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'ESRCH') {
      throw new EmbeddedPostgresError(`cannot stop PostgreSQL of an earlier broker (process ${String(pid)})`, {
        cause,
      });
    }
  }
}

/** It is not our child, so nothing tells us when it ends. */
async function gone(pid: number, cluster: string, withinMs: number, clock: Clock): Promise<boolean> {
  const deadlineMs = clock.nowMs() + withinMs;
  while (await servesCluster(pid, cluster)) {
    if (clock.nowMs() >= deadlineMs) return false;
    await new Promise<void>((resolve) => clock.after(lookMs, resolve));
  }
  return true;
}
