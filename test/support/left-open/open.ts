import { ChildProcess } from 'node:child_process';
import { Server, Socket } from 'node:net';
import type { Worker } from 'node:worker_threads';
import { noteTimers, SetTimer, setTimers } from './timers.ts';

/**
 * How long a test waits for what is closing: a killed process, a socket after its FIN. Timers get
 * none of it, because a stop cancels its timers.
 */
const closingMsMax = 5_000;
const lookMs = 5;
/** The function of before timers are noted, so that no check finds the wait of another check. */
const { setTimeout: setUnnotedTimeout } = globalThis;
/** Promises and callbacks of what has just been closed run in these turns of the event loop. */
const turnsMax = 20;

/** The part of `process` that lists sockets, listeners, child processes and watchers. */
interface WithHandles {
  _getActiveHandles(): object[];
}

const workers = new Set<Worker>();

/** Notes from now on what Node does not list. */
export function noteOpen(): void {
  noteTimers();
  process.on('worker', (worker: Worker) => {
    workers.add(worker);
    worker.once('exit', () => workers.delete(worker));
  });
}

/** Everything that keeps this process alive, except Vitest's own timers. */
export function openNow(): object[] {
  // Node's public list has only the names of the kinds, which do not tell one socket from another.
  const handles = (process as unknown as WithHandles)._getActiveHandles();
  return [...handles, ...workers, ...setTimers()];
}

/** What is open now and is not in `before`. */
export function leftOpen(before: ReadonlySet<object>): object[] {
  return openNow().filter((one) => !before.has(one));
}

/**
 * The resources outside of `before` that do not close. Waits only if there are any, and only for
 * those that can close by themselves.
 */
export async function stillOpen(before: ReadonlySet<object>): Promise<object[]> {
  let left = leftOpen(before);
  for (let turn = 0; left.length > 0 && turn < turnsMax; turn++) {
    await new Promise((resume) => setImmediate(resume));
    left = leftOpen(before);
  }
  const untilMs = performance.now() + closingMsMax;
  while (left.some((one) => !(one instanceof SetTimer)) && performance.now() < untilMs) {
    await new Promise((resume) => setUnnotedTimeout(resume, lookMs));
    left = leftOpen(before);
  }
  return left;
}

/** One line for a reader of the failure. */
export function describeOpen(one: object): string {
  if (one instanceof SetTimer) return one.toString();
  if (one instanceof ChildProcess) return `the child process ${String(one.pid)}: ${one.spawnargs.join(' ')}`;
  if (one instanceof Server) return `the listener on ${placeOf(one.address())}`;
  if (one instanceof Socket) return `a socket from ${placeOf(one.address())} to ${remoteOf(one)}`;
  return `a ${one.constructor.name}`;
}

function placeOf(address: ReturnType<Server['address']> | ReturnType<Socket['address']>): string {
  if (typeof address === 'string') return address;
  if (address === null || !('port' in address)) return 'a pipe';
  return `${address.address}:${String(address.port)}`;
}

function remoteOf({ remoteAddress, remotePort }: Socket): string {
  return remoteAddress === undefined ? 'a pipe' : `${remoteAddress}:${String(remotePort)}`;
}
