import type { DescMethod, MessageInitShape, MessageShape } from '@bufbuild/protobuf';
import type { Client } from '@grpc/grpc-js';
import { expect } from 'vitest';
import { call, connect } from '../../../bench/client/service-client.ts';
import { startBroker, type BrokerProcess } from '../../../bench/support/broker-process.ts';
import { processUsage } from '../../../bench/support/measure/usage.ts';
import { waitFor } from '../../../bench/support/timing.ts';
import { processBytes } from '../../../src/account/budget.ts';
import type { KindName } from '../../../src/account/kinds.ts';
import { limits } from '../../../src/limits/limits.ts';
import { AckStatus, BrokerService } from '../../../gen/millrace/v1/broker_pb.js';
import { GroupService } from '../../../gen/millrace/v1/group_pb.js';
import { TopicService } from '../../../gen/millrace/v1/topic_pb.js';
import { grpcRefusal } from '../../broker/refusal.ts';
import { createMigratedDatabase, type TestDatabase } from '../../support/database.ts';
import type { failureOf } from '../../rpc/grpc-client.ts';
import { heapProbeFlags, probesIn } from './heap-probe.ts';

const mib = 1_048_576;
/** HEAP_MIB of the broker that is filled. A larger one takes longer to fill. */
const heapMib = Number(process.env['FILL_HEAP_MIB'] ?? 96);
/** What docs/memory.md allows the process. */
const residentMibMax = Math.ceil(processBytes(heapMib * mib, limits) / mib);
/** Longer than any fill takes. */
export const sessionTimeout = { seconds: 1_800n };
/** The most CPU time of a start, and how long a busy machine may take for it. */
const startCpuMsMax = 30_000;
const startMsMax = 300_000;
const stepsMax = 20_000;
/**
 * A broker that has loaded a database may keep so much more than the one that filled it: code that
 * only a load runs, and texts that the filler shares.
 */
const loadedShareMax = 1.1;
const loadedBytesMore = 6 * mib;
/** A cache at its limit frees a sixteenth of it at once, and the next entry may not fit. */
const fullShareMin = 0.9;
const pair = { topic: 'pair', group: 'pair' };

/** A broker with a small heap, and an ordinary publisher and consumer beside what fills it. */
export class FillSite {
  #broker: BrokerProcess;
  #client: Client;
  readonly #database: TestDatabase;
  #memberId = '';
  #beats = 0;
  readonly #demanded = new Set<string>();

  private constructor(broker: BrokerProcess, database: TestDatabase) {
    this.#broker = broker;
    this.#database = database;
    this.#client = connect(broker.grpcAddress);
  }

  static async open(): Promise<FillSite> {
    const database = await createMigratedDatabase();
    const site = new FillSite(await start(database), database);
    await site.createTopic(pair.topic, 1);
    const start_ = { position: { case: 'earliest', value: {} } } as const;
    const join = { group: pair.group, topics: [pair.topic], start: start_, sessionTimeout };
    ({ memberId: site.#memberId } = await site.call(GroupService.method.joinGroup, join));
    await site.beat();
    return site;
  }

  call<M extends DescMethod>(method: M, request: MessageInitShape<M['input']>): Promise<MessageShape<M['output']>> {
    return call(this.#client, method, request);
  }

  async createTopic(name: string, partitions: number): Promise<void> {
    await this.call(TopicService.method.createTopic, { topic: { name, partitions } });
  }

  /** Creates the topic that several fills need. @returns whether this call has. */
  async demandTopic(name: string, partitions: number): Promise<boolean> {
    if (this.#demanded.has(name)) return false;
    this.#demanded.add(name);
    await this.createTopic(name, partitions);
    return true;
  }

  get address(): string {
    return this.#broker.grpcAddress;
  }

  output(): string {
    return this.#broker.output();
  }

  /** Whether the call was rejected because the broker is full. Any other failure fails the test. */
  async isFull(answer: Promise<unknown>): Promise<boolean> {
    const outcome = await answer.then(
      () => null,
      (error: unknown) => grpcRefusal(error as Awaited<ReturnType<typeof failureOf>>),
    );
    if (outcome !== null) expect(outcome.reason, outcome.message + this.output()).toBe('BROKER_FULL');
    return outcome !== null;
  }

  /**
   * Does steps, several together, until one finds the broker full, or so many if there is a number.
   * @returns how many did not.
   */
  async fill(step: (n: number) => Promise<unknown>, together: number, count = Infinity): Promise<number> {
    let full = false;
    let steps = 0;
    let next = 0;
    const work = async (): Promise<void> => {
      while (!full && next < Math.min(count, stepsMax)) {
        if (await this.isFull(step(next++))) full = true;
        else if (++steps % 500 === 0) await this.beat();
      }
    };
    await Promise.all(Array.from({ length: together }, work));
    expect(full, `whether the broker is full after ${steps} steps`).toBe(count === Infinity);
    return steps;
  }

  /** Expects that the account has no room for more of the kind, except what one eviction frees. */
  async expectFull(kind: KindName): Promise<void> {
    const metrics = await (await fetch(`${this.#broker.httpUrl}/metrics`)).text();
    const gauge = (name: string): number =>
      Number(new RegExp(`^millrace_account_${name}\\{kind="${kind}"\\} (\\d+)`, 'm').exec(metrics)?.[1]);
    expect(gauge('bytes') / gauge('limit_bytes'), `share of the limit of ${kind}`).toBeGreaterThan(fullShareMin);
  }

  /** The pair publishes, gets and acks one record, which is the next one. */
  async beat(): Promise<void> {
    const value = Buffer.from(`beat ${this.#beats++}`);
    const { topic, group } = pair;
    const { results } = await this.call(BrokerService.method.publish, { topic, partition: 0, records: [{ value }] });
    const offset = results[0]!.offset;
    const pull = { group, topics: [topic], memberId: this.#memberId, wait: { seconds: 20n }, maxRecords: 10 };
    const { batches, generation } = await this.call(BrokerService.method.pull, pull);
    const got = batches.flatMap(({ records }) => records.map((one) => [one.offset, String(one.record?.value)]));
    expect(got).toEqual([[offset, String(value)]]);
    const acks = [{ topic, partition: 0, lane: 0, ranges: [{ first: offset, last: offset }] }];
    const acked = await this.call(BrokerService.method.ack, { group, memberId: this.#memberId, generation, acks });
    expect(acked.results.map(({ status }) => AckStatus[status])).toEqual(['OK']);
  }

  /**
   * Kills the broker, and expects one of the same size to serve what is in its database, and to
   * keep no more than the killed one. @returns what it took, in words.
   */
  async killAndStart(): Promise<string> {
    const before = await this.#heapBytes();
    const filledMib = this.#residentMib();
    this.#broker.kill('SIGKILL');
    await this.#broker.exited;
    this.#client.close();
    this.#broker = await start(this.#database);
    this.#client = connect(this.#broker.grpcAddress);
    const { startMs, pid } = this.#broker;
    const cpuMs = processUsage(pid)?.cpuMs ?? NaN;
    expect(cpuMs, 'CPU time of the start').toBeLessThan(startCpuMsMax);
    // A list of all groups waits until all of them are loaded.
    await this.call(GroupService.method.listGroups, { pageSize: 1 });
    const after = await this.#heapBytes();
    expect(after, 'bytes of the heap after the restart').toBeLessThan(before * loadedShareMax + loadedBytesMore);
    const heaps = `${inMib(before)} MiB before the kill, ${inMib(after)} after`;
    const resident = `at most ${filledMib} and ${this.#residentMib()} MiB resident`;
    return `${heaps}; ${resident}; served in ${(startMs / 1_000).toFixed(1)} s, CPU ${(cpuMs / 1_000).toFixed(1)} s`;
  }

  /** The peak of the resident memory so far, which must be allowed. */
  #residentMib(): number {
    const peakMib = Math.round(processUsage(this.#broker.pid)?.memoryPeakMib ?? NaN);
    expect(peakMib, 'MiB of the broker at its peak').toBeLessThanOrEqual(residentMibMax);
    return peakMib;
  }

  async #heapBytes(): Promise<number> {
    const known = probesIn(this.output()).length;
    this.#broker.kill('SIGUSR2');
    await waitFor('the probe of the heap', 60_000, 20, () => probesIn(this.output()).length > known);
    return probesIn(this.output()).at(-1)!;
  }

  expectWell(): void {
    expect(this.#broker.process.exitCode, this.output()).toBe(null);
    expect(this.output()).not.toMatch(/bugId|INTERNAL/);
  }

  async close(): Promise<void> {
    this.#client.close();
    this.#broker.kill('SIGKILL');
    await this.#broker.exited;
    await this.#database.drop();
  }
}

function start(database: TestDatabase): Promise<BrokerProcess> {
  return startBroker({ databaseUrl: database.url, heapMib, nodeFlags: heapProbeFlags, timeoutMs: startMsMax });
}

function inMib(bytes: number): string {
  return (bytes / mib).toFixed(0);
}
