import type { Client, ClientReadableStream } from '@grpc/grpc-js';
import { BrokerService } from '../../gen/millrace/v1/broker_pb.js';
import type { Batch } from '../../gen/millrace/v1/record_pb.js';
import type { SubscribeResponse } from '../../gen/millrace/v1/broker_pb.js';
import { scanEvent } from './lean.ts';
import { AckPipeline, type AckedLog } from './ack-pipeline.ts';
import { decodeResponse, encodeRequest, methodPath } from './service-client.ts';

export interface MemberOptions {
  readonly group: string;
  readonly topic: string;
  readonly kind: 'ordinary' | 'lean';
  readonly maxInFlightRecords: number;
  readonly maxInFlightBytes: number;
  readonly acksInFlight: number;
  readonly ackPerBatch: boolean;
  /** Gets each decoded batch (ordinary client only). */
  readonly onBatch: ((batch: Batch) => void) | null;
  readonly onDelivered: (records: number) => void;
  readonly onAcked: (records: number, latencyUs: number) => void;
  readonly onError: (error: Error) => void;
}

const subscribe = BrokerService.method.subscribe;
const encode = encodeRequest(subscribe);
const decode = decodeResponse(subscribe);

/** A member of a group that acks each batch of its stream at once. */
export class Member {
  readonly #options: MemberOptions;
  readonly #acks: AckPipeline;
  readonly #stream: ClientReadableStream<unknown>;
  #memberId = '';
  #stopped = false;
  /** The number of its partitions; null until the first Assigned. */
  assigned: number | null = null;

  constructor(client: Client, options: MemberOptions) {
    this.#options = options;
    this.#acks = new AckPipeline(client, {
      group: options.group,
      topic: options.topic,
      inFlightMax: options.acksInFlight,
      perBatch: options.ackPerBatch,
      onAcked: options.onAcked,
      onError: (error) => {
        this.#fail(error);
      },
    });
    this.#stream = client.makeServerStreamRequest<unknown, unknown>(
      methodPath(subscribe),
      encode as (request: unknown) => Buffer,
      options.kind === 'lean' ? scanEvent : decode,
      this.#request(),
    );
    this.#stream.on('data', options.kind === 'lean' ? this.#takeLean : this.#take);
    this.#stream.on('error', (error) => {
      this.#fail(error);
    });
  }

  stop(): void {
    this.#stopped = true;
    this.#stream.cancel();
  }

  #request(): object {
    const { group, topic, maxInFlightRecords, maxInFlightBytes } = this.#options;
    return {
      group,
      topics: [topic],
      start: { position: { case: 'earliest', value: {} } },
      maxInFlightRecords,
      maxInFlightBytes: BigInt(maxInFlightBytes),
      clientId: 'bench',
      lanes: true,
    };
  }

  readonly #takeLean = (event: unknown): void => {
    const { batch, other } = event as ReturnType<typeof scanEvent>;
    if (batch === null) this.#take(other);
    else this.#delivered(batch, batch.lastOffset, batch.records);
  };

  readonly #take = (message: unknown): void => {
    const { event, generation } = message as SubscribeResponse;
    if (event.case === 'batch') {
      const { partition, lane, records } = event.value;
      this.#options.onBatch?.(event.value);
      this.#delivered({ partition: partition!, lane: lane! }, Number(records.at(-1)!.offset!), records.length);
    } else if (event.case === 'joined') {
      this.#memberId = event.value.memberId;
      this.#acks.identify(this.#memberId, generation!);
    } else if (event.case === 'assigned') {
      this.assigned = event.value.partitions.length;
      this.#acks.identify(this.#memberId, generation!);
    }
  };

  #delivered(log: AckedLog, lastOffset: number, records: number): void {
    this.#options.onDelivered(records);
    this.#acks.ack(log, lastOffset, records);
  }

  #fail(error: Error): void {
    if (!this.#stopped) this.#options.onError(error);
  }
}
