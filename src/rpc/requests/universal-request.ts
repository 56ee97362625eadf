import type { ContextValues } from '@connectrpc/connect';
import type { UniversalServerRequest } from '@connectrpc/connect/protocol';
import type { NodeRequest } from './request-body.ts';
import type { NodeResponse } from './universal-response.ts';

/**
 * The address in every request that connect-node sees. It never sees the one that the client wrote:
 * a Host or an :authority may be anything, and a URL cannot be made of all of that.
 */
const authority = 'http://millrace';

/** The request as connect-node takes it, without its body. `path` is that of a method. */
export function universalRequestOf(
  request: NodeRequest,
  response: NodeResponse,
  path: string,
  contextValues: ContextValues,
): UniversalServerRequest {
  const closing = new AbortController();
  response.once('close', () => {
    closing.abort();
  });
  return {
    httpVersion: request.httpVersion,
    method: request.method ?? '',
    url: authority + path,
    header: headersOf(request),
    body: emptyBody(),
    signal: closing.signal,
    contextValues,
  };
}

/** Without the pseudo-headers of HTTP/2, and without what the Fetch API takes for no header. */
function headersOf(request: NodeRequest): Headers {
  const headers = new Headers();
  for (const [name, value] of Object.entries(request.headers)) {
    if (name.startsWith(':') || value === undefined) continue;
    for (const one of Array.isArray(value) ? value : [value]) append(headers, name, one);
  }
  return headers;
}

function append(headers: Headers, name: string, value: string): void {
  try {
    headers.append(name, value);
  } catch {
    // No call reads a header with such a name or value.
  }
}

async function* emptyBody(): AsyncGenerator<Uint8Array> {
  // The listener puts the body of a call in its place.
}
