import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Clock } from '../time/clock.ts';
import { timeUp, within } from '../time/within.ts';
import { EmbeddedPostgresError } from './error.ts';
import type { Home } from './home.ts';
import { commandAs, runAs } from './identity.ts';
import type { EmbeddedLog } from './log.ts';

const readyLine = 'database system is ready to accept connections';
/** A fast shutdown rolls back and writes a checkpoint, which takes seconds on a slow disk. */
const fastStopMs = 60_000;

/** One run of the server process, from its spawn to its exit. */
export class Postmaster {
  readonly pid: number;
  /** Settles when the process has ended, for any reason. */
  readonly exited: Promise<void>;
  readonly #process: ChildProcess;
  readonly #lines: string[] = [];

  private constructor(child: ChildProcess, pid: number) {
    this.#process = child;
    this.pid = pid;
    this.exited = once(child, 'exit').then(() => undefined);
  }

  /**
   * Spawns the server and waits until it accepts connections. On failure the error has the server's
   * last output.
   */
  static async start(home: Home, port: number, log: EmbeddedLog): Promise<Postmaster> {
    const server = [home.binaries.postgres, ...serverArguments(home, port)];
    const [file = '', ...args] = (await canFollowParent(home))
      ? ['setpriv', '--pdeathsig=INT', '--', ...server]
      : server;
    const command = commandAs(home.identity, file, args);
    const child = spawn(command.file, command.args, {
      ...command.options,
      stdio: ['ignore', 'ignore', 'pipe'],
      // In its own process group, so that Ctrl-C at the terminal reaches only the broker. The
      // broker stops the server after its drain.
      detached: true,
    });
    if (child.pid === undefined) {
      const [cause] = (await once(child, 'error')) as [Error];
      throw new EmbeddedPostgresError(`cannot start PostgreSQL: ${cause.message}`, { cause });
    }
    const postmaster = new Postmaster(child, child.pid);
    await postmaster.#ready(log);
    return postmaster;
  }

  /** Ends the server. Its data is then on disk. */
  async stop(clock: Clock): Promise<void> {
    this.#process.kill('SIGINT');
    // A connection that hangs in a system call could block a fast shutdown. Committed data is in
    // the WAL.
    if ((await within(clock, fastStopMs, this.exited)) === timeUp) this.#process.kill('SIGQUIT');
    await this.exited;
  }

  async #ready(log: EmbeddedLog): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const stderr = this.#process.stderr;
    if (stderr === null) throw new Error('postgres was spawned without a pipe for its stderr');
    createInterface({ input: stderr }).on('line', (line) => {
      this.#lines.push(line);
      if (this.#lines.length > 20) this.#lines.shift();
      if (line.includes(readyLine)) resolve();
      report(log, line);
    });
    // 'close' comes after the last line of stderr; 'exit' may come before it.
    this.#process.once('close', () => {
      reject(new EmbeddedPostgresError(`PostgreSQL did not start: ${reasonIn(this.#lines)}`));
    });
    await promise;
  }
}

function serverArguments(home: Home, port: number): string[] {
  const settings = {
    listen_addresses: '127.0.0.1',
    port: String(port),
    unix_socket_directories: socketDirectory(home) ?? '',
    // The start waits for a line of stderr in English.
    logging_collector: 'off',
    log_destination: 'stderr',
    lc_messages: 'C',
    log_line_prefix: '',
  };
  return ['-D', home.cluster, ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])];
}

/**
 * The directory of the Unix socket: the cluster, which only its user can enter. Null if the path is
 * longer than the kernel allows (107 bytes), or has a comma, which would make it two directories.
 */
export function socketDirectory(home: Home): string | null {
  const fits = Buffer.byteLength(join(home.cluster, '.s.PGSQL.65535')) <= 107 && !home.cluster.includes(',');
  return fits && process.platform !== 'win32' ? home.cluster : null;
}

/**
 * Whether the server can end by itself when the broker is killed (PR_SET_PDEATHSIG of Linux).
 * Otherwise the next start ends it.
 */
async function canFollowParent(home: Home): Promise<boolean> {
  const attempt = ['--pdeathsig=INT', '--', home.binaries.postgres, '--version'];
  return runAs(home.identity, 'setpriv', attempt).then(
    () => true,
    () => false,
  );
}

function report(log: EmbeddedLog, line: string): void {
  if (/^(WARNING|ERROR|FATAL|PANIC):/.test(line)) log.warn(`postgres: ${line}`);
}

/**
 * The fatal line with the line before it, which has the cause: "contains errors" alone is no help.
 */
function reasonIn(lines: readonly string[]): string {
  const fatal = lines.findIndex((line) => /^(FATAL|PANIC):/.test(line));
  const said = fatal < 0 ? lines.slice(-1) : lines.slice(Math.max(0, fatal - 1), fatal + 1).reverse();
  return said.length === 0 ? 'it printed nothing' : said.map((line) => line.trim()).join('; ');
}
