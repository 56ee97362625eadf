import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { appendFile, chown, copyFile, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { freePort } from '../../bench/support/free-port.ts';
import { findBinaries } from '../../src/embedded/binaries.ts';
import { ensureCluster, roleName } from '../../src/embedded/cluster.ts';
import { settle, type Home } from '../../src/embedded/home.ts';
import { commandAs, ownerOfFiles } from '../../src/embedded/identity.ts';

const execute = promisify(execFile);
const small = { shared_buffers: '16MB', min_wal_size: '80MB', max_connections: '60' };

/** A PostgreSQL that nobody starts again when it dies, and which may be a replica. */
export class PlainServer {
  readonly port: number;
  readonly #directory: string;
  readonly #home: Home;
  readonly #password: string;
  #process: ChildProcess | null = null;
  #exited: Promise<unknown> = Promise.resolve();

  private constructor(directory: string, home: Home, password: string, port: number) {
    this.#directory = directory;
    this.#home = home;
    this.#password = password;
    this.port = port;
  }

  /**
   * Makes a cluster. All of a test have the same password, so that one connection string names
   * them.
   */
  static async make(password = 'secret'): Promise<PlainServer> {
    const directory = await mkdtemp(join(tmpdir(), 'millrace-plain-'));
    const home = await settle(directory, await findBinaries());
    await writeFile(join(home.directory, 'password'), password);
    await ensureCluster(home, { settings: small, walBytes: 0 });
    return new PlainServer(directory, home, password, await freePort());
  }

  get login(): string {
    return `${roleName}:${this.#password}`;
  }

  get url(): string {
    return `postgresql://${this.login}@127.0.0.1:${this.port}/postgres`;
  }

  /** A copy of this server, which must not run meanwhile, that follows it. */
  async replica(): Promise<PlainServer> {
    const directory = await mkdtemp(join(tmpdir(), 'millrace-plain-'));
    const home = await settle(directory, await findBinaries());
    await execute('cp', ['-a', this.#home.cluster, home.cluster]);
    const conninfo = `host=127.0.0.1 port=${this.port} user=${roleName} password=${this.#password}`;
    await appendFile(join(home.cluster, 'postgresql.auto.conf'), `primary_conninfo = '${conninfo}'\n`);
    const replica = new PlainServer(directory, home, this.#password, await freePort());
    await replica.put('standby.signal', '/dev/null', 0o600);
    return replica;
  }

  /** Copies a file into the cluster, for its user only. */
  async put(name: string, from: string, mode: number): Promise<void> {
    const path = join(this.#home.cluster, name);
    if (from === '/dev/null') await writeFile(path, '', { mode });
    else await copyFile(from, path);
    const { uid, gid } = ownerOfFiles(this.#home.identity);
    await chown(path, uid, gid);
    await execute('chmod', [mode.toString(8), path]);
  }

  /** Resolves when it takes connections. */
  async start(settings: Readonly<Record<string, string>> = {}): Promise<this> {
    const all = {
      listen_addresses: '127.0.0.1',
      port: String(this.port),
      unix_socket_directories: '',
      logging_collector: 'off',
      lc_messages: 'C',
      ...settings,
    };
    const flags = Object.entries(all).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
    const { identity, binaries, cluster } = this.#home;
    const command = commandAs(identity, binaries.postgres, ['-D', cluster, ...flags]);
    const child = spawn(command.file, command.args, { ...command.options, stdio: ['ignore', 'ignore', 'pipe'] });
    this.#process = child;
    this.#exited = once(child, 'exit');
    const said: string[] = [];
    const ready = Promise.withResolvers<void>();
    createInterface({ input: child.stderr }).on('line', (line) => {
      said.push(line);
      if (/ready to accept (read-only )?connections/.test(line)) ready.resolve();
    });
    child.once('close', () => {
      ready.reject(new Error(`PostgreSQL has ended: ${said.join('; ')}`));
    });
    await ready.promise;
    return this;
  }

  /** Ends it as a crash does. */
  async crash(): Promise<void> {
    this.#process?.kill('SIGQUIT');
    await this.#exited;
  }

  /** Ends it, and removes it. */
  async close(): Promise<void> {
    await this.crash();
    await rm(this.#directory, { recursive: true, force: true });
  }
}
