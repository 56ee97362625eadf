import type { Services } from '../../../src/broker/services.ts';
import type { MemberId } from '../../../src/coordinator/group.ts';
import type { EventSink, GapOfLog } from '../../../src/delivery/ports/session.ts';
import { Reply } from '../../../src/delivery/ports/reply.ts';
import { offsetsOf } from '../life/consumer.ts';

/** A member that reads a stream, acks nothing, and has one record in flight at most. */
export class Reader {
  /** The gaps, and the offsets of the records, in their order. */
  readonly received: (GapOfLog | number)[] = [];
  #memberId = '' as MemberId;
  #generation = 0;
  readonly #services: Services;
  readonly #group: string;
  readonly #topic: string;

  private constructor(services: Services, group: string, topic: string) {
    this.#services = services;
    this.#group = group;
    this.#topic = topic;
  }

  static async open(services: Services, group: string, topic: string): Promise<Reader> {
    const reader = new Reader(services, group, topic);
    await services.broker.subscribe(
      { principal: 'anonymous', host: 'test' },
      {
        ...{ group, topics: [topic], start: { type: 'earliest' }, memberId: null, clientId: 'reader' },
        ...{ instanceId: null, maxPollIntervalMs: 300_000, lanes: true, reply: new Reply(), autoAck: false },
        ...{ maxInFlightRecords: 1, maxInFlightBytes: 1_000_000, sessionTimeoutMs: null, rebalanceTimeoutMs: 1_000 },
        ...{ assignor: 'sticky', metadata: Buffer.alloc(0), assignmentChanges: false },
      },
      reader.#sink(),
    );
    return reader;
  }

  /** @returns the status of the ack of one record. */
  async ack(offset: number): Promise<string> {
    const [answer] = await this.#services.broker.ack({
      group: this.#group,
      memberId: this.#memberId,
      generation: this.#generation,
      entries: [
        {
          ...{ topic: this.#topic, partition: 0, lane: 0, action: 'ACK' as const, upToOffset: null },
          ...{ runs: [offset, offset], delayMs: null, error: '' },
        },
      ],
    });
    return answer!.status;
  }

  #sink(): EventSink {
    return {
      send: (event) => {
        if (event.type === 'joined') this.#memberId = event.memberId;
        if ('generation' in event) this.#generation = event.generation;
        if (event.type === 'batch') this.received.push(...offsetsOf(event.field));
        if (event.type !== 'gap') return;
        const { topic, partition, lane, first, last, reason } = event;
        this.received.push({ topic, partition, lane, first, last, reason });
      },
      ...{ unsentBytes: 0, onDrain: null, end: () => undefined, cut: () => undefined, hasProgress: () => true },
    };
  }
}
