import { GroupService } from '../../gen/millrace/v1/group_pb.js';
import { OffsetStatus } from '../../gen/millrace/v1/offset_pb.js';
import { call, connect } from '../client/service-client.ts';
import { Histogram } from '../support/histogram.ts';
import type { HistogramData } from '../support/histogram.ts';
import { runLoad } from '../support/load-process.ts';
import { monotonicUs } from '../support/timing.ts';

/**
 * A load process that commits offsets of groups without members, in a closed loop. Each call moves
 * `batch` cursors by one.
 */
export interface CommitSpec {
  readonly address: string;
  readonly groups: readonly string[];
  readonly topics: readonly string[];
  readonly partitionsPerTopic: number;
  /** The offsets of one call, all of one group. */
  readonly batch: number;
  readonly inFlight: number;
  /** The committed offset of all cursors at the start. */
  readonly committedOffset: number;
}

export interface CommitResult {
  /** Offsets whose commit was confirmed. */
  readonly offsets: number;
  readonly elapsedMs: number;
  /** The latency of each call. */
  readonly latency: HistogramData;
}

interface Place {
  readonly topic: string;
  readonly partition: number;
  readonly lane: number;
}

runLoad<CommitSpec, CommitResult>((spec) => {
  const { topics, partitionsPerTopic, batch } = spec;
  const client = connect(spec.address);
  const latency = new Histogram();
  const places: Place[] = topics.flatMap((topic) =>
    Array.from({ length: partitionsPerTopic }, (_, partition) => ({ topic, partition, lane: 0 })),
  );
  // The last slice of a group may be shorter, so that no cursor is in two calls at once.
  const slices = spec.groups.flatMap((group) =>
    Array.from({ length: Math.ceil(places.length / batch) }, (_, at) => ({ group, from: at * batch })),
  );
  let next = 0;
  let offsets = 0;
  let markedAtMs = performance.now();
  let stopped = false;

  const commit = async (): Promise<void> => {
    const { group, from } = slices[next % slices.length]!;
    const offset = BigInt(spec.committedOffset + 1 + Math.floor(next / slices.length));
    next++;
    const startUs = monotonicUs();
    const named = places.slice(from, from + batch).map((place) => ({ ...place, offset }));
    const { results } = await call(client, GroupService.method.commitOffsets, { group, offsets: named });
    latency.record(monotonicUs() - startUs);
    const refused = results.find(({ status }) => status !== OffsetStatus.OK);
    if (refused !== undefined) throw new Error(`a commit was rejected: ${OffsetStatus[refused.status]}`);
    offsets += results.length;
  };
  const loop = async (): Promise<void> => {
    while (!stopped) await commit();
  };
  let loops: Promise<void>[] = [];
  return Promise.resolve({
    start: () => {
      loops = Array.from({ length: Math.min(spec.inFlight, slices.length) }, loop);
    },
    mark: () => {
      offsets = 0;
      latency.reset();
      markedAtMs = performance.now();
    },
    collect: () => ({ offsets, elapsedMs: performance.now() - markedAtMs, latency: latency.toData() }),
    stop: async () => {
      stopped = true;
      await Promise.all(loops);
      client.close();
    },
  });
});
