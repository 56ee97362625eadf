import { fromBinary } from '@bufbuild/protobuf';
import { SubscribeResponseSchema } from '../../../gen/millrace/v1/broker_pb.js';
import type { Services } from '../../../src/broker/services.ts';
import type { MemberId } from '../../../src/coordinator/group.ts';
import type { PullOutcome } from '../../../src/broker/commands.ts';
import type { GapOfLog } from '../../../src/delivery/ports/session.ts';
import { Reply } from '../../../src/delivery/ports/reply.ts';

const caller = { principal: 'anonymous', host: 'test' } as const;

/** A member that pulls one topic. */
export class Consumer {
  readonly #services: () => Services;
  readonly #group: string;
  readonly #topic: string;
  #memberId: MemberId | null = null;
  /** Those that the last answer has named. */
  gaps: readonly GapOfLog[] = [];

  constructor(services: () => Services, group: string, topic: string) {
    this.#services = services;
    this.#group = group;
    this.#topic = topic;
  }

  /** Reads without an ack. @returns the offsets of partition 0, and a function that acks them. */
  async read(recordsMax: number): Promise<{ readonly offsets: number[]; readonly ack: () => Promise<string> }> {
    for (;;) {
      const pulled = await this.#pull(recordsMax);
      const offsets = pulled.fields.flatMap(offsetsOf);
      if (offsets.length === 0 && !isOver(pulled)) continue;
      return { offsets, ack: () => this.#acked(pulled.generation, offsets.at(-1)!) };
    }
  }

  /** Reads and acks until there is nothing more for now. @returns the offsets of partition 0. */
  async readAll(recordsMax = Infinity): Promise<number[]> {
    const offsets: number[] = [];
    for (;;) {
      const pulled = await this.#pull(Math.min(1_000, recordsMax - offsets.length));
      const got = pulled.fields.flatMap(offsetsOf);
      offsets.push(...got);
      if (got.length > 0) await this.#ack(pulled.generation, got.at(-1)!);
      if (offsets.length >= recordsMax || (got.length === 0 && isOver(pulled))) return offsets;
    }
  }

  async leave(): Promise<void> {
    await this.#services().group.leaveGroup({ group: this.#group, memberId: this.#memberId! });
    this.#memberId = null;
  }

  async #pull(maxRecords: number) {
    const pulled = await this.#services().broker.pull(caller, {
      ...{ group: this.#group, topics: [this.#topic], start: { type: 'latest' } as const },
      ...{ maxRecords, maxBytes: 4_000_000, waitMs: 100, memberId: this.#memberId, clientId: 'consumer' },
      ...{ instanceId: null, maxPollIntervalMs: 300_000, lanes: true, sessionTimeoutMs: 300_000 },
      ...{ autoAck: false, reply: new Reply() },
    });
    this.#memberId = pulled.memberId;
    this.gaps = pulled.gaps;
    return pulled;
  }

  async #ack(generation: number, upToOffset: number): Promise<void> {
    const status = await this.#acked(generation, upToOffset);
    if (status !== 'OK') throw new Error(`the ack was answered ${status}`);
  }

  async #acked(generation: number, upToOffset: number): Promise<string> {
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
    return answer!.status;
  }
}

/** Whether there is nothing more for now. */
function isOver({ blockedOn }: PullOutcome): boolean {
  return blockedOn === 'CAUGHT_UP' || blockedOn === 'PAUSED';
}

export function offsetsOf(field: Buffer): number[] {
  const { event } = fromBinary(SubscribeResponseSchema, field);
  if (event.case !== 'batch') throw new Error('this is not a batch');
  return event.value.records.map(({ offset }) => Number(offset));
}
