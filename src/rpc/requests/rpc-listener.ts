import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Http2ServerResponse } from 'node:http2';
import type { DescMethod } from '@bufbuild/protobuf';
import { Code, ConnectError, createContextValues, type ConnectRouter } from '@connectrpc/connect';
import { universalRequestFromNodeRequest, universalResponseToNodeResponse } from '@connectrpc/connect-node';
import { malformedRequest } from '../../errors/rejections/requests.ts';
import type { ReportBug } from '../edge/errors.ts';
import { connectErrorOf } from './connect-error.ts';
import { bodyFormat, decoded, emptyBody, readRequest, requestBytesMax, type NodeRequest } from './request-body.ts';
import { requestFacts, type RequestFacts } from './request-facts.ts';
import { streamedMessages } from './streamed-messages.ts';

export type NodeResponse = ServerResponse<IncomingMessage> | Http2ServerResponse;

/** @returns false if the path is not that of an RPC. */
export type RpcListener = (request: NodeRequest, response: NodeResponse) => boolean;

type RouteHandler = ConnectRouter['handlers'][number];

/**
 * The router's handlers as a listener of node's HTTP servers, in place of connectNodeAdapter: see
 * request-body.ts.
 */
export function createRpcListener(router: ConnectRouter, reportBug: ReportBug): RpcListener {
  const routes = new Map(router.handlers.map((handler) => [handler.requestPath, handler]));
  return (request, response) => {
    const handler = routes.get(pathOf(request));
    if (handler === undefined) return false;
    serve(handler, request, response, reportBug).catch((error: unknown) => {
      // The client has gone, so the response could not be written.
      if (ConnectError.from(error).code !== Code.Aborted) reportBug(error);
      response.destroy();
    });
    return true;
  };
}

export function pathOf(request: NodeRequest): string {
  return request.url?.split('?', 1)[0] ?? '';
}

async function serve(handler: RouteHandler, request: NodeRequest, response: NodeResponse, reportBug: ReportBug) {
  const facts: RequestFacts = {
    host: request.socket.remoteAddress,
    isConnected: connectionOf(request),
    decoded: undefined,
    messages: [],
  };
  const values = createContextValues().set(requestFacts, facts);
  const universal = universalRequestFromNodeRequest(request, response as Http2ServerResponse, undefined, values);
  if (request.method === 'POST') {
    universal.header.delete('content-length');
    universal.body = bodyOf(handler.method, request, universal.body as AsyncIterable<Uint8Array>, facts, reportBug);
  }
  await universalResponseToNodeResponse(await handler(universal), response);
}

/** Asked for at once: node takes a stream's session away at its end. */
function connectionOf(request: NodeRequest): () => boolean {
  const connection = 'stream' in request ? request.stream.session : request.socket;
  return () => connection?.destroyed === false;
}

/** What connect-node reads in place of the body: an empty message for each message. */
async function* bodyOf(
  method: DescMethod,
  request: NodeRequest,
  body: AsyncIterable<Uint8Array>,
  facts: RequestFacts,
  reportBug: ReportBug,
): AsyncGenerator<Uint8Array> {
  try {
    const format = bodyFormat(request);
    if (format === null) throw malformedRequest('the content type or the encoding of the request is not supported');
    if (method.methodKind === 'unary' || method.methodKind === 'server_streaming') {
      facts.decoded = await readRequest(request, method, format);
      yield emptyBody(format);
    } else {
      for await (const message of streamedMessages(body, requestBytesMax(method, format.json))) {
        facts.messages.push(decoded(message, method, format.json));
        yield emptyBody({ json: format.json, enveloped: true });
      }
    }
  } catch (error) {
    throw connectErrorOf(error, reportBug);
  }
}
