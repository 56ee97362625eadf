import { constants } from 'node:http2';
import type { DescMethod } from '@bufbuild/protobuf';
import { Code, ConnectError, createContextValues, type ConnectRouter } from '@connectrpc/connect';
import type { OwnedKind } from '../../account/owner.ts';
import { present } from '../../errors/present.ts';
import { Rejection } from '../../errors/rejections/rejection.ts';
import { compressionRefused, malformedRequest } from '../../errors/rejections/requests.ts';
import { limits } from '../../limits/limits.ts';
import type { Clock } from '../../time/clock.ts';
import { Deadlines } from '../../time/deadlines.ts';
import { BufferedBodies, type BufferedBody } from '../bodies/buffered-bodies.ts';
import { countRead } from '../connections/stream-turns.ts';
import { boundedTimeout, timeoutHeaders } from '../edge/timeouts.ts';
import type { ReportBug } from '../edge/errors.ts';
import type { RequestDecoder } from '../translation/request-decoder.ts';
import { connectErrorOf } from './connect-error.ts';
import { withEncoded } from './encoded-answer.ts';
import { endedByClient } from './ended-by-client.ts';
import { readNoMore, refusePlainly } from './plain-refusal.ts';
import {
  bodyFormat,
  decoded,
  emptyBody,
  encodingHeaders,
  isCompressed,
  readRequest,
  requestBytesMax,
  type BodyFormat,
  type Incoming,
  type NodeRequest,
} from './request-body.ts';
import { requestFacts, type RequestAnswer, type RequestFacts } from './request-facts.ts';
import { prefixBytes, streamedMessages } from './streamed-messages.ts';
import { universalRequestOf } from './universal-request.ts';
import { writeResponse, type NodeResponse } from './universal-response.ts';

export interface RpcListener {
  /** @returns false if the path is not that of an RPC. */
  serve(request: NodeRequest, response: NodeResponse): boolean;
  /** Forgets the deadlines of requests and answers. */
  stop(): void;
}

type RouteHandler = ConnectRouter['handlers'][number];

interface RpcListenerOptions {
  readonly router: ConnectRouter;
  readonly decoder: RequestDecoder;
  /** The incomplete requests of a connection, and what its requests have become. */
  readonly bodiesOf: (request: NodeRequest) => OwnedKind;
  readonly decodedOf: (request: NodeRequest) => OwnedKind;
  readonly answerOf: (request: NodeRequest, response: NodeResponse, json: boolean) => RequestAnswer;
  readonly clock: Clock;
  readonly reportBug: ReportBug;
}

/** What all requests of a listener share. */
interface Listening extends Omit<RpcListenerOptions, 'router' | 'clock'> {
  readonly arriving: Incoming['arriving'];
  readonly buffered: BufferedBodies;
  readonly unread: Deadlines<NodeResponse>;
  /** A Subscribe stream ends by itself before, if its client takes nothing. */
  readonly unreadStreams: Deadlines<NodeResponse>;
}

/**
 * The router's handlers as a listener of node's HTTP servers, in place of connectNodeAdapter: see
 * request-body.ts.
 */
export function createRpcListener(options: RpcListenerOptions): RpcListener {
  const { router, clock, reportBug } = options;
  const routes = new Map(router.handlers.map((handler) => [handler.requestPath, handler]));
  const cutOff = (response: NodeResponse): void => {
    response.destroy();
  };
  const listening: Listening = {
    ...options,
    arriving: new Deadlines(clock, limits.partialRequestMs, (late) => {
      late();
    }),
    buffered: new BufferedBodies(clock),
    unread: new Deadlines(clock, limits.unreadAnswerMs, cutOff),
    unreadStreams: new Deadlines(clock, limits.unreadStreamMs, cutOff),
  };
  const listen = (request: NodeRequest, response: NodeResponse): boolean => {
    const handler = routes.get(pathOf(request));
    if (handler === undefined) return false;
    const refusal = refusalOf(handler, request);
    if (refusal !== null) refusePlainly(response, refusal.why, reportBug, refusal);
    else {
      serve(listening, handler, request, response).catch((error: unknown) => {
        if (!endedByClient(error, request, response)) reportBug(error);
        response.destroy();
      });
    }
    return true;
  };
  const { arriving, buffered, unread, unreadStreams } = listening;
  const stop = (): void => {
    for (const timed of [arriving, buffered, unread, unreadStreams]) timed.stop();
  };
  return { serve: listen, stop };
}

export function pathOf(request: NodeRequest): string {
  return request.url?.split('?', 1)[0] ?? '';
}

/** What connect-node would answer without a reason. */
function refusalOf(handler: RouteHandler, request: NodeRequest) {
  if (request.method !== 'POST') {
    return { why: malformedRequest('a call is made with POST'), status: 405, headers: { allow: 'POST' } };
  }
  if (handler.method.methodKind === 'bidi_streaming' && request.httpVersionMajor < 2) {
    return { why: malformedRequest('this call needs HTTP/2'), status: 505 };
  }
  const type = request.headers['content-type'] ?? '';
  if (bodyFormat(request) !== null && handler.supportedContentType(type)) return null;
  const isUnary = handler.method.methodKind === 'unary';
  const types = isUnary
    ? 'application/json or application/proto'
    : 'application/connect+json or application/connect+proto';
  return {
    why: malformedRequest(`this call takes ${types}, and those of gRPC and gRPC-Web, as the content type`),
    status: 415,
  };
}

async function serve(
  { bodiesOf, decodedOf, answerOf, ...listening }: Listening,
  handler: RouteHandler,
  request: NodeRequest,
  response: NodeResponse,
): Promise<void> {
  const format = present(bodyFormat(request), 'requests of other types are refused before');
  const facts: RequestFacts = {
    host: request.socket.remoteAddress,
    isConnected: connectionOf(request),
    response: endOf(response),
    answer: answerOf(request, response, format.json),
    json: format.json,
    encoded: [],
    decoded: undefined,
    messages: [],
  };
  const values = createContextValues().set(requestFacts, facts);
  const universal = universalRequestOf(request, response, handler.requestPath, values);
  boundTimeouts(universal.header);
  universal.header.delete('content-length');
  // connect-node would refuse these without a reason.
  for (const name of encodingHeaders) universal.header.delete(name);
  const incoming = { ...listening, bodies: bodiesOf(request), counted: decodedOf(request), request, response };
  universal.body = bodyOf(listening, handler.method, { ...incoming, format }, facts);
  const { unread, unreadStreams } = listening;
  const answer = withEncoded(await handler(universal), facts.encoded, format.enveloped);
  const sending = (bytes: number): void => {
    facts.answer.sending(bytes);
  };
  // What a Subscribe stream sends is counted as `unsent`.
  if (handler.method.methodKind === 'server_streaming') await writeResponse(answer, response, unreadStreams);
  else await writeResponse(answer, response, unread, sending);
}

/** The body refuses malformed ones, since connect-node would do it without a reason. */
function boundTimeouts(headers: Headers): void {
  for (const name of timeoutHeaders) {
    const given = headers.get(name);
    const bounded = given === null ? null : boundedTimeout(name, given);
    if (bounded === null) headers.delete(name);
    else headers.set(name, bounded);
  }
}

function refuseMalformedTimeouts({ headers }: NodeRequest): void {
  for (const name of timeoutHeaders) {
    const given = headers[name];
    if (given !== undefined && boundedTimeout(name, String(given).trim()) === null) {
      throw malformedRequest(`the header ${name} is malformed`);
    }
  }
}

function endOf(response: NodeResponse): RequestFacts['response'] {
  let isClosed = false;
  response.once('close', () => {
    isClosed = true;
  });
  return {
    unsentBytes: () => response.writableLength,
    cut: () => {
      if ('stream' in response) response.stream.close(constants.NGHTTP2_CANCEL);
      else response.destroy();
    },
    whenClosed: (run) => {
      if (isClosed) run();
      else response.once('close', run);
    },
  };
}

/** Asked for at once: node takes a stream's session away at its end. */
function connectionOf(request: NodeRequest): () => boolean {
  const connection = 'stream' in request ? request.stream.session : request.socket;
  return () => connection?.destroyed === false;
}

function partialOf({ arriving, response }: Incoming) {
  const late = (): void => {
    response.destroy();
  };
  response.once('close', () => {
    arriving.over(late);
  });
  return {
    waits: (): void => {
      arriving.beginOnce(late);
    },
    isWhole: (): void => {
      arriving.over(late);
    },
    onClose: (run: () => void): void => {
      response.once('close', run);
    },
  };
}

/**
 * What waits in the transport for a stream that the broker does not read. A client that is cut off
 * for it gets no reason, because it reads no answers.
 */
function bufferedBody(buffered: BufferedBodies, { request, response, bodies }: Incoming) {
  let readBytes = 0;
  const body: BufferedBody = {
    stream: {
      get readableLength() {
        return request.readableLength + ('stream' in request ? request.stream.readableLength : 0);
      },
    },
    get readBytes() {
      return readBytes;
    },
    room: bodies,
    refused: () => {
      if ('stream' in response) response.stream.close(constants.NGHTTP2_ENHANCE_YOUR_CALM);
      else response.destroy();
    },
  };
  buffered.begin(body);
  response.once('close', () => {
    buffered.over(body);
  });
  const read = (bytes: number): void => {
    readBytes += bytes;
    if ('stream' in request) countRead(request.stream, bytes);
  };
  return { read };
}

/** What connect-node reads in place of the body: an empty message for each message. */
async function* bodyOf(
  { decoder, buffered, reportBug }: Pick<Listening, 'decoder' | 'buffered' | 'reportBug'>,
  method: DescMethod,
  incoming: Incoming & { readonly format: BodyFormat },
  facts: RequestFacts,
): AsyncGenerator<Uint8Array> {
  const { request, response, format } = incoming;
  try {
    if (isCompressed(request)) throw compressionRefused();
    refuseMalformedTimeouts(request);
    if (method.methodKind === 'unary' || method.methodKind === 'server_streaming') {
      facts.decoded = await readRequest(incoming, method, format);
      yield emptyBody(format);
      return;
    }
    const bytesMax = requestBytesMax(method, format.json);
    const body = bufferedBody(buffered, incoming);
    for await (const message of streamedMessages(request, bytesMax, partialOf(incoming), incoming.bodies)) {
      body.read(prefixBytes + message.length);
      facts.messages.push(await decoded(decoder, { method, json: format.json }, message));
      yield emptyBody({ json: format.json, enveloped: true });
    }
  } catch (error) {
    if (!request.complete) readNoMore(response);
    if (!(error instanceof Rejection) && endedByClient(error, request, response)) {
      throw new ConnectError('the client has gone', Code.Canceled, undefined, undefined, error);
    }
    throw connectErrorOf(error, reportBug);
  }
}
