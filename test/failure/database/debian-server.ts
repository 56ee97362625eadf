import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { globSync } from 'node:fs';
import { chown, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Client } from 'pg';
import { freePort } from '../../../bench/support/free-port.ts';
import { waitFor } from '../../../bench/support/timing.ts';

const execute = promisify(execFile);
const user = 'millrace';

/** The programs of the newest PostgreSQL of Debian, with those for backups; null without one. */
export const debianPrograms =
  globSync('/usr/lib/postgresql/*/bin/pg_basebackup')
    .map((path) => path.replace(/\/pg_basebackup$/, ''))
    .sort((a, b) => versionOf(a) - versionOf(b))
    .at(-1) ?? null;

function versionOf(programs: string): number {
  return Number(/postgresql\/(\d+)\//.exec(programs)?.[1] ?? 0);
}

/** PostgreSQL refuses to run as root. */
async function account(): Promise<{ uid?: number; gid?: number }> {
  if (userInfo().uid !== 0) return {};
  const ids = await Promise.all(['-u', '-g'].map((flag) => execute('id', [flag, 'postgres'])));
  const [uid, gid] = ids.map(({ stdout }) => Number(stdout));
  return { uid: uid!, gid: gid! };
}

/** A server of Debian's PostgreSQL, beside its programs for backups. */
export class DebianServer {
  readonly #directory: string;
  readonly #port: number;
  #process: ChildProcess | null = null;

  private constructor(directory: string, port: number) {
    this.#directory = directory;
    this.#port = port;
  }

  /** A new cluster, which runs. */
  static async make(): Promise<DebianServer> {
    const server = await DebianServer.#place();
    await server.run('initdb', '--auth=trust', `--username=${user}`, '--no-sync', server.#data);
    return server.#start();
  }

  /** A server on a base backup of this one. It runs. */
  async restoredBaseBackup(): Promise<DebianServer> {
    const copy = await DebianServer.#place();
    const args = ['--wal-method=stream', '--checkpoint=fast', '--no-sync', `--dbname=${this.url('postgres')}`];
    await this.run('pg_basebackup', `--pgdata=${copy.#data}`, ...args);
    return copy.#start();
  }

  url(database: string): string {
    return `postgresql://${user}@127.0.0.1:${this.#port}/${database}`;
  }

  /** A file that the programs may write. */
  file(name: string): string {
    return join(this.#directory, name);
  }

  async run(program: string, ...args: readonly string[]): Promise<void> {
    await execute(join(debianPrograms!, program), args, { ...(await account()), cwd: this.#directory });
  }

  async close(): Promise<void> {
    const child = this.#process;
    if (child !== null && child.exitCode === null) {
      child.kill('SIGQUIT');
      await once(child, 'exit');
    }
    await rm(this.#directory, { recursive: true, force: true });
  }

  get #data(): string {
    return join(this.#directory, 'data');
  }

  static async #place(): Promise<DebianServer> {
    const directory = await mkdtemp(join(tmpdir(), 'millrace-debian-'));
    const { uid, gid } = await account();
    if (uid !== undefined && gid !== undefined) await chown(directory, uid, gid);
    return new DebianServer(directory, await freePort());
  }

  async #start(): Promise<this> {
    const settings = {
      port: String(this.#port),
      listen_addresses: '127.0.0.1',
      unix_socket_directories: '',
      shared_buffers: '32MB',
    };
    const flags = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
    this.#process = spawn(join(debianPrograms!, 'postgres'), ['-D', this.#data, ...flags], {
      ...(await account()),
      cwd: this.#directory,
      stdio: 'ignore',
    });
    await waitFor('PostgreSQL to take connections', 60_000, 50, () => this.#answers());
    return this;
  }

  async #answers(): Promise<boolean> {
    const client = new Client({ connectionString: this.url('postgres') });
    client.on('error', () => undefined);
    try {
      await client.connect();
      return true;
    } catch {
      return false;
    } finally {
      await client.end().catch(() => undefined);
    }
  }
}
