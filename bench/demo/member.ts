import { setTimeout as pause } from 'node:timers/promises';
import type { Client, ClientReadableStream } from '@grpc/grpc-js';
import { status } from '@grpc/grpc-js';
import type { ServiceError } from '@grpc/grpc-js';
import { AckAction, BrokerService } from '../../gen/millrace/v1/broker_pb.js';
import type { SubscribeResponse } from '../../gen/millrace/v1/broker_pb.js';
import type { Batch } from '../../gen/millrace/v1/record_pb.js';
import { call, connect, openServerStream } from '../client/service-client.ts';
import { monotonicUs } from '../support/timing.ts';
import type { Handled } from './ledger.ts';

/**
 * A member in its own process, which may be killed at any moment. It reports each batch, and acks
 * it only when the kernel has the report. Every acked record is therefore counted, and a kill
 * causes duplicates but never a loss.
 */
export interface MemberSpec {
  readonly address: string;
  readonly topic: string;
  readonly group: string;
  readonly clientId: string;
}

export type FromMember =
  { readonly type: 'assigned'; readonly partitions: number } | { readonly type: 'handled'; readonly handled: Handled };

export type ToMember = { readonly type: 'break' };

class DemoMember {
  readonly #spec: MemberSpec;
  readonly #client: Client;
  #stream: ClientReadableStream<SubscribeResponse> | null = null;
  #memberId = '';

  constructor(spec: MemberSpec) {
    this.#spec = spec;
    this.#client = connect(spec.address);
  }

  /** Cancels the stream without leaving the group, as a broken network would. */
  break(): void {
    this.#stream?.cancel();
  }

  async run(): Promise<void> {
    for (let waitMs = 50; ; waitMs = Math.min(waitMs * 2, 2_000)) {
      try {
        await this.#subscribe();
        waitMs = 50;
      } catch (error) {
        const { code } = error as ServiceError;
        const passes = code === status.UNAVAILABLE || code === status.ABORTED || code === status.CANCELLED;
        if (!passes) throw error;
      }
      await pause(waitMs);
    }
  }

  async #subscribe(): Promise<void> {
    const { topic, group, clientId } = this.#spec;
    this.#stream = openServerStream(this.#client, BrokerService.method.subscribe, {
      group,
      topics: [topic],
      start: { position: { case: 'earliest', value: {} } },
      clientId,
      lanes: true,
    });
    for await (const response of this.#stream) await this.#take(response as SubscribeResponse);
  }

  async #take({ event, generation }: SubscribeResponse): Promise<void> {
    if (event.case === 'joined') this.#memberId = event.value.memberId;
    else if (event.case === 'assigned') await tell({ type: 'assigned', partitions: event.value.partitions.length });
    else if (event.case === 'batch') {
      await tell({ type: 'handled', handled: handle(event.value) });
      void this.#ack(event.value, generation!).catch(() => {
        // The stream has broken too, or the partition has moved. Both repeat the records.
      });
    }
  }

  async #ack(batch: Batch, generation: bigint): Promise<void> {
    const { topic, group } = this.#spec;
    const entry = {
      topic,
      partition: batch.partition!,
      lane: batch.lane!,
      action: AckAction.ACK,
      upToOffset: batch.records.at(-1)!.offset!,
    };
    const request = { group, memberId: this.#memberId, generation, acks: [entry] };
    await call(this.#client, BrokerService.method.ack, request);
  }
}

function handle(batch: Batch): Handled {
  const headers = batch.records.map(({ record }) => record!.headers);
  return {
    atUs: monotonicUs(),
    numbers: headers.map((header) => Number(header['number'])),
    sentUs: headers.map((header) => Number(header['sent-us'])),
  };
}

/** Resolves when the kernel has the message, which it keeps even if this process is killed. */
function tell(message: FromMember): Promise<void> {
  return new Promise((resolve, reject) => {
    process.send!(message, (error: Error | null) => {
      if (error === null) resolve();
      else reject(error);
    });
  });
}

const member = new DemoMember(JSON.parse(process.argv[2]!) as MemberSpec);
process.on('message', () => {
  member.break();
});
process.on('disconnect', () => process.exit(0));
// Ctrl-C reaches every process of the terminal, but the demo decides when its members end.
process.on('SIGINT', () => undefined);
await member.run();
