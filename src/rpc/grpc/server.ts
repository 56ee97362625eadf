import { logVerbosity, Server, ServerCredentials, setLogVerbosity } from '@grpc/grpc-js';
import { Health as HealthService } from '../../../gen/grpc/health/v1/health_pb.js';
import { ServerReflection } from '../../../gen/grpc/reflection/v1/reflection_pb.js';
import { ServerReflection as ServerReflectionAlpha } from '../../../gen/grpc/reflection/v1alpha/reflection_pb.js';
import { BrokerService } from '../../../gen/millrace/v1/broker_pb.js';
import type { Account } from '../../account/account.ts';
import { limits } from '../../limits/limits.ts';
import type { Clock } from '../../time/clock.ts';
import { Turns } from '../../time/turns.ts';
import { timeUp, within } from '../../time/within.ts';
import { ConnectionAccounts } from '../connections/connection-accounts.ts';
import type { Connections } from '../connections/connections.ts';
import type { CallCounts } from '../edge/call-counts.ts';
import type { ReportBug } from '../edge/errors.ts';
import { services, type Handlers } from '../handlers/handlers.ts';
import { Reflection } from '../handlers/reflection.ts';
import type { RequestDecoder } from '../translation/request-decoder.ts';
import { rawService } from './definition.ts';
import { Health } from './health.ts';
import { Http2Sessions } from './http2-sessions.ts';
import { publishMethod, publishStreamMethod, subscribeMethod, unaryMethod } from './methods.ts';
import { OpenCalls } from './open-call.ts';
import { OpenStreams } from './open-streams.ts';
import { reflectionMethod } from './reflection.ts';
import { RequestBodies } from './request-bodies.ts';
import { servedCalls } from './served-calls.ts';
import { StreamGate } from './stream-gate.ts';

/** All services of this edge. */
const served = [...services, HealthService, ServerReflection, ServerReflectionAlpha];
const paths = new Set(served.flatMap((service) => Object.values(rawService(service)).map(({ path }) => path)));

interface GrpcServerOptions {
  readonly handlers: Handlers;
  readonly decoder: RequestDecoder;
  readonly clock: Clock;
  readonly account: Account;
  readonly connections: Connections;
  readonly calls: CallCounts;
  readonly reportBug: ReportBug;
}

/** The gRPC edge: all services, health and reflection on one port. */
export class GrpcServer {
  readonly #server: Server;
  readonly #streams = new OpenStreams();
  readonly #sessions: Http2Sessions;
  readonly #bodies: RequestBodies;
  readonly #calls: OpenCalls;
  readonly #health: Health;
  readonly #clock: Clock;
  #stopped: Promise<void> | null = null;

  constructor(options: GrpcServerOptions) {
    const { clock, account, connections, reportBug } = options;
    const accounts = new ConnectionAccounts(account);
    this.#calls = new OpenCalls(clock);
    this.#clock = clock;
    this.#health = new Health(services, reportBug);
    this.#bodies = new RequestBodies(clock, reportBug);
    this.#sessions = new Http2Sessions(new StreamGate({ paths, accounts, calls: this.#calls, reportBug }), connections);
    // grpc-js writes to stderr that it cannot listen; the start reports that in one line instead.
    if (process.env['GRPC_VERBOSITY'] === undefined) setLogVerbosity(logVerbosity.NONE);
    this.#server = new Server({
      'grpc.max_receive_message_length': limits.publishBytesMax,
      'grpc.max_send_message_length': -1,
      // Without keepalive the broker notices a client whose machine has gone after a quarter of an
      // hour.
      'grpc.keepalive_time_ms': limits.keepaliveMs,
      'grpc.keepalive_timeout_ms': limits.keepaliveMs,
      // channelz reads the clock twice for each message.
      'grpc.enable_channelz': 0,
      'grpc.max_concurrent_streams': limits.grpcConnectionCallsMax,
      interceptors: [servedCalls(this.#bodies, options.calls, reportBug)],
    });
    this.#sessions.prepare(this.#server);
    this.#addServices(options);
  }

  /** @returns the port, which differs from the requested port 0. */
  start(host: string, port: number): Promise<number> {
    const address = `${host.includes(':') ? `[${host}]` : host}:${port}`;
    const bound = new Promise<number>((resolve, reject) => {
      this.#server.bindAsync(address, ServerCredentials.createInsecure(), (error, number) => {
        if (error === null) resolve(number);
        else reject(error);
      });
    });
    return bound.then((boundPort) => {
      this.#sessions.attach(this.#server);
      return boundPort;
    });
  }

  /**
   * Ends all streams (the broker ends those of Subscribe before), then closes each connection once
   * its calls are answered. After `graceMs` it cuts off the rest.
   */
  stop(graceMs: number): Promise<void> {
    this.#stopped ??= this.#stop(graceMs);
    return this.#stopped;
  }

  async #stop(graceMs: number): Promise<void> {
    this.#health.stop();
    if ((await within(this.#clock, graceMs, this.#close())) === timeUp) {
      this.#server.forceShutdown();
      this.#sessions.destroyAll();
    }
    this.#bodies.stop();
    this.#calls.stop();
  }

  async #close(): Promise<void> {
    await this.#streams.drained();
    await new Promise<void>((resolve) => {
      this.#server.tryShutdown(() => {
        resolve();
      });
    });
  }

  #addServices({ handlers, decoder, connections: { windows }, reportBug }: GrpcServerOptions): void {
    for (const service of services) {
      const unary = handlers.unary.filter(({ method }) => method.parent === service);
      const methods = unary.map((each) => [each.method.localName, unaryMethod(each, decoder, reportBug)] as const);
      this.#server.addService(rawService(service), {
        ...Object.fromEntries(methods),
        ...(service === BrokerService && {
          publish: publishMethod(handlers.publish, windows, decoder, reportBug),
          publishStream: publishStreamMethod(handlers, this.#streams, windows, decoder, reportBug),
          subscribe: subscribeMethod(handlers.subscribe, this.#streams, this.#sessions, decoder, reportBug),
        }),
      });
    }
    this.#health.addTo(this.#server, this.#streams);
    const serverReflectionInfo = reflectionMethod(
      new Reflection(served),
      this.#streams,
      new Turns(this.#clock),
      reportBug,
    );
    this.#server.addService(rawService(ServerReflection), { serverReflectionInfo });
    this.#server.addService(rawService(ServerReflectionAlpha), { serverReflectionInfo });
  }
}
