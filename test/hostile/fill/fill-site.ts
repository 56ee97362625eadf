import type { DescMethod, MessageInitShape, MessageShape } from '@bufbuild/protobuf';
import type { Client } from '@grpc/grpc-js';
import { expect } from 'vitest';
import { call, connect } from '../../../bench/client/service-client.ts';
import { startBroker, type BrokerProcess } from '../../../bench/support/broker-process.ts';
import { AckStatus, BrokerService } from '../../../gen/millrace/v1/broker_pb.js';
import { GroupService } from '../../../gen/millrace/v1/group_pb.js';
import { TopicService } from '../../../gen/millrace/v1/topic_pb.js';
import { grpcRefusal } from '../../broker/refusal.ts';
import { createTestDatabase, type TestDatabase } from '../../support/database.ts';
import type { failureOf } from '../../rpc/grpc-client.ts';

const heapMib = 96;
/** Longer than any fill takes. */
export const sessionTimeout = { seconds: 1_800n };
const startMsMax = 30_000;
const pair = { topic: 'pair', group: 'pair' };

/** A broker with a small heap, and an ordinary publisher and consumer beside what fills it. */
export class FillSite {
  #broker: BrokerProcess;
  #client: Client;
  readonly #database: TestDatabase;
  #memberId = '';
  #beats = 0;

  private constructor(broker: BrokerProcess, database: TestDatabase) {
    this.#broker = broker;
    this.#database = database;
    this.#client = connect(broker.grpcAddress);
  }

  static async open(): Promise<FillSite> {
    const database = await createTestDatabase();
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

  /** Does steps, several together, until one finds the broker full. @returns how many did not. */
  async untilFull(step: (n: number) => Promise<unknown>, together = 16, stepsMax = 20_000): Promise<number> {
    let full = false;
    let steps = 0;
    let next = 0;
    const work = async (): Promise<void> => {
      while (!full && next < stepsMax) {
        if (await this.isFull(step(next++))) full = true;
        else if (++steps % 500 === 0) await this.beat();
      }
    };
    await Promise.all(Array.from({ length: together }, work));
    expect(full, `the broker is full after ${steps} steps`).toBe(true);
    return steps;
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

  /** Kills the broker, and expects one of the same size to serve what is in its database. */
  async killAndStart(): Promise<void> {
    this.#broker.kill('SIGKILL');
    await this.#broker.exited;
    this.#client.close();
    this.#broker = await start(this.#database);
    this.#client = connect(this.#broker.grpcAddress);
    expect(this.#broker.startMs).toBeLessThan(startMsMax);
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
  return startBroker({ databaseUrl: database.url, nodeFlags: [`--max-old-space-size=${heapMib}`] });
}
