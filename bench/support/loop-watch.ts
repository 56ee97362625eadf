import { connect, createServer, type Socket } from 'node:net';

/**
 * Measures the steps of a process's event loop. A process that imports this before its program
 * (`node --import`) answers on a socket. A step counts by the CPU of its thread, because other
 * processes of the machine make each step longer on the clock.
 */

/** Between two samples, the loop has run for so long, or it has been within one step. */
const sampleMs = 1;

export interface LongestStep {
  readonly cpuMs: number;
}

export function nodeFlagsOfWatch(socketPath: string): string[] {
  return ['--import', `${import.meta.url}?socket=${encodeURIComponent(socketPath)}`];
}

/** The watch of another process. */
export class LoopWatch {
  readonly #socket: Socket;
  #answer: (text: string) => void = () => undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
    let text = '';
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString();
      if (!text.endsWith('\n')) return;
      this.#answer(text);
      text = '';
    });
  }

  static open(socketPath: string): Promise<LoopWatch> {
    return new Promise((resolve, reject) => {
      const socket = connect(socketPath, () => {
        resolve(new LoopWatch(socket));
      });
      socket.once('error', reject);
    });
  }

  close(): void {
    this.#socket.destroy();
  }

  /** The longest step while `run` runs. */
  async during(run: () => Promise<unknown>): Promise<LongestStep> {
    await this.#ask('begin');
    await run();
    return JSON.parse(await this.#ask('end')) as LongestStep;
  }

  #ask(question: string): Promise<string> {
    return new Promise((resolve) => {
      this.#answer = resolve;
      this.#socket.write(`${question}\n`);
    });
  }
}

function cpuMs(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1_000;
}

function serveWatch(socketPath: string): void {
  let timer: NodeJS.Timeout | undefined;
  let sampledMs = 0;
  let longestMs = 0;
  const sample = (): void => {
    const nowMs = cpuMs();
    longestMs = Math.max(longestMs, nowMs - sampledMs);
    sampledMs = nowMs;
  };
  const begin = (): string => {
    clearInterval(timer);
    longestMs = 0;
    sampledMs = cpuMs();
    timer = setInterval(sample, sampleMs).unref();
    return 'watching';
  };
  const end = (): string => {
    clearInterval(timer);
    sample();
    return JSON.stringify({ cpuMs: longestMs } satisfies LongestStep);
  };
  createServer((socket) => {
    socket.on('error', () => undefined).unref();
    socket.on('data', (question: Buffer) => {
      socket.write(`${question.toString() === 'begin\n' ? begin() : end()}\n`);
    });
  })
    .listen(socketPath)
    .unref();
}

const socketPath = new URL(import.meta.url).searchParams.get('socket');
if (socketPath !== null) serveWatch(socketPath);
