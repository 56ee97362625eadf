import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, expect } from 'vitest';
import { freePort } from '../../bench/support/free-port.ts';
import { waitFor } from '../../bench/support/timing.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';

export const entryPoint = fileURLToPath(new URL('../../src/main.ts', import.meta.url));

export interface StartOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  readonly uid?: number;
  readonly gid?: number;
}

/** A broker that is not expected to serve, or not soon: what it prints, and how it ends. */
export class Start {
  stdout = '';
  stderr = '';
  readonly #child: ChildProcess;
  readonly #ended: Promise<unknown>;

  constructor(flags: readonly string[], { env = {}, ...options }: StartOptions = {}) {
    const { PATH, NODE_COMPILE_CACHE } = process.env;
    this.#child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', entryPoint, ...flags], {
      env: { PATH, NODE_COMPILE_CACHE, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
      ...options,
    });
    this.#child.stdout!.on('data', (chunk: Buffer) => (this.stdout += chunk.toString()));
    this.#child.stderr!.on('data', (chunk: Buffer) => (this.stderr += chunk.toString()));
    this.#ended = once(this.#child, 'close');
  }

  get running(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** @returns its exit code, or the signal that ended it. */
  async end(): Promise<number | NodeJS.Signals | null> {
    await this.#ended;
    return this.#child.exitCode ?? this.#child.signalCode;
  }

  /** Ends it in whatever state it is. */
  async kill(): Promise<void> {
    if (this.running) this.#child.kill('SIGTERM');
    const force = setTimeout(() => this.#child.kill('SIGKILL'), 15_000);
    await this.#ended;
    clearTimeout(force);
  }

  async untilPrinted(text: string | RegExp, timeoutMs = 20_000): Promise<void> {
    await this.until(`"${String(text)}"`, () => (this.stdout + this.stderr).search(text) >= 0, timeoutMs);
  }

  /** Fails at once, with all that was printed, when the process ends. */
  async until(what: string, condition: () => boolean | Promise<boolean>, timeoutMs = 20_000): Promise<void> {
    await waitFor(`${what} of a start`, timeoutMs, 10, async () => {
      if (await condition()) return true;
      if (!this.running) throw new Error(`it ended before ${what}: ${this.stdout}${this.stderr}`);
      return false;
    });
  }
}

/**
 * For the starts of a test file: a database for all of them; those that still run after a test are
 * ended.
 */
export class Starts {
  #database!: TestDatabase;
  readonly #begun: Start[] = [];

  constructor() {
    beforeAll(async () => {
      this.#database = await createTestDatabase();
    });
    afterEach(async () => {
      await Promise.all(this.#begun.splice(0).map((each) => each.kill()));
    });
    afterAll(async () => {
      await this.#database.drop();
    });
  }

  get database(): TestDatabase {
    return this.#database;
  }

  begin(flags: readonly string[]): Start {
    const begun = new Start(flags);
    this.#begun.push(begun);
    return begun;
  }
}

/** Flags for a broker on this database, at ports that are free. */
export async function flagsOf(databaseUrl: string): Promise<string[]> {
  const [grpc, http] = [await freePort(), await freePort()];
  return [
    '--grpc-port',
    String(grpc),
    '--http-port',
    String(http),
    '--database-url',
    databaseUrl,
    '--log-level',
    'error',
  ];
}

/**
 * Expects the start to end with this code and one line for the person at the terminal. @returns the
 * line.
 */
export async function oneLine(begun: Start, code: number): Promise<string> {
  expect([await begun.end(), begun.stderr]).toEqual([code, expect.stringMatching(/^[^\n]+\n$/)]);
  expect(begun.stdout).toBe('');
  return begun.stderr.trim();
}

export async function answerOf(port: string, path: string): Promise<readonly [number, string]> {
  const response = await fetch(`http://127.0.0.1:${port}${path}`);
  return [response.status, (await response.text()).trim()];
}
