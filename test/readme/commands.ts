import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';

const root = new URL('../../', import.meta.url).pathname;

/** A line of the shell as a reader pasted it into a terminal at the top of the repository. */
export class Command {
  readonly line: string;
  readonly ended: Promise<number | null>;
  readonly #child: ChildProcess;
  #stdout = '';
  #stderr = '';

  constructor(line: string) {
    this.line = line;
    // A group of its own, as in a terminal: npx and buf start further processes, and Ctrl-C goes to
    // all of them.
    this.#child = spawn('sh', ['-c', line], { cwd: root, stdio: ['ignore', 'pipe', 'pipe'], detached: true });
    this.#child.stdout!.on('data', (chunk: Buffer) => (this.#stdout += chunk.toString()));
    this.#child.stderr!.on('data', (chunk: Buffer) => (this.#stderr += chunk.toString()));
    this.ended = once(this.#child, 'close').then(([code]) => code as number | null);
  }

  get stdout(): string {
    return this.#stdout;
  }

  /** All that the terminal shows. */
  get terminal(): string {
    return this.#stdout + this.#stderr;
  }

  get running(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** Ctrl-C. */
  async interrupt(): Promise<number | null> {
    if (this.running) process.kill(-this.#child.pid!, 'SIGINT');
    return this.ended;
  }
}

/** Runs a line to its end. @throws Error if it fails. */
export async function runToEnd(line: string): Promise<Command> {
  const command = new Command(line);
  const code = await command.ended;
  if (code !== 0) throw new Error(`${line}\nended with ${code}:\n${command.terminal}`);
  return command;
}
