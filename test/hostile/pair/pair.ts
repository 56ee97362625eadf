import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { MachineOptions } from './machine.ts';

/** The topic and the group of the pair. */
export const honest = 'honest';

export type ToPair =
  | { readonly type: 'start'; readonly address: string; readonly machine: MachineOptions | null }
  | { readonly type: 'mark' }
  | { readonly type: 'calls'; readonly count: number }
  | { readonly type: 'collect' };

export type FromPair =
  | { readonly type: 'done' }
  | { readonly type: 'findings'; readonly findings: PairFindings }
  | { readonly type: 'failed'; readonly error: string };

/** What the pair saw since the last mark. */
export interface PairFindings extends Slowest {
  readonly calls: number;
  readonly p99Ms: number;
  /** Records that are lost, late, disordered or repeated, and calls that failed. */
  readonly faults: readonly string[];
}

/** The longest publish of one record, or the longest ack of one batch. */
export interface Slowest {
  readonly slowestMs: number;
  /** Without what the machine took for itself (machine.ts). */
  readonly slowestOwnMs: number;
}

const quietCalls = 300;

/** The well-behaved publisher and consumer beside an attack; see pair-process.ts. */
export class Pair {
  readonly #child: ChildProcess;
  #quiet: Slowest = { slowestMs: 0, slowestOwnMs: 0 };

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  /** Resolves when records flow. Without `machine`, a call's own time is all of its time. */
  static async start(address: string, machine: MachineOptions | null = null): Promise<Pair> {
    const program = fileURLToPath(new URL('pair-process.ts', import.meta.url));
    const child = fork(program, { execArgv: ['--disable-warning=ExperimentalWarning'] });
    const pair = new Pair(child);
    await pair.#ask({ type: 'start', address, machine });
    await pair.beQuiet();
    return pair;
  }

  /** The longest small call while nobody attacked. */
  get quiet(): Slowest {
    return this.#quiet;
  }

  /** Measures small calls while nobody attacks. */
  async beQuiet(): Promise<void> {
    await this.mark();
    await this.#ask({ type: 'calls', count: quietCalls });
    const { slowestMs, slowestOwnMs, faults } = await this.collect();
    if (faults.length > 0) throw new Error(`the pair failed although nobody attacks: ${faults.join('; ')}`);
    this.#quiet = {
      slowestMs: Math.max(this.#quiet.slowestMs, slowestMs),
      slowestOwnMs: Math.max(this.#quiet.slowestOwnMs, slowestOwnMs),
    };
  }

  async mark(): Promise<void> {
    await this.#ask({ type: 'mark' });
  }

  /** Resolves when the consumer has everything that was confirmed. */
  async collect(): Promise<PairFindings> {
    const answer = await this.#ask({ type: 'collect' });
    if (answer.type !== 'findings') throw new Error(`the pair answers ${answer.type}`);
    return answer.findings;
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = once(this.#child, 'exit');
    this.#child.disconnect();
    await gone;
  }

  async #ask(question: ToPair): Promise<FromPair> {
    const exited = new AbortController();
    const onExit = (): void => {
      exited.abort(new Error('the process of the pair has ended'));
    };
    this.#child.once('exit', onExit);
    try {
      const answered = once(this.#child, 'message', { signal: exited.signal });
      this.#child.send(question);
      const [answer] = (await answered) as [FromPair];
      if (answer.type === 'failed') throw new Error(`the pair: ${answer.error}`);
      return answer;
    } finally {
      this.#child.off('exit', onExit);
    }
  }
}
