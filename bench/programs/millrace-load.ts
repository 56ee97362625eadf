import { freePort } from '../support/free-port.ts';
import { startLoad } from '../support/load-process.ts';
import type { LoadProcess } from '../support/load-process.ts';
import type { EchoSpec } from '../load/echo.ts';
import type { PublishResult, PublishSpec } from '../load/publish.ts';
import type { ConsumeResult, ConsumeSpec } from '../load/consume.ts';

/** The target of a load: a broker, or a server with the same RPCs. */
export interface Target {
  readonly broker: { readonly grpcAddress: string };
}

/**
 * Runs a load on a gRPC server that answers at once, to measure what clients and transport allow.
 */
export async function withNothing<T>(run: (target: Target, pid: number) => Promise<T>): Promise<T> {
  const port = await freePort();
  const server = await startLoad<EchoSpec, null>('echo', { port });
  const result = await run({ broker: { grpcAddress: `127.0.0.1:${port}` } }, server.pid);
  await server.stop();
  await server.end();
  return result;
}

type Publishing = Pick<PublishSpec, 'batch' | 'valueBytes' | 'seed'> &
  Partial<PublishSpec> & {
    /** The number of load processes, which share the publishers and the rate. */
    readonly processes?: number;
  };

/** Starts the publishers of a topic. The default is one with 8 requests in flight. */
export function startPublishers(site: Target, topic: string, load: Publishing): Promise<LoadProcess<PublishResult>[]> {
  const processes = load.processes ?? 1;
  return Promise.all(
    Array.from({ length: processes }, (_, index) =>
      startLoad<PublishSpec, PublishResult>('publish', {
        address: site.broker.grpcAddress,
        topic,
        client: load.client ?? 'ordinary',
        call: load.call ?? 'unary',
        publishers: share(load.publishers ?? processes, processes, index),
        inFlight: load.inFlight ?? 8,
        batch: load.batch,
        valueBytes: load.valueBytes,
        requestsPerSecond: load.requestsPerSecond == null ? null : load.requestsPerSecond / processes,
        limited: load.limited ?? false,
        seed: load.seed + index,
      }),
    ),
  );
}

type Consuming = Partial<ConsumeSpec> & {
  readonly partitions: number;
  /** The number of groups, which the processes share. */
  readonly groupCount: number;
  readonly processes?: number;
};

/** Starts groups on a topic. The default is one member for each, with two acks in flight. */
export function startConsumers(site: Target, topic: string, load: Consuming): Promise<LoadProcess<ConsumeResult>[]> {
  const processes = Math.min(load.processes ?? consumerProcesses(load.groupCount), load.groupCount);
  let named = 0;
  return Promise.all(
    Array.from({ length: processes }, (_, index) =>
      startLoad<ConsumeSpec, ConsumeResult>('consume', {
        address: site.broker.grpcAddress,
        topic,
        partitions: load.partitions,
        groups: Array.from({ length: share(load.groupCount, processes, index) }, () => `${topic}-group-${++named}`),
        membersPerGroup: load.membersPerGroup ?? 1,
        client: load.client ?? 'ordinary',
        maxInFlightRecords: load.maxInFlightRecords ?? 4000,
        maxInFlightBytes: load.maxInFlightBytes ?? 8 * 1024 * 1024,
        acksInFlight: load.acksInFlight ?? 2,
        ackPerBatch: load.ackPerBatch ?? false,
        stamped: load.stamped ?? false,
      }),
    ),
  );
}

/** Two processes for several groups, because decoding needs more than one core. */
function consumerProcesses(groups: number): number {
  return groups <= 1 ? 1 : 2;
}

function share(total: number, parts: number, index: number): number {
  return Math.floor(total / parts) + (index < total % parts ? 1 : 0);
}
