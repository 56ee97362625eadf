import type { Logger } from 'pino';
import { collectDefaultMetrics, type Registry } from 'prom-client';
import type { Services } from '../broker/services.ts';
import type { Account } from '../account/account.ts';
import { notOwner } from '../errors/rejections/broker.ts';
import type { TunableLimits } from '../limits/limits.ts';
import type { Clock, Random } from '../time/clock.ts';
import { everybody, type Authorize } from './edge/caller.ts';
import { Connections } from './connections/connections.ts';
import { CallCounts } from './edge/call-counts.ts';
import type { ReportBug } from './edge/errors.ts';
import { GrpcServer } from './grpc/server.ts';
import { createHandlers } from './handlers/handlers.ts';
import { Cors } from './http/cors.ts';
import type { Numbers } from './operations/operations.ts';
import type { Readiness } from './operations/readiness.ts';
import { HttpServer } from './http/server.ts';
import { RequestDecoder } from './translation/request-decoder.ts';
import { createValidation } from './validation/validation.ts';

interface RpcOptions {
  /** The calls of the broker; null while this process stands by and rejects with NOT_OWNER. */
  readonly services: () => Services | null;
  /** Whether a caller may make a call. Default: every caller may. */
  readonly authorize?: Authorize;
  /** What clients make this process hold. */
  readonly account: Account;
  readonly limits: Pick<TunableLimits, 'recordBytesMax' | 'partitionsMax'>;
  /** The retention after completion of topics that are created without one; null: for ever. */
  readonly defaultRetentionMs: number | null;
  /** For /readyz. */
  readonly ready: () => Readiness;
  /** For /metrics; the metrics of the process are added to it. */
  readonly metrics: Registry;
  /** For /metrics too. */
  readonly numbers: Numbers;
  readonly log: Pick<Logger, 'error' | 'warn'>;
  /** Origins of web pages that may call the broker; none by default, `*` for all. */
  readonly corsOrigins?: readonly string[];
  readonly clock: Clock;
  readonly random: Random;
}

/** Both edges of the broker. Either may be started first: a standby has only HTTP. */
export interface RpcServers {
  /** @returns the port that it listens on. */
  startGrpc(host: string, port: number): Promise<number>;
  /** @returns the port that it listens on. */
  startHttp(host: string, port: number): Promise<number>;
  /**
   * Answers what is under way and closes; what takes longer than `graceMs` is cut off. The broker
   * ends its Subscribe streams before. Idempotent.
   */
  stop(graceMs: number): Promise<void>;
}

export function createRpcServers(options: RpcOptions): RpcServers {
  const calls = new CallCounts();
  const reportBug = bugReporter(options, calls);
  const handlers = createHandlers({
    services: () => serving(options.services()),
    authorize: options.authorize ?? everybody,
    validation: createValidation(options.limits),
    recordBytesMax: options.limits.recordBytesMax,
    defaultRetentionMs: options.defaultRetentionMs,
  });
  collectDefaultMetrics({ register: options.metrics });
  const { ready, metrics, numbers, clock, account, log } = options;
  const connections = new Connections({ account, clock, log });
  const decoder = new RequestDecoder(clock);
  const shared = { handlers, decoder, clock, account, connections, calls, reportBug };
  const grpc = new GrpcServer(shared);
  const cors = new Cors(options.corsOrigins ?? [], clock, log);
  const http = new HttpServer({ ...shared, ready, metrics, numbers, cors });
  return {
    startGrpc: (host, port) => grpc.start(host, port),
    startHttp: (host, port) => http.start(host, port),
    async stop(graceMs) {
      await Promise.all([grpc.stop(graceMs), http.stop(graceMs)]);
    },
  };
}

function serving(services: Services | null): Services {
  if (services === null) throw notOwner('STANDS_BY');
  return services;
}

function bugReporter({ random, log }: RpcOptions, calls: CallCounts): ReportBug {
  const report = (error: unknown): string => {
    const bugId = random.uuid();
    log.error({ err: error, bugId }, 'a bug: a call failed with an error that is neither a rejection nor a fault');
    return bugId;
  };
  return Object.assign(report, {
    refused: (reason: string) => {
      calls.refused(reason);
    },
  });
}
