import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { freePort } from './free-port.ts';
import { waitFor } from './timing.ts';

const thisTree = new URL('../../', import.meta.url);

/**
 * Reads how `npm start` of a tree runs its broker: the flags of Node, and the cache of compiled
 * code, which makes the second start three times as fast as the first.
 */
function startScript(root: URL): { nodeFlags: string[]; compileCache: string; entryPoint: string } {
  const { scripts } = JSON.parse(readFileSync(new URL('package.json', root), 'utf8')) as { scripts: { start: string } };
  return {
    nodeFlags: scripts.start
      .replace(/\$\{\w+:-(\w+)\}/g, '$1')
      .split(' ')
      .filter((word) => word.startsWith('--')),
    compileCache: fileURLToPath(new URL(/NODE_COMPILE_CACHE=(\S+)/.exec(scripts.start)![1]!, root)),
    entryPoint: fileURLToPath(new URL('src/main.ts', root)),
  };
}

export interface BrokerOptions {
  readonly databaseUrl?: string;
  readonly dataDir?: string;
  /** Default: a free port, as for `httpPort`. */
  readonly grpcPort?: number;
  readonly httpPort?: number;
  /** Additional flags for the broker. */
  readonly flags?: readonly string[];
  /** HEAP_MIB of `npm start`. Default: its own. */
  readonly heapMib?: number;
  /** Additional flags for Node, for example `--cpu-prof`. */
  readonly nodeFlags?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** The tree whose broker starts. Default: this one. */
  readonly root?: URL;
  readonly logLevel?: string;
  /**
   * 'ready' waits until the broker serves (/readyz); 'alive' until it runs, even as a standby
   * (/healthz).
   */
  readonly until?: 'ready' | 'alive';
  readonly timeoutMs?: number;
  /**
   * Starts the broker in its own process group, so that Ctrl-C does not reach it. The caller stops
   * it.
   */
  readonly detached?: boolean;
}

/** A broker in its own process. The caller stops it. */
export interface BrokerProcess {
  readonly process: ChildProcess;
  readonly pid: number;
  readonly grpcPort: number;
  readonly httpPort: number;
  /** Host and port, in the form that grpc-js takes. */
  readonly grpcAddress: string;
  readonly httpUrl: string;
  /** The time from spawn until the broker served. */
  readonly startMs: number;
  /** The end of what the broker has written to stdout and stderr. */
  output(): string;
  /** Whether /readyz answers 200 now. */
  ready(): Promise<boolean>;
  kill(signal: NodeJS.Signals): void;
  /** Resolves when the process has exited for any reason. */
  readonly exited: Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }>;
  /**
   * Sends SIGTERM, and SIGKILL after 15 s. Idempotent.
   * @returns the exit code; null if it was killed.
   */
  stop(): Promise<number | null>;
}

/** Running brokers. They end with this process, unless this process gets a SIGKILL. */
const running = new Set<ChildProcess>();
process.on('exit', killBrokers);

export function killBrokers(): void {
  for (const child of running) child.kill('SIGKILL');
}

/**
 * Starts `src/main.ts` as `npm start` does, and waits for it.
 * @throws Error with the broker's output
 */
export async function startBroker(options: BrokerOptions): Promise<BrokerProcess> {
  const grpcPort = options.grpcPort ?? (await freePort());
  const httpPort = options.httpPort ?? (await freePort());
  const startedAt = performance.now();
  const { compileCache, ...script } = startScript(options.root ?? thisTree);
  const child = spawn(process.execPath, brokerArguments(options, script, grpcPort, httpPort), {
    env: { ...process.env, NODE_COMPILE_CACHE: compileCache, ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: options.detached ?? false,
  });
  running.add(child);
  const output = collectOutput(child);
  const exited = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve) => {
    child.once('exit', (code, signal) => {
      running.delete(child);
      resolve({ code, signal });
    });
  });
  const httpUrl = `http://127.0.0.1:${httpPort}`;
  const path = options.until === 'alive' ? '/healthz' : '/readyz';
  try {
    await waitFor('the broker to serve', options.timeoutMs ?? 60_000, 10, async () => {
      if (child.exitCode !== null || child.signalCode !== null) throw new Error('the broker ended while starting');
      return answers(httpUrl + path);
    });
  } catch (error) {
    child.kill('SIGKILL');
    throw new Error(`${(error as Error).message}; its output:\n${output()}`, { cause: error });
  }
  return {
    process: child,
    pid: child.pid!,
    grpcPort,
    httpPort,
    grpcAddress: `127.0.0.1:${grpcPort}`,
    httpUrl,
    startMs: performance.now() - startedAt,
    output,
    ready: () => answers(`${httpUrl}/readyz`),
    kill: (signal) => {
      child.kill(signal);
    },
    exited,
    stop: () => stopProcess(child, exited),
  };
}

function brokerArguments(
  options: BrokerOptions,
  script: Pick<ReturnType<typeof startScript>, 'nodeFlags' | 'entryPoint'>,
  grpcPort: number,
  httpPort: number,
): string[] {
  return [
    ...script.nodeFlags,
    ...(options.heapMib === undefined ? [] : [`--max-old-space-size=${options.heapMib}`]),
    ...(options.nodeFlags ?? []),
    script.entryPoint,
    '--grpc-port',
    String(grpcPort),
    '--http-port',
    String(httpPort),
    ...(options.dataDir === undefined ? [] : ['--data-dir', options.dataDir]),
    ...(options.databaseUrl === undefined ? [] : ['--database-url', options.databaseUrl]),
    '--log-level',
    options.logLevel ?? 'warn',
    ...(options.flags ?? []),
  ];
}

/** Keeps the last 200,000 characters, which explain a failure and do not fill the memory. */
function collectOutput(child: ChildProcess): () => string {
  let text = '';
  const keep = (chunk: Buffer): void => {
    text = (text + chunk.toString()).slice(-200_000);
  };
  child.stdout?.on('data', keep);
  child.stderr?.on('data', keep);
  return () => text;
}

async function answers(url: string): Promise<boolean> {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(2_000) });
    await response.arrayBuffer();
    return response.status === 200;
  } catch {
    return false;
  }
}

async function stopProcess(
  child: ChildProcess,
  exited: Promise<{ readonly code: number | null }>,
): Promise<number | null> {
  child.kill('SIGTERM');
  const force = setTimeout(() => child.kill('SIGKILL'), 15_000);
  const { code } = await exited;
  clearTimeout(force);
  return code;
}
