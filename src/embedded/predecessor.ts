import { execFile } from 'node:child_process';
import { readdir, readFile, readlink, realpath, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Clock } from '../time/clock.ts';
import { pause } from '../time/pause.ts';
import { EmbeddedPostgresError } from './error.ts';
import type { EmbeddedLog } from './log.ts';

const execute = promisify(execFile);

const fastStopMs = 15_000;
const immediateStopMs = 15_000;
const lookMs = 20;

/**
 * Ends a server that a killed broker left running on this cluster. The caller holds the directory's
 * lock, so that broker is gone. Committed data is kept; the new server recovers what is not
 * flushed.
 */
export async function stopPredecessor(
  cluster: string,
  log: EmbeddedLog,
  clock: Clock,
  ending: AbortSignal,
): Promise<void> {
  const processes = await processesOn(cluster);
  if (processes.length > 0) {
    const postmaster = await recordedPid(cluster);
    log.warn(`stopping PostgreSQL (process ${String(postmaster)}), which a killed broker left running`);
    // Backends without a postmaster end by themselves, and only a postmaster can shut down fast.
    if (processes.includes(postmaster)) signal(postmaster, 'SIGINT');
    if (!(await gone(cluster, fastStopMs, clock, ending))) {
      for (const pid of await processesOn(cluster)) signal(pid, 'SIGQUIT');
      if (!(await gone(cluster, immediateStopMs, clock, ending))) {
        throw new EmbeddedPostgresError(
          `PostgreSQL of an earlier broker (process ${String(postmaster)}) still runs on ${cluster}; end it first`,
        );
      }
    }
  }
  if (process.platform === 'linux') await removeTraces(cluster);
}

/**
 * Removes the files that name the server's process. After a kill -9 that process id may be a zombie
 * or an unrelated process, and PostgreSQL would refuse to start. No server runs on this cluster
 * now.
 */
async function removeTraces(cluster: string): Promise<void> {
  const names = await readdir(cluster).catch(() => []);
  const traces = names.filter((name) => name === 'postmaster.pid' || name.startsWith('.s.PGSQL.'));
  await Promise.all(traces.map((name) => rm(join(cluster, name), { force: true })));
}

async function recordedPid(cluster: string): Promise<number> {
  const text = await readFile(join(cluster, 'postmaster.pid'), 'utf8').catch(() => '');
  return Number.parseInt(text, 10);
}

/**
 * The postmaster of this cluster and its children: the only processes that work in its directory.
 */
async function processesOn(cluster: string): Promise<number[]> {
  if (process.platform !== 'linux') return postmasterOn(cluster);
  const directory = await realpath(cluster).catch(() => null);
  if (directory === null) return [];
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
  const working = await Promise.all(
    // Processes may end meanwhile, and those of other users are not readable.
    pids.map((pid) => readlink(`/proc/${String(pid)}/cwd`).catch(() => null)),
  );
  return pids.filter((_, index) => working[index] === directory);
}

async function postmasterOn(cluster: string): Promise<number[]> {
  const pid = await recordedPid(cluster);
  if (!(pid > 1)) return [];
  const { stdout } = await execute('ps', ['-o', 'command=', '-p', String(pid)]).catch(() => ({ stdout: '' }));
  return stdout.includes('postgres') && stdout.includes(cluster) ? [pid] : [];
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

/** Polls, because they are not our children and their end raises no event. @throws at a stop */
async function gone(cluster: string, withinMs: number, clock: Clock, ending: AbortSignal): Promise<boolean> {
  const deadlineMs = clock.nowMs() + withinMs;
  while ((await processesOn(cluster)).length > 0) {
    if (clock.nowMs() >= deadlineMs) return false;
    await pause(clock, lookMs, ending);
    if (ending.aborted) throw new EmbeddedPostgresError('this broker ends before its PostgreSQL has started');
  }
  return true;
}
