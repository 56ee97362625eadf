import { create, toJsonString, type DescMethod, type MessageInitShape, type MessageShape } from '@bufbuild/protobuf';
import type { Client, ServiceError } from '@grpc/grpc-js';
import { expect } from 'vitest';
import { call, connect, methodPath, openServerStream } from '../../bench/client/service-client.ts';
import { startBroker, type BrokerOptions, type BrokerProcess } from '../../bench/support/broker-process.ts';
import { BrokerService } from '../../gen/millrace/v1/broker_pb.js';
import { MessageService } from '../../gen/millrace/v1/message_pb.js';
import { TopicService } from '../../gen/millrace/v1/topic_pb.js';
import { failureOf } from '../rpc/grpc-client.ts';
import { createMigratedDatabase, type TestDatabase } from '../support/database.ts';
import { connectRefusal, grpcRefusal, type ConnectError, type Refusal } from './refusal.ts';

/**
 * A real broker on a database of its own, how a client of either edge speaks to it, and what it has
 * confirmed.
 */
export class Site {
  broker: BrokerProcess;
  readonly client: Client;
  readonly #database: TestDatabase;
  /** Values that were confirmed, by topic, partition and offset. */
  readonly #confirmed = new Map<string, string>();

  private constructor(broker: BrokerProcess, database: TestDatabase) {
    this.broker = broker;
    this.client = connect(broker.grpcAddress);
    this.#database = database;
  }

  static async open(options: Partial<BrokerOptions> = {}): Promise<Site> {
    const database = await createMigratedDatabase();
    try {
      return new Site(await startBroker({ databaseUrl: database.url, ...options }), database);
    } catch (error) {
      await database.drop();
      throw error;
    }
  }

  get databaseUrl(): string {
    return this.#database.url;
  }

  /** Starts a broker with the same ports, when the one before has been told to end. */
  async restart(): Promise<void> {
    await this.broker.exited;
    const { grpcPort, httpPort } = this.broker;
    this.broker = await startBroker({ databaseUrl: this.#database.url, grpcPort, httpPort });
  }

  async close(): Promise<void> {
    this.client.close();
    this.broker.kill('SIGKILL');
    await this.broker.exited;
    await this.#database.drop();
  }

  call<M extends DescMethod>(method: M, request: MessageInitShape<M['input']>): Promise<MessageShape<M['output']>> {
    return call(this.client, method, request);
  }

  async createTopic(name: string, partitions = 2): Promise<void> {
    await this.call(TopicService.method.createTopic, { topic: { name, partitions } });
  }

  /** And all that was confirmed of it. */
  async deleteTopic(name: string): Promise<void> {
    await this.call(TopicService.method.deleteTopic, { name });
    for (const place of [...this.#confirmed.keys()]) if (place.startsWith(`${name}/`)) this.#confirmed.delete(place);
  }

  /** Publishes one record for each value, and notes them as confirmed. @returns their offsets. */
  async publish(topic: string, partition: number, values: readonly string[]): Promise<number[]> {
    const records = values.map((value) => ({ value: Buffer.from(value) }));
    const { results } = await this.call(BrokerService.method.publish, { topic, partition, records });
    const offsets = results.map(({ offset }) => Number(offset));
    this.confirm(topic, partition, offsets[0]!, values);
    return offsets;
  }

  /** Notes what was published in another way, from an offset on. */
  confirm(topic: string, partition: number, offset: number, values: readonly string[]): void {
    values.forEach((value, index) => this.#confirmed.set(`${topic}/${partition}/${offset + index}`, value));
  }

  /** Sends the call over gRPC and as JSON, and expects both to be refused alike. */
  async refusal<M extends DescMethod>(method: M, request: MessageInitShape<M['input']>): Promise<Refusal> {
    const overGrpc = await this.grpcRefusal(method, request);
    const json = toJsonString(method.input, create(method.input, request));
    expect(await this.jsonRefusal(method, json), 'what JSON answers').toEqual(overGrpc);
    return overGrpc;
  }

  async grpcRefusal<M extends DescMethod>(method: M, request: MessageInitShape<M['input']>): Promise<Refusal> {
    const answer =
      method.methodKind === 'server_streaming'
        ? openServerStream(this.client, method, request).resume().toArray()
        : this.call(method, request);
    return grpcRefusal(await failureOf(answer));
  }

  /** The request's bytes as they are. */
  async rawRefusal(method: DescMethod, request: Buffer): Promise<Refusal> {
    const asIs = (bytes: Buffer): Buffer => bytes;
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    this.client.makeUnaryRequest(methodPath(method), asIs, asIs, request, (error: ServiceError | null, answer) => {
      if (error !== null) reject(error);
      else resolve(answer);
    });
    return grpcRefusal(await failureOf(promise));
  }

  /** The request's text as it is. */
  async jsonRefusal(method: DescMethod, json: string): Promise<Refusal> {
    return this.connectRefusal(method, Buffer.from(json), 'json');
  }

  /** The request's bytes as they are, over the Connect protocol. */
  async connectRefusal(method: DescMethod, body: Buffer<ArrayBuffer>, format = 'proto'): Promise<Refusal> {
    const streams = method.methodKind === 'server_streaming';
    const response = await fetch(this.broker.httpUrl + methodPath(method), {
      method: 'POST',
      headers: { 'content-type': `application/${streams ? 'connect+' : ''}${format}` },
      body: streams ? enveloped(body) : body,
    });
    const answer = Buffer.from(await response.arrayBuffer());
    if (!streams) return connectRefusal(JSON.parse(answer.toString()) as ConnectError);
    return connectRefusal((JSON.parse(answer.subarray(5).toString()) as { error: ConnectError }).error);
  }

  /**
   * Everything that is stored, compared with everything that was confirmed; and the process is the
   * one that began. A topic to which others publish may be left out.
   */
  async expectAllThere(except?: string): Promise<void> {
    expect(this.broker.process.exitCode, this.broker.output()).toBe(null);
    expect(await this.#stored(except)).toEqual(Object.fromEntries(this.#confirmed));
  }

  async #stored(except?: string): Promise<Record<string, string>> {
    const stored: Record<string, string> = {};
    const { topics } = await this.call(TopicService.method.listTopics, {});
    for (const { name, partitions } of topics) {
      if (name === except) continue;
      for (let partition = 0; partition < partitions; partition++) await this.#readPartition(name, partition, stored);
    }
    return stored;
  }

  async #readPartition(topic: string, partition: number, stored: Record<string, string>): Promise<void> {
    for (let offset = 0n; ;) {
      const from = { case: 'offset', value: offset } as const;
      const read = await this.call(MessageService.method.readMessages, { topic, partition, from, maxRecords: 10_000 });
      for (const { record, offset: at } of read.batches.flatMap(({ records }) => records)) {
        stored[`${topic}/${partition}/${at}`] = Buffer.from(record!.value).toString();
      }
      if (read.nextOffset === read.highWatermark) return;
      offset = read.nextOffset!;
    }
  }
}

function enveloped(message: Buffer): Buffer<ArrayBuffer> {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}
