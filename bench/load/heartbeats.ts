import { create, toBinary } from '@bufbuild/protobuf';
import { BrokerService, HeartbeatRequestSchema } from '../../gen/millrace/v1/broker_pb.js';
import { GroupService } from '../../gen/millrace/v1/group_pb.js';
import { call, connect, methodPath } from '../client/service-client.ts';
import { Histogram } from '../support/histogram.ts';
import type { HistogramData } from '../support/histogram.ts';
import { runLoad } from '../support/load-process.ts';
import { monotonicUs } from '../support/timing.ts';

/**
 * A load process of members without streams. They join with JoinGroup before the process is ready,
 * and send heartbeats in a closed loop. The requests are encoded once, and answers dropped unread.
 */
export interface HeartbeatSpec {
  readonly address: string;
  readonly topic: string;
  readonly groups: readonly string[];
  readonly membersPerGroup: number;
  readonly joinsInFlight: number;
  readonly heartbeatsInFlight: number;
}

export interface HeartbeatResult {
  readonly joins: number;
  readonly joinMs: number;
  readonly joinLatency: HistogramData;
  /** The number of heartbeats since the mark. */
  readonly heartbeats: number;
  readonly elapsedMs: number;
  readonly latency: HistogramData;
}

const { heartbeat } = BrokerService.method;
const asIs = (bytes: Buffer): Buffer => bytes;

runLoad<HeartbeatSpec, HeartbeatResult>(async (spec) => {
  const client = connect(spec.address);
  const joinLatency = new Histogram();
  const latency = new Histogram();
  const requests: Buffer[] = [];
  let heartbeats = 0;
  let markedAtMs = 0;
  let next = 0;
  let inFlight = 0;
  let stopped = false;

  const join = async (group: string): Promise<void> => {
    const startUs = monotonicUs();
    const { memberId, generation } = await call(client, GroupService.method.joinGroup, {
      group,
      topics: [spec.topic],
      clientId: 'bench',
      sessionTimeout: { seconds: 1_800n },
    });
    joinLatency.record(monotonicUs() - startUs);
    const request = create(HeartbeatRequestSchema, { group, memberId, generation: generation ?? 0n });
    requests.push(Buffer.from(toBinary(HeartbeatRequestSchema, request)));
  };

  const beat = (): void => {
    if (stopped) return;
    const startUs = monotonicUs();
    inFlight++;
    const request = requests[next++ % requests.length]!;
    client.makeUnaryRequest<Buffer, Buffer>(methodPath(heartbeat), asIs, asIs, request, (error) => {
      inFlight--;
      if (error !== null && !stopped) throw error;
      heartbeats++;
      latency.record(monotonicUs() - startUs);
      beat();
    });
  };

  const startMs = performance.now();
  // Groups take turns, so that a group is at rest when its next member joins.
  const wanted = Array.from({ length: spec.membersPerGroup }, () => spec.groups)
    .flat()
    .values();
  const joiner = async (): Promise<void> => {
    for (const group of wanted) await join(group);
  };
  await Promise.all(Array.from({ length: spec.joinsInFlight }, joiner));
  const joinMs = performance.now() - startMs;

  return {
    start: () => {
      for (let i = 0; i < spec.heartbeatsInFlight; i++) beat();
    },
    mark: () => {
      heartbeats = 0;
      latency.reset();
      markedAtMs = performance.now();
    },
    collect: () => ({
      joins: requests.length,
      joinMs,
      joinLatency: joinLatency.toData(),
      heartbeats,
      elapsedMs: performance.now() - markedAtMs,
      latency: latency.toData(),
    }),
    stop: async () => {
      stopped = true;
      while (inFlight > 0) await new Promise((resolve) => setTimeout(resolve, 5));
      client.close();
    },
  };
});
