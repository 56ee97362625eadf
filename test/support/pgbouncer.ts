import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from '../../bench/support/free-port.ts';
import { waitFor } from '../../bench/support/timing.ts';

const program = 'pgbouncer';
/** It does not run as root. */
const nobody = 65_534;

/** Why no pooler can be started here; null if one can. */
export function pgbouncerMissing(): string | null {
  try {
    execFileSync(program, ['--version'], { stdio: 'ignore', env: { PATH: searchPath() } });
    return null;
  } catch {
    return 'pgbouncer is not installed (apt-get install pgbouncer): poolers are not tested';
  }
}

/** A pooler before the database, on a port of its own. */
export class PgBouncer {
  readonly url: string;
  readonly #child: ChildProcess;
  readonly #directory: string;

  private constructor(url: string, child: ChildProcess, directory: string) {
    this.url = url;
    this.#child = child;
    this.#directory = directory;
  }

  static async open(databaseUrl: string, mode: 'session' | 'transaction'): Promise<PgBouncer> {
    const directory = mkdtempSync(join(tmpdir(), 'millrace-pgbouncer-'));
    chmodSync(directory, 0o755);
    const port = await freePort();
    const file = join(directory, 'pgbouncer.ini');
    writeFileSync(file, settings(new URL(databaseUrl), port, mode));
    const asRoot = process.getuid?.() === 0;
    const child = spawn(program, [file], {
      env: { PATH: searchPath() },
      stdio: 'ignore',
      ...(asRoot ? { uid: nobody, gid: nobody } : {}),
    });
    await waitFor('the pooler to listen', 20_000, 20, () => listens(port));
    const url = new URL(databaseUrl);
    url.hostname = '127.0.0.1';
    url.port = String(port);
    return new PgBouncer(url.href, child, directory);
  }

  async close(): Promise<void> {
    const ended = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await ended;
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

function settings({ hostname, port, username, password }: URL, listenPort: number, mode: string): string {
  return `[databases]
* = host=${hostname} port=${port || '5432'} user=${username} password=${decodeURIComponent(password)}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${listenPort}
unix_socket_dir =
auth_type = any
pool_mode = ${mode}
default_pool_size = 40
`;
}

/** Debian has it where only root looks. */
function searchPath(): string {
  return `${process.env['PATH'] ?? ''}:/usr/sbin`;
}

function listens(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.on('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => {
      resolve(false);
    });
  });
}
