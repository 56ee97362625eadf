import type { Batch } from '../../gen/millrace/v1/record_pb.js';
import { Member } from '../client/member.ts';
import { connect } from '../client/service-client.ts';
import { Histogram } from '../support/histogram.ts';
import type { HistogramData } from '../support/histogram.ts';
import { runLoad } from '../support/load-process.ts';
import { monotonicUs, waitFor } from '../support/timing.ts';

/** A load process whose members stay in one group, ack, and measure the silence of each stream. */
export interface SteadySpec {
  readonly address: string;
  readonly topic: string;
  readonly partitions: number;
  readonly group: string;
  readonly members: number;
}

export interface SteadyResult {
  /** For each stream, the times from one batch to the next. */
  readonly gaps: readonly HistogramData[];
  /** For each stream, the times from when a record was due at its publisher to its handler. */
  readonly latencies: readonly HistogramData[];
}

interface Stream {
  readonly member: Member;
  readonly gaps: Histogram;
  readonly latency: Histogram;
}

runLoad<SteadySpec, SteadyResult>(async (spec) => {
  const client = connect(spec.address);
  const openStream = (): Stream => {
    const [gaps, latency] = [new Histogram(), new Histogram()];
    let lastUs = 0;
    const onBatch = (batch: Batch): void => {
      const nowUs = monotonicUs();
      if (lastUs > 0) gaps.record(nowUs - lastUs);
      lastUs = nowUs;
      for (const { record } of batch.records) {
        const { buffer, byteOffset } = record!.value;
        latency.record(nowUs - new DataView(buffer, byteOffset).getFloat64(0, true));
      }
    };
    const member = new Member(client, {
      group: spec.group,
      topic: spec.topic,
      kind: 'ordinary',
      maxInFlightRecords: 1_000,
      maxInFlightBytes: 8 * 1024 * 1024,
      acksInFlight: 2,
      ackPerBatch: false,
      onBatch,
      onDelivered: () => undefined,
      onAcked: () => undefined,
      // The broker rightly rejects an ack of a partition that has moved.
      onError: (error) => {
        if (!/STALE_GENERATION|NOT_OWNER/.test(error.message)) throw error;
      },
    });
    return { member, gaps, latency };
  };
  const streams = Array.from({ length: spec.members }, openStream);
  await waitFor('the members to be assigned', 30_000, 10, () => {
    return streams.reduce((sum, { member }) => sum + (member.assigned ?? 0), 0) === spec.partitions;
  });
  return {
    start: () => undefined,
    mark: () => {
      for (const { gaps, latency } of streams) for (const histogram of [gaps, latency]) histogram.reset();
    },
    collect: () => ({
      gaps: streams.map(({ gaps }) => gaps.toData()),
      latencies: streams.map(({ latency }) => latency.toData()),
    }),
    stop: () => {
      for (const { member } of streams) member.stop();
      return Promise.resolve();
    },
  };
});
