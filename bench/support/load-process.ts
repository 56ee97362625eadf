import { fork } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/**
 * A load runs in its own processes, so that its cost is not mixed with the broker's and one event
 * loop does not limit it. The parent sends the spec, starts the load, measures intervals, and stops
 * the load.
 *
 *   parent                     child
 *   {spec}                ->   prepares (connects, joins)
 *                         <-   {ready}
 *   {start}               ->   works until {stop}
 *   {mark}                ->   resets its figures: the interval begins
 *   {collect}             ->
 *                         <-   {result}: the interval so far; work goes on
 *   {allow: n}            ->   may publish up to n messages in all, since the start
 *                         <-   {progress: n}: its slowest group has acked n messages
 *   {stop}                ->   ends its work
 *                         <-   {stopped}
 */
export type ToLoad<Spec> =
  | { readonly type: 'spec'; readonly spec: Spec }
  | { readonly type: 'start' }
  | { readonly type: 'mark' }
  | { readonly type: 'collect' }
  | { readonly type: 'allow'; readonly messages: number }
  | { readonly type: 'stop' };

export type FromLoad<Result> =
  | { readonly type: 'ready' }
  | { readonly type: 'result'; readonly result: Result }
  | { readonly type: 'progress'; readonly messages: number }
  | { readonly type: 'stopped' }
  | { readonly type: 'failed'; readonly error: string };

/** A load program as its own process sees it. */
export interface LoadProgram<Result> {
  start(): void;
  mark(): void;
  collect(): Result;
  allow?(messages: number): void;
  stop(): Promise<void>;
}

/** The parent's end of a load process. */
export interface LoadProcess<Result> {
  readonly pid: number;
  start(): void;
  mark(): void;
  allow(messages: number): void;
  collect(): Promise<Result>;
  /**
   * Ends the work; the process stays until `end`, so that its CPU time and memory can still be
   * read.
   */
  stop(): Promise<void>;
  end(): Promise<void>;
  onProgress: ((messages: number) => void) | null;
}

/** Starts `bench/load/<program>.ts` and waits until it is ready. */
export async function startLoad<Spec, Result>(
  program: string,
  spec: Spec,
  nodeFlags: readonly string[] = [],
): Promise<LoadProcess<Result>> {
  const child = fork(fileURLToPath(new URL(`../load/${program}.ts`, import.meta.url)), {
    execArgv: [
      '--disable-warning=ExperimentalWarning',
      ...nodeFlags,
      ...(process.env['BENCH_LOAD_NODE_FLAGS'] ?? '').split(' ').filter(Boolean),
    ],
    serialization: 'advanced',
  });
  const answers = new Answers<Result>(child, program);
  const send = (message: ToLoad<Spec>): void => {
    child.send(message);
  };
  send({ type: 'spec', spec });
  await answers.next('ready');
  const load: LoadProcess<Result> = {
    pid: child.pid!,
    onProgress: null,
    start: () => {
      send({ type: 'start' });
    },
    mark: () => {
      send({ type: 'mark' });
    },
    allow: (messages) => {
      send({ type: 'allow', messages });
    },
    collect: async () => {
      send({ type: 'collect' });
      return (await answers.next('result')).result;
    },
    stop: async () => {
      send({ type: 'stop' });
      await answers.next('stopped');
    },
    end: async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const gone = new Promise((resolve) => child.once('exit', resolve));
      child.disconnect();
      await gone;
    },
  };
  answers.onProgress = (messages) => load.onProgress?.(messages);
  return load;
}

/** Runs a program that is done when it is ready, in its own process. @returns its result. */
export async function measureApart<Spec, Result>(
  program: string,
  spec: Spec,
  nodeFlags: readonly string[] = [],
): Promise<Result> {
  const load = await startLoad<Spec, Result>(program, spec, nodeFlags);
  const result = await load.collect();
  await load.end();
  return result;
}

/**
 * The child's side: runs a load program in this process. `prepare` connects and returns the
 * program.
 */
export function runLoad<Spec, Result>(
  prepare: (spec: Spec, progress: (messages: number) => void) => Promise<LoadProgram<Result>>,
): void {
  const tell = (message: FromLoad<Result>): void => {
    process.send?.(message);
  };
  const fail = (error: unknown): void => {
    tell({ type: 'failed', error: error instanceof Error ? (error.stack ?? error.message) : String(error) });
  };
  let program: LoadProgram<Result> | null = null;
  const handle = async (message: ToLoad<Spec>): Promise<void> => {
    if (message.type === 'spec') {
      program = await prepare(message.spec, (messages) => {
        tell({ type: 'progress', messages });
      });
      tell({ type: 'ready' });
    } else if (message.type === 'start') program?.start();
    else if (message.type === 'mark') program?.mark();
    else if (message.type === 'allow') program?.allow?.(message.messages);
    else if (message.type === 'collect') tell({ type: 'result', result: program!.collect() });
    else {
      await program?.stop();
      tell({ type: 'stopped' });
    }
  };
  process.on('message', (message) => {
    handle(message as ToLoad<Spec>).catch(fail);
  });
  process.on('uncaughtException', fail);
  process.on('unhandledRejection', fail);
  // The parent has exited, or has disconnected this process.
  process.on('disconnect', () => process.exit(0));
}

/** Waits for messages of a child, by type. If the child fails or exits, all waits fail. */
class Answers<Result> {
  onProgress: ((messages: number) => void) | null = null;
  readonly #waiting = new Map<string, { resolve: (message: never) => void; reject: (error: Error) => void }>();
  #failure: Error | null = null;

  constructor(child: ChildProcess, program: string) {
    child.on('message', (message) => {
      this.#take(message as FromLoad<Result>, program);
    });
    child.once('exit', (code, signal) => {
      this.#fail(new Error(`load process ${program} ended (${signal ?? code})`));
    });
  }

  next<Type extends FromLoad<Result>['type']>(type: Type): Promise<Extract<FromLoad<Result>, { type: Type }>> {
    if (this.#failure !== null) return Promise.reject(this.#failure);
    return new Promise((resolve, reject) => {
      this.#waiting.set(type, { resolve: resolve, reject });
    });
  }

  #take(message: FromLoad<Result>, program: string): void {
    if (message.type === 'progress') this.onProgress?.(message.messages);
    else if (message.type === 'failed') this.#fail(new Error(`load process ${program}: ${message.error}`));
    else {
      this.#waiting.get(message.type)?.resolve(message as never);
      this.#waiting.delete(message.type);
    }
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    for (const waiting of this.#waiting.values()) waiting.reject(error);
    this.#waiting.clear();
  }
}
