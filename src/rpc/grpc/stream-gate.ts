import type { Http2Server, IncomingHttpHeaders, ServerHttp2Session, ServerHttp2Stream } from 'node:http2';
import { constants } from 'node:http2';
import type { Rejection } from '../../errors/rejections/rejection.ts';
import { compressionRefused, malformedRequest, unimplementedMethod } from '../../errors/rejections/requests.ts';
import type { ConnectionAccounts } from '../connections/connection-accounts.ts';
import type { ReportBug } from '../edge/errors.ts';
import { boundedTimeout } from '../edge/timeouts.ts';
import { OpenCall, type OpenCalls } from './open-call.ts';
import { statusOf } from './status.ts';

const ofGrpc = /^application\/grpc(?:[+;]|$)/;

type OnStream = (...args: [ServerHttp2Stream, IncomingHttpHeaders, number, string[]]) => void;

interface StreamGateOptions {
  /** The paths of all methods. */
  readonly paths: ReadonlySet<string>;
  readonly accounts: ConnectionAccounts;
  readonly calls: OpenCalls;
  readonly reportBug: ReportBug;
}

/**
 * Sees each stream before grpc-js does. Open calls are counted here until their stream is closed,
 * and a refused call costs no object of grpc-js: not beyond the limits, not with an unknown
 * method, and not with a compressed request, which grpc-js would unpack before any limit.
 */
export class StreamGate {
  readonly #o: StreamGateOptions;

  constructor(options: StreamGateOptions) {
    this.#o = options;
  }

  /** A connection that makes no call is closed after some minutes. */
  opened(session: ServerHttp2Session): void {
    const { idle } = this.#o.calls;
    idle.begin(session);
    session.once('close', () => {
      idle.over(session);
    });
  }

  /** @throws Error if grpc-js does not listen to streams as this gate expects. */
  attach(server: Http2Server): void {
    const { accounts, calls } = this.#o;
    const served = server.listeners('stream') as OnStream[];
    if (served.length === 0) throw new Error('grpc-js does not listen to the streams of its server');
    server.removeAllListeners('stream');
    server.on('stream', (stream, headers, flags, rawHeaders) => {
      const { session } = stream;
      // Nobody waits for the answer any more, and an answer to a stream that was reset would throw.
      if (stream.destroyed || stream.closed || session === undefined) return;
      if (!isGrpc(headers['content-type'])) {
        refuse(stream, { ':status': constants.HTTP_STATUS_UNSUPPORTED_MEDIA_TYPE });
        return;
      }
      const refusal = this.#refusal(headers) ?? OpenCall.begin(stream, accounts.of(session), calls);
      if (refusal !== null) refuse(stream, this.#statusHeaders(refusal));
      else for (const serve of served) serve.call(server, stream, headers, flags, rawHeaders);
    });
  }

  /** Shortens a timeout that is longer than a timer can be. */
  #refusal(headers: IncomingHttpHeaders): Rejection | null {
    const path = headers[':path'] ?? '';
    if (!this.#o.paths.has(path)) return unimplementedMethod(path);
    const encoding = headers['grpc-encoding'] ?? 'identity';
    if (encoding !== 'identity') return compressionRefused();
    const given = headers['grpc-timeout'];
    if (given === undefined) return null;
    const bounded = boundedTimeout('grpc-timeout', String(given));
    if (bounded === null) return malformedRequest('the header grpc-timeout is malformed');
    headers['grpc-timeout'] = bounded;
    return null;
  }

  #statusHeaders(refusal: Rejection) {
    const { code, details, metadata } = statusOf(refusal, this.#o.reportBug);
    return {
      ':status': constants.HTTP_STATUS_OK,
      'content-type': 'application/grpc+proto',
      'grpc-accept-encoding': 'identity',
      'grpc-status': code,
      'grpc-message': encodeURI(details),
      ...metadata.toHttp2Headers(),
    };
  }
}

function isGrpc(contentType = ''): boolean {
  return contentType === 'application/grpc' || ofGrpc.test(contentType);
}

/** The reset without an error asks the client to send the remainder of its request no more. */
function refuse(stream: ServerHttp2Stream, headers: Parameters<ServerHttp2Stream['respond']>[0]): void {
  stream.on('error', () => undefined);
  stream.respond(headers, { endStream: true });
  stream.close(constants.NGHTTP2_NO_ERROR);
}
