import { readdirSync, readFileSync } from 'node:fs';

/**
 * CPU time and memory of a process, from /proc. On a machine without /proc all figures are null,
 * and a benchmark runs without costs.
 */
export interface ProcessUsage {
  readonly cpuMs: number;
  readonly memoryPeakMib: number;
}

/** USER_HZ is 100 ticks a second on every Linux that Node runs on. */
const msPerTick = 10;

/** The CPU time of a process so far, and its peak of resident memory. */
export function processUsage(pid: number): ProcessUsage | null {
  const stat = readStat(pid);
  const status = readStatus(pid);
  if (stat === null || status === null) return null;
  return { cpuMs: stat.ownMs, memoryPeakMib: (status.get('VmHWM') ?? 0) / 1024 };
}

/** The sums over several processes; null if one of them is unknown. */
export function sumUsage(pids: readonly number[]): ProcessUsage | null {
  const all = pids.map(processUsage).filter((usage) => usage !== null);
  if (all.length < pids.length) return null;
  return {
    cpuMs: all.reduce((sum, usage) => sum + usage.cpuMs, 0),
    memoryPeakMib: all.reduce((sum, usage) => sum + usage.memoryPeakMib, 0),
  };
}

/**
 * The usage of a PostgreSQL server: its postmaster, its children, and the children that have ended.
 * The memory is the private part of each process, plus the shared part once, because a sum of
 * resident sizes would count the shared buffers for each connection.
 */
export function postgresUsage(postmasterPid: number): { cpuMs: number; memoryMib: number } | null {
  const postmaster = readStat(postmasterPid);
  if (postmaster === null) return null;
  let cpuMs = postmaster.ownMs + postmaster.endedChildrenMs;
  let privateKib = 0;
  let sharedKib = 0;
  for (const pid of [postmasterPid, ...childrenOf(postmasterPid)]) {
    if (pid !== postmasterPid) cpuMs += readStat(pid)?.ownMs ?? 0;
    const status = readStatus(pid);
    privateKib += status?.get('RssAnon') ?? 0;
    sharedKib = Math.max(sharedKib, (status?.get('RssShmem') ?? 0) + (status?.get('RssFile') ?? 0));
  }
  return { cpuMs, memoryMib: (privateKib + sharedKib) / 1024 };
}

/** The parent of a process; null if this machine has no such process. */
export function parentOf(pid: number): number | null {
  return readStat(pid)?.parent ?? null;
}

/** The kernel's name of a process's program; null if this machine has no such process. */
export function programOf(pid: number): string | null {
  return readStat(pid)?.program ?? null;
}

function childrenOf(parent: number): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => readStat(pid)?.parent === parent);
}

interface Stat {
  readonly program: string;
  readonly parent: number;
  readonly ownMs: number;
  readonly endedChildrenMs: number;
}

/**
 * The program's name is in parentheses and may have spaces, so fields count from the last
 * parenthesis.
 */
function readStat(pid: number): Stat | null {
  const text = readProc(pid, 'stat');
  if (text === null) return null;
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const ticks = (field: number): number => Number(fields[field - 3]) * msPerTick;
  return {
    program: text.slice(text.indexOf('(') + 1, text.lastIndexOf(')')),
    parent: Number(fields[1]),
    ownMs: ticks(14) + ticks(15),
    endedChildrenMs: ticks(16) + ticks(17),
  };
}

/** The `Name:  123 kB` lines, in KiB. */
function readStatus(pid: number): Map<string, number> | null {
  const text = readProc(pid, 'status');
  if (text === null) return null;
  return new Map(
    [...text.matchAll(/^(\w+):\s+(\d+) kB$/gm)].map((match) => [match[1]!, Number(match[2])] as [string, number]),
  );
}

function readProc(pid: number, file: string): string | null {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8');
  } catch {
    return null;
  }
}

/**
 * All cores since the machine started: the time in use, and the time that the host gave to other
 * machines.
 */
export function machineUsage(): { readonly busyMs: number; readonly stolenMs: number; readonly allMs: number } | null {
  try {
    const first = readFileSync('/proc/stat', 'utf8').split('\n', 1)[0]!;
    const [user, nice, system, idle, wait, hardware, software, stolen] = first.split(/\s+/).slice(1, 9).map(Number);
    const busy = user! + nice! + system! + hardware! + software!;
    return {
      busyMs: busy * msPerTick,
      stolenMs: stolen! * msPerTick,
      allMs: (busy + idle! + wait! + stolen!) * msPerTick,
    };
  } catch {
    return null;
  }
}
