import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { onTestFinished } from 'vitest';
import { waitFor } from '../../bench/support/timing.ts';

const script = fileURLToPath(new URL('terminal.py', import.meta.url));

/** A program in a terminal of its own, in the foreground, as a person starts it. */
export class Terminal {
  /** What it shows. */
  shown = '';
  readonly #python: ChildProcess;
  readonly #ended: Promise<unknown>;
  #stopped = '';

  /** @throws Error on a machine without Python. */
  constructor(program: string, args: readonly string[], cwd: string) {
    if (spawnSync('python3', ['--version']).status !== 0) {
      throw new Error('this test needs python3, which makes a terminal; .ci/run installs it on Debian');
    }
    this.#python = spawn('python3', [script, program, ...args], { cwd, stdio: ['pipe', 'pipe', 'pipe'] });
    this.#python.stdout!.on('data', (chunk: Buffer) => (this.shown += chunk.toString()));
    this.#python.stderr!.on('data', (chunk: Buffer) => (this.#stopped += chunk.toString()));
    this.#ended = once(this.#python, 'close');
    onTestFinished(async () => {
      // Its script ends the program and itself then.
      this.#python.stdin!.end();
      await this.#ended;
    });
  }

  type(text: string): void {
    this.#python.stdin!.write(`type ${Buffer.from(text).toString('hex')}\n`);
  }

  /** As Ctrl-S does. Resolves when it is stopped. */
  async stopOutput(): Promise<void> {
    this.#python.stdin!.write('stop\n');
    await this.until('the stop', () => this.#stopped.includes('stopped'));
  }

  /** To the program, not to its whole group as the keyboard's signals. */
  signal(number: number): void {
    this.#python.stdin!.write(`signal ${number}\n`);
  }

  /** @returns the exit code of the program. */
  async end(): Promise<number | null> {
    await this.#ended;
    return this.#python.exitCode;
  }

  async until(what: string, condition: () => boolean, timeoutMs = 60_000): Promise<void> {
    await waitFor(what, timeoutMs, 10, () => {
      if (condition()) return true;
      if (this.#python.exitCode !== null) throw new Error(`it ended before ${what}: ${this.shown}${this.#stopped}`);
      return false;
    });
  }
}
