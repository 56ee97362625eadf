import { readFileSync } from 'node:fs';
import { connectionBytes } from '../../../src/account/kinds.ts';
import { waitFor } from '../../../bench/support/timing.ts';
import type { BrokerProcess } from '../../../bench/support/broker-process.ts';

/** What the log of a broker must never have: bugs, answers that hide one, and warnings of Node. */
const faultInLog = /a bug:|bugId|INTERNAL|Warning:/;
const linesMax = 10;
/** What docs/memory.md allows the process at the default HEAP_MIB. */
const residentMibMax = 600;
/** A client that vanished is noticed by a ping and its answer; see `keepaliveMs`. */
const emptyMs = 60_000;
/** Of the question for the metrics itself. */
const ownConnections = 1;

/** A broker under attack: its log, its memory, and what it counts for clients. */
export class BrokerWatch {
  readonly #broker: BrokerProcess;
  readonly #lines: string[] = [];
  #peakMib = 0;

  constructor(broker: BrokerProcess) {
    this.#broker = broker;
    for (const output of [broker.process.stdout, broker.process.stderr]) {
      output?.on('data', (chunk: Buffer) => {
        this.#read(chunk.toString());
      });
    }
  }

  get isAlive(): boolean {
    const { exitCode, signalCode } = this.#broker.process;
    return exitCode === null && signalCode === null;
  }

  /** The most memory that the process has had, as it was seen last. */
  get peakMib(): number {
    const peakKib = this.isAlive ? /VmHWM:\s+(\d+) kB/.exec(this.#status())?.[1] : undefined;
    if (peakKib !== undefined) this.#peakMib = Number(peakKib) / 1_024;
    return this.#peakMib;
  }

  /** Of a process that has just ended there is nothing, or no memory any more. */
  #status(): string {
    try {
      return readFileSync(`/proc/${this.#broker.pid}/status`, 'utf8');
    } catch {
      return '';
    }
  }

  /** What is wrong with the log and the memory. */
  faults(): string[] {
    const { exitCode, signalCode } = this.#broker.process;
    const log = this.#lines.map((line) => `in the log: ${line}`);
    if (!this.isAlive) {
      const end = `the broker has ended: ${exitCode ?? signalCode}; its log:\n${this.#broker.output().slice(-4_000)}`;
      return [...log, end];
    }
    return this.peakMib <= residentMibMax ? log : [...log, `the broker had ${this.peakMib | 0} MiB`];
  }

  /** What the account counts some time after every client has gone and everything is deleted. */
  async stillCounted(): Promise<string[]> {
    let left: string[] = [];
    const isEmpty = async (): Promise<boolean> => (left = await this.#counted()).length === 0;
    await waitFor('the account to be empty', emptyMs, 200, isEmpty).catch(() => undefined);
    return left.map((gauge) => `the account still counts ${gauge}`);
  }

  async #counted(): Promise<string[]> {
    const response = await fetch(`${this.#broker.httpUrl}/metrics`, { headers: { connection: 'close' } });
    const gauges = (await response.text()).matchAll(/^millrace_account_bytes\{kind="(\w+)"\} (\d+)/gm);
    const own = (kind: string): number => (kind === 'connections' ? ownConnections * connectionBytes : 0);
    return Array.from(gauges, ([, kind = '', bytes]) => [kind, Number(bytes)] as const)
      .filter(([kind, bytes]) => bytes > own(kind))
      .map(([kind, bytes]) => `${bytes} bytes of ${kind}`);
  }

  #read(text: string): void {
    for (const line of text.split('\n')) {
      if (faultInLog.test(line) && this.#lines.length < linesMax) this.#lines.push(line);
    }
  }
}
