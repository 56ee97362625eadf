import { fromBinary } from '@bufbuild/protobuf';
import { SubscribeResponseSchema } from '../../../gen/millrace/v1/broker_pb.js';
import type { Services } from '../../../src/broker/services.ts';
import type { MemberId } from '../../../src/coordinator/group.ts';
import { Reply } from '../../../src/delivery/ports/reply.ts';

const caller = { principal: 'anonymous', host: 'test' } as const;

/** A member that pulls one topic. */
export class Consumer {
  readonly #services: () => Services;
  readonly #group: string;
  readonly #topic: string;
  #memberId: MemberId | null = null;

  constructor(services: () => Services, group: string, topic: string) {
    this.#services = services;
    this.#group = group;
    this.#topic = topic;
  }

  /** Reads and acks until there is nothing more for now. @returns the offsets of partition 0. */
  async readAll(recordsMax = Infinity): Promise<number[]> {
    const offsets: number[] = [];
    for (;;) {
      const pulled = await this.#pull(Math.min(1_000, recordsMax - offsets.length));
      this.#memberId = pulled.memberId;
      const got = pulled.fields.flatMap(offsetsOf);
      offsets.push(...got);
      if (got.length > 0) await this.#ack(pulled.generation, got.at(-1)!);
      const isOver = pulled.blockedOn === 'CAUGHT_UP' || pulled.blockedOn === 'PAUSED';
      if (offsets.length >= recordsMax || (got.length === 0 && isOver)) return offsets;
    }
  }

  async leave(): Promise<void> {
    await this.#services().group.leaveGroup({ group: this.#group, memberId: this.#memberId! });
    this.#memberId = null;
  }

  #pull(maxRecords: number) {
    return this.#services().broker.pull(caller, {
      ...{ group: this.#group, topics: [this.#topic], start: { type: 'latest' } as const },
      ...{ maxRecords, maxBytes: 4_000_000, waitMs: 100, memberId: this.#memberId, clientId: 'consumer' },
      ...{ instanceId: null, maxPollIntervalMs: 300_000, lanes: true, sessionTimeoutMs: 300_000 },
      ...{ autoAck: false, reply: new Reply() },
    });
  }

  async #ack(generation: number, upToOffset: number): Promise<void> {
    const [answer] = await this.#services().broker.ack({
      group: this.#group,
      memberId: this.#memberId!,
      generation,
      entries: [
        {
          ...{ topic: this.#topic, partition: 0, lane: 0, action: 'ACK' as const, upToOffset },
          ...{ runs: null, delayMs: null, error: '' },
        },
      ],
    });
    if (answer?.status !== 'OK') throw new Error(`the ack was answered ${answer?.status}`);
  }
}

function offsetsOf(field: Buffer): number[] {
  const { event } = fromBinary(SubscribeResponseSchema, field);
  if (event.case !== 'batch') throw new Error('this is not a batch');
  return event.value.records.map(({ offset }) => Number(offset));
}
