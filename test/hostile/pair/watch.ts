import { readFileSync, writeFileSync } from 'node:fs';
import type { BrokerProcess } from '../../../bench/support/broker-process.ts';
import { waitFor } from '../../../bench/support/timing.ts';
import { connectionBytes, kinds, type KindName } from '../../../src/account/kinds.ts';
import { limits } from '../../../src/limits/limits.ts';
import { saysFigures } from '../sizes.ts';
import { Pair, type PairFindings } from './pair.ts';

/** How much longer a small call may take than without the attack. */
const slowerMsMax = 250;
/** A machine may be slow by itself. One of so many attacks must leave small calls quick. */
const roundsMax = 3;
const emptyMs = 60_000;
const bugInLog = /a bug:|bugId|INTERNAL/;

/** Kinds of which nothing is left when the calls that made it are over. */
const passing = (Object.keys(kinds) as KindName[]).filter((name) => {
  const { pool, atLimit } = kinds[name];
  return pool !== 'kept' && atLimit !== 'EVICTED';
});

type Own = Readonly<Partial<Record<KindName, number>>>;
const own = (calls: number, connections: number): Own => {
  return { streams: calls * limits.openCallBytes, connections: connections * connectionBytes };
};
/** The pair, the question for the metrics, and connections that a client keeps for later. */
const besideThePair = own(4, 12);
/** A client that was asked to keep its connection may still have it. */
const alone = own(1, 4);

/** Everything that an attack must not change, for a well-behaved pair and for the process. */
export class Watch {
  readonly #broker: BrokerProcess;
  readonly #pair: Pair;
  readonly #residentMibMax: number;

  private constructor(broker: BrokerProcess, pair: Pair, residentMibMax: number) {
    this.#broker = broker;
    this.#pair = pair;
    this.#residentMibMax = residentMibMax;
  }

  /** `residentMibMax`: what docs/memory.md allows the process. */
  static async open(broker: BrokerProcess, databaseUrl: string, residentMibMax: number): Promise<Watch> {
    const pair = await Pair.start(broker.grpcAddress, { brokerPid: broker.pid, databaseUrl });
    return new Watch(broker, pair, residentMibMax);
  }

  /** Every client has gone: expects that the broker counts nothing of them. */
  async close(): Promise<void> {
    await this.#pair.stop();
    this.#expectAlive();
    await this.#expectEmpty(alone);
  }

  /**
   * Runs an attack, and expects a broker that lives, is small, has no bug, counts nothing any more,
   * and has lost nothing. Repeats an attack beside which small calls were slow.
   */
  async during<T>(attack: () => Promise<T>): Promise<T> {
    for (let round = 1; ; round += 1) {
      this.#forgetPeak();
      await this.#pair.mark();
      const [startedMs, cpuMs] = [performance.now(), this.#cpuMs()];
      const result = await attack();
      const tookMs = performance.now() - startedMs;
      this.#expectAlive();
      const findings = await this.#pair.collect();
      const peakMib = this.#peakMib();
      if (findings.faults.length > 0) throw new Error(this.#faultsText(findings));
      if (peakMib > this.#residentMibMax) throw new Error(`the broker had ${peakMib} MiB resident`);
      await this.#expectEmpty(besideThePair);
      this.#expectAlive();
      if (saysFigures) {
        const cost = `${tookMs | 0} ms, ${this.#cpuMs() - cpuMs} ms of CPU, ${peakMib} MiB resident`;
        console.log(`attack: ${cost}; ${this.#slownessText(findings)}`);
      }
      if (this.#isQuick(findings)) return result;
      await this.#pair.beQuiet();
      if (this.#isQuick(findings)) return result;
      if (round === roundsMax) throw new Error(this.#slownessText(findings));
    }
  }

  /** The first is the rule. The second is the rule on a machine that others slow down. */
  #isQuick({ slowestMs, slowestOwnMs }: PairFindings): boolean {
    const { quiet } = this.#pair;
    return slowestMs <= quiet.slowestMs + slowerMsMax || slowestOwnMs <= quiet.slowestOwnMs + slowerMsMax;
  }

  #slownessText({ slowestMs, slowestOwnMs }: PairFindings): string {
    const { quiet } = this.#pair;
    return (
      `a small call took ${slowestMs | 0} ms, and ${slowestOwnMs | 0} ms without the machine; ` +
      `in quiet ${quiet.slowestMs | 0} ms, and ${quiet.slowestOwnMs | 0} ms`
    );
  }

  #faultsText({ faults }: PairFindings): string {
    return `the pair beside the attack: ${faults.join('; ')}; the log of the broker:\n${this.#broker.output().slice(-4_000)}`;
  }

  #expectAlive(): void {
    const { exitCode, signalCode } = this.#broker.process;
    const log = this.#broker.output();
    if (exitCode !== null || signalCode !== null) {
      throw new Error(`the broker has ended: ${exitCode ?? signalCode}; its log:\n${log.slice(-4_000)}`);
    }
    const bugs = log.split('\n').filter((line) => bugInLog.test(line));
    if (bugs.length > 0) throw new Error(`the log of the broker has a bug:\n${bugs.join('\n').slice(0, 4_000)}`);
  }

  /** Every hold of a call that is over has been released. */
  async #expectEmpty(most: Own): Promise<void> {
    let left: string[] = [];
    const isEmpty = async (): Promise<boolean> => {
      const held = await this.#heldBytes();
      left = passing.filter((name) => held(name) > (most[name] ?? 0)).map((name) => `${name} ${held(name)}`);
      return left.length === 0;
    };
    await waitFor('the account to be empty after the attack', emptyMs, 50, isEmpty).catch((error: unknown) => {
      throw new Error(`still counted: ${left.join(', ')}`, { cause: error });
    });
  }

  async #heldBytes(): Promise<(kind: KindName) => number> {
    const answer = await fetch(`${this.#broker.httpUrl}/metrics`, { headers: { connection: 'close' } });
    const gauges = (await answer.text()).matchAll(/^millrace_account_bytes\{kind="(\w+)"\} (\d+)/gm);
    const bytes = new Map(Array.from(gauges, ([, kind = '', held]) => [kind, Number(held)] as const));
    return (kind) => {
      const held = bytes.get(kind);
      if (held === undefined) throw new Error(`no gauge shows ${kind}`);
      return held;
    };
  }

  /** Of the broker. The tick of Linux is 10 ms. */
  #cpuMs(): number {
    const afterName = readFileSync(`/proc/${this.#broker.pid}/stat`, 'utf8').split(') ')[1] ?? '';
    const [user, system] = afterName.split(' ').slice(11, 13);
    return (Number(user) + Number(system)) * 10;
  }

  #forgetPeak(): void {
    writeFileSync(`/proc/${this.#broker.pid}/clear_refs`, '5');
  }

  #peakMib(): number {
    const status = readFileSync(`/proc/${this.#broker.pid}/status`, 'utf8');
    return Math.round(Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1]) / 1_024);
  }
}
