import { createServer, type Server } from 'node:http';
import {
  createServer as createHttp2Server,
  type Http2ServerRequest,
  type Http2ServerResponse,
  type ServerHttp2Session,
} from 'node:http2';
import type { AddressInfo, Socket } from 'node:net';
import type { Account } from '../../account/account.ts';
import { limits } from '../../limits/limits.ts';
import type { Clock } from '../../time/clock.ts';
import { timeUp, within } from '../../time/within.ts';
import { Deadlines } from '../../time/deadlines.ts';
import type { Connections } from '../connections/connections.ts';
import { sessionLimits } from '../connections/session-limits.ts';
import { entered, isCall, isPublish } from './calls.ts';
import type { Cors } from './cors.ts';
import { tellVersion } from '../requests/first-bytes.ts';
import { endedByClient } from '../requests/ended-by-client.ts';
import { metricsText, serveOperations, type Operations } from '../operations/operations.ts';
import { SparePage } from '../operations/spare-page.ts';
import type { NodeRequest } from '../requests/request-body.ts';
import { OpenRequests } from './open-requests.ts';
import { refusePlainly } from '../requests/plain-refusal.ts';
import { createRoutes } from './routes.ts';
import { createRpcListener, type RpcListener } from '../requests/rpc-listener.ts';
import type { NodeResponse } from '../requests/universal-response.ts';
import type { RequestDecoder } from '../translation/request-decoder.ts';
import { keepSessionAlive } from '../connections/session-keepalive.ts';

interface HttpServerOptions extends Omit<Operations, 'spareMetrics'> {
  readonly clock: Clock;
  readonly cors: Cors;
  readonly decoder: RequestDecoder;
  readonly account: Account;
  readonly connections: Connections;
}

/**
 * The HTTP edge: Connect, gRPC-Web, JSON, and the paths of operators, on one port. The first bytes
 * of a connection distinguish HTTP/1.1 from HTTP/2 (which PublishStream needs).
 */
export class HttpServer {
  readonly #options: HttpServerOptions;
  readonly #stopping = new AbortController();
  readonly #sockets = new Set<Socket>();
  readonly #sessions = new Set<ServerHttp2Session>();
  readonly #rpc: RpcListener;
  readonly #requests: OpenRequests;
  /** Answers of the paths of operators. */
  readonly #unread: Deadlines<NodeResponse>;
  readonly #operations: Operations;
  readonly #http1: Server;
  readonly #http2 = createHttp2Server({
    settings: {
      maxConcurrentStreams: limits.httpConnectionCallsMax,
      maxHeaderListSize: limits.requestHeaderBytesMax,
    },
    ...sessionLimits,
  });
  #stopped: Promise<void> | null = null;

  constructor(options: HttpServerOptions) {
    this.#options = options;
    const { handlers, decoder, clock, reportBug } = options;
    const router = createRoutes({ handlers, clock, calls: options.calls, stopping: this.#stopping.signal, reportBug });
    this.#requests = new OpenRequests(options.account, clock);
    this.#unread = new Deadlines(clock, limits.unreadAnswerMs, (response) => {
      response.destroy();
    });
    const answers = options.account.kind('answers');
    this.#operations = { ...options, spareMetrics: new SparePage(clock, answers, () => metricsText(options)) };
    const bodiesOf = this.#requests.bodiesOf.bind(this.#requests);
    const decodedOf = this.#requests.decodedOf.bind(this.#requests);
    const answerOf = this.#requests.answerOf.bind(this.#requests);
    this.#rpc = createRpcListener({ router, decoder, bodiesOf, decodedOf, answerOf, clock, reportBug });
    // These timeouts end with the request's last byte, so they cut no stream.
    this.#http1 = createServer({
      // The listener refuses a late request before, with a reason.
      requestTimeout: limits.partialRequestMs + 5_000,
      connectionsCheckingInterval: 5_000,
      maxHeaderSize: limits.requestHeaderBytesMax,
      headersTimeout: 20_000,
      keepAliveTimeout: 65_000,
      keepAlive: true,
      keepAliveInitialDelay: limits.keepaliveMs,
    });
    this.#http1.maxHeadersCount = limits.requestHeadersMax;
    this.#tellVersionsApart();
    this.#http1.on('request', this.#serve);
    this.#http2.on('request', this.#serve);
    // Node itself throws for a stream that is gone already, which would end the process.
    this.#http2.on('checkContinue', (request: Http2ServerRequest, response: Http2ServerResponse) => {
      if (!response.stream.destroyed) response.writeContinue();
      this.#serve(request, response);
    });
    options.connections.turns.attach(this.#http2);
    options.connections.natives.attach(this.#http2);
    this.#http2.on('session', this.#openSession);
  }

  /** @returns the port, which differs from the requested port 0. */
  start(host: string, port: number): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#http1.once('error', reject);
      this.#http1.listen(port, host, () => {
        this.#http1.off('error', reject);
        resolve((this.#http1.address() as AddressInfo).port);
      });
    });
  }

  /**
   * Closes each connection when its calls end, and cuts off the rest after `graceMs`. The broker
   * ends its streams before.
   */
  stop(graceMs: number): Promise<void> {
    this.#stopped ??= this.#stop(graceMs);
    return this.#stopped;
  }

  async #stop(graceMs: number): Promise<void> {
    this.#stopping.abort();
    const closed = Promise.withResolvers<void>();
    this.#http1.close(() => {
      closed.resolve();
    });
    for (const session of this.#sessions) session.close();
    if ((await within(this.#options.clock, graceMs, closed.promise)) === timeUp) {
      for (const socket of this.#sockets) socket.destroy();
      await closed.promise;
    }
    this.#rpc.stop();
    this.#requests.stop();
    this.#unread.stop();
  }

  readonly #serve = (request: NodeRequest, response: NodeResponse): void => {
    // The error of a broken-off request comes after connect-node has stopped listening.
    request.on('error', () => undefined);
    // Node keeps a connection alive after its answer if it was busy when the server stopped.
    response.once('close', () => {
      if (this.#stopping.signal.aborted) this.#http1.closeIdleConnections();
    });
    this.#answer(request, response).catch((error: unknown) => {
      if (!endedByClient(error, request, response)) this.#options.reportBug(error);
      response.destroy();
    });
  };

  async #answer(request: NodeRequest, response: NodeResponse): Promise<void> {
    const refusal = this.#requests.enter(request, response);
    if (refusal !== null) {
      refusePlainly(response, refusal, this.#options.reportBug);
      return;
    }
    if (this.#options.cors.answered(request, response)) return;
    if (isCall(request) && !entered(this.#options, request, response)) return;
    if ('stream' in request && isPublish(request) && request.stream.session !== undefined) {
      this.#options.connections.windows.widen(request.stream.session);
    }
    if (this.#rpc.serve(request, response)) return;
    this.#unread.begin(response);
    response.once('close', () => {
      this.#unread.over(response);
    });
    await serveOperations(request, response, this.#operations, this.#requests.answerOf(request, response, false));
  }

  /**
   * Node's own listener serves HTTP/1.1, so that its timeouts and its list of idle connections
   * work.
   */
  #tellVersionsApart(): void {
    const serveHttp1 = this.#http1.listeners('connection') as ((socket: Socket) => void)[];
    this.#http1.removeAllListeners('connection');
    this.#http1.on('connection', (socket: Socket) => {
      if (!this.#options.connections.admitted(socket)) return;
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
      tellVersion(socket, this.#options.clock, this.#http1.headersTimeout, (isHttp2) => {
        if (isHttp2) {
          // Node reads the unshifted bytes by itself. Half-open, a killed client would go unnoticed
          // until the ping.
          socket.allowHalfOpen = false;
          this.#http2.emit('connection', socket);
          return;
        }
        this.#requests.begin(socket);
        for (const serve of serveHttp1) serve.call(this.#http1, socket);
        socket.resume();
      });
    });
  }

  readonly #openSession = (session: ServerHttp2Session): void => {
    this.#sessions.add(session);
    this.#requests.begin(session);
    // An error closes the session, and its calls notice that.
    session.on('error', () => undefined);
    session.once('close', () => this.#sessions.delete(session));
    keepSessionAlive(session, this.#options.clock, limits.keepaliveMs);
  };
}
