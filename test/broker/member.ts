import type { MessageInitShape } from '@bufbuild/protobuf';
import type { Client, ClientReadableStream, ServiceError } from '@grpc/grpc-js';
import { call, connect, openServerStream } from '../../bench/client/service-client.ts';
import { waitFor } from '../../bench/support/timing.ts';
import {
  AckStatus,
  BrokerService,
  type AckEntrySchema,
  type SubscribeRequest,
  type SubscribeRequestSchema,
  type SubscribeResponse,
} from '../../gen/millrace/v1/broker_pb.js';
import { GroupService } from '../../gen/millrace/v1/group_pb.js';
import { OffsetStatus } from '../../gen/millrace/v1/offset_pb.js';
import { grpcRefusal, type Refusal } from './refusal.ts';

export interface Delivered {
  readonly partition: number;
  readonly offset: number;
  readonly attempt: number;
  /** The first characters of it. */
  readonly value: string;
}

/** A member of a group with a connection of its own, which acks only by explicit calls. */
export class Member {
  readonly received: Delivered[] = [];
  memberId = '';
  generation = 0n;
  partitions: number[] = [];
  /** Set when the broker ended the stream. */
  refusal: Refusal | null = null;
  readonly group: string;
  readonly #topic: string;
  readonly #client: Client;
  readonly #stream: ClientReadableStream<SubscribeResponse>;

  constructor(address: string, request: Exclude<MessageInitShape<typeof SubscribeRequestSchema>, SubscribeRequest>) {
    this.group = request.group!;
    this.#topic = request.topics?.[0] ?? '';
    this.#client = connect(address);
    const start = { position: { case: 'earliest' as const, value: {} } };
    this.#stream = openServerStream(this.#client, BrokerService.method.subscribe, { start, ...request });
    this.#stream.on('data', (response: SubscribeResponse) => {
      this.#take(response);
    });
    this.#stream.on('error', (error: ServiceError) => {
      if (!this.#stream.destroyed && error.metadata.get('grpc-status-details-bin').length > 0) {
        this.refusal = grpcRefusal(error);
      }
    });
  }

  /** Waits until it has had so many records, repeats included. */
  async untilReceived(count: number, timeoutMs = 10_000): Promise<this> {
    await waitFor(`${count} records for ${this.group}`, timeoutMs, 2, () => this.received.length >= count);
    return this;
  }

  async untilPartitions(...partitions: readonly number[]): Promise<this> {
    const wanted = partitions.join();
    await waitFor(`partitions ${wanted} for ${this.group}`, 10_000, 2, () => this.partitions.join() === wanted);
    return this;
  }

  async untilRefused(): Promise<Refusal> {
    await waitFor(`the end of ${this.memberId}`, 10_000, 2, () => this.refusal !== null);
    return this.refusal!;
  }

  of(partition: number): number[] {
    return this.received.filter((record) => record.partition === partition).map(({ offset }) => offset);
  }

  /** Acks one entry of a partition. @returns the status by name and the committed offset. */
  async ack(
    partition: number,
    entry: MessageInitShape<typeof AckEntrySchema>,
    generation = this.generation,
  ): Promise<readonly [string, bigint | undefined]> {
    const [answer] = await this.ackAll(partition, [entry], generation);
    return answer!;
  }

  /** Acks entries of a partition in one call: the broker takes nothing else between them. */
  async ackAll(
    partition: number,
    entries: readonly MessageInitShape<typeof AckEntrySchema>[],
    generation = this.generation,
  ): Promise<(readonly [string, bigint | undefined])[]> {
    const { results } = await call(this.#client, BrokerService.method.ack, {
      group: this.group,
      memberId: this.memberId,
      generation,
      acks: entries.map((entry) => ({ topic: this.#topic, partition, ...entry })),
    });
    return results.map(({ status, committedOffset }) => [AckStatus[status], committedOffset]);
  }

  /** Commits the next offset to be read. @returns the status by name and the committed offset. */
  async commit(partition: number, offset: bigint): Promise<readonly [string, bigint | undefined]> {
    const { group, memberId, generation } = this;
    const offsets = [{ topic: this.#topic, partition, offset }];
    const request = { group, memberId, generation, offsets };
    const { results } = await call(this.#client, GroupService.method.commitOffsets, request);
    const { status, committedOffset } = results[0]!;
    return [OffsetStatus[status], committedOffset];
  }

  /** Takes no more from its stream: neither this program nor, soon, its operating system. */
  stopReading(): void {
    this.#stream.pause();
  }

  readOn(): void {
    this.#stream.resume();
  }

  /** Goes, with its connection. */
  leave(): void {
    this.#stream.cancel();
    this.#client.close();
  }

  #take({ generation, event }: SubscribeResponse): void {
    this.generation = generation!;
    if (event.case === 'joined') this.memberId = event.value.memberId;
    if (event.case === 'assigned') this.partitions = event.value.partitions.map(({ partition }) => partition!);
    if (event.case !== 'batch') return;
    for (const { record, offset, attempt } of event.value.records) {
      const value = Buffer.from(record!.value.subarray(0, 20)).toString();
      this.received.push({ partition: event.value.partition!, offset: Number(offset), attempt, value });
    }
  }
}
