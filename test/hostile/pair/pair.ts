import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

export type ToPair =
  | { readonly type: 'start'; readonly address: string }
  | { readonly type: 'mark' }
  | { readonly type: 'calls'; readonly count: number }
  | { readonly type: 'collect' };

export type FromPair =
  | { readonly type: 'done' }
  | { readonly type: 'findings'; readonly findings: PairFindings }
  | { readonly type: 'failed'; readonly error: string };

/** What the pair saw since the last mark. */
export interface PairFindings {
  readonly calls: number;
  /** The longest publish of one record, or the longest ack of one batch. */
  readonly slowestMs: number;
  readonly p99Ms: number;
  /** Records that are lost, late, disordered or repeated, and calls that failed. */
  readonly faults: readonly string[];
}

const quietCalls = 300;

/** The well-behaved publisher and consumer beside an attack; see pair-process.ts. */
export class Pair {
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  /** Resolves when records flow. */
  static async start(address: string): Promise<Pair> {
    const program = fileURLToPath(new URL('pair-process.ts', import.meta.url));
    const child = fork(program, { execArgv: ['--disable-warning=ExperimentalWarning'] });
    const pair = new Pair(child);
    await pair.#ask({ type: 'start', address });
    await pair.quietMs();
    return pair;
  }

  /** @returns the longest small call while nobody attacks. */
  async quietMs(): Promise<number> {
    await this.mark();
    await this.#ask({ type: 'calls', count: quietCalls });
    const { slowestMs, faults } = await this.collect();
    if (faults.length > 0) throw new Error(`the pair failed although nobody attacks: ${faults.join('; ')}`);
    return slowestMs;
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
