import type { Batch } from '../../gen/millrace/v1/record_pb.js';
import { Member } from '../client/member.ts';
import { connect } from '../client/service-client.ts';
import { Histogram } from '../support/histogram.ts';
import type { HistogramData } from '../support/histogram.ts';
import { runLoad } from '../support/load-process.ts';
import type { LoadProgram } from '../support/load-process.ts';
import { monotonicUs, waitFor } from '../support/timing.ts';

/** A load process that runs all members of some groups. */
export interface ConsumeSpec {
  readonly address: string;
  readonly topic: string;
  readonly partitions: number;
  readonly groups: readonly string[];
  readonly membersPerGroup: number;
  readonly client: 'ordinary' | 'lean';
  readonly maxInFlightRecords: number;
  readonly maxInFlightBytes: number;
  readonly acksInFlight: number;
  readonly ackPerBatch: boolean;
  /** Reads the stamp of every record (ordinary client only). */
  readonly stamped: boolean;
}

export interface ConsumeResult {
  readonly delivered: number;
  readonly acked: number;
  readonly acks: number;
  readonly elapsedMs: number;
  /** The latency of each record, from its stamp to its handler. */
  readonly endToEnd: HistogramData;
  /** The latency of each ack entry, from the call to its answer. */
  readonly ackLatency: HistogramData;
}

/** How often the parent gets the progress of the slowest group. */
const progressEveryMs = 5;

class ConsumeLoad implements LoadProgram<ConsumeResult> {
  readonly #members: Member[] = [];
  readonly #ackedOfGroup: number[];
  readonly #endToEnd = new Histogram();
  readonly #ackLatency = new Histogram();
  readonly #progress: (messages: number) => void;
  #delivered = 0;
  #acked = 0;
  #acks = 0;
  #markedAtMs = performance.now();
  #ticking: NodeJS.Timeout | null = null;
  #reported = -1;

  constructor(spec: ConsumeSpec, progress: (messages: number) => void) {
    this.#progress = progress;
    this.#ackedOfGroup = spec.groups.map(() => 0);
    const client = connect(spec.address);
    for (const [index, group] of spec.groups.entries()) {
      for (let i = 0; i < spec.membersPerGroup; i++) {
        this.#members.push(
          new Member(client, {
            group,
            topic: spec.topic,
            kind: spec.client,
            maxInFlightRecords: spec.maxInFlightRecords,
            maxInFlightBytes: spec.maxInFlightBytes,
            acksInFlight: spec.acksInFlight,
            ackPerBatch: spec.ackPerBatch,
            onBatch: spec.stamped ? this.#readStamps : null,
            onDelivered: (records) => {
              this.#delivered += records;
            },
            onAcked: (records, latencyUs) => {
              this.#acked += records;
              this.#acks++;
              this.#ackedOfGroup[index] = this.#ackedOfGroup[index]! + records;
              this.#ackLatency.record(latencyUs);
            },
            onError: (error) => {
              throw error;
            },
          }),
        );
      }
    }
  }

  /** Resolves when every partition is assigned in every group. */
  async assigned(partitions: number, groups: number): Promise<void> {
    await waitFor('the members to be assigned', 30_000, 10, () => {
      const held = this.#members.reduce((sum, member) => sum + (member.assigned ?? 0), 0);
      return held === partitions * groups && this.#members.every((member) => member.assigned !== null);
    });
  }

  readonly #readStamps = (batch: Batch): void => {
    const nowUs = monotonicUs();
    for (const { record } of batch.records) {
      const value = record!.value;
      this.#endToEnd.record(nowUs - new DataView(value.buffer, value.byteOffset).getFloat64(0, true));
    }
  };

  start(): void {
    this.#ticking = setInterval(() => {
      this.#report();
    }, progressEveryMs);
  }

  #report(): void {
    const slowest = Math.min(...this.#ackedOfGroup);
    if (slowest === this.#reported) return;
    this.#reported = slowest;
    this.#progress(slowest);
  }

  mark(): void {
    this.#endToEnd.reset();
    this.#ackLatency.reset();
    this.#delivered = 0;
    this.#acked = 0;
    this.#acks = 0;
    this.#markedAtMs = performance.now();
  }

  collect(): ConsumeResult {
    return {
      delivered: this.#delivered,
      acked: this.#acked,
      acks: this.#acks,
      elapsedMs: performance.now() - this.#markedAtMs,
      endToEnd: this.#endToEnd.toData(),
      ackLatency: this.#ackLatency.toData(),
    };
  }

  stop(): Promise<void> {
    if (this.#ticking !== null) clearInterval(this.#ticking);
    for (const member of this.#members) member.stop();
    return Promise.resolve();
  }
}

runLoad<ConsumeSpec, ConsumeResult>(async (spec, progress) => {
  const load = new ConsumeLoad(spec, progress);
  await load.assigned(spec.partitions, spec.groups.length);
  return load;
});
