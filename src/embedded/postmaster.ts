import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Clock } from '../time/clock.ts';
import { EmbeddedPostgresError } from './error.ts';
import type { Home } from './home.ts';
import { commandAs, runAs } from './identity.ts';
import type { EmbeddedLog } from './log.ts';

const readyLine = 'database system is ready to accept connections';
/** A fast shutdown rolls back, writes a checkpoint and ends; on a slow disk that is seconds. */
const fastStopMs = 60_000;

/** One run of the server process, from its spawn to its exit. */
export class Postmaster {
  readonly pid: number;
  /** Settles when the process is gone, whoever ended it. */
  readonly exited: Promise<void>;
  readonly #process: ChildProcess;
  readonly #lines: string[] = [];

  private constructor(child: ChildProcess, pid: number) {
    this.#process = child;
    this.pid = pid;
    this.exited = once(child, 'exit').then(() => undefined);
  }

  /** Spawns the server and waits until it takes connections. Its failure carries what it printed last. */
  static async start(home: Home, port: number, log: EmbeddedLog): Promise<Postmaster> {
    const server = [home.binaries.postgres, ...serverArguments(home, port)];
    const [file = '', ...args] = (await canFollowParent(home))
      ? ['setpriv', '--pdeathsig=INT', '--', ...server]
      : server;
    const command = commandAs(home.identity, file, args);
    const child = spawn(command.file, command.args, {
      ...command.options,
      stdio: ['ignore', 'ignore', 'pipe'],
      // A process group of its own: Ctrl-C at the terminal must reach the broker only, which stops the server when it
      // has drained.
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

  /** Ends the server; its data is on disk then. */
  async stop(clock: Clock): Promise<void> {
    this.#process.kill('SIGINT');
    // Connections that hang in a system call could keep a fast shutdown from ending. What is committed is in the WAL.
    const cancel = clock.after(fastStopMs, () => this.#process.kill('SIGQUIT'));
    await this.exited;
    cancel();
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
    // 'close' comes after the last line of stderr, 'exit' may come before it.
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
    // The start waits for a line of stderr, in English.
    logging_collector: 'off',
    log_destination: 'stderr',
    lc_messages: 'C',
    log_line_prefix: '',
  };
  return ['-D', home.cluster, ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])];
}

/**
 * Where the server's Unix socket is: in the cluster, which only its user can enter. Null where the path is longer than
 * the kernel takes (107 bytes) or holds a comma, which would mean two directories.
 */
export function socketDirectory(home: Home): string | null {
  const fits = Buffer.byteLength(join(home.cluster, '.s.PGSQL.65535')) <= 107 && !home.cluster.includes(',');
  return fits && process.platform !== 'win32' ? home.cluster : null;
}

/**
 * Whether the server can be asked to end by itself when the broker is killed (PR_SET_PDEATHSIG of Linux). Where it
 * cannot, the next start ends it.
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

/** The fatal line, with the one before it, which tells why: "contains errors" alone helps nobody. */
function reasonIn(lines: readonly string[]): string {
  const fatal = lines.findIndex((line) => /^(FATAL|PANIC):/.test(line));
  const said = fatal < 0 ? lines.slice(-1) : lines.slice(Math.max(0, fatal - 1), fatal + 1).reverse();
  return said.length === 0 ? 'it printed nothing' : said.map((line) => line.trim()).join('; ');
}
