import type { Client } from '@grpc/grpc-js';
import { AckAction, AckStatus, BrokerService } from '../../gen/millrace/v1/broker_pb.js';
import type { AckRequestSchema, AckResponse } from '../../gen/millrace/v1/broker_pb.js';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { decodeResponse, encodeRequest, methodPath } from './service-client.ts';
import { monotonicUs } from '../support/timing.ts';

export interface AckPipelineOptions {
  readonly group: string;
  readonly topic: string;
  /** Calls in flight. With two, the broker has the next call while it commits a round. */
  readonly inFlightMax: number;
  /**
   * True: each batch has its own call. False: the waiting acks share a call, cumulative by
   * partition.
   */
  readonly perBatch: boolean;
  readonly onAcked: (records: number, latencyUs: number) => void;
  readonly onError: (error: Error) => void;
}

/** The log of a batch. */
export interface AckedLog {
  readonly partition: number;
  readonly lane: number;
}

interface Waiting extends AckedLog {
  upToOffset: number;
  records: number;
}

const path = methodPath(BrokerService.method.ack);
const encode = encodeRequest(BrokerService.method.ack);
const decode = decodeResponse(BrokerService.method.ack);

/**
 * Sends the cumulative acks of one member with a few calls in flight. Further acks wait and are
 * merged.
 */
export class AckPipeline {
  readonly #client: Client;
  readonly #options: AckPipelineOptions;
  #waiting: Waiting[] = [];
  #inFlight = 0;
  #memberId = '';
  #generation = 0n;

  constructor(client: Client, options: AckPipelineOptions) {
    this.#client = client;
    this.#options = options;
  }

  /** Sets the member and the generation of the next calls. */
  identify(memberId: string, generation: bigint): void {
    this.#memberId = memberId;
    this.#generation = generation;
  }

  ack({ partition, lane }: AckedLog, upToOffset: number, records: number): void {
    const isSame = (entry: Waiting): boolean => entry.partition === partition && entry.lane === lane;
    const same = this.#options.perBatch ? undefined : this.#waiting.find(isSame);
    if (same === undefined) this.#waiting.push({ partition, lane, upToOffset, records });
    else {
      same.upToOffset = upToOffset;
      same.records += records;
    }
    this.#send();
  }

  #send(): void {
    while (this.#waiting.length > 0 && this.#inFlight < this.#options.inFlightMax) {
      const entries = this.#options.perBatch ? [this.#waiting.shift()!] : this.#waiting;
      if (!this.#options.perBatch) this.#waiting = [];
      this.#call(entries);
    }
  }

  #call(entries: readonly Waiting[]): void {
    const startUs = monotonicUs();
    this.#inFlight++;
    this.#client.makeUnaryRequest<MessageInitShape<typeof AckRequestSchema>, AckResponse>(
      path,
      encode,
      decode,
      this.#request(entries),
      (error, response) => {
        this.#inFlight--;
        if (error !== null) this.#options.onError(error);
        else this.#settle(entries, response!, monotonicUs() - startUs);
        this.#send();
      },
    );
  }

  #settle(entries: readonly Waiting[], response: AckResponse, latencyUs: number): void {
    for (const [index, entry] of entries.entries()) {
      const status = response.results[index]?.status ?? AckStatus.UNSPECIFIED;
      if (status === AckStatus.OK) this.#options.onAcked(entry.records, latencyUs);
      else this.#options.onError(new Error(`ack of partition ${entry.partition}: ${AckStatus[status]}`));
    }
  }

  #request(entries: readonly Waiting[]): MessageInitShape<typeof AckRequestSchema> {
    return {
      group: this.#options.group,
      memberId: this.#memberId,
      generation: this.#generation,
      acks: entries.map((entry) => ({
        topic: this.#options.topic,
        partition: entry.partition,
        lane: entry.lane,
        action: AckAction.ACK,
        upToOffset: BigInt(entry.upToOffset),
      })),
    };
  }
}
