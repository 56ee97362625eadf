import type { UniversalServerResponse } from '@connectrpc/connect/protocol';

const prefixBytes = 5;

/**
 * Puts messages that are encoded already in place of the empty ones that connect-node has encoded.
 * Errors, and messages without another in their place, stay as they are.
 */
export function withEncoded(
  response: UniversalServerResponse,
  encoded: Buffer[],
  enveloped: boolean,
): UniversalServerResponse {
  const { status, header = new Headers(), body } = response;
  if (status !== 200 || body === undefined) return response;
  if (enveloped) return { ...response, body: envelopes(body, encoded) };
  const message = encoded.shift();
  if (message === undefined) return response;
  header.set('content-length', String(message.length));
  return { ...response, header, body: oneChunk(message) };
}

async function* oneChunk(message: Buffer): AsyncGenerator<Uint8Array> {
  yield message;
}

/** Behind the messages there may be the trailers of gRPC-Web, whose flags are not 0. */
async function* envelopes(body: AsyncIterable<Uint8Array>, encoded: Buffer[]): AsyncGenerator<Uint8Array> {
  for await (const envelope of body) {
    const message = envelope[0] === 0 ? encoded.shift() : undefined;
    yield message === undefined ? envelope : enveloped(message);
  }
}

function enveloped(message: Buffer): Buffer {
  const prefix = Buffer.alloc(prefixBytes);
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
}
