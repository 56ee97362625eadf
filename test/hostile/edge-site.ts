import { readFileSync, writeFileSync } from 'node:fs';
import { expect } from 'vitest';
import { BrokerService } from '../../gen/millrace/v1/broker_pb.js';
import { TopicService } from '../../gen/millrace/v1/topic_pb.js';
import type { BrokerProcess } from '../../bench/support/broker-process.ts';
import { Brokers } from '../failure/brokers.ts';
import { GrpcClient } from '../rpc/grpc-client.ts';

/** What docs/configuration.md allows the process at the default HEAP_MIB. */
const rssMibMax = 600;
const topic = 'orders';

/** A broker in a process of its own, as `npm start` runs it, and a publisher beside each attack. */
export class EdgeSite {
  readonly #brokers: Brokers;
  readonly broker: BrokerProcess;

  private constructor(brokers: Brokers, broker: BrokerProcess) {
    this.#brokers = brokers;
    this.broker = broker;
  }

  static async open(): Promise<EdgeSite> {
    const brokers = await Brokers.open();
    return new EdgeSite(brokers, await brokers.active());
  }

  async close(): Promise<void> {
    await this.#brokers.close();
  }

  /**
   * Runs an attack, and publishes as an ordinary client until it is over. Expects that every record
   * is confirmed in order, that the process lives and stays small, and that nothing is a bug.
   */
  async survives(attack: () => Promise<void>): Promise<void> {
    const client = new GrpcClient(this.broker.grpcPort);
    await client.unary(TopicService.method.createTopic, { topic: { name: topic, partitions: 1 } }).catch(() => null);
    this.#forgetPeak();
    let over = false;
    const attacked = attack().finally(() => (over = true));
    const offsets: bigint[] = [];
    do {
      const records = [{ value: Buffer.from('an honest record') }];
      const { results } = await client.unary(BrokerService.method.publish, { topic, records });
      offsets.push(results[0]!.offset!);
    } while (!over);
    await attacked;
    const [first] = offsets;
    expect(offsets).toEqual(offsets.map((_, index) => first! + BigInt(index)));
    expect(this.#peakMib()).toBeLessThan(rssMibMax);
    expect([this.broker.process.exitCode, this.broker.process.signalCode]).toEqual([null, null]);
    expect(this.broker.output()).not.toMatch(/a bug:|INTERNAL/);
  }

  #forgetPeak(): void {
    writeFileSync(`/proc/${this.broker.pid}/clear_refs`, '5');
  }

  #peakMib(): number {
    const status = readFileSync(`/proc/${this.broker.pid}/status`, 'utf8');
    return Number(/VmHWM:\s+(\d+) kB/.exec(status)![1]) / 1_024;
  }
}
